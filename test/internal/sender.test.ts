/** What a publisher does when an append fails: the same again, and not at once. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { type Append, Broker } from "../../src/Broker.ts"
import { EngineError } from "../../src/Errors.ts"
import { Engine, Retention, Topic } from "../../src/index.ts"

describe("a publisher whose append is lost", () => {
  it.effect("sends it again unchanged after a pause, the first one and later ones", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const sent: Array<ReadonlyArray<Append>> = []
      let lost = 0
      const flaky = Broker.of({
        ...broker,
        append: (appends, durability) =>
          Effect.suspend(() => {
            sent.push(appends)
            const stored = broker.append(appends, durability)
            if (lost === 0) return stored
            lost--
            // It was stored; only the answer is lost.
            return Effect.andThen(
              stored,
              Effect.fail(new EngineError({ operation: "append", reason: "Unreachable", detail: "cut off" }))
            )
          })
      })
      const topic = Topic.make("numbers", { schema: Schema.Int, partitions: 1 })
      const publish = (value: number) => Effect.provideService(Topic.publish(topic, value), Broker, flaky)
      const offsets: Array<string> = []
      for (const value of [1, 2]) {
        lost = 2
        const fiber = yield* Effect.forkChild(publish(value), { startImmediately: true })
        yield* TestClock.adjust("1 millis")
        assert.strictEqual(lost, 1, "one try, then a pause")
        yield* TestClock.adjust("10 seconds")
        offsets.push((yield* Fiber.join(fiber)).offset)
      }
      assert.strictEqual(sent.length, 6)
      for (const at of [0, 3]) {
        assert.deepStrictEqual(sent[at + 1], sent[at])
        assert.deepStrictEqual(sent[at + 2], sent[at])
      }
      const [info] = yield* broker.inspect(topic, [0])
      assert.strictEqual(info!.length, 2)
      assert.strictEqual(new Set(offsets).size, 2)
    }).pipe(Effect.provide(Engine.layerMemory))
  )
})

describe("an engine that stays away", () => {
  it.effect("is waited for by publishers for half a minute, and then they fail, typed", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const away = new EngineError({ operation: "append", reason: "Unreachable", detail: "cut off" })
      let tries = 0
      const append = Effect.suspend(() => {
        tries++
        return Effect.fail(away)
      })
      const gone = Broker.of({ ...broker, append: () => append })
      const topic = Topic.make("numbers", { schema: Schema.Int, partitions: 1 })
      const publish = Effect.provideService(Topic.publish(topic, 1), Broker, gone)
      const fiber = yield* Effect.forkChild(Effect.flip(publish), { startImmediately: true })
      yield* TestClock.adjust("29 seconds")
      assert.isUndefined(fiber.pollUnsafe())
      assert.isBelow(tries, 60)
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* Fiber.join(fiber), away)
    }).pipe(Effect.provide(Engine.layerMemory))
  )
})

describe("an engine that answers at once", () => {
  const topic = Topic.make("numbers", { schema: Schema.Int, partitions: 16, retention: Retention.forever })
  const events = 100_000

  it.live("does not deepen the stack with every append, and others have their turn meanwhile", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      let deepest = 0
      let appends = 0
      let turns = 0
      const measured = Broker.of({
        ...broker,
        append: (all, durability) =>
          Effect.suspend(() => {
            appends++
            const limit = Error.stackTraceLimit
            Error.stackTraceLimit = Number.POSITIVE_INFINITY
            deepest = Math.max(deepest, new Error("depth").stack!.split("\n").length)
            Error.stackTraceLimit = limit
            return broker.append(all, durability)
          })
      })
      const turn = Effect.callback<never>(() => {
        let next = setImmediate(function count() {
          turns++
          next = setImmediate(count)
        })
        return Effect.sync(() => clearImmediate(next))
      })
      const counting = yield* Effect.forkChild(turn, { startImmediately: true })
      const stored = yield* Effect.provideService(
        Topic.publishAll(topic, Stream.range(0, events - 1)),
        Broker,
        measured
      )
      yield* Fiber.interrupt(counting)
      assert.strictEqual(stored, events)
      assert.isBelow(deepest, 200)
      assert.isAtLeast(turns, appends / 100)
    }).pipe(Effect.provide(Engine.layerMemory))
  )
})
