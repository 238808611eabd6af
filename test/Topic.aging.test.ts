/** `Retention.maxAge` by the clock: nobody appends, and nobody calls `trim`. */
import { assert, describe } from "@effect/vitest"
import { Effect, Metric } from "effect"
import { Broker } from "../src/Broker.ts"
import * as Metrics from "../src/Metrics.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, drain, numbers, start, until } from "./support/engines.ts"
import { collect, reading, readings } from "./support/readings.ts"

const length = (topic: Topic.Any) =>
  Effect.flatMap(Broker, (broker) =>
    Effect.map(broker.inspect(topic, numbers(topic.partitions)), (logs) =>
      logs.reduce((sum, { length }) => sum + length, 0)
    )
  )

describe("retention by age", () => {
  // Real time on two engines: what is old is so by the clock of the engine, and is looked for once a second.
  behaviour("the owner drops what is too old of an idle topic, and nothing that is younger", (engine) =>
    Effect.gen(function* () {
      const topic = readings(2, Retention.maxAge("1200 millis"))
      yield* start([Processor.make("p", { topic }, () => Effect.void)])
      for (const n of numbers(3)) yield* Topic.publish(topic, reading(n))
      yield* engine.elapse(1_000)
      assert.deepStrictEqual((yield* collect(topic)).toSorted(), numbers(3), "all are younger")
      yield* until(engine, "they are dropped", () => Effect.map(length(topic), (length) => length === 0))
      yield* Topic.publish(topic, reading(3))
      yield* engine.elapse(1_000)
      assert.deepStrictEqual(yield* collect(topic), [3])
    })
  )

  behaviour("what a processor had not read is lost to it, and counted", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.maxAge("500 millis"))
      // Metrics are the process's: a name for each engine.
      const name = `aging-${engine.name}`
      const seen: Array<number> = []
      const part = (onLost: "halt" | "resume") =>
        Processor.make(name, { topic, onLost }, ({ n }) => Effect.sync(() => void seen.push(n)))
      yield* Topic.publish(topic, reading(0))
      yield* drain([part("halt")])
      yield* Processor.pause(name)
      const worker = yield* start([part("halt")])
      // One by one, so that each is an entry.
      for (const n of numbers(3, 1)) yield* Topic.publish(topic, reading(n))
      yield* until(engine, "they are dropped", () => Effect.map(length(topic), (length) => length === 0))
      yield* Processor.resume(name)
      const halt = yield* Effect.flip(worker.join)
      assert.include(String((halt as { readonly cause?: unknown }).cause), "EventsLost")
      assert.include(String((halt as { readonly cause?: unknown }).cause), "3 unread entries")
      const counted = yield* Metric.value(Metric.withAttributes(Metrics.lost, { processor: name }))
      assert.strictEqual(Number(counted.count), 3)
      yield* worker.close
      yield* start([part("resume")])
      yield* Topic.publish(topic, reading(4))
      yield* until(engine, "it goes on", () => seen.length === 2)
      assert.deepStrictEqual(seen, [0, 4])
    })
  )
})
