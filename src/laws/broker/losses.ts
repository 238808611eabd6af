/** Laws of losses: what readers and processors are told of events that were trimmed before they came to them. */

import { assert } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Broker } from "../../Broker.ts"
import * as Retention from "../../Retention.ts"
import {
  after,
  claimed,
  commitAll,
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
  startsWith,
  stored,
  topicOf,
  unique
} from "./support.ts"

export const lossLaws = (laws: Laws): void => {
  const { elapse, it } = laws

  it.effect("a reader of a topic that trims unread events is told how many entries are gone", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const topic = topicOf(1, Retention.maxLength(10))
      const ids = yield* stored(
        topic,
        range(5).map((event) => single(event))
      )
      const [found] = yield* read([from(topic)])
      assert.strictEqual(found!.trimmed, 0)
      yield* stored(
        topic,
        range(30, "new").map((event) => single(event))
      )
      yield* broker.trim(topic)
      const [next] = yield* read([from(topic, 0, ids.at(-1)!, 5)])
      assert.strictEqual(next!.trimmed, 25)
      assert.deepStrictEqual(eventsOf([next!]), range(30, "new").slice(20))
    })
  )

  it.effect("a reader without a group is told what commits trimmed before it read them, and a processor is not", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const [topic, processor] = [consumed(1_000), unique("p")]
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(1))
      const entries = range(300).map((event) => single(event))
      const ids = yield* stored(topic, entries)
      const ungrouped = (done: number) => ({
        ...from(topic, 0, done === 0 ? "0-0" : ids[done - 1]!, done),
        ungrouped: true as const
      })
      assert.strictEqual((yield* read([ungrouped(0)], 10))[0]!.trimmed, 0)
      yield* commitAll(processor, fence(1), 1, after(topic, entries, ids, 290))
      const [info] = yield* broker.inspect(topic, [0])
      const gone = info!.added - info!.length
      assert.isAbove(gone, 10)
      const [next] = yield* read([ungrouped(10)])
      assert.deepStrictEqual([next!.trimmed, eventsOf([next!])], [gone, range(300).slice(gone)])
      yield* commitAll(processor, fence(1), 2, after(topic, entries, ids))
      assert.deepStrictEqual(yield* read([ungrouped(10)]), [
        { topic: topic.name, partition: 0, entries: [], trimmed: 300 }
      ])
      assert.deepStrictEqual(yield* read([ungrouped(300)]), [])
      assert.deepStrictEqual(yield* read([from(topic, 0, ids[9], 10)]), [], "a processor")
    })
  )

  it.effect("a waiting reader without a group is woken by the append, and told of no loss", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const [topic, other, processor] = [consumed(1_000), consumed(1_000), unique("p")]
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(1))
      const first = [single("done")]
      const before = yield* stored(topic, first)
      yield* commitAll(processor, fence(1), 1, after(topic, first, before))
      const reader = yield* broker.reader(0)
      const at = (entriesRead: number) => ({ ...from(topic, 0, before[0], entriesRead), ungrouped: true as const })
      const options = { count: 10, block: 20_000 }
      const positions = [{ ...from(other), ungrouped: true as const }, at(1)]
      const waiting = yield* forkBlocked(laws, reader.read(positions, options))
      assert.isUndefined(waiting.pollUnsafe())
      yield* stored(topic, [single("here"), single("too")])
      const found = yield* Fiber.join(waiting)
      assert.deepStrictEqual([eventsOf(found), found[0]!.trimmed], [["here", "too"], 1])
      const empty = yield* forkBlocked(
        laws,
        reader.read([{ ...from(other), ungrouped: true }], { ...options, block: 200 })
      )
      yield* elapse(200)
      assert.deepStrictEqual(yield* Fiber.join(empty), [])
    })
  )

  it.effect("a waiting reader gets what is trimmed as soon as it came", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const topic = topicOf(1, Retention.maxLength(1))
      const ids = yield* stored(topic, [single("a")])
      const reader = yield* broker.reader(0)
      const options = { count: 10, block: 20_000 }
      const waiting = yield* forkBlocked(laws, reader.read([from(topic, 0, ids[0], 1)], options))
      const append = (text: string) => stored(topic, [single(text)])
      // Both at once: the second one trims the first, if it is not too late.
      yield* Effect.all([append("b"), broker.trim(topic), append("c"), broker.trim(topic)], { concurrency: 4 })
      const [found] = yield* Fiber.join(waiting)
      const lost = Math.max(0, found!.trimmed! - 1)
      assert.deepStrictEqual(eventsOf([found!])[0], ["b", "c"][lost])
    })
  )

  it.effect("the entries before an id are counted with those that were trimmed", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const topic = topicOf(1, Retention.maxLength(450))
      assert.strictEqual(yield* broker.entriesBefore(topic, 0, "5-0"), 0)
      const ids = yield* stored(
        topic,
        range(700).map((event) => single(event))
      )
      yield* broker.trim(topic)
      const counted = yield* Effect.forEach([300, 650, 699], (nth) => broker.entriesBefore(topic, 0, ids[nth]!))
      assert.deepStrictEqual(counted, [300, 650, 699])
      assert.strictEqual(yield* broker.entriesBefore(topic, 0, ids[3]!), 250, "what is left begins there")
      assert.strictEqual(yield* broker.entriesBefore(topic, 0, "9000000000000000-0"), 700)
      assert.strictEqual(yield* broker.entriesBefore(topic, 0, "0-0"), 250)
    })
  )

  it.effect("a processor behind the trimmed events is counted as lagging by them, and starts at what is left", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const [topic, processor] = [topicOf(1, Retention.maxLength(5)), unique("p")]
      yield* register(processor, [topic])
      yield* stored(
        topic,
        range(20).map((event) => single(event))
      )
      yield* broker.trim(topic)
      assert.strictEqual((yield* broker.lag(processor))[0]!.events, 20)
      assert.deepStrictEqual(yield* startsWith(processor, topic), range(20).slice(15))
      const { committed, logs } = yield* claimed(processor, [topic], fence(1))
      assert.strictEqual(logs[0]!.added - logs[0]!.length - committed[0]!.entries, 15)
    })
  )
}
