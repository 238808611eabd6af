/** Laws of retention: what is trimmed and what never, and capacity. How a loss shows is in `losses.ts`. */

import { randomUUID } from "node:crypto"
import { assert } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Broker, type Layout } from "../../Broker.ts"
import * as Retention from "../../Retention.ts"
import {
  after,
  append,
  batch,
  claimed,
  commit,
  commitAll,
  commitOf,
  consumed,
  eventsOf,
  fence,
  forkBlocked,
  from,
  type Laws,
  range,
  read,
  register,
  single,
  stored,
  topicOf,
  unique
} from "./support.ts"

const retained = (topic: Layout) => Effect.map(read([from(topic)]), eventsOf)

export const retentionLaws = (laws: Laws): void => {
  consumedLaws(laws)
  capacityLaws(laws)
  limitLaws(laws)
}

const consumedLaws = ({ it }: Laws): void => {
  it.effect("when all is committed the log is empty, and still knows its last id", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const [topic, processor] = [consumed(1_000), unique("p")]
      yield* register(processor, [topic])
      const entries = [...range(250).map((event) => single(event)), batch("x", "y")]
      const ids = yield* stored(topic, entries)
      yield* claimed(processor, [topic], fence(1))
      yield* commitAll(processor, fence(1), 1, after(topic, entries, ids))
      const [info] = yield* broker.inspect(topic, [0])
      const last = ids.at(-1)!
      assert.deepStrictEqual(info, {
        topic: topic.name,
        partition: 0,
        first: "0-0",
        last,
        length: 0,
        added: 251,
        extra: 1,
        events: 0
      })
    })
  )

  it.effect("what one processor has not committed stays, whatever the others did", () =>
    Effect.gen(function* () {
      const [topic, fast, slow] = [consumed(1_000), unique("fast"), unique("slow")]
      yield* register(fast, [topic])
      yield* register(slow, [topic])
      const entries = range(10).map((event) => single(event))
      const ids = yield* stored(topic, entries)
      yield* claimed(fast, [topic], fence(1))
      yield* claimed(slow, [topic], fence(1))
      yield* commitAll(slow, fence(1), 1, after(topic, entries, ids, 3))
      yield* commitAll(fast, fence(1), 1, after(topic, entries, ids, 10))
      const left = yield* retained(topic)
      assert.deepStrictEqual(left.slice(-7), range(10).slice(3))
      yield* commitAll(slow, fence(1), 2, after(topic, entries, ids, 10))
      assert.deepStrictEqual(yield* retained(topic), [])
    })
  )

  it.effect("an entry that is done in part stays whole", () =>
    Effect.gen(function* () {
      const [topic, processor] = [consumed(1_000), unique("p")]
      yield* register(processor, [topic])
      const entries = [batch("a", "b", "c")]
      const ids = yield* stored(topic, entries)
      yield* claimed(processor, [topic], fence(1))
      const part = { ...after(topic, entries, ids, 0), offset: `${ids[0]}.1`, events: 2 }
      yield* commit(commitOf(processor, fence(1), 1, { offsets: [part] }))
      assert.deepStrictEqual(yield* retained(topic), ["a", "b", "c"])
    })
  )

  it.effect("the last `keep` events stay when all are committed, in whole entries", () =>
    Effect.gen(function* () {
      const [topic, processor] = [consumed(1_000, 4), unique("p")]
      yield* register(processor, [topic])
      const entries = [...range(200).map((event) => single(event)), batch("a", "b", "c"), batch("d", "e", "f")]
      const ids = yield* stored(topic, entries)
      yield* claimed(processor, [topic], fence(1))
      yield* commitAll(processor, fence(1), 1, after(topic, entries, ids))
      assert.deepStrictEqual(yield* retained(topic), ["a", "b", "c", "d", "e", "f"])
    })
  )

  it.effect("without a processor nothing counts as consumed", () =>
    Effect.gen(function* () {
      const topic = consumed(1_000)
      yield* stored(
        topic,
        range(300).map((event) => single(event))
      )
      assert.deepStrictEqual(yield* retained(topic), range(300))
    })
  )

  it.effect("a processor that is removed holds no floor", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const [topic, gone, stays] = [consumed(3), unique("gone"), unique("stays")]
      yield* register(gone, [topic])
      yield* register(stays, [topic])
      const entries = range(3).map((event) => single(event))
      const ids = yield* stored(topic, entries)
      yield* claimed(stays, [topic], fence(1))
      yield* commitAll(stays, fence(1), 1, after(topic, entries, ids))
      assert.strictEqual((yield* append(topic, [single("more")]))._tag, "Full")
      yield* broker.unregister(gone)
      const [id] = yield* stored(topic, [single("more")])
      yield* commitAll(stays, fence(1), 2, after(topic, [...entries, single("more")], [...ids, id!]))
      assert.deepStrictEqual(yield* retained(topic), [])
    })
  )
}

const capacityLaws = (laws: Laws): void => {
  const { it } = laws

  it.effect("there is room until the capacity is reached, and again once its reader commits", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const [topic, processor] = [consumed(3), unique("p")]
      yield* register(processor, [topic])
      assert.isTrue(yield* broker.hasRoom(topic, 0))
      const entries = [single("a"), batch("b", "c")]
      const ids = yield* stored(topic, entries)
      assert.isFalse(yield* broker.hasRoom(topic, 0))
      yield* claimed(processor, [topic], fence(1))
      yield* commitAll(processor, fence(1), 1, after(topic, entries, ids))
      assert.isTrue(yield* broker.hasRoom(topic, 0))
      assert.isTrue(yield* broker.hasRoom(topicOf(1, Retention.maxLength(1)), 0), "others never hold up")
    })
  )

  it.effect("at capacity an append is refused; with no processor nobody is named", () =>
    Effect.gen(function* () {
      const topic = consumed(3)
      yield* stored(topic, [batch("a", "b"), single("c")])
      assert.deepStrictEqual(yield* append(topic, [single("d")]), { _tag: "Full", ids: [], heldBy: undefined })
      assert.deepStrictEqual(yield* retained(topic), ["a", "b", "c"])
    })
  )

  it.effect("the processor that holds the floor is named", () =>
    Effect.gen(function* () {
      const [topic, fast, slow] = [consumed(3), unique("fast"), unique("slow")]
      yield* register(fast, [topic])
      yield* register(slow, [topic])
      const entries = range(3).map((event) => single(event))
      const ids = yield* stored(topic, entries)
      yield* claimed(fast, [topic], fence(1))
      yield* commitAll(fast, fence(1), 1, after(topic, entries, ids))
      assert.deepStrictEqual(yield* append(topic, [single("d")]), { _tag: "Full", ids: [], heldBy: slow })
    })
  )

  it.effect("the prefix that fits is stored, and the rest goes out under the next number", () =>
    Effect.gen(function* () {
      const [topic, processor, publisher] = [consumed(5), unique("p"), randomUUID()]
      yield* register(processor, [topic])
      const entries = [batch("a", "b"), batch("c", "d"), batch("e", "f"), single("g")]
      const first = yield* append(topic, entries, { publisher, number: 1 })
      assert(first._tag === "Full")
      assert.deepStrictEqual([first.ids.length, first.heldBy], [2, processor])
      const rest = entries.slice(2)
      const full = yield* append(topic, rest, { publisher, number: 2 })
      assert.deepStrictEqual(full, { _tag: "Full", ids: [], heldBy: processor })
      yield* claimed(processor, [topic], fence(1))
      yield* commitAll(processor, fence(1), 1, after(topic, entries, first.ids))
      // With no entry taken the number was not used.
      assert.strictEqual((yield* append(topic, rest, { publisher, number: 2 }))._tag, "Stored")
      assert.deepStrictEqual(yield* retained(topic), ["e", "f", "g"])
    })
  )

  it.effect("a prefix that was stored is answered again when its append is sent again", () =>
    Effect.gen(function* () {
      const [topic, publisher] = [consumed(2), randomUUID()]
      const entries = range(4).map((event) => single(event))
      const first = yield* append(topic, entries, { publisher })
      assert(first._tag === "Full")
      const again = yield* append(topic, entries, { publisher })
      assert.deepStrictEqual(again, first)
      assert.deepStrictEqual(yield* retained(topic), range(2))
    })
  )

  it.effect("an entry above the capacity is taken when nothing is uncommitted", () =>
    Effect.gen(function* () {
      const [topic, processor] = [consumed(2), unique("p")]
      yield* register(processor, [topic])
      yield* stored(topic, [batch("a", "b", "c")])
      assert.strictEqual((yield* append(topic, [single("d")]))._tag, "Full")
    })
  )

  it.effect("committed events that are kept take no room", () =>
    Effect.gen(function* () {
      const [topic, processor] = [consumed(3, 10), unique("p")]
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(1))
      const entries: Array<ReturnType<typeof single>> = []
      const ids: Array<string> = []
      for (let number = 1; number <= 3; number++) {
        const more = range(3, `${number}/`).map((event) => single(event))
        entries.push(...more)
        ids.push(...(yield* stored(topic, more)))
        yield* commitAll(processor, fence(1), number, after(topic, entries, ids))
      }
      assert.strictEqual((yield* retained(topic)).length, 9)
    })
  )

  it.effect("who waits for room is told when a commit makes some", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const [topic, processor] = [consumed(2), unique("p")]
      yield* register(processor, [topic])
      const entries = range(2).map((event) => single(event))
      const ids = yield* stored(topic, entries)
      assert.strictEqual((yield* append(topic, [single("x")]))._tag, "Full")
      const waiting = yield* forkBlocked(laws, broker.awaitRoom(topic, 0))
      yield* claimed(processor, [topic], fence(1))
      yield* commitAll(processor, fence(1), 1, after(topic, entries, ids))
      yield* laws.elapse(100)
      yield* Fiber.join(waiting)
      yield* stored(topic, [single("x")])
      // Room that was made between the refusal and the wait is not waited for.
      yield* append(topic, [single("y"), single("z")])
      yield* commitAll(processor, fence(1), 2, after(topic, entries, ids))
      const late = yield* Effect.forkChild(broker.awaitRoom(topic, 0))
      yield* laws.elapse(100)
      yield* Fiber.join(late)
    })
  )
}

const limitLaws = (laws: Laws): void => {
  const { elapse, it } = laws

  it.effect("forever drops nothing", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const [topic, processor] = [topicOf(), unique("p")]
      yield* register(processor, [topic])
      const entries = range(200).map((event) => single(event))
      const ids = yield* stored(topic, entries)
      yield* claimed(processor, [topic], fence(1))
      yield* commitAll(processor, fence(1), 1, after(topic, entries, ids))
      assert.strictEqual(yield* broker.trim(topic), 0)
      assert.deepStrictEqual(yield* retained(topic), range(200))
    })
  )

  it.effect("a length limit keeps at least so many events, in whole entries", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const topic = topicOf(1, Retention.maxLength(4))
      yield* stored(topic, [batch("a", "b", "c"), batch("d", "e", "f"), batch("g", "h", "i")])
      yield* broker.trim(topic)
      assert.deepStrictEqual(yield* retained(topic), ["d", "e", "f", "g", "h", "i"])
      yield* stored(
        topic,
        range(400).map((event) => single(event))
      )
      yield* broker.trim(topic)
      assert.deepStrictEqual(yield* retained(topic), range(400).slice(-4))
      const [info] = yield* broker.inspect(topic, [0])
      assert.deepStrictEqual([info!.length, info!.added, info!.extra], [4, 403, 6])
    })
  )

  it.effect("a length limit is kept without a call of trim, if only roughly", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const topic = topicOf(1, Retention.maxLength(100))
      for (let i = 0; i < 30; i++)
        yield* stored(
          topic,
          range(100).map((event) => single(event))
        )
      const [info] = yield* broker.inspect(topic, [0])
      assert.isAtLeast(info!.length, 100)
      assert.isAtMost(info!.length, 1_000)
    })
  )

  it.effect("an age limit drops what is older, read or not", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const topic = topicOf(1, Retention.maxAge("400 millis"))
      yield* stored(
        topic,
        range(3, "old").map((event) => single(event))
      )
      yield* elapse(500)
      yield* broker.trim(topic)
      assert.deepStrictEqual(yield* retained(topic), [])
      yield* stored(topic, [single("new")])
      yield* elapse(60)
      assert.strictEqual(yield* broker.trim(topic), 0)
      assert.deepStrictEqual(yield* retained(topic), ["new"])
    })
  )

  it.effect("trim tells how many entries it dropped", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const written = topicOf(2)
      yield* stored(
        written,
        range(7).map((event) => single(event))
      )
      yield* stored(
        written,
        range(5).map((event) => single(event)),
        1
      )
      assert.strictEqual(yield* broker.trim({ ...written, retention: Retention.maxLength(4) }), 4)
      assert.strictEqual(
        yield* broker.trim({ ...written, retention: Retention.maxLength(2) }, [1]),
        2,
        "of one partition"
      )
      assert.strictEqual((yield* broker.inspect(written, [0]))[0]!.length, 4)
    })
  )
}
