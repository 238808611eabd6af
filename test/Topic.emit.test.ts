/** Events passed on by processors: emitted, forwarded, repartitioned. */
import { assert, describe } from "@effect/vitest"
import { DateTime, Effect, Stream } from "effect"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, drain, numbers, start } from "./support/engines.ts"
import { assertRising, collect, Reading, reading, readings, Seen } from "./support/readings.ts"

const events = <A>(topic: Topic.Topic<A, any>, options?: Parameters<typeof Topic.stream>[1]) =>
  Stream.runCollect(Topic.stream(topic, { until: "now", ...options }))

describe("emit and forward", () => {
  behaviour("a unit that fails leaves nothing in either target, the others everything, once", () =>
    Effect.gen(function* () {
      const topic = readings(2)
      const [left, right] = [Topic.variant(topic, "left"), Topic.variant(topic, "right")]
      yield* Topic.publishAll(
        topic,
        numbers(50).map((n) => reading(n))
      )
      yield* drain([
        Processor.make(
          "p",
          { topic },
          Effect.fnUntraced(function* (value) {
            yield* Topic.emit(left, value, { headers: { from: "p" } })
            if (value.n === 13) return yield* Effect.fail("no")
            yield* Topic.emit(right, value, { key: "one" })
          })
        ).pipe(Processor.catch(Policy.ignore))
      ])
      const expected = numbers(50).filter((n) => n !== 13)
      assert.deepStrictEqual(
        (yield* collect(left)).toSorted((a, b) => a - b),
        expected
      )
      assert.deepStrictEqual(
        (yield* collect(right)).toSorted((a, b) => a - b),
        expected
      )
      assert.deepStrictEqual((yield* events(left))[0]?.headers, { from: "p" })
      assert.strictEqual(new Set((yield* events(right)).map((event) => event.partition)).size, 1)
    })
  )

  behaviour("a chain of processors passes every event through, exactly once", () =>
    Effect.gen(function* () {
      const a = readings(4)
      const [b, c] = [Topic.variant(a, "b"), Topic.variant(a, "c")]
      const seen = new Seen()
      const worker = yield* start([
        Processor.make("ab", { topic: a }, (value) => Topic.emit(b, value)),
        Processor.make("bc", { topic: b }, (_, event) => Topic.forward(c, event)),
        Processor.make("end", { topic: c }, ({ key, n }) => Effect.sync(() => seen.add(key, n)))
      ])
      yield* Topic.publishAll(
        a,
        numbers(300).map((n) => reading(n))
      )
      yield* worker.idle
      assert.deepStrictEqual(seen.all, numbers(300))
      assertRising(seen.lists.values())
    })
  )

  behaviour("forward keeps bytes, key, headers and time", () =>
    Effect.gen(function* () {
      const topic = readings(2)
      const target = Topic.variant(topic, "target")
      const timestamp = DateTime.makeUnsafe(1_234)
      yield* Topic.publish(topic, reading(0), { headers: { h: "1" }, timestamp })
      yield* Topic.publishAll(
        topic,
        numbers(10, 1).map((n) => reading(n)),
        { headers: { h: "2" }, timestamp }
      )
      yield* drain([Processor.make("p", { topic }, (_, event) => Topic.forward(target, event))])
      const found = yield* events(target)
      assert.deepStrictEqual(
        found.map((event) => event.value.n).toSorted((a, b) => a - b),
        numbers(11)
      )
      for (const event of found) {
        assert.strictEqual(event.key, event.value.key)
        assert.deepStrictEqual(event.headers, { h: event.value.n === 0 ? "1" : "2" })
        assert.strictEqual(DateTime.toEpochMillis(event.timestamp), 1_234)
      }
    })
  )

  behaviour("repartition copies into another key and count, exactly once", () =>
    Effect.gen(function* () {
      const topic = readings(4)
      const to = Topic.make("by-parity", { schema: Reading, partitionBy: ({ n }) => n % 2, partitions: 3 })
      const same = Topic.make("same", { schema: Reading, partitions: 2 })
      yield* Topic.publishAll(
        topic,
        numbers(60).map((n) => reading(n))
      )
      yield* drain([
        Processor.repartition("rekey", { topic, to }),
        Processor.repartition("recount", { topic, to: same })
      ])
      const found = yield* events(to)
      assert.deepStrictEqual(
        found.map((event) => event.value.n).toSorted((a, b) => a - b),
        numbers(60)
      )
      assert.deepStrictEqual([...new Set(found.map((event) => event.key))].toSorted(), ["0", "1"])
      const seen = new Seen()
      for (const event of yield* events(same)) {
        assert.strictEqual(event.key, event.value.key)
        seen.add(event.value.key, event.value.n)
      }
      assert.deepStrictEqual(seen.all, numbers(60))
      assertRising(seen.lists.values())
    })
  )
})
