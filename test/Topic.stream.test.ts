/** Reading without a group. */
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Deferred, Effect, Fiber, Latch, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Engine from "../src/Engine.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Topic from "../src/Topic.ts"
import * as Faults from "../src/testing/Faults.ts"
import { behaviour, drain, numbers, until } from "./support/engines.ts"
import { reading, readings } from "./support/readings.ts"

const events = <A>(topic: Topic.Topic<A, any>, options?: Parameters<typeof Topic.stream>[1]) =>
  Stream.runCollect(Topic.stream(topic, { until: "now", ...options }))

describe("reading without a group", () => {
  behaviour("from the start, the end, an offset, a time; some partitions; nobody's lag changes", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      const positions = yield* Topic.publishAll(
        topic,
        numbers(10).map((n) => reading(n))
      )
      yield* engine.elapse(20)
      const late = yield* Topic.publish(topic, reading(10))
      const from = (from: Topic.From) => Effect.map(events(topic, { from }), (all) => all.map((event) => event.value.n))
      assert.deepStrictEqual(yield* from("earliest"), numbers(11))
      assert.deepStrictEqual(yield* from("latest"), [])
      assert.deepStrictEqual(yield* from({ offset: positions[7]!.offset }), [7, 8, 9, 10])
      const time = DateTime.makeUnsafe(Number(late.offset.split("-")[0]))
      assert.deepStrictEqual(yield* from({ time }), [10])
      const wide = readings(4, Retention.forever)
      const other = Topic.variant(wide, "wide")
      for (const n of numbers(8)) yield* Topic.publish(other, reading(n), { partition: n % 4 })
      const some = yield* events(other, { partitions: [1, 3] })
      assert.deepStrictEqual(some.map((event) => event.value.n).toSorted(), [1, 3, 5, 7])
    })
  )

  behaviour("up to now, of a log that is trimmed to nothing, ends at once, on whatever clock", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(5).map((n) => reading(n))
      )
      yield* drain([Processor.make("p", { topic }, () => Effect.void)])
      yield* engine.elapse(20)
      assert.deepStrictEqual(yield* events(topic), [])
    })
  )

  behaviour("follows what comes, for several readers at once", () =>
    Effect.gen(function* () {
      const topic = readings(2)
      const ready = yield* Latch.make(false)
      const seen = yield* Deferred.make<void>()
      let first = 0
      const reader = (note: () => Effect.Effect<unknown>) =>
        Effect.forkChild(Topic.stream(topic).pipe(Stream.tap(note), Stream.take(30), Stream.runCollect), {
          startImmediately: true
        })
      const readers = [
        yield* reader(() => (++first === 10 ? Deferred.succeed(seen, undefined) : Effect.void)),
        yield* reader(() => ready.open)
      ]
      yield* Topic.publishAll(
        topic,
        numbers(10).map((n) => reading(n))
      )
      yield* Deferred.await(seen)
      yield* ready.await
      yield* Topic.publishAll(
        topic,
        numbers(20, 10).map((n) => reading(n))
      )
      for (const fiber of readers) {
        const all = yield* Fiber.join(fiber)
        assert.deepStrictEqual(
          all.map((event) => event.value.n).toSorted((a, b) => a - b),
          numbers(30)
        )
      }
    })
  )

  behaviour("an offset that was trimmed away is EventsLost; one that is none is a defect that says so", () =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.maxLength(3))
      const [first] = yield* Topic.publishAll(topic, [reading(0)])
      yield* Effect.forEach(numbers(9, 1), (n) => Topic.publish(topic, reading(n)))
      const lost = yield* Effect.flip(events(topic, { from: { offset: first!.offset } }))
      assert.strictEqual(lost._tag, "EventsLost")
      const exit = yield* Effect.exit(events(topic, { from: { offset: "yesterday" } }))
      assert.include(String(exit), `"yesterday" is no offset`)
    })
  )

  // Pages of 100 entries: the reader holds the first one while a processor commits all there is.
  const overtaken = (topic: ReturnType<typeof readings>, from: Topic.From) =>
    Effect.gen(function* () {
      const [started, go] = [yield* Deferred.make<void>(), yield* Latch.make(false)]
      const seen: Array<number> = []
      const reader = yield* Effect.forkChild(
        Topic.stream(topic, { from }).pipe(
          Stream.runForEach(({ value }) => {
            seen.push(value.n)
            return Effect.andThen(Deferred.succeed(started, undefined), go.await)
          })
        ),
        { startImmediately: true }
      )
      yield* Deferred.await(started)
      yield* drain([Processor.make("fast", { topic }, () => Effect.void)])
      yield* go.open
      return { seen, error: yield* Effect.flip(Fiber.join(reader)) }
    })

  for (const [name, startOf] of [
    ["the earliest", () => "earliest" as const],
    ["an offset", (offset: string) => ({ offset })],
    ["a time", (offset: string) => ({ time: DateTime.makeUnsafe(Number(offset.split("-")[0])) })]
  ] as const) {
    behaviour(`from ${name}, under the default retention, what commits trimmed unread is EventsLost, counted`, () =>
      Effect.gen(function* () {
        const topic = readings(1)
        // With offsets of their own each is an entry; so many are more than a stream reads ahead.
        const all = numbers(2_500)
        const offsets = all.map((n) => `${1_000 + n}-0`)
        yield* Topic.publishAll(
          topic,
          all.map((n) => reading(n)),
          { offsets }
        )
        const { error, seen } = yield* overtaken(topic, startOf(`${offsets[150]}.0`))
        assert(error._tag === "EventsLost")
        const begin = name === "the earliest" ? 0 : 150
        assert.deepStrictEqual(seen, numbers(seen.length, begin), "without a gap up to the failure")
        const next = begin + seen.length
        assert.strictEqual(error.first, `after ${offsets[next - 1]}.0`)
        // It may have been told while the processor was at work.
        const left = error.last === "the present end" ? 2_500 : offsets.indexOf(error.last.slice(7, -2))
        assert.isAbove(error.entries, 0)
        assert.strictEqual(error.entries, left - next)
        assert.include(error.message, "earliest")
        assert.deepStrictEqual(yield* events(topic), [], "from the earliest it begins anew behind them")
      })
    )
  }

  behaviour("what is consumed before it is read is lost to no reader that begins afterwards", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(topic, [reading(0), reading(1)])
      yield* drain([Processor.make("p", { topic }, () => Effect.void)])
      yield* Topic.publish(topic, reading(2))
      const seen = yield* Effect.forEach(["earliest", { time: DateTime.makeUnsafe(0) }] as const, (from) =>
        events(topic, { from })
      )
      assert.deepStrictEqual(
        seen.map((all) => all.map(({ value }) => value.n)),
        [[2], [2]]
      )
      assert.deepStrictEqual(yield* events(topic, { from: "latest" }), [])
    })
  )

  behaviour("an offset whose event was committed and trimmed is EventsLost, also of a log with nothing left", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const [first] = yield* Topic.publishAll(topic, [reading(0)])
      yield* drain([Processor.make("p", { topic }, () => Effect.void)])
      const lost = yield* Effect.flip(events(topic, { from: { offset: first!.offset } }))
      assert.deepInclude(lost, { _tag: "EventsLost", entries: 1, last: "the present end" })
    })
  )

  behaviour("a server that is away for a moment is waited for, at the start and in the middle", (engine) =>
    Effect.gen(function* () {
      const topic = readings(2)
      for (const n of numbers(6)) yield* Topic.publish(topic, reading(n), { partition: n % 2 })
      const isAway: Faults.Plan = (_, __, call) => (call % 3 === 0 ? undefined : { _tag: "Fail" })
      const tail = yield* Effect.forkChild(Effect.provide(events(topic), Faults.layer(isAway), { local: true }))
      yield* until(engine, "all is read", () => tail.pollUnsafe() !== undefined)
      const seen = yield* Fiber.join(tail)
      assert.deepStrictEqual(seen.map(({ value }) => value.n).toSorted(), numbers(6))
    })
  )

  it.effect("a server that stays away is a failure after a while", () =>
    Effect.gen(function* () {
      const isGone: Faults.Plan = (_, method) => (method === "read" ? { _tag: "Fail" } : undefined)
      const topic = readings(1)
      yield* Topic.publish(topic, reading(0))
      const tail = yield* Effect.forkChild(
        Effect.flip(Effect.provide(events(topic), Faults.layer(isGone), { local: true }))
      )
      const elapse = (seconds: number) => Effect.repeat(TestClock.adjust("1 second"), { times: seconds })
      yield* elapse(25)
      assert.isUndefined(tail.pollUnsafe())
      yield* elapse(10)
      assert.deepInclude(yield* Fiber.join(tail), { _tag: "EngineError", reason: "Unreachable" })
    }).pipe(Effect.provide(Engine.layerMemory))
  )
})
