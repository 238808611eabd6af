/** Workers of queues that have nothing to do wait, they do not poll: they cost next to nothing, and begin at once. */
import { assert, describe } from "@effect/vitest"
import { Clock, Effect, Layer, Schema } from "effect"
import { Job } from "../src/index.ts"
import { Faults } from "../src/testing/index.ts"
import { behaviour, numbers, start } from "./support/engines.ts"

const square = Job.make("square", { payload: Schema.Int, success: Schema.Int })
const others = numbers(3).map((n) => Job.make(`other-${n}`, { payload: Schema.Int, queue: `queue-${n}` }))
const parts = [
  Job.handler(square, (n) => Effect.succeed(n * n)),
  ...others.map((job) => Job.handler(job, () => Effect.void))
]

describe("a worker of queues without anything to do", () => {
  behaviour(
    "asks the engine about once in three seconds and queue, which keeps its leases",
    (engine) =>
      Effect.gen(function* () {
        const calls = new Map<string, number>()
        const plan: Faults.Plan = (port, method) => {
          if (port === "JobStore") calls.set(method, (calls.get(method) ?? 0) + 1)
          return undefined
        }
        yield* Effect.gen(function* () {
          const worker = yield* start(parts)
          yield* worker.idle
          yield* engine.elapse(5_000)
          calls.clear()
          // In steps that are short, so that nothing which wants to be done between two of them is left out.
          for (const _ of numbers(60)) yield* engine.elapse(1_000)
        }).pipe(Effect.provide(Layer.fresh(Faults.layer(plan))))
        const asked = [...calls.values()].reduce((sum, count) => sum + count, 0)
        // Four queues for a minute: with the default lease of ten seconds twenty times three calls each, and some more.
        assert.isAtMost(asked, 4 * 70, JSON.stringify([...calls]))
      }),
    { on: ["memory"] }
  )

  behaviour(
    "begins with what is enqueued at once, and with what is delayed when it is due: not a moment later",
    (engine) =>
      Effect.gen(function* () {
        const started: Array<number> = []
        const due = Job.make("due", { payload: Schema.Int })
        const worker = yield* start([
          ...parts,
          Job.handler(due, () => Effect.map(Clock.currentTimeMillis, (now) => void started.push(now)))
        ])
        yield* worker.idle
        yield* engine.elapse(60_000)
        const before = yield* Clock.currentTimeMillis
        for (const n of numbers(5)) {
          assert.strictEqual(yield* Job.execute(square, n), n * n)
          yield* Job.execute(others[n % 3]!, n)
        }
        assert.strictEqual(yield* Clock.currentTimeMillis, before)
        for (const delay of [1, 250, 7_000, 61_000]) {
          const at = yield* Clock.currentTimeMillis
          yield* Job.enqueue(due, 1, { delay })
          yield* engine.elapse(delay + 25)
          assert.lengthOf(started, 1, `${delay}`)
          assert.isAtLeast(started[0]! - at, delay - 1)
          assert.isAtMost(started[0]! - at, delay + 25)
          started.pop()
        }
      }),
    // On its clock time stands still unless it is moved: what polls would not begin, or be late.
    { on: ["memory"] }
  )

  behaviour(
    "begins within milliseconds on a real clock too",
    () =>
      Effect.gen(function* () {
        const worker = yield* start(parts)
        yield* worker.idle
        const times: Array<number> = []
        for (const n of numbers(10)) {
          // A real wait: so long that whatever polls has long begun to do so seldom.
          yield* Effect.sleep(100)
          const began = performance.now()
          yield* Job.execute(square, n)
          times.push(performance.now() - began)
        }
        // The middle one: on a busy machine some are held up by other things.
        assert.isBelow(times.toSorted((a, b) => a - b)[5]!, 100, times.join(" "))
      }),
    { on: ["file", "Redis"] }
  )
})
