/**
 * A million events through one topic on Redis under `Retention.consumed`: the memory they took is given back once they
 * are committed; with the processor stopped, publishers wait or fail as asked, and nothing is lost.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Schema, Stream } from "effect"
import { Broker, Engine, Processor, Retention, Topic, Worker } from "../src/index.ts"
import * as Redis from "../src/redis/client.ts"
import { makeServer } from "./support/redis.ts"

const Reading = Schema.Struct({ sensor: Schema.Int, n: Schema.Int })

const readings = (capacity: number, onFull: "wait" | "fail") =>
  Topic.make("readings", {
    schema: Reading,
    partitionBy: "sensor",
    partitions: 8,
    retention: Retention.consumed({ capacity, onFull })
  })

const values = (from: number, to: number) =>
  Stream.range(from, to - 1).pipe(Stream.map((n) => ({ sensor: n % 1_000, n })))

describe("Retention.consumed on Redis", () => {
  it.live(
    "gives back the memory of 1,000,000 events once they are committed",
    () =>
      Effect.gen(function* () {
        const { url } = yield* makeServer()
        const topic = readings(1_000_000, "fail")
        let handled = 0
        const part = Processor.make("reader", { topic }, () =>
          Effect.sync(() => {
            handled++
          })
        )
        yield* Effect.gen(function* () {
          const redis = yield* Redis.Redis
          const used = Effect.map(redis.call<string>("info", "memory"), (info) =>
            Number(/used_memory:(\d+)/.exec(info)![1])
          )
          // One round warms up what stays: scripts, groups, buffers of connections.
          yield* Topic.publishAll(topic, values(0, 1_000))
          yield* Worker.run([part], { limit: 1_000 })
          const before = yield* used
          assert.strictEqual(yield* Topic.publishAll(topic, values(1_000, 1_001_000)), 1_000_000)
          const full = yield* used
          assert.isAbove(full - before, 30_000_000, "the log takes its room")
          yield* Worker.run([part], { limit: 1_000_000 })
          assert.strictEqual(handled, 1_001_000)
          const after = yield* used
          assert.isBelow(after - before, 3_000_000, `${before} before, ${full} full, ${after} after`)
          const broker = yield* Broker.Broker
          for (const info of yield* broker.inspect(topic, [0, 1, 2, 3, 4, 5, 6, 7])) assert.strictEqual(info.length, 0)
        }).pipe(Effect.provide(Layer.mergeAll(Engine.layer({ url }), Redis.layer({ url }))))
      }),
    240_000
  )

  it.live("at capacity publishers fail, or wait for the processor, and nothing is lost", () =>
    Effect.gen(function* () {
      const { url } = yield* makeServer()
      yield* Effect.gen(function* () {
        const strict = readings(100, "fail")
        const seen = new Set<number>()
        const part = Processor.make("reader", { topic: strict }, ({ n }) => Effect.sync(() => seen.add(n)))
        // Registered, and stopped.
        yield* Topic.publish(strict, { sensor: 0, n: -1 })
        yield* Worker.run([part], { limit: 1 })
        const error = yield* Effect.flip(Topic.publishAll(strict, values(0, 5_000)))
        assert.deepInclude(error, { _tag: "TopicFull", topic: "readings", heldBy: "reader" })
        const patient = readings(100, "wait")
        const waiting = yield* Effect.forkChild(Topic.publishAll(patient, values(5_000, 10_000)))
        yield* Effect.sleep("300 millis") // Real time: that it waits can only be seen by waiting.
        assert.isUndefined(waiting.pollUnsafe(), "it waits")
        const stored = yield* Effect.gen(function* () {
          const stored = yield* Fiber.join(waiting)
          yield* Worker.idle
          return stored
        }).pipe(Effect.provide(Worker.layer([part])))
        assert.strictEqual(stored, 5_000)
        for (let n = 5_000; n < 10_000; n++) assert.isTrue(seen.has(n), `${n} is missing`)
      }).pipe(Effect.provide(Engine.layer({ url })))
    })
  )
})
