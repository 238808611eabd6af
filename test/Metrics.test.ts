/** Metrics say what a worker did, by processor, as any of Effect's exporters shows them. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Metric, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Engine, Event, Metrics, Policy, Processor, Topic, Worker } from "../src/index.ts"

const numbers = Topic.make("numbers", { schema: Schema.Int, partitions: 1 })

const of = (metric: Metric.Counter<number>, processor: string) =>
  Effect.map(Metric.value(Metric.withAttributes(metric, { processor })), ({ count }) => count)

describe("Metrics", () => {
  it.effect("count what is committed, what failed, and what a policy ignored", () =>
    Effect.gen(function* () {
      yield* Topic.publishAll(numbers, [1, 2, 3, 4, 5, 6])
      const part = Processor.make("metrics-p", { topic: numbers }, (n) =>
        n % 3 === 0 ? Effect.fail("third" as const) : Effect.void
      ).pipe(Processor.catch(Policy.ignore))
      yield* Worker.run([part], { limit: 6 })
      assert.strictEqual(yield* of(Metrics.processed, "metrics-p"), 4)
      assert.strictEqual(yield* of(Metrics.failed, "metrics-p"), 2)
      assert.strictEqual(yield* of(Metrics.ignored, "metrics-p"), 2)
      assert.isAtLeast(yield* of(Metrics.commits, "metrics-p"), 1)
    }).pipe(Effect.provide(Engine.layerMemory))
  )

  it.effect("count reports of what stands still", () =>
    Effect.gen(function* () {
      yield* Topic.publish(numbers, 1)
      const part = Processor.stream("metrics-s", { topic: numbers, slowAfter: "10 seconds" }, (events) =>
        events.pipe(Event.mapEffect(() => Effect.never))
      )
      const fiber = yield* Effect.forkChild(Worker.run([part], { grace: "1 second" }))
      for (let i = 0; i < 90; i++) yield* TestClock.adjust("1 second")
      assert.isAtLeast(yield* of(Metrics.stalled, "metrics-s"), 1)
      const ended = yield* Effect.forkChild(Fiber.interrupt(fiber), { startImmediately: true })
      for (let i = 0; i < 10; i++) yield* TestClock.adjust("1 second")
      yield* Fiber.join(ended)
    }).pipe(Effect.provide(Engine.layerMemory))
  )
})
