/** Emits go beyond a topic's capacity, and hold up the processor that makes them, not its publishers' data. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Broker, Engine, Processor, Retention, Topic, Worker } from "../src/index.ts"

const source = Topic.make("source", { schema: Schema.Int, partitions: 1 })
const target = Topic.make("target", {
  schema: Schema.Int,
  partitions: 1,
  retention: Retention.consumed({ capacity: 100 })
})
const copy = Processor.make("copy", { topic: source, prefetch: { events: 10 } }, (n) => Topic.emit(target, n))

/** Registered, and stopped after one event. */
const stoppedReader = (seen: Array<number>) =>
  Processor.make("reader", { topic: target }, (n) => Effect.sync(() => seen.push(n)))

const stored = Effect.gen(function* () {
  const broker = yield* Broker.Broker
  const [info] = yield* broker.inspect(target, [0])
  return info!.added + info!.extra
})

describe("a topic that is emitted to", () => {
  it.live("holds up the emitter at its capacity, until its reader goes on", () =>
    Effect.gen(function* () {
      const seen: Array<number> = []
      const reader = stoppedReader(seen)
      yield* Topic.publish(target, -1)
      yield* Worker.run([reader], { limit: 1 })
      yield* Topic.publishAll(
        source,
        Array.from({ length: 2_000 }, (_, n) => n)
      )
      const emitter = yield* Effect.forkChild(Worker.run([copy]))
      yield* Effect.sleep("500 millis") // Real time: that it stands can only be seen by waiting.
      const held = yield* stored
      assert.isAtLeast(held, 100)
      assert.isBelow(held, 600, "one chunk and a tenth beyond the capacity at most")
      yield* Worker.idle.pipe(
        Effect.provide(Worker.layer([reader])),
        Effect.repeat({ until: () => seen.length === 2_001 })
      )
      assert.deepStrictEqual(
        seen,
        Array.from({ length: 2_001 }, (_, n) => n - 1)
      )
      yield* Fiber.interrupt(emitter)
    }).pipe(Effect.provide(Engine.layerMemory))
  )

  it.effect("lets one more chunk through when nobody has read for 30 seconds, so a circle never stands still", () =>
    Effect.gen(function* () {
      yield* Topic.publish(target, -1)
      yield* Worker.run([stoppedReader([])], { limit: 1 })
      yield* Topic.publishAll(
        source,
        Array.from({ length: 2_000 }, (_, n) => n)
      )
      const emitter = yield* Effect.forkChild(Worker.run([copy]))
      const second = TestClock.adjust("1 second")
      let held = yield* stored
      while (held < 100) {
        yield* second
        held = yield* stored
      }
      assert.isBelow(held, 600)
      for (let i = 0; i < 20; i++) yield* second
      assert.strictEqual(yield* stored, held)
      for (let i = 0; i < 15; i++) yield* second
      assert.isAbove(yield* stored, held)
      yield* Fiber.interrupt(emitter)
    }).pipe(Effect.provide(Engine.layerMemory))
  )
})
