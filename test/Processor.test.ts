/** Processors that take one event at a time: order, restart, several of them, several topics, where they begin. */
import { assert, describe } from "@effect/vitest"
import { DateTime, Effect, Schema, Stream } from "effect"
import { current } from "../src/Event.ts"
import * as Processor from "../src/Processor.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, counts, drain, numbers, start, until } from "./support/engines.ts"
import { assertRising, reading, readings } from "./support/readings.ts"

describe("one at a time", () => {
  behaviour("every event once, per key in order, one at a time per partition", () =>
    Effect.gen(function* () {
      const topic = readings(2)
      yield* Topic.publishAll(
        topic,
        numbers(500).map((n) => reading(n))
      )
      const seen = new Map<string, Array<number>>()
      const inHand = new Map<number, number>()
      let most = 0
      const summary = yield* drain([
        Processor.make(
          "p",
          { topic },
          Effect.fnUntraced(function* (value, event) {
            inHand.set(event.partition, (inHand.get(event.partition) ?? 0) + 1)
            most = Math.max(most, inHand.get(event.partition)!)
            yield* Effect.yieldNow
            const list = seen.get(value.key) ?? []
            seen.set(value.key, [...list, value.n])
            inHand.set(event.partition, inHand.get(event.partition)! - 1)
          })
        )
      ])
      assert.strictEqual(most, 1)
      assertRising(seen.values())
      assert.strictEqual([...seen.values()].flat().length, 500)
      assert.deepStrictEqual(summary.parts["p"], counts({ processed: 500, failed: 0, ignored: 0 }))
      assert.isTrue((yield* Processor.lag("p")).every((lag) => lag.events === 0 && lag.entries === 0))
    })
  )

  behaviour("what was published before the worker started needs no further publish", () =>
    Effect.gen(function* () {
      const topic = readings(2)
      yield* Effect.forEach(numbers(10), (n) => Topic.publish(topic, reading(n)))
      const seen: Array<number> = []
      const worker = yield* start([Processor.make("p", { topic }, ({ n }) => Effect.sync(() => seen.push(n)))])
      yield* worker.idle
      assert.deepStrictEqual(
        seen.toSorted((a, b) => a - b),
        numbers(10)
      )
    })
  )

  behaviour("the event carries what the log has", () =>
    Effect.gen(function* () {
      const topic = readings()
      const timestamp = DateTime.makeUnsafe(1_700_000_000_000)
      const position = yield* Topic.publish(topic, reading(1), { headers: { a: "1", b: "ü" }, timestamp })
      let event: object | undefined
      let same = false
      yield* drain([
        Processor.make(
          "p",
          { topic },
          Effect.fnUntraced(function* (_, its) {
            const { attempt, epoch, headers, key, offset, partition, topic } = its
            event = { attempt, headers, key, offset, partition, topic, time: DateTime.toEpochMillis(its.timestamp) }
            assert.isTrue(epoch > 0n)
            same = (yield* current) === its
          })
        )
      ])
      assert.deepStrictEqual(event, {
        attempt: 1,
        headers: { a: "1", b: "ü" },
        key: "k1",
        offset: position.offset,
        partition: position.partition,
        topic: "readings",
        time: 1_700_000_000_000
      })
      assert.isTrue(same)
    })
  )
})

describe("restart", () => {
  behaviour("goes on at the committed offset, also in the middle of an entry", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      // One entry of 100 events.
      yield* Topic.publishAll(
        topic,
        numbers(100).map((n) => reading(n))
      )
      const seen: Array<number> = []
      const processor = Processor.make("p", { topic }, ({ n }) => Effect.sync(() => seen.push(n)))
      for (const limit of [1, 36, 3]) yield* drain([processor], { limit })
      assert.deepStrictEqual(seen, numbers(40))
      assert.deepStrictEqual(
        (yield* Processor.lag("p")).map((lag) => [lag.events, lag.entries]),
        [[60, 1]]
      )
      yield* drain([processor])
      yield* drain([processor])
      assert.deepStrictEqual(seen, numbers(100))
    })
  )

  behaviour("a table goes on where it was", () =>
    Effect.gen(function* () {
      const topic = readings(2)
      const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })
      const processor = Processor.make("p", { topic, tables: [totals] }, ({ key, n }) =>
        Table.update(totals, key, (total) => total + n)
      )
      yield* Topic.publishAll(
        topic,
        numbers(200).map((n) => reading(n))
      )
      yield* drain([processor], { limit: 77 })
      yield* drain([processor], { limit: 77 })
      yield* drain([processor])
      const rows = yield* Stream.runCollect(Table.entries(totals))
      assert.strictEqual(rows.length, 10)
      for (const [key, total] of rows) {
        assert.strictEqual(
          total,
          numbers(200)
            .filter((n) => reading(n).key === key)
            .reduce((a, b) => a + b, 0)
        )
        assert.strictEqual(yield* Table.lookup(totals, key), total)
      }
    })
  )
})

describe("several", () => {
  behaviour("each processor of a topic gets every event, and has its own position", () =>
    Effect.gen(function* () {
      const topic = readings()
      yield* Topic.publishAll(
        topic,
        numbers(60).map((n) => reading(n))
      )
      const counts = [0, 0, 0]
      const part = (i: number) => Processor.make(`p${i}`, { topic }, () => Effect.sync(() => void counts[i]!++))
      yield* drain([part(0), part(1)])
      assert.deepStrictEqual(counts, [60, 60, 0])
      yield* Topic.publishAll(
        topic,
        numbers(20).map((n) => reading(n))
      )
      yield* drain([part(0), part(2)])
      assert.deepStrictEqual(counts, [80, 60, 20])
      yield* drain([part(1)])
      assert.deepStrictEqual(counts, [80, 80, 20])
    })
  )

  behaviour(
    "several topics in one processor are merged, in order within each, one at a time per partition number",
    () =>
      Effect.gen(function* () {
        const left = readings()
        const right = Topic.variant(left, "others")
        yield* Topic.publishAll(
          left,
          numbers(100).map((n) => reading(n))
        )
        yield* Topic.publishAll(
          right,
          numbers(100).map((n) => reading(n))
        )
        const seen = new Map<string, Array<number>>()
        const inHand = new Set<number>()
        yield* drain([
          Processor.make(
            "merge",
            { topic: [left, right] },
            Effect.fnUntraced(function* ({ key, n }, event) {
              assert.isFalse(inHand.has(event.partition))
              inHand.add(event.partition)
              yield* Effect.yieldNow
              inHand.delete(event.partition)
              const id = `${event.topic}/${key}`
              seen.set(id, [...(seen.get(id) ?? []), n])
            })
          )
        ])
        assert.strictEqual(seen.size, 20)
        assert.strictEqual([...seen.values()].flat().length, 200)
        assertRising(seen.values())
        const lags = yield* Processor.lag("merge")
        assert.deepStrictEqual([...new Set(lags.map((lag) => lag.topic))].toSorted(), ["others", "readings"])
        assert.isTrue(lags.every((lag) => lag.events === 0))
      })
  )
})

describe("where it begins", () => {
  const begin = (startFrom: Topic.From) =>
    Effect.gen(function* () {
      const topic = readings(1)
      const seen: Array<number> = []
      const processor = Processor.make("p", { topic, startFrom }, ({ n }) => Effect.sync(() => seen.push(n)))
      return { topic, seen, processor }
    })

  behaviour("latest skips what was there, and counts only the first time", () =>
    Effect.gen(function* () {
      const { processor, seen, topic } = yield* begin("latest")
      yield* Topic.publishAll(
        topic,
        numbers(3).map((n) => reading(n))
      )
      const worker = yield* start([processor])
      yield* worker.idle
      assert.deepStrictEqual(seen, [])
      yield* Topic.publish(topic, reading(3))
      yield* worker.idle
      assert.deepStrictEqual(seen, [3])
      yield* worker.close
      yield* Topic.publish(topic, reading(4))
      yield* drain([processor])
      assert.deepStrictEqual(seen, [3, 4])
    })
  )

  behaviour("at an offset, also inside an entry", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const positions = yield* Topic.publishAll(
        topic,
        numbers(10).map((n) => reading(n))
      )
      const { processor, seen } = yield* begin({ offset: positions[4]!.offset })
      yield* drain([processor])
      assert.deepStrictEqual(seen, numbers(6, 4))
    })
  )

  behaviour("at a time", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(3).map((n) => reading(n))
      )
      yield* engine.elapse(20)
      const position = yield* Topic.publish(topic, reading(3))
      yield* Topic.publish(topic, reading(4))
      const time = DateTime.makeUnsafe(Number(position.offset.split("-")[0]))
      const { processor, seen } = yield* begin({ time })
      yield* drain([processor])
      assert.deepStrictEqual(seen, [3, 4])
    })
  )
})

describe("while it runs", () => {
  behaviour("events are handled as they come, and idle waits for those that are there", (engine) =>
    Effect.gen(function* () {
      const topic = readings()
      let count = 0
      const worker = yield* start([Processor.make("p", { topic }, () => Effect.sync(() => void count++))])
      for (let round = 1; round <= 5; round++) {
        yield* Effect.forEach(numbers(7), (n) => Topic.publish(topic, reading(n)))
        yield* worker.idle
        assert.strictEqual(count, 7 * round)
      }
      yield* Topic.publish(topic, reading(1))
      // Without anybody waiting for it.
      yield* until(engine, "the 36th event is handled", () => count === 36)
    })
  )
})
