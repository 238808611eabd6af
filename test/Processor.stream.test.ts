/** Processors that are streams: what is emitted is done, what is held back is not; units of work inside the pipeline. */
import { assert, describe } from "@effect/vitest"
import { Cause, Clock, Deferred, Effect, Latch, Schema, Stream } from "effect"
import * as Event from "../src/Event.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, counts, drain, halted, numbers, start, until } from "./support/engines.ts"
import { collect, reading, readings } from "./support/readings.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", { n: Schema.Int }) {}

const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })
const behind = Effect.map(Processor.lag("p"), (lags) => lags.reduce((sum, lag) => sum + lag.events, 0))

describe("done", () => {
  behaviour("is what is emitted, alone or in an array", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(40).map((n) => reading(n))
      )
      const seen: Array<number> = []
      const summary = yield* drain([
        Processor.stream("p", { topic }, (events) =>
          events.pipe(Stream.tap((event) => Effect.sync(() => void seen.push(event.value.n))))
        ),
        Processor.stream("q", { topic }, (events) => events.pipe(Stream.groupedWithin(5, "1 hour")))
      ])
      assert.deepStrictEqual(
        seen.toSorted((a, b) => a - b),
        numbers(40)
      )
      assert.deepStrictEqual([summary.parts.p?.processed, summary.parts.q?.processed], [40, 40])
      assert.strictEqual(yield* behind, 0)
    })
  )

  behaviour("is nothing that the pipeline holds back until a signal", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(10).map((n) => reading(n))
      )
      const gate = yield* Latch.make(false)
      const taken: Array<number> = []
      const part = Processor.stream("p", { topic }, (events) =>
        events.pipe(
          Stream.tap((event) => Effect.sync(() => void taken.push(event.value.n))),
          Stream.tap(() => gate.await)
        )
      )
      const worker = yield* start([part])
      yield* until(engine, "the first event is taken", () => taken.length > 0)
      yield* engine.elapse(50)
      assert.strictEqual(yield* behind, 10)
      yield* gate.open
      yield* worker.idle
      assert.strictEqual(yield* behind, 0)
      assert.deepStrictEqual(taken, numbers(10))
    })
  )

  behaviour("is in order: an event held back keeps those after it from being committed, and they come again", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(10).map((n) => reading(n))
      )
      const seen: Array<number> = []
      const all = yield* Deferred.make<void>()
      const held = Processor.stream("p", { topic }, (events) =>
        events.pipe(
          Stream.tap((event) => {
            seen.push(event.value.n)
            return event.value.n === 9 ? Deferred.succeed(all, undefined) : Effect.void
          }),
          // Swallowed without telling anybody.
          Stream.filter((event) => event.value.n !== 4)
        )
      )
      const worker = yield* start([held])
      yield* Deferred.await(all)
      yield* worker.close
      assert.strictEqual(yield* behind, 6)
      const rest: Array<number> = []
      yield* drain([
        Processor.stream("p", { topic }, (events) =>
          events.pipe(Stream.tap((event) => Effect.sync(() => void rest.push(event.value.n))))
        )
      ])
      assert.deepStrictEqual(seen, numbers(10))
      assert.deepStrictEqual(rest, numbers(6, 4))
    })
  )

  behaviour("is what Event.filter drops, and what Event.map changed", () =>
    Effect.gen(function* () {
      const topic = readings(2)
      yield* Topic.publishAll(
        topic,
        numbers(40).map((n) => reading(n))
      )
      const seen: Array<string> = []
      yield* drain([
        Processor.stream("p", { topic }, (events) =>
          events.pipe(
            Event.filter((value) => value.n % 2 === 0),
            Event.map((value) => `${value.key}=${value.n}`),
            Stream.tap((event) => Effect.sync(() => void seen.push(event.value)))
          )
        )
      ])
      assert.strictEqual(seen.length, 20)
      assert.include(seen, "k8=38")
      assert.strictEqual(yield* behind, 0)
    })
  )

  behaviour("is everything before what is emitted, with upTo", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(25).map((n) => reading(n))
      )
      const last = yield* Deferred.make<void>()
      const part = Processor.stream("p", { topic, acknowledge: "upTo" }, (events) =>
        events.pipe(
          Stream.tap((event) => (event.value.n === 24 ? Deferred.succeed(last, undefined) : Effect.void)),
          Stream.filter((event) => event.value.n % 10 === 9)
        )
      )
      const worker = yield* start([part])
      yield* Deferred.await(last)
      yield* worker.close
      assert.strictEqual(yield* behind, 5)
    })
  )
})

describe("operators", () => {
  behaviour("index, keys, whole events", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const positions = yield* Topic.publishAll(
        topic,
        numbers(5).map((n) => reading(n)),
        { headers: { h: "x" } }
      )
      const seen: Array<unknown> = []
      yield* drain([
        Processor.stream("p", { topic }, (events) =>
          events.pipe(
            Stream.zipWithIndex,
            Stream.map(([event, index]) => {
              seen.push([index, event.key, event.value.n, event.offset, event.headers.h])
              return event
            })
          )
        )
      ])
      assert.deepStrictEqual(
        seen,
        numbers(5).map((n) => [n, `k${n}`, n, positions[n]!.offset, "x"])
      )
    })
  )

  behaviour("a pipeline that ends by itself halts: it would leave its partition unread", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(5).map((n) => reading(n))
      )
      const failure = yield* halted([Processor.stream("p", { topic }, Stream.take(2))])
      assert.include(String(Cause.squash(failure.cause)), "must not end")
      assert.strictEqual(yield* behind, 3)
    })
  )
})

describe("units of work", () => {
  behaviour("Event.mapEffect writes and emits with the commit of its event", () =>
    Effect.gen(function* () {
      const topic = readings(2)
      const target = Topic.variant(topic, "target", { partitions: 1 })
      yield* Topic.publishAll(
        topic,
        numbers(60).map((n) => reading(n))
      )
      yield* drain([
        Processor.stream("p", { topic, tables: [totals] }, (events) =>
          events.pipe(
            Event.mapEffect(
              Effect.fnUntraced(function* (value) {
                yield* Topic.emit(target, value)
                return yield* Table.update(totals, value.key, (total) => total + value.n)
              })
            )
          )
        )
      ])
      assert.strictEqual(yield* Table.lookup(totals, "k3"), 3 + 13 + 23 + 33 + 43 + 53)
      assert.deepStrictEqual(
        (yield* collect(target)).toSorted((a, b) => a - b),
        numbers(60)
      )
    })
  )

  behaviour("what is staged is committed only when the event leaves the pipeline", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(4).map((n) => reading(n, 1))
      )
      const gate = yield* Latch.make(false)
      let handled = 0
      const worker = yield* start([
        Processor.stream("p", { topic, tables: [totals] }, (events) =>
          events.pipe(
            Event.mapEffect(() => {
              handled++
              return Table.update(totals, "k0", (total) => total + 1)
            }),
            Stream.grouped(2),
            Stream.tap(() => gate.await)
          )
        )
      ])
      yield* until(engine, "two events are handled", () => handled >= 2)
      yield* engine.elapse(50)
      assert.strictEqual(yield* Table.lookup(totals, "k0"), 0)
      yield* gate.open
      yield* worker.idle
      assert.strictEqual(yield* Table.lookup(totals, "k0"), 4)
    })
  )

  behaviour("policies see the failures of Event.mapEffect, and its writes are dropped", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(10).map((n) => reading(n, 1))
      )
      const left: Array<number> = []
      const summary = yield* drain([
        Processor.stream("p", { topic, tables: [totals] }, (events) =>
          events.pipe(
            Event.mapEffect(
              Effect.fnUntraced(function* ({ n }) {
                yield* Table.update(totals, "k0", (total) => total + 1)
                if (n === 3) return yield* new Refused({ n })
                return n
              })
            ),
            Stream.tap((event) => Effect.sync(() => void left.push(event.value)))
          )
        ).pipe(Processor.catchTag("Refused", Policy.ignore))
      ])
      assert.deepStrictEqual(
        left,
        numbers(10).filter((n) => n !== 3)
      )
      assert.strictEqual(yield* Table.lookup(totals, "k0"), 9)
      assert.deepStrictEqual(summary.parts.p, counts({ processed: 9, failed: 1, ignored: 1 }))
    })
  )

  behaviour("Event.mapBatch is one unit for the array", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(9).map((n) => reading(n, 1))
      )
      yield* drain([
        Processor.stream("p", { topic, tables: [totals] }, (events) =>
          events.pipe(
            Stream.groupedWithin(3, "1 hour"),
            Event.mapBatch(
              Effect.fnUntraced(function* (values) {
                yield* Table.update(totals, "k0", (total) => total + values.length)
                if (values[0]!.n === 3) return yield* new Refused({ n: 3 })
                return values.map((value) => value.n)
              })
            )
          )
        ).pipe(Processor.catch(Policy.ignore))
      ])
      assert.strictEqual(yield* Table.lookup(totals, "k0"), 6)
      assert.strictEqual(yield* behind, 0)
    })
  )

  behaviour("the array of Event.mapBatch is committed when all of it has left the pipeline", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(8).map((n) => reading(n, 1))
      )
      const held = yield* Deferred.make<void>()
      const part = (holds: boolean) =>
        Processor.stream("p", { topic, tables: [totals] }, (events) =>
          events.pipe(
            Stream.groupedWithin(4, "1 hour"),
            Event.mapBatch((values) =>
              Effect.as(
                Table.update(totals, "k0", (total) => total + values.length),
                values
              )
            ),
            Stream.flattenIterable,
            Stream.tap(({ value }) =>
              holds && value.n === 6 ? Effect.andThen(Deferred.succeed(held, undefined), Effect.never) : Effect.void
            ),
            Stream.rechunk(1)
          )
        )
      const worker = yield* start([part(true)], { grace: 0 })
      yield* Deferred.await(held)
      yield* until(engine, "the first array is committed", () => Effect.map(behind, (events) => events <= 4))
      yield* engine.elapse(50)
      // 4 and 5 are emitted, and their unit's write stands with 7.
      assert.strictEqual(yield* behind, 4)
      const before = yield* Clock.currentTimeMillis
      const closing = yield* Effect.forkChild(worker.close)
      yield* until(engine, "the worker is gone", () => closing.pollUnsafe() !== undefined)
      // What can never be committed is not waited for.
      assert.isBelow((yield* Clock.currentTimeMillis) - before, 5_000)
      yield* drain([part(false)])
      assert.strictEqual(yield* Table.lookup(totals, "k0"), 8)
    })
  )

  behaviour("arrays of Event.mapBatch may be in any order, and overlap", () =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      yield* Topic.publishAll(
        topic,
        numbers(48).map((n) => reading(n, 1))
      )
      type Readings = ReadonlyArray<Event.Event<{ readonly key: string; readonly n: number }>>
      const orders: Record<string, (events: Readings) => ReadonlyArray<Readings>> = {
        reversed: (events) => [events.toReversed()],
        interleaved: (events) => [0, 1, 2].map((rest) => events.filter((_, i) => i % 3 === rest)),
        turned: (events) => [[...events.slice(5), ...events.slice(0, 5)]]
      }
      for (const [name, arrange] of Object.entries(orders)) {
        const sums = Table.make(`sums-${name}`, { key: Schema.String, value: Schema.Finite, initial: () => 0 })
        const part = (holds: boolean) =>
          Processor.stream(name, { topic, tables: [sums] }, (events) =>
            events.pipe(
              Stream.groupedWithin(12, "1 hour"),
              Stream.map(arrange),
              Stream.flattenIterable,
              Event.mapBatch((values) =>
                Effect.as(
                  Table.update(sums, "k0", (sum) => sum + values.reduce((all, { n }) => all + n, 0)),
                  values
                )
              ),
              Stream.flattenIterable,
              Stream.rechunk(1),
              Stream.tap(({ value }) =>
                holds && value.n === 29 ? Effect.andThen(Deferred.succeed(held, undefined), Effect.never) : Effect.void
              )
            )
          )
        const held = yield* Deferred.make<void>()
        const worker = yield* start([part(true)], { grace: 0 })
        yield* Deferred.await(held)
        yield* Effect.forkScoped(worker.close)
        yield* drain([part(false)])
        assert.strictEqual(yield* Table.lookup(sums, "k0"), (47 * 48) / 2, name)
      }
    })
  )

  behaviour("a failure in Event.mapEffect without a policy halts with that event's offset", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const positions = yield* Topic.publishAll(
        topic,
        numbers(10).map((n) => reading(n))
      )
      const failure = yield* halted([
        Processor.stream("p", { topic }, (events) =>
          events.pipe(Event.mapEffect(({ n }) => (n === 6 ? Effect.fail(new Refused({ n })) : Effect.succeed(n))))
        )
      ])
      assert.strictEqual(failure.offset, positions[6]!.offset)
      assert.deepStrictEqual(Cause.squash(failure.cause), new Refused({ n: 6 }))
      assert.strictEqual(yield* behind, 4)
    })
  )

  behaviour("a failure elsewhere in the pipeline halts, and no policy sees it", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(10).map((n) => reading(n))
      )
      const failure = yield* halted([
        Processor.stream("p", { topic }, (events) =>
          events.pipe(
            Stream.mapEffect((event) =>
              event.value.n === 6 ? Effect.fail(new Refused({ n: 6 })) : Effect.succeed(event)
            )
          )
        ).pipe(Processor.catch(Policy.ignore))
      ])
      assert.deepStrictEqual(Cause.squash(failure.cause), new Refused({ n: 6 }))
    })
  )

  behaviour("a unit that is interrupted closes its scope, and its event comes again", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(topic, [reading(0)])
      const started = yield* Deferred.make<void>()
      let finalized = 0
      let runs = 0
      const part = Processor.stream("p", { topic }, (events) =>
        events.pipe(
          Event.mapEffect(() =>
            Effect.gen(function* () {
              runs++
              yield* Effect.addFinalizer(() => Effect.sync(() => void finalized++))
              if (runs > 1) return
              yield* Deferred.succeed(started, undefined)
              yield* Effect.never
            })
          )
        )
      )
      const worker = yield* start([part], { grace: 0 })
      yield* Deferred.await(started)
      const closing = yield* Effect.forkChild(worker.close)
      yield* until(engine, "the worker is gone", () => closing.pollUnsafe() !== undefined)
      assert.strictEqual(finalized, 1)
      yield* drain([part])
      assert.deepStrictEqual([runs, finalized], [2, 2])
    })
  )
})
