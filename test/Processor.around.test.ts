/** What stands around handlers, and before them. */
import { assert, describe } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Schema, Stream } from "effect"
import * as Event from "../src/Event.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, counts, drain, numbers, start } from "./support/engines.ts"
import { type Reading, reading, readings } from "./support/readings.ts"

class Declined extends Schema.TaggedError<Declined>()("Declined", { n: Schema.Int }) {}
class Broken extends Schema.TaggedError<Broken>()("Broken", { n: Schema.Int }) {}

const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })

describe("around and middleware", () => {
  behaviour("around: inner to outer, sees success and failure, may veto, and its own failure is one of the event", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(5).map((n) => reading(n))
      )
      const log: Array<string> = []
      const noted =
        (name: string) =>
        <E>(
          handle: Effect.Effect<void, E>,
          events: readonly [Event.Event<unknown>, ...ReadonlyArray<Event.Event<unknown>>]
        ) =>
          Effect.gen(function* () {
            const { n } = events[0].value as Reading
            log.push(`${name} ${n}`)
            yield* handle.pipe(Effect.onExit((exit) => Effect.sync(() => void log.push(`${name} ${n} ${exit._tag}`))))
          })
      const summary = yield* drain([
        Processor.make(
          "p",
          { topic, tables: [totals] },
          Effect.fnUntraced(function* ({ n }) {
            yield* Effect.addFinalizer(() => Effect.sync(() => void log.push(`finalizer ${n}`)))
            yield* Table.update(totals, "k", (total) => total + 1)
            if (n === 1) return yield* new Declined({ n })
          })
        ).pipe(
          Processor.around(noted("inner")),
          Processor.around((handle, [event]) => ((event.value as Reading).n === 2 ? Effect.void : handle)),
          Processor.around(noted("outer")),
          Processor.around(
            Effect.fnUntraced(function* (handle, [event]) {
              if ((event.value as Reading).n === 4) return yield* new Broken({ n: 4 })
              yield* handle
            })
          ),
          Processor.catch(Policy.ignore)
        )
      ])
      assert.deepStrictEqual(
        log.filter((line) => line.includes(" 0")),
        ["outer 0", "inner 0", "inner 0 Success", "outer 0 Success", "finalizer 0"]
      )
      assert.deepStrictEqual(
        log.filter((line) => line.includes(" 1")),
        ["outer 1", "inner 1", "inner 1 Failure", "outer 1 Failure", "finalizer 1"]
      )
      assert.deepStrictEqual(
        log.filter((line) => line.includes(" 2")),
        ["outer 2", "outer 2 Success"]
      )
      assert.deepStrictEqual(
        log.filter((line) => line.includes(" 4")),
        []
      )
      assert.strictEqual(yield* Table.lookup(totals, "k"), 2)
      assert.deepStrictEqual(summary.parts.p, counts({ processed: 3, failed: 2, ignored: 2 }))
    })
  )

  behaviour(
    "a policy before an around settles inside of it: the staged writes are dropped, the around sees success",
    () =>
      Effect.gen(function* () {
        const topic = readings(1)
        yield* Topic.publishAll(
          topic,
          numbers(2).map((n) => reading(n))
        )
        const exits: Array<string> = []
        const summary = yield* drain([
          Processor.make(
            "p",
            { topic, tables: [totals] },
            Effect.fnUntraced(function* ({ n }) {
              yield* Table.update(totals, "k", (total) => total + 1)
              if (n === 0) return yield* new Declined({ n })
            })
          ).pipe(
            Processor.catchTag("Declined", Policy.ignore),
            Processor.around((handle) =>
              Effect.onExit(handle, (exit) => Effect.sync(() => void exits.push(exit._tag)))
            ),
            Processor.catch(Policy.ignore)
          )
        ])
        assert.deepStrictEqual(exits, ["Success", "Success"])
        assert.strictEqual(yield* Table.lookup(totals, "k"), 1)
        assert.strictEqual(summary.parts.p?.ignored, 1)
      })
  )

  behaviour("around sees that its handler is interrupted, and its finalizers run then; the event comes again", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publish(topic, reading(0))
      const started = yield* Deferred.make<void>()
      const log: Array<string> = []
      const note = (line: string) => Effect.sync(() => void log.push(line))
      let stuck = true
      const part = Processor.make("p", { topic, tables: [totals] }, ({ key }) =>
        Effect.gen(function* () {
          yield* Table.update(totals, key, (total) => total + 1)
          if (stuck) yield* Effect.andThen(Deferred.succeed(started, undefined), Effect.never)
        })
      ).pipe(
        Processor.around((handle) =>
          Effect.acquireUseRelease(
            note("acquired"),
            () =>
              Effect.onExit(handle, (exit) =>
                note(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? "interrupted" : exit._tag)
              ),
            () => note("released")
          )
        ),
        // An interruption is no failure of the event.
        Processor.catch(Policy.ignore)
      )
      const worker = yield* start([part], { grace: 0 })
      yield* Deferred.await(started)
      yield* worker.close
      assert.deepStrictEqual(log, ["acquired", "interrupted", "released"])
      assert.strictEqual((yield* Processor.lag("p"))[0]!.events, 1)
      stuck = false
      const summary = yield* drain([part])
      assert.deepStrictEqual(log.slice(3), ["acquired", "Success", "released"])
      assert.deepStrictEqual(summary.parts.p, counts({ processed: 1 }))
      assert.strictEqual(yield* Table.lookup(totals, "k0"), 1)
    })
  )

  behaviour("around stands around batches and lanes too", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(6).map((n) => reading(n))
      )
      const sizes: Array<number> = []
      const count = <E>(handle: Effect.Effect<void, E>, events: ReadonlyArray<unknown>) =>
        Effect.andThen(
          Effect.sync(() => void sizes.push(events.length)),
          handle
        )
      yield* drain([
        Processor.batch("p", { topic, size: 3, within: "1 hour" }, () => Effect.void).pipe(Processor.around(count)),
        Processor.make("q", { topic, concurrency: { perKey: 2 } }, () => Effect.void).pipe(Processor.around(count))
      ])
      assert.deepStrictEqual(sizes.toSorted(), [1, 1, 1, 1, 1, 1, 3, 3])
    })
  )

  behaviour("middleware: outermost first, drops count as done, before single events, batches and streams", () =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      yield* Topic.publishAll(
        topic,
        numbers(12).map((n) => reading(n))
      )
      const order: Array<string> = []
      const seen: Record<string, Array<number>> = { p: [], q: [], r: [] }
      const drop = (modulo: number) => (events: Stream.Stream<Event.Event<unknown>>) =>
        events.pipe(
          Stream.tap((event) => Effect.sync(() => void order.push(`${modulo}:${(event.value as Reading).n}`))),
          Event.filter((value) => (value as Reading).n % modulo !== 0)
        )
      const note = (name: string, n: number) => Effect.sync(() => void seen[name]!.push(n))
      const both = [Processor.middleware(drop(2)), Processor.middleware(drop(3))] as const
      yield* drain([Processor.make("p", { topic }, ({ n }) => note("p", n)).pipe(...both)])
      // The last added is the outermost: 3 sees them all, 2 only what 3 left.
      assert.deepStrictEqual(order.filter((line) => line.startsWith("3:")).length, 12)
      assert.deepStrictEqual(order.filter((line) => line.startsWith("2:")).length, 8)
      yield* drain([
        Processor.batch("q", { topic, size: 4, within: "1 hour" }, (values) =>
          Effect.forEach(values, ({ n }) => note("q", n))
        ).pipe(...both),
        Processor.stream(
          "r",
          { topic },
          Event.mapEffect(({ n }) => note("r", n))
        ).pipe(...both)
      ])
      const left = numbers(12).filter((n) => n % 2 !== 0 && n % 3 !== 0)
      assert.deepStrictEqual(seen, { p: left, q: left, r: left })
      for (const name of ["p", "q", "r"]) assert.strictEqual((yield* Processor.lag(name))[0]!.events, 0, name)
    })
  )
})
