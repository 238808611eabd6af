/** What becomes of failures: halt, ignore, choose, defects, acknowledged before. */
import { assert, describe } from "@effect/vitest"
import { Cause, Deferred, Effect, Latch, Logger, References, Schema, Stream } from "effect"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { noting } from "./support/coordinators.ts"
import { behaviour, counts, drain, halted, intrude, numbers, start, until } from "./support/engines.ts"
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
      assert.deepStrictEqual(summary.parts.p, counts({ processed: 99, failed: 1, ignored: 1 }))
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
      assert.deepStrictEqual(summary.parts.q, counts({ processed: 4, failed: 2, ignored: 2 }))
      assert.deepStrictEqual(summary.parts.r, counts({ processed: 4, failed: 2, ignored: 2 }))
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
      assert.deepStrictEqual(summary.parts.p, counts({ processed: 1, failed: 2, ignored: 2 }))
      yield* Processor.remove("p")
      const lanes = yield* drain([
        part({ concurrency: { unordered: 2 } as never }).pipe(Processor.catchDefect(Policy.ignore))
      ])
      assert.deepStrictEqual(lanes.parts.p, counts({ processed: 2, failed: 2, ignored: 2 }))
    })
  )
})

describe("what is seen of it", () => {
  behaviour("each settled failure has a line: processor, partition, offset, and what to do next", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const positions = yield* Topic.publishAll(
        topic,
        numbers(4).map((n) => reading(n))
      )
      const lines: Array<{ level: string; text: string; offset: unknown; processor: unknown; partition: unknown }> = []
      const logger = Logger.make(({ fiber, logLevel, message }) => {
        const { offset, partition, processor } = fiber.getRef(References.CurrentLogAnnotations)
        if (offset !== undefined) lines.push({ level: logLevel, text: String(message), offset, partition, processor })
      })
      const tags = ["Fine", "Ignored", "Dead", "Aside"] as const
      yield* Effect.gen(function* () {
        const worker = yield* start([
          Processor.make("p", { topic }, ({ n }) => (n === 0 ? Effect.void : Effect.fail({ _tag: tags[n]! }))).pipe(
            Processor.retry({ times: 1, while: ({ _tag }) => _tag === "Ignored" }),
            Processor.catchTag("Ignored", Policy.ignore),
            Processor.catchTag("Dead", Policy.deadLetter()),
            Processor.catchTag("Aside", Policy.quarantine)
          )
        ])
        yield* worker.idle
        yield* worker.stop
      }).pipe(
        noting([]),
        Effect.provide(Logger.layer([logger])),
        Effect.provideService(References.MinimumLogLevel, "Debug")
      )
      const of = (n: number) =>
        lines.filter(({ offset }) => offset === positions[n]!.offset).map(({ level, text }) => [level, text])
      assert.deepStrictEqual(of(0), [])
      assert.deepStrictEqual(of(1), [
        ["Debug", "a failed event is tried again in 0 ms"],
        ["Debug", "ignored a failed event"]
      ])
      assert.deepStrictEqual(of(2), [
        [
          "Warn",
          "a failed event goes to readings.dead: look at it with Topic.deadLetters, put it back with Topic.redrive"
        ]
      ])
      assert.deepStrictEqual(of(3), [
        [
          "Error",
          "a failed event puts its partition aside: release it with Processor.release, or skip it with Processor.skip"
        ]
      ])
      for (const line of lines) assert.deepInclude(line, { processor: "p", partition: 0 })
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
      assert.deepStrictEqual(summary.parts.p, counts({ processed: 3, failed: 1, ignored: 1 }))
      assert.strictEqual(yield* Table.lookup(totals, "k"), 3)
    })
  )

  behaviour("one whose acknowledgement the engine refuses is not started by the old owner", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(3).map((n) => reading(n))
      )
      const gate = yield* Latch.make(false)
      const seen: Array<number> = []
      const worker = yield* start(
        [
          Processor.make("p", { topic, acknowledge: "before" }, ({ n }) =>
            Effect.andThen(
              Effect.sync(() => void seen.push(n)),
              n === 0 ? gate.await : Effect.void
            )
          )
        ],
        { settle: 0 }
      )
      yield* until(engine, "the first is in hand", () => seen.length === 1)
      yield* intrude("p", topic)
      yield* gate.open
      const idle = yield* Effect.forkChild(worker.idle)
      yield* until(engine, "it has the partition back and is done", () => idle.pollUnsafe() !== undefined)
      assert.deepStrictEqual(seen, [0, 1, 2])
    })
  )
})
