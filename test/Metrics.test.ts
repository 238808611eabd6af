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

  it.effect("count failed events by what became of them and by tag, as the summary does", () =>
    Effect.gen(function* () {
      yield* Topic.publishAll(numbers, [1, 2, 3, 4, 5, 6, 7, 8])
      const tags = ["", "Slow", "Odd", "Lost", "Slow", "Odd", "Fine", "Fatal"]
      const part = Processor.make("metrics-t", { topic: numbers }, (n) =>
        n === 1 ? Effect.void : Effect.fail({ _tag: tags[n - 1] as "Slow" | "Odd" | "Lost" | "Fine" | "Fatal" })
      ).pipe(
        Processor.retry({ times: 2, while: (error) => error._tag === "Slow" }),
        Processor.catchTag(["Slow", "Fine"], Policy.ignore),
        Processor.catchTag(["Odd", "Lost"], Policy.deadLetter()),
        Processor.catchTag("Fatal", Policy.quarantine)
      )
      const worker = Worker.layer([part])
      const summary = yield* Effect.provide(Effect.andThen(Worker.idle, Worker.stop), worker)
      assert.deepStrictEqual(summary.parts["metrics-t"], {
        processed: 1,
        failed: 11,
        retried: 4,
        ignored: 3,
        deadLettered: 3,
        parked: 0,
        quarantined: 1
      })
      assert.strictEqual(yield* of(Metrics.retried, "metrics-t"), 4)
      assert.strictEqual(yield* of(Metrics.ignored, "metrics-t"), 3)
      assert.strictEqual(yield* of(Metrics.deadLettered, "metrics-t"), 3)
      assert.strictEqual(yield* of(Metrics.quarantined, "metrics-t"), 1)
      const failures = (outcome: string, tag: string) =>
        Effect.map(
          Metric.value(Metric.withAttributes(Metrics.failures, { processor: "metrics-t", outcome, tag })),
          ({ count }) => count
        )
      assert.strictEqual(yield* failures("retry", "Slow"), 4)
      assert.strictEqual(yield* failures("ignore", "Slow"), 2)
      assert.strictEqual(yield* failures("ignore", "Fine"), 1)
      assert.strictEqual(yield* failures("deadLetter", "Odd"), 2)
      assert.strictEqual(yield* failures("deadLetter", "Lost"), 1)
      assert.strictEqual(yield* failures("quarantine", "Fatal"), 1)
      assert.strictEqual(yield* failures("halt", "Fatal"), 0)
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
