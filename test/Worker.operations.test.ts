/** What can be said to running processors (pause, seek, remove), and what they report by themselves. */
import { assert, describe } from "@effect/vitest"
import { DateTime, Effect, Latch, Logger, References, Schema, Stream } from "effect"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, drain, numbers, start, until } from "./support/engines.ts"
import { assertRising, reading, readings, Seen } from "./support/readings.ts"

const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })
const publish = (topic: ReturnType<typeof readings>, count: number, from = 0) =>
  Topic.publishAll(
    topic,
    numbers(count, from).map((n) => reading(n))
  )

/** Collects warnings with their annotations. */
const warnings = (messages: Array<string>) =>
  Logger.layer([
    Logger.make(({ fiber, logLevel, message }) => {
      if (logLevel !== "Warn") return
      const annotations = fiber.getRef(References.CurrentLogAnnotations)
      messages.push(`${Array.isArray(message) ? message.join(" ") : String(message)} ${JSON.stringify(annotations)}`)
    })
  ])

describe("operations", () => {
  behaviour("pause hands out nothing on any worker and keeps the owners; resume goes on in order", (engine) =>
    Effect.gen(function* () {
      const topic = readings(4)
      const seen = new Seen()
      const part = Processor.make("p", { topic }, ({ key, n }) => Effect.sync(() => seen.add(key, n)))
      const a = yield* start([part], { settle: 0 })
      yield* start([part], { settle: 0 })
      yield* publish(topic, 40)
      yield* until(engine, "the first are handled", () => seen.all.length === 40)
      yield* Processor.pause("p")
      // The flag comes with a wake; there is no event that tells that both workers have it.
      yield* engine.elapse(200)
      yield* publish(topic, 40, 40)
      yield* engine.elapse(200)
      assert.strictEqual(seen.all.length, 40)
      yield* Processor.resume("p")
      yield* until(engine, "the rest is handled", () => seen.all.length === 80)
      assertRising(seen.lists.values())
      yield* a.close
    })
  )

  behaviour("pause takes effect between two events of a chunk, in every shape that can", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      yield* publish(topic, 100)
      const handler = (name: string) => {
        let count = 0
        const gate = Latch.makeUnsafe(false)
        const handle = () => Effect.suspend(() => (++count === 5 ? gate.await : Effect.void))
        return { name, gate, handle, count: () => count }
      }
      const [one, lanes, before] = [handler("one"), handler("lanes"), handler("before")]
      yield* start([
        Processor.make("one", { topic }, one.handle),
        Processor.make("lanes", { topic, concurrency: { perKey: 2 } }, lanes.handle),
        Processor.make("before", { topic, acknowledge: "before" }, before.handle)
      ])
      for (const { count, gate, name } of [one, lanes, before]) {
        yield* until(engine, `${name} is in the middle`, () => count() >= 5)
        yield* engine.elapse(20)
        yield* Processor.pause(name)
        yield* engine.elapse(200)
        const at = count()
        yield* gate.open
        yield* engine.elapse(100)
        assert.strictEqual(count(), at, name)
        yield* Processor.resume(name)
        yield* until(engine, `${name} goes on`, () => count() === 100)
      }
    })
  )

  behaviour(
    "seek moves a stopped processor: to the start, an offset, a time, the end; tables follow if asked",
    (engine) =>
      Effect.gen(function* () {
        const topic = readings(1, Retention.forever)
        const positions = yield* publish(topic, 10)
        yield* engine.elapse(20)
        const late = yield* Topic.publish(topic, reading(10))
        const seen: Array<number> = []
        const part = Processor.make("p", { topic, tables: [totals] }, ({ n }) =>
          Effect.andThen(
            Effect.sync(() => void seen.push(n)),
            Table.update(totals, "all", (total) => total + 1)
          )
        )
        const runs = Effect.gen(function* () {
          seen.length = 0
          yield* drain([part])
          return [...seen]
        })
        assert.deepStrictEqual(yield* runs, numbers(11))
        assert.deepStrictEqual(yield* runs, [])
        yield* Processor.seek(part, { offset: positions[6]!.offset })
        assert.deepStrictEqual(
          (yield* Processor.lag("p")).map((lag) => lag.events),
          [5]
        )
        assert.deepStrictEqual(yield* runs, numbers(5, 6))
        yield* Processor.seek(part, { time: DateTime.makeUnsafe(Number(late.offset.split("-")[0])) })
        assert.deepStrictEqual(yield* runs, [10])
        yield* Processor.seek(part, "earliest")
        yield* Processor.seek(part, "latest")
        assert.deepStrictEqual(yield* runs, [])
        assert.strictEqual(yield* Table.lookup(totals, "all"), 17)
        yield* Processor.seek(part, "earliest", { resetTables: true })
        assert.strictEqual(yield* Table.lookup(totals, "all"), 0)
        assert.deepStrictEqual(yield* runs, numbers(11))
        assert.strictEqual(yield* Table.lookup(totals, "all"), 11)
      })
  )

  behaviour("seek is refused while it runs, and replays live when it is paused", (engine) =>
    Effect.gen(function* () {
      const topic = readings(2, Retention.forever)
      yield* publish(topic, 20)
      const seen = new Seen()
      const part = Processor.make("p", { topic, tables: [totals] }, ({ key, n }) =>
        Effect.andThen(
          Effect.sync(() => seen.add(key, n)),
          Table.update(totals, key, (total) => total + 1)
        )
      )
      const worker = yield* start([part], { settle: 0 })
      yield* worker.idle
      const refused = yield* Effect.flip(Processor.seek(part, "earliest"))
      assert.strictEqual(refused._tag, "Misconfigured")
      assert.include(
        refused.message,
        "seek: processor p is running; pause it (Processor.pause) or stop its workers first"
      )
      yield* Processor.pause("p")
      yield* engine.elapse(200)
      yield* Processor.seek(part, "earliest", { resetTables: true })
      assert.strictEqual(seen.all.length, 20)
      yield* Processor.resume("p")
      yield* until(engine, "it was all replayed", () => seen.all.length === 40)
      const idle = yield* Effect.forkChild(worker.idle)
      yield* until(engine, "idle", () => idle.pollUnsafe() !== undefined)
      for (const [key, total] of yield* Stream.runCollect(Table.entries(totals))) assert.strictEqual(total, 2, key)
    })
  )

  behaviour("remove is refused while it runs; then the group, its tables and its hold on the log are gone", () =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      yield* publish(topic, 5)
      let count = 0
      const part = Processor.make("p", { topic, tables: [totals] }, () =>
        Effect.andThen(
          Effect.sync(() => void count++),
          Table.update(totals, "all", (total) => total + 1)
        )
      )
      const worker = yield* start([part])
      yield* worker.idle
      const refused = yield* Effect.flip(Processor.remove("p"))
      assert.include(refused.message, "remove: processor p is running")
      yield* worker.close
      yield* Processor.remove("p")
      assert.deepStrictEqual(yield* Processor.lag("p"), [])
      yield* drain([part])
      assert.strictEqual(count, 10)
      assert.strictEqual(yield* Table.lookup(totals, "all"), 5)
    })
  )
})

describe("reports", () => {
  behaviour(
    "a handler that runs long is reported with partition and offset, and not interrupted",
    (engine) =>
      Effect.gen(function* () {
        const topic = readings(1)
        yield* publish(topic, 1)
        const gate = yield* Latch.make(false)
        const messages: Array<string> = []
        const worker = yield* start([Processor.make("p", { topic }, () => gate.await)]).pipe(
          Effect.provide(warnings(messages))
        )
        yield* engine.elapse(4 * 60_000)
        assert.deepStrictEqual(messages, [])
        yield* engine.elapse(3 * 60_000)
        assert.isAtLeast(messages.length, 1)
        assert.include(messages[0], "a handler has been running for long")
        assert.include(messages[0], `"partition":0`)
        assert.include(messages[0], `"processor":"p"`)
        const reports = messages.length
        yield* engine.elapse(10 * 60_000)
        assert.isAtMost(messages.length, reports + 10)
        yield* gate.open
        yield* worker.idle
      }),
    { on: ["memory"] }
  )

  behaviour(
    "slowAfter of the processor counts, and an event that a pipeline swallowed is named",
    (engine) =>
      Effect.gen(function* () {
        const topic = readings(1)
        const positions = yield* publish(topic, 3)
        const messages: Array<string> = []
        yield* start([
          Processor.stream("p", { topic, slowAfter: "10 seconds" }, (events) =>
            Stream.filter(events, (event) => event.value.n !== 1)
          )
        ]).pipe(Effect.provide(warnings(messages)))
        yield* engine.elapse(30_000)
        assert.isAtLeast(messages.length, 1)
        assert.include(messages[0], "StalledEvents")
        assert.include(messages[0], positions[1]!.offset)
        // Once a minute, however short `slowAfter` is.
        const reports = messages.length
        yield* engine.elapse(5 * 60_000)
        assert.isAtMost(messages.length, reports + 5)
      }),
    { on: ["memory"] }
  )
})
