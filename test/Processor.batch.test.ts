/** Processors that take batches: how large, how long waited for, one unit of work, what a failure does. */
import { assert, describe } from "@effect/vitest"
import { Cause, Deferred, Effect, Schema } from "effect"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, counts, drain, halted, numbers, start, until } from "./support/engines.ts"
import { collect, reading, readings } from "./support/readings.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", { n: Schema.Int }) {}

const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })

describe("size and time", () => {
  behaviour("what is there comes at once in full batches, of values and of events", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(4).map((n) => reading(n))
      )
      const batches: Array<ReadonlyArray<number>> = []
      const offsets: Array<string> = []
      const worker = yield* start([
        Processor.batch("p", { topic, size: 2, within: "1 hour" }, (values, events) =>
          Effect.sync(() => {
            batches.push(values.map((value) => value.n))
            offsets.push(...events.map((event) => event.offset))
          })
        )
      ])
      yield* worker.idle
      assert.deepStrictEqual(batches, [
        [0, 1],
        [2, 3]
      ])
      assert.strictEqual(new Set(offsets).size, 4)
    })
  )

  behaviour("the rest comes when the time of its first event is over, and never an empty batch", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      const batches: Array<number> = []
      const worker = yield* start([
        Processor.batch("p", { topic, size: 4, within: "100 millis" }, (values) =>
          Effect.sync(() => void batches.push(values.length))
        )
      ])
      // Time that passes before the first event is no time of a batch.
      yield* engine.elapse(250)
      assert.deepStrictEqual(batches, [])
      yield* Topic.publishAll(
        topic,
        numbers(7).map((n) => reading(n))
      )
      yield* until(engine, "a full batch", () => batches.length === 1)
      if (engine.virtual) {
        yield* engine.elapse(80)
        assert.deepStrictEqual(batches, [4])
      }
      yield* until(engine, "the rest", () => batches.length === 2)
      yield* worker.idle
      yield* engine.elapse(250)
      assert.deepStrictEqual(batches, [4, 3])
    })
  )

  behaviour(
    "the time is counted from the first event of the batch, not from the batch before",
    (engine) =>
      Effect.gen(function* () {
        const topic = readings(1)
        const batches: Array<ReadonlyArray<number>> = []
        yield* start([
          Processor.batch("p", { topic, size: 10, within: "1 second" }, (values) =>
            Effect.sync(() => void batches.push(values.map((value) => value.n)))
          )
        ])
        yield* Topic.publish(topic, reading(0))
        yield* engine.elapse(1_000)
        assert.deepStrictEqual(batches, [[0]])
        yield* engine.elapse(900)
        yield* Topic.publish(topic, reading(1))
        yield* engine.elapse(900)
        yield* Topic.publish(topic, reading(2))
        assert.strictEqual(batches.length, 1)
        yield* engine.elapse(99)
        assert.strictEqual(batches.length, 1)
        yield* engine.elapse(1)
        assert.deepStrictEqual(batches, [[0], [1, 2]])
      }),
    { on: ["memory"] }
  )

  behaviour("a prefetch of 1 still gives batches of 10", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Effect.forEach(numbers(20), (n) => Topic.publish(topic, reading(n)))
      const batches: Array<number> = []
      const worker = yield* start([
        Processor.batch("p", { topic, size: 10, within: "1 hour", prefetch: { events: 1 } }, (values) =>
          Effect.sync(() => void batches.push(values.length))
        )
      ])
      yield* worker.idle
      assert.deepStrictEqual(batches, [10, 10])
    })
  )
})

describe("one unit of work", () => {
  behaviour("a batch that fails leaves nothing of any of its events", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const target = Topic.variant(topic, "target")
      yield* Topic.publishAll(
        topic,
        numbers(6).map((n) => reading(n, 2))
      )
      const summary = yield* drain([
        Processor.batch(
          "p",
          { topic, tables: [totals], size: 3, within: "1 hour" },
          Effect.fnUntraced(function* (values) {
            for (const value of values) {
              yield* Table.update(totals, value.key, (total) => total + 1)
              yield* Topic.emit(target, value)
            }
            if (values[0].n === 0) return yield* new Refused({ n: 0 })
          })
        ).pipe(Processor.catchTag("Refused", Policy.ignore))
      ])
      assert.deepStrictEqual(summary.parts.p, counts({ processed: 3, failed: 1, ignored: 3 }))
      assert.strictEqual(yield* Table.lookup(totals, "k0"), 1)
      assert.strictEqual(yield* Table.lookup(totals, "k1"), 2)
      const emitted = yield* collect(target)
      assert.deepStrictEqual(emitted, [3, 4, 5])
    })
  )

  behaviour("without a policy it halts, and comes again as a whole", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(6).map((n) => reading(n))
      )
      const seen: Array<ReadonlyArray<number>> = []
      const part = (fails: boolean) =>
        Processor.batch("p", { topic, size: 2, within: "1 hour" }, (values) => {
          seen.push(values.map((value) => value.n))
          return fails && values[0].n === 2 ? Effect.fail(new Refused({ n: 2 })) : Effect.void
        })
      const failure = yield* halted([part(true)])
      assert.deepStrictEqual(Cause.squash(failure.cause), new Refused({ n: 2 }))
      assert.strictEqual((yield* Processor.lag("p"))[0]!.events, 4)
      yield* drain([part(false)])
      assert.deepStrictEqual(seen, [
        [0, 1],
        [2, 3],
        [2, 3],
        [4, 5]
      ])
    })
  )

  behaviour("one that is interrupted stores nothing and comes again", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(2).map((n) => reading(n, 1))
      )
      const started = yield* Deferred.make<void>()
      let runs = 0
      let finalized = 0
      const part = Processor.batch(
        "p",
        { topic, tables: [totals], size: 2, within: "1 hour" },
        Effect.fnUntraced(function* (values) {
          runs++
          yield* Effect.addFinalizer(() => Effect.sync(() => void finalized++))
          yield* Table.update(totals, "k0", (total) => total + values.length)
          if (runs > 1) return
          yield* Deferred.succeed(started, undefined)
          yield* Effect.never
        })
      )
      const worker = yield* start([part], { grace: 0 })
      yield* Deferred.await(started)
      const closing = yield* Effect.forkChild(worker.close)
      yield* until(engine, "the worker is gone", () => closing.pollUnsafe() !== undefined)
      assert.strictEqual(finalized, 1)
      yield* drain([part])
      assert.deepStrictEqual([runs, finalized], [2, 2])
      assert.strictEqual(yield* Table.lookup(totals, "k0"), 2)
    })
  )

  behaviour("a batch that was only gathered when the worker ends belongs to the next owner", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const batches: Array<ReadonlyArray<number>> = []
      const part = Processor.batch("p", { topic, size: 3, within: "1 hour" }, (values) =>
        Effect.sync(() => void batches.push(values.map((value) => value.n)))
      )
      const worker = yield* start([part])
      yield* Topic.publishAll(
        topic,
        numbers(2).map((n) => reading(n))
      )
      yield* worker.close
      assert.deepStrictEqual(batches, [])
      yield* Topic.publish(topic, reading(2))
      yield* drain([part])
      assert.deepStrictEqual(batches, [[0, 1, 2]])
    })
  )
})
