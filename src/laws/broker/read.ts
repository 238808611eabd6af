/** Laws of reading: positions, counts, and reads that wait. */
import { assert } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Broker } from "../../Broker.ts"
import {
  claimed,
  commit,
  commitOf,
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

export const readLaws = (laws: Laws): void => {
  const { elapse, it } = laws

  it.effect("a read goes on after its position, with at most `count` entries", () =>
    Effect.gen(function* () {
      const topic = topicOf()
      const ids = yield* stored(
        topic,
        range(25).map((event) => single(event))
      )
      const seen: Array<string> = []
      let after = "0-0"
      for (let turn = 0; turn < 10; turn++) {
        const batches = yield* read([from(topic, 0, after, seen.length)], 10)
        if (batches.length === 0) break
        assert.isAtMost(batches[0]!.entries.length, 10)
        seen.push(...eventsOf(batches))
        after = batches[0]!.entries.at(-1)!.id
      }
      assert.deepStrictEqual(seen, range(25))
      assert.strictEqual(after, ids[24])
    })
  )

  it.effect("a position need not be an entry: it may be the last id below one", () =>
    Effect.gen(function* () {
      const topic = topicOf()
      yield* stored(topic, [single("a", "5-1"), single("b", "6-0"), single("c", "6-2")])
      assert.deepStrictEqual(eventsOf(yield* read([from(topic, 0, "5-18446744073709551615", 1)])), ["b", "c"])
      assert.deepStrictEqual(eventsOf(yield* read([from(topic, 0, "6-1", 2)])), ["c"])
    })
  )

  it.effect("a read answers only the partitions that have something", () =>
    Effect.gen(function* () {
      const { shards } = yield* Broker
      const topic = topicOf(4 * shards)
      const [id] = yield* stored(topic, [single("read")], 0)
      yield* stored(topic, [single("new")], 2 * shards)
      const batches = yield* read([from(topic, 0, id, 1), from(topic, shards), from(topic, 2 * shards)])
      assert.deepStrictEqual(
        batches.map((found) => found.partition),
        [2 * shards]
      )
      assert.deepStrictEqual(eventsOf(batches), ["new"])
      assert.strictEqual(batches[0]!.trimmed, undefined)
    })
  )

  it.effect("a read that may not wait is answered at once with nothing", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* read([from(topicOf())]), [])
    })
  )

  it.effect("a waiting read ends with the append", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const topic = topicOf(2 * broker.shards)
      const reader = yield* broker.reader(0)
      const waiting = yield* forkBlocked(
        laws,
        reader.read([from(topic), from(topic, broker.shards)], { count: 10, block: 20_000 })
      )
      assert.isUndefined(waiting.pollUnsafe())
      yield* stored(topic, [single("here")], broker.shards)
      assert.deepStrictEqual(eventsOf(yield* Fiber.join(waiting)), ["here"])
    })
  )

  it.effect("a waiting read ends with what a commit emits", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const [topic, output, processor] = [topicOf(), topicOf(), unique("p")]
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(1))
      const reader = yield* broker.reader(0)
      const waiting = yield* forkBlocked(laws, reader.read([from(output)], { count: 10, block: 20_000 }))
      yield* commit(
        commitOf(processor, fence(1), 1, { emits: [{ topic: output, partition: 0, entries: [single("out")] }] })
      )
      assert.deepStrictEqual(eventsOf(yield* Fiber.join(waiting)), ["out"])
    })
  )

  it.effect("a waiting read ends empty when its time is up", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const reader = yield* broker.reader(0)
      const waiting = yield* forkBlocked(laws, reader.read([from(topicOf())], { count: 10, block: 200 }))
      assert.isUndefined(waiting.pollUnsafe())
      yield* elapse(200)
      assert.deepStrictEqual(yield* Fiber.join(waiting), [])
    })
  )

  it.effect("wake ends a waiting read, and does nothing when none waits", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const topic = topicOf()
      const reader = yield* broker.reader(0)
      yield* reader.wake
      const first = yield* forkBlocked(laws, reader.read([from(topic)], { count: 10, block: 20_000 }))
      assert.isUndefined(first.pollUnsafe())
      yield* reader.wake
      assert.deepStrictEqual(yield* Fiber.join(first), [])
      const second = yield* forkBlocked(laws, reader.read([from(topic)], { count: 10, block: 20_000 }))
      yield* stored(topic, [single("later")])
      assert.deepStrictEqual(eventsOf(yield* Fiber.join(second)), ["later"])
    })
  )

  it.effect("an interrupted read consumes nothing, and its reader goes on", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const topic = topicOf()
      const reader = yield* broker.reader(0)
      const waiting = yield* forkBlocked(laws, reader.read([from(topic)], { count: 10, block: 20_000 }))
      yield* Fiber.interrupt(waiting)
      yield* stored(topic, [single("kept")])
      assert.deepStrictEqual(eventsOf(yield* reader.read([from(topic)], { count: 10, block: 1_000 })), ["kept"])
    })
  )

  it.effect("every reader gets everything", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const topic = topicOf()
      const one = yield* broker.reader(0)
      const two = yield* broker.reader(0)
      const options = { count: 10, block: 20_000 }
      const waiting = yield* forkBlocked(
        laws,
        Effect.all([one.read([from(topic)], options), two.read([from(topic)], options)], { concurrency: 2 })
      )
      yield* stored(topic, [single("both")])
      assert.deepStrictEqual((yield* Fiber.join(waiting)).map(eventsOf), [["both"], ["both"]])
    })
  )
}
