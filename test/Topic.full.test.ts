/** Topics at their limits: publishers that wait or fail, what is trimmed, what readers learn of it. */
import { assert, describe } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, drain, numbers, start, until } from "./support/engines.ts"
import { collect, reading, readings } from "./support/readings.ts"

describe("a full topic", () => {
  const full = (onFull: "wait" | "fail", capacity = 10) => readings(1, Retention.consumed({ capacity, onFull }))

  behaviour("fail: the publish over capacity fails, naming who holds the floor", () =>
    Effect.gen(function* () {
      const topic = full("fail")
      yield* Effect.forEach(numbers(10), (n) => Topic.publish(topic, reading(n)))
      const nobody = yield* Effect.flip(Topic.publish(topic, reading(10)))
      assert.strictEqual(
        nobody.message,
        "readings/0 is at its capacity: no processor is registered, so nothing counts as consumed; " +
          "run that processor, remove it, or raise the capacity"
      )
      yield* drain([Processor.make("slow", { topic }, () => Effect.void)], { limit: 4 })
      yield* Effect.forEach(numbers(4, 10), (n) => Topic.publish(topic, reading(n)))
      const held = yield* Effect.flip(Topic.publish(topic, reading(14)))
      assert.strictEqual(held._tag, "TopicFull")
      assert.include(held.message, `processor "slow" has not committed them`)
      assert.propertyVal(yield* Effect.flip(Topic.publishAll(topic, [reading(14)])), "_tag", "TopicFull")
      // What is consumed goes when the engine sees fit; what is not stays.
      assert.includeMembers(yield* collect(topic), numbers(10, 4))
    })
  )

  behaviour("wait: it completes when a processor commits, in order", (engine) =>
    Effect.gen(function* () {
      const topic = full("wait")
      yield* Topic.publishAll(
        topic,
        numbers(10).map((n) => reading(n))
      )
      const waiting = yield* Effect.forkChild(
        Topic.publishAll(
          topic,
          numbers(25, 10).map((n) => reading(n))
        )
      )
      yield* engine.elapse(50)
      assert.isUndefined(waiting.pollUnsafe())
      const seen: Array<number> = []
      const worker = yield* start([Processor.make("p", { topic }, ({ n }) => Effect.sync(() => void seen.push(n)))])
      yield* until(engine, "all are stored", () => waiting.pollUnsafe() !== undefined)
      assert.strictEqual((yield* Fiber.join(waiting)).length, 25)
      yield* worker.idle
      assert.deepStrictEqual(seen, numbers(35))
    })
  )

  behaviour("a publish that waits is taken away by its interruption, and the others go on", (engine) =>
    Effect.gen(function* () {
      const topic = full("wait", 2)
      yield* Topic.publishAll(topic, [reading(0), reading(1)])
      const first = yield* Effect.forkChild(Topic.publish(topic, reading(2)), { startImmediately: true })
      const gone = yield* Effect.forkChild(Topic.publish(topic, reading(3)), { startImmediately: true })
      const many = yield* Effect.forkChild(
        Topic.publishAll(
          topic,
          numbers(5, 20).map((n) => reading(n))
        ),
        {
          startImmediately: true
        }
      )
      const last = yield* Effect.forkChild(Topic.publish(topic, reading(4)), { startImmediately: true })
      yield* engine.elapse(30)
      yield* Fiber.interrupt(gone)
      yield* Fiber.interrupt(many)
      const seen: Array<number> = []
      const worker = yield* start([Processor.make("p", { topic }, ({ n }) => Effect.sync(() => void seen.push(n)))])
      yield* until(
        engine,
        "the others are stored",
        () => first.pollUnsafe() !== undefined && last.pollUnsafe() !== undefined
      )
      yield* worker.idle
      assert.deepStrictEqual(seen, [0, 1, 2, 4])
    })
  )

  behaviour(
    "a batch larger than the capacity is stored piece by piece, and what was begun stops with its caller",
    (engine) =>
      Effect.gen(function* () {
        const topic = full("wait", 5)
        const many = yield* Effect.forkChild(
          Topic.publishAll(
            topic,
            numbers(50).map((n) => reading(n))
          ),
          {
            startImmediately: true
          }
        )
        yield* until(engine, "some of it is there", () => Effect.map(collect(topic), (all) => all.length === 5))
        yield* Fiber.interrupt(many)
        const seen: Array<number> = []
        const worker = yield* start([Processor.make("p", { topic }, ({ n }) => Effect.sync(() => void seen.push(n)))])
        yield* worker.idle
        yield* Topic.publish(topic, reading(99))
        yield* worker.idle
        assert.deepStrictEqual(seen, [0, 1, 2, 3, 4, 99])
      })
  )

  behaviour("what is consumed is trimmed, except the last keep", () =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.consumed({ capacity: 100, keep: 3 }))
      yield* Effect.forEach(numbers(20), (n) => Topic.publish(topic, reading(n)))
      yield* drain([Processor.make("p", { topic }, () => Effect.void)])
      assert.deepStrictEqual(yield* collect(topic), [17, 18, 19])
    })
  )
})

describe("what was trimmed unread", () => {
  behaviour("is told to the reader it hit: the number, and the range", () =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.maxLength(5))
      const seen: Array<number> = []
      const part = (onLost: "halt" | "resume") =>
        Processor.make("p", { topic, onLost }, ({ n }) => Effect.sync(() => void seen.push(n)))
      yield* Topic.publish(topic, reading(0))
      yield* drain([part("halt")])
      yield* Effect.forEach(numbers(20, 1), (n) => Topic.publish(topic, reading(n)))
      const worker = yield* start([part("halt")])
      const failure = yield* Effect.flip(worker.join)
      assert.match(
        failure.message,
        /processor "p" halted at partition 0.*: EventsLost: readings\/0: 15 unread entries from after/
      )
      assert.deepStrictEqual(seen, [0])
      yield* drain([part("resume")])
      assert.deepStrictEqual(seen, [0, 16, 17, 18, 19, 20])
      assert.deepStrictEqual(
        (yield* Processor.lag("p")).map((lag) => lag.events),
        [0]
      )
    })
  )
})
