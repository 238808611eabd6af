/** What a job's options come to: defaults of a group of jobs, delays between its retries, what a run is told of itself. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, DateTime, Duration, Effect, Option, Schedule, Schema, Stream } from "effect"
import { Job, Queue } from "../src/index.ts"
import { behaviour, drain, numbers, start } from "./support/engines.ts"

describe("Job.withDefaults", () => {
  const make = Job.withDefaults({ queue: "reports", priority: "low", retries: 2, backoff: () => 0, timeout: "1 hour" })

  behaviour("gives jobs what they do not say themselves, from the queue to the retries", () =>
    Effect.gen(function* () {
      const plain = make("plain", { payload: Schema.Int })
      const own = make("own", { payload: Schema.Int, queue: "urgent", priority: "high", retries: 0 })
      const attempts: Array<string> = []
      const failing = (job: Job.Job<number>) =>
        Job.handler(job, (_, run) =>
          Effect.andThen(
            Effect.sync(() => attempts.push(`${job.name} ${run.queue} ${run.attempt}`)),
            Effect.die("no")
          )
        )
      yield* Job.enqueue(plain, 1)
      yield* Job.enqueue(own, 1)
      const waiting = yield* Effect.forEach(["reports", "urgent"], (queue) =>
        Stream.runHead(Queue.peek(queue, "ready"))
      )
      assert.deepStrictEqual(
        waiting.map((item) => Option.getOrThrow(item).job),
        ["plain", "own"]
      )
      const worker = yield* start([failing(plain), failing(own)])
      yield* worker.idle
      yield* worker.stop
      assert.deepStrictEqual(attempts.toSorted(), [
        "own urgent 1",
        "plain reports 1",
        "plain reports 2",
        "plain reports 3"
      ])
      assert.strictEqual((yield* Queue.counts("default")).dead, 0)
    })
  )

  it("an option that is undefined is one that is left out", () => {
    const { queue, spec } = make("plain", {
      payload: Schema.Int,
      queue: undefined,
      retries: undefined,
      timeout: undefined
    })
    assert.strictEqual(queue, "reports")
    assert.deepInclude(spec, { queue: "reports", priority: "low", retries: 2, timeout: 3_600_000 })
    assert.deepInclude(Job.make("bare", { payload: Schema.Int, retries: undefined }).spec, { retries: 0 })
  })
})

behaviour("a run is told its id, attempt, queue, time and headers, as an argument and by Job.current", (engine) =>
  Effect.gen(function* () {
    const told: Array<Job.Run> = []
    const job = Job.make("told", { payload: Schema.Int, queue: "q", retries: 1, backoff: () => 0 })
    const deep = Effect.map(Job.current, (run) => void told.push(run))
    const part = Job.handler(job, (_, run) =>
      Effect.gen(function* () {
        yield* deep
        assert.deepStrictEqual(told.at(-1), run)
        if (run.attempt === 1) return yield* Effect.die("once")
      })
    )
    const before = yield* Clock.currentTimeMillis
    const { id } = yield* Job.enqueue(job, 1, { headers: { from: "ä", empty: "" } })
    // Far more than clocks of one machine differ.
    yield* engine.elapse(200)
    const worker = yield* start([part])
    yield* worker.idle
    assert.deepStrictEqual(
      told.map(({ after, attempt, headers, id, queue }) => ({ after, attempt, headers, id, queue })),
      [1, 2].map((attempt) => ({ after: [], attempt, headers: { from: "ä", empty: "" }, id, queue: "q" }))
    )
    for (const { enqueuedAt } of told) {
      assert.isBelow(Math.abs(DateTime.toEpochMillis(enqueuedAt) - before), 150)
    }
  })
)

describe("the delays between runs", () => {
  /** Of a job that always fails, as its worker makes them on virtual time. */
  const gaps = (options: Partial<Job.Options<any, any, any, any>>, total: Duration.Input) =>
    Effect.gen(function* () {
      const times: Array<number> = []
      const job = Job.make("failing", { retries: 4, ...options, payload: Schema.Int })
      const part = Job.handler(job, () =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          times.push(now)
          return Effect.die("no")
        })
      )
      yield* Job.enqueue(job, 1)
      yield* start([part])
      const steps = Math.ceil(Duration.toMillis(Duration.fromInputUnsafe(total)) / 2_500)
      return { times, steps }
    })

  const shown: ReadonlyArray<readonly [string, Partial<Job.Options<any, any, any, any>>, ReadonlyArray<number>]> = [
    ["are 10, 20, 40 and 80 seconds unless told otherwise", {}, [10_000, 20_000, 40_000, 80_000]],
    ["are those of a function, which is told the retry", { backoff: (n) => n * 1_000 }, [1_000, 2_000, 3_000, 4_000]],
    ["are those of a schedule", { backoff: Schedule.exponential("1 second", 3) }, [1_000, 3_000, 9_000, 27_000]],
    [
      "go on with the last of a schedule that has ended",
      { backoff: Schedule.max([Schedule.exponential("2 seconds"), Schedule.recurs(2)]) },
      [2_000, 4_000, 4_000, 4_000]
    ]
  ]
  for (const [sentence, options, expected] of shown) {
    behaviour(
      sentence,
      (engine) =>
        Effect.gen(function* () {
          const { steps, times } = yield* gaps(options, "160 seconds")
          for (let step = 0; step < steps; step++) yield* engine.elapse(2_500)
          const found = times.slice(1).map((time, n) => time - times[n]!)
          assert.lengthOf(found, expected.length)
          for (const [n, gap] of found.entries()) {
            // Times are stored in whole milliseconds.
            assert.isAtLeast(gap, expected[n]! - 1)
            // What the worker itself takes, on a clock that moves in steps.
            assert.isBelow(gap, expected[n]! + 150)
          }
        }),
      { on: ["memory"] }
    )
  }

  behaviour("with jitter are anything between the part that is left and the whole", () =>
    Effect.gen(function* () {
      const job = Job.make("jittered", { payload: Schema.Int, retries: 1, backoff: () => "100 seconds", jitter: 0.4 })
      const failedAt = new Map<string, number>()
      const part = Job.handler(job, (_, { id }) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          failedAt.set(id, now)
          return Effect.die("no")
        })
      )
      yield* Job.enqueueAll(job, numbers(60))
      yield* drain([part])
      const delayed = yield* Stream.runCollect(Queue.peek("default", "delayed"))
      const delays = delayed.map(({ at, id }) => DateTime.toEpochMillis(at) - failedAt.get(id)!)
      assert.lengthOf(delays, 60)
      for (const delay of delays) {
        assert.isAtLeast(delay, 59_999)
        // And the time from the failure until it is stored.
        assert.isBelow(delay, 102_000)
      }
      // Sixty of an even spread: none of the lowest quarter, or of the highest, would be one in thirty millions.
      assert.isBelow(Math.min(...delays), 70_000)
      assert.isAbove(Math.max(...delays), 90_000)
    })
  )
})
