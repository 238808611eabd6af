/** What becomes of failures: halt, ignore, choose, defects, entries that cannot be decoded, the engine's own failures. */
import { assert, describe } from "@effect/vitest"
import { Cause, Deferred, Effect, Schema, Stream } from "effect"
import { Broker } from "../src/Broker.ts"
import { EngineError } from "../src/Errors.ts"
import * as Event from "../src/Event.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, drain, halted, numbers, start, until } from "./support/engines.ts"
import { assertRising, collect, type Reading, reading, readings, Seen } from "./support/readings.ts"

class Declined extends Schema.TaggedError<Declined>()("Declined", { n: Schema.Int }) {}
class Broken extends Schema.TaggedError<Broken>()("Broken", { n: Schema.Int }) {}

const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })
const behind = Effect.map(Processor.lag("p"), (lags) => lags.reduce((sum, lag) => sum + lag.events, 0))

describe("halt", () => {
  behaviour("what no policy takes halts the worker with that very error, its partition and offset", () =>
    Effect.gen(function* () {
      const topic = readings(2)
      const positions = yield* Topic.publishAll(
        topic,
        numbers(100).map((n) => reading(n, 1))
      )
      const failure = yield* halted([
        Processor.make("p", { topic }, ({ n }) => (n === 10 ? Effect.fail(new Declined({ n })) : Effect.void))
      ])
      assert.strictEqual(failure.processor, "p")
      assert.strictEqual(failure.partition, positions[10]!.partition)
      assert.strictEqual(failure.offset, positions[10]!.offset)
      assert.deepStrictEqual(Cause.squash(failure.cause), new Declined({ n: 10 }))
      assert.include(
        failure.message,
        `processor "p" halted at partition ${failure.partition}, offset ${failure.offset}: Declined`
      )
      // 0 to 9 are acknowledged, 10 is not.
      assert.strictEqual(yield* behind, 90)
    })
  )

  behaviour("a defect halts, thrown or died of, and nothing it staged is stored", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(topic, [reading(0), reading(1), reading(2)])
      const died = yield* halted([
        Processor.make("p", { topic, tables: [totals] }, ({ n }) =>
          Effect.andThen(Table.set(totals, "k", n + 100), n === 1 ? Effect.die("boom") : Effect.void)
        )
      ])
      assert.strictEqual(Cause.squash(died.cause), "boom")
      assert.strictEqual(yield* behind, 2)
      assert.strictEqual(yield* Table.lookup(totals, "k"), 100)
      const thrown = yield* halted([
        Processor.make("p", { topic }, ({ n }) => {
          if (n === 2) throw new Error("thrown")
          return Effect.void
        })
      ])
      assert.include(thrown.message, "thrown")
      assert.strictEqual(yield* behind, 1)
    })
  )

  behaviour("a handler that is interrupted from within halts: no partition ends in silence", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(topic, [reading(0)])
      for (const part of [
        Processor.make("p", { topic }, () => Effect.interrupt),
        Processor.make("p", { topic, concurrency: { unordered: 2 } }, () => Effect.interrupt),
        Processor.batch("p", { topic, size: 1, within: 1 }, () => Effect.interrupt),
        Processor.stream(
          "p",
          { topic },
          Stream.mapEffect(() => Effect.interrupt)
        )
      ]) {
        const failure = yield* halted([part])
        assert.isTrue(Cause.hasInterrupts(failure.cause))
      }
      assert.strictEqual(yield* behind, 1)
    })
  )

  behaviour("the other partitions and processors finish what runs and commit it", () =>
    Effect.gen(function* () {
      const topic = readings(2)
      yield* Topic.publish(topic, reading(0), { partition: 0 })
      yield* Topic.publish(topic, reading(1), { partition: 1 })
      const running = yield* Deferred.make<void>()
      const failing = yield* Deferred.make<void>()
      let finished = 0
      yield* halted([
        Processor.make("p", { topic }, (_, event) =>
          event.partition === 0
            ? Effect.andThen(
                Deferred.await(running),
                Effect.andThen(Deferred.succeed(failing, undefined), Effect.fail("no"))
              )
            : Effect.andThen(
                Deferred.succeed(running, undefined),
                Effect.andThen(
                  Effect.andThen(Deferred.await(failing), Effect.yieldNow),
                  Effect.sync(() => void finished++)
                )
              )
        )
      ])
      assert.strictEqual(finished, 1)
      const lags = yield* Processor.lag("p")
      assert.deepStrictEqual(
        lags.map((lag) => lag.events),
        [1, 0]
      )
    })
  )
})

describe("ignore", () => {
  behaviour("each event is seen once, in order, and the staged writes of the failed one are absent", () =>
    Effect.gen(function* () {
      const topic = readings(2)
      const target = Topic.variant(topic, "target", { partitions: 1 })
      yield* Topic.publishAll(
        topic,
        numbers(100).map((n) => reading(n))
      )
      const seen = new Seen()
      const summary = yield* drain([
        Processor.make(
          "p",
          { topic, tables: [totals] },
          Effect.fnUntraced(function* (value) {
            seen.add(value.key, value.n)
            yield* Table.update(totals, value.key, (total) => total + 1)
            yield* Topic.emit(target, value)
            if (value.n === 10) return yield* new Declined({ n: 10 })
          })
        ).pipe(Processor.catchTag("Declined", Policy.ignore))
      ])
      assert.deepStrictEqual(seen.all, numbers(100))
      assertRising(seen.lists.values())
      assert.deepStrictEqual(summary.parts.p, { processed: 99, failed: 1, ignored: 1 })
      assert.strictEqual(yield* Table.lookup(totals, "k0"), 9)
      assert.strictEqual(yield* Table.lookup(totals, "k1"), 10)
      assert.deepStrictEqual(
        (yield* collect(target)).toSorted((a, b) => a - b),
        numbers(100).filter((n) => n !== 10)
      )
    })
  )

  behaviour("catchTag takes its tags alone, also several; catch what is left; choose decides by the error", () =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      yield* Topic.publishAll(
        topic,
        numbers(6).map((n) => reading(n))
      )
      const handler = ({ n }: Reading) =>
        Effect.gen(function* () {
          if (n === 1) return yield* new Declined({ n })
          if (n === 3) return yield* new Broken({ n })
        })
      const failure = yield* halted([
        Processor.make("p", { topic }, handler).pipe(Processor.catchTag("Declined", Policy.ignore))
      ])
      assert.deepStrictEqual(Cause.squash(failure.cause), new Broken({ n: 3 }))
      assert.strictEqual(yield* behind, 3)
      const both = Processor.make("q", { topic }, handler).pipe(
        Processor.catchTag(["Declined", "Broken"], Policy.ignore)
      )
      const all = Processor.make("r", { topic }, handler).pipe(Processor.catch(Policy.ignore))
      const chosen: Array<unknown> = []
      const choose = Processor.make("s", { topic }, handler).pipe(
        Processor.catchTag(
          ["Declined", "Broken"],
          Policy.choose((error, event) => {
            chosen.push([error._tag, event.offset === undefined])
            return Policy.ignore
          })
        )
      )
      const summary = yield* drain([both, all, choose])
      assert.deepStrictEqual(summary.parts.q, { processed: 4, failed: 2, ignored: 2 })
      assert.deepStrictEqual(summary.parts.r, { processed: 4, failed: 2, ignored: 2 })
      assert.deepStrictEqual(chosen, [
        ["Declined", false],
        ["Broken", false]
      ])
    })
  )

  behaviour("catch leaves defects alone, catchDefect takes them", () =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      yield* Topic.publishAll(
        topic,
        numbers(4).map((n) => reading(n))
      )
      const part = (options: Partial<Processor.Options<typeof topic, readonly [], never>>) =>
        Processor.make("p", { topic, ...options } as { topic: typeof topic }, ({ n }) => {
          if (n === 1) return Effect.die("boom")
          if (n === 2) throw new Error("thrown")
          return Effect.void
        }).pipe(Processor.catch(Policy.ignore))
      assert.strictEqual(Cause.squash((yield* halted([part({})])).cause), "boom")
      const summary = yield* drain([part({}).pipe(Processor.catchDefect(Policy.ignore))])
      assert.deepStrictEqual(summary.parts.p, { processed: 1, failed: 2, ignored: 2 })
      yield* Processor.remove("p")
      const lanes = yield* drain([
        part({ concurrency: { unordered: 2 } as never }).pipe(Processor.catchDefect(Policy.ignore))
      ])
      assert.deepStrictEqual(lanes.parts.p, { processed: 2, failed: 2, ignored: 2 })
    })
  )
})

describe("entries that cannot be decoded", () => {
  const bad = (topic: Topic.Any, partition = 0) =>
    Broker.use((broker) =>
      broker.append(
        [
          {
            topic,
            partition,
            publisher: crypto.randomUUID(),
            number: 1,
            entries: [{ count: 1, fields: ["v", `{"key":"k1","n":"no number"}`, "k", "k1"] }]
          }
        ],
        "memory"
      )
    )

  const shapes = (topic: ReturnType<typeof readings>, seen: Array<number>) => {
    const note = (n: number) => Effect.sync(() => void seen.push(n))
    return {
      make: Processor.make("p", { topic }, ({ n }) => note(n)),
      perKey: Processor.make("p", { topic, concurrency: { perKey: 3 } }, ({ n }) => note(n)),
      batch: Processor.batch("p", { topic, size: 4, within: "10 millis" }, (values) =>
        Effect.forEach(values, ({ n }) => note(n))
      ),
      stream: Processor.stream(
        "p",
        { topic },
        Event.mapEffect(({ n }) => note(n))
      )
    }
  }

  for (const shape of ["make", "perKey", "batch", "stream"] as const) {
    behaviour(`meet the policy in ${shape}; the good ones are delivered`, (engine) =>
      Effect.gen(function* () {
        const topic = readings(1)
        yield* Topic.publishAll(
          topic,
          numbers(3).map((n) => reading(n))
        )
        yield* bad(topic)
        yield* Topic.publishAll(
          topic,
          numbers(3, 3).map((n) => reading(n))
        )
        const seen: Array<number> = []
        const part = shapes(topic, seen)[shape]
        const worker = yield* start([part.pipe(Processor.catchTag("DecodeError", Policy.ignore))])
        yield* until(engine, "the good ones are handled", () => seen.length === 6)
        yield* worker.idle
        const summary = yield* worker.stop
        assert.deepStrictEqual(seen.toSorted(), numbers(6))
        assert.deepStrictEqual(summary.parts.p, { processed: 6, failed: 1, ignored: 1 })
      })
    )

    behaviour(`halt without a policy in ${shape}, after the good ones before`, () =>
      Effect.gen(function* () {
        const topic = readings(1)
        yield* Topic.publishAll(
          topic,
          numbers(3).map((n) => reading(n))
        )
        yield* bad(topic)
        yield* Topic.publishAll(
          topic,
          numbers(3, 3).map((n) => reading(n))
        )
        const seen: Array<number> = []
        const failure = yield* halted([shapes(topic, seen)[shape]])
        const error = Cause.squash(failure.cause) as {
          _tag?: string
          bytes?: Uint8Array
          offset?: string
          message: string
        }
        assert.strictEqual(error._tag, "DecodeError")
        assert.strictEqual(error.offset, failure.offset)
        assert.include(new TextDecoder().decode(error.bytes), "no number")
        assert.include(error.message, "cannot be decoded (Schema)")
        if (shape !== "perKey") {
          assert.deepStrictEqual(seen, numbers(3))
          assert.strictEqual(yield* behind, 4)
        }
      })
    )
  }
})

describe("the engine's own failures", () => {
  behaviour(
    "in a handler are tried again, are no attempt, and no policy sees them",
    (engine) =>
      Effect.gen(function* () {
        const topic = readings(1, Retention.forever)
        yield* Topic.publishAll(
          topic,
          numbers(3).map((n) => reading(n))
        )
        const shapes = {
          make: (f: typeof handle) => Processor.make("make", { topic, tables: [totals] }, f),
          lanes: (f: typeof handle) => Processor.make("lanes", { topic, concurrency: { unordered: 2 } }, f),
          stream: (f: typeof handle) => Processor.stream("stream", { topic }, Event.mapEffect(f))
        }
        const attempts: Array<number> = []
        let failures = 0
        const handle = ({ n }: Reading, event: Event.Event<Reading>) =>
          Effect.suspend(() => {
            attempts.push(event.attempt)
            if (n === 1 && failures++ % 3 < 2) {
              return Effect.fail(new EngineError({ operation: "lookup", reason: "Unreachable", detail: "away" }))
            }
            return Effect.void
          })
        for (const shape of [shapes.make(handle), shapes.lanes(handle), shapes.stream(handle)]) {
          const worker = yield* start([
            shape.pipe(Processor.catch(Policy.ignore), Processor.catchDefect(Policy.ignore))
          ])
          const idle = yield* Effect.forkChild(worker.idle)
          yield* until(engine, "it went on", () => idle.pollUnsafe() !== undefined)
          const summary = yield* worker.stop
          assert.deepStrictEqual(summary.parts[shape.name], { processed: 3, failed: 0, ignored: 0 })
        }
        assert.deepStrictEqual(
          attempts,
          Array.from({ length: 15 }, () => 1)
        )
      }),
    { on: ["memory"] }
  )
})

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
      assert.deepStrictEqual(summary.parts.p, { processed: 3, failed: 2, ignored: 2 })
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

describe("acknowledge before", () => {
  behaviour("is at most once: what was started is never seen again", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(10).map((n) => reading(n))
      )
      const seen: Array<number> = []
      const started = yield* Deferred.make<void>()
      let stuck = true
      const part = Processor.make("p", { topic, acknowledge: "before", tables: [totals] }, ({ n }) => {
        seen.push(n)
        return Effect.gen(function* () {
          yield* Table.update(totals, "k", (total) => total + 1)
          if (n === 3 && stuck) {
            assert.strictEqual(yield* behind, 6)
            yield* Deferred.succeed(started, undefined)
            yield* Effect.never
          }
        })
      })
      const worker = yield* start([part], { grace: 0 })
      yield* Deferred.await(started)
      const closing = yield* Effect.forkChild(worker.close)
      yield* until(engine, "the worker is gone", () => closing.pollUnsafe() !== undefined)
      stuck = false
      yield* drain([part])
      assert.deepStrictEqual(seen, numbers(10))
      assert.strictEqual(yield* Table.lookup(totals, "k"), 9)
    })
  )

  behaviour("a failure meets its policy, and its staged writes are dropped", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(4).map((n) => reading(n))
      )
      const summary = yield* drain([
        Processor.make(
          "p",
          { topic, acknowledge: "before", tables: [totals] },
          Effect.fnUntraced(function* ({ n }) {
            yield* Table.update(totals, "k", (total) => total + 1)
            if (n === 1) return yield* new Declined({ n })
          })
        ).pipe(Processor.catchTag("Declined", Policy.ignore))
      ])
      assert.deepStrictEqual(summary.parts.p, { processed: 3, failed: 1, ignored: 1 })
      assert.strictEqual(yield* Table.lookup(totals, "k"), 3)
    })
  )
})
