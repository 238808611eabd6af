/** Rows with a time to live: readers never see one that has expired, and the owner removes it, also when nothing happens. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Latch, Schema, Stream } from "effect"
import { Broker } from "../src/Broker.ts"
import * as Processor from "../src/Processor.ts"
import * as Table from "../src/Table.ts"
import { TableStore } from "../src/TableStore.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, drain, numbers, start, type TestEngine, until } from "./support/engines.ts"
import { reading, readings } from "./support/readings.ts"

const life = 400

const sessions = Table.make("sessions", {
  key: Schema.String,
  value: Schema.Finite,
  initial: () => 0,
  timeToLive: life
})

/** What is stored, whether it has expired or not. */
const stored = (partition = 0) =>
  Effect.gen(function* () {
    const page = yield* (yield* TableStore).entries("p", "sessions", partition, "")
    return page.rows.map(([key]) => key).toSorted()
  })

const commits = (topic: Topic.Any) =>
  Effect.gen(function* () {
    const claim = yield* (yield* Broker).claim("p", 0, [topic], { epoch: 2n ** 62n, incarnation: "a look at the end" })
    return claim._tag === "Claimed" ? claim.number : -1
  })

const gone = (engine: TestEngine) =>
  until(engine, "nothing is stored any more", () => Effect.map(stored(), (keys) => keys.length === 0))

describe("rows that expire", () => {
  behaviour("are not seen by look-ups, scans and handlers; a write lets them live anew", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      const seen: Array<number> = []
      const part = Processor.make("p", { topic, tables: [sessions] }, ({ key }) =>
        Effect.map(
          Table.update(sessions, key, (count) => count + 1),
          (count) => seen.push(count)
        )
      )
      const worker = yield* start([part])
      const handle = (n: number) => Effect.andThen(Topic.publish(topic, reading(n, 2)), worker.idle)
      yield* handle(0)
      yield* handle(1)
      assert.strictEqual(yield* Table.lookup(sessions, "k0"), 1)
      assert.deepStrictEqual(yield* Table.lookupMany(sessions, ["k1", "k0", "none"]), [1, 1, 0])
      yield* engine.elapse(0.7 * life)
      yield* handle(0)
      yield* engine.elapse(0.7 * life)
      // Its second write is not that old.
      assert.deepStrictEqual(yield* Table.lookupMany(sessions, ["k0", "k1"]), [2, 0])
      assert.deepStrictEqual(yield* Stream.runCollect(Table.entries(sessions)), [["k0", 2]])
      yield* handle(1)
      yield* engine.elapse(1.2 * life)
      yield* handle(0)
      assert.deepStrictEqual(seen, [1, 1, 2, 1, 1])
    })
  )

  behaviour("are removed in numbered commits while no event comes, and the partition is at rest then", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      const part = Processor.make("p", { topic, tables: [sessions] }, ({ key }) => Table.set(sessions, key, 1))
      yield* Topic.publishAll(
        topic,
        numbers(20).map((n) => reading(n))
      )
      const worker = yield* start([part])
      yield* worker.idle
      assert.lengthOf(yield* stored(), 10)
      yield* gone(engine)
      yield* worker.idle
      yield* worker.close
      // One with the events, one that removed: a partition at rest commits nothing.
      assert.strictEqual(yield* commits(topic), 3)
    })
  )

  behaviour(
    "are removed by who takes the partition over, with a first event that was handled or none to handle",
    (engine) =>
      Effect.gen(function* () {
        const topic = readings(1)
        const part = Processor.make("p", { topic, tables: [sessions] }, ({ key }) => Table.set(sessions, key, 1))
        yield* Topic.publishAll(
          topic,
          numbers(5).map((n) => reading(n))
        )
        yield* drain([part])
        yield* engine.elapse(1.5 * life)
        assert.lengthOf(yield* stored(), 5)
        assert.deepStrictEqual(yield* Stream.runCollect(Table.entries(sessions)), [])
        yield* start([part])
        yield* gone(engine)
      })
  )

  behaviour("stay as long as a handler that writes one is at work, and are as it leaves them", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      const gate = yield* Latch.make(false)
      let inHand = 0
      const part = Processor.make(
        "p",
        { topic, tables: [sessions] },
        Effect.fnUntraced(function* ({ key, n }) {
          inHand = n
          const value = yield* Table.update(sessions, key, (value) => value + 1)
          if (n === 2) yield* gate.await
          return value
        })
      )
      const worker = yield* start([part])
      const handle = (n: number) => Effect.andThen(Topic.publish(topic, { key: "a", n }), worker.idle)
      yield* handle(1)
      yield* Topic.publish(topic, { key: "a", n: 2 })
      yield* until(engine, "the second is in hand", () => inHand === 2)
      // Both the row and the time of what is staged are over; it was written before that.
      yield* engine.elapse(2 * life)
      yield* gate.open
      yield* worker.idle
      // Its time begins with its commit, for everybody.
      assert.strictEqual(yield* Table.lookup(sessions, "a"), 2)
      yield* handle(3)
      assert.strictEqual(yield* Table.lookup(sessions, "a"), 3)
      yield* gone(engine)
    })
  )

  behaviour("are told as changes when they go", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      const table = Table.make("sessions", {
        key: Schema.String,
        value: Schema.Finite,
        initial: () => 0,
        timeToLive: life,
        changes: true
      })
      yield* Topic.publish(topic, { key: "a", n: 1 })
      yield* start([Processor.make("p", { topic, tables: [table] }, ({ key }) => Table.set(table, key, 7))])
      yield* until(engine, "it is written", () => Effect.map(stored(), (keys) => keys.length === 1))
      yield* gone(engine)
      const events = yield* Stream.runCollect(Topic.stream(Table.changes(table), { until: "now" }))
      assert.deepStrictEqual(
        events.map(({ value: { key, value } }) => [key, value._tag]),
        [
          ["a", "Some"],
          ["a", "None"]
        ]
      )
    })
  )
})

describe("definitions", () => {
  it("refuse a time to live that is nothing or never ends", () => {
    const make = (timeToLive: number) =>
      Table.make("t", { key: Schema.String, value: Schema.Int, initial: () => 0, timeToLive })
    assert.throws(() => make(0), "table t: timeToLive must be longer than nothing, and end")
    assert.throws(() => make(Infinity), "table t: timeToLive must be longer than nothing, and end")
  })
})
