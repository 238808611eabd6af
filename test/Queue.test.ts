/** Queues as a whole, the definitions of jobs, and what many jobs of one kind share: limits, groups, keys, priorities. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Duration, Effect, Exit, Metric, Schema, Stream } from "effect"
import { Job, Metrics, Queue } from "../src/index.ts"
import { Shares } from "../src/internal/jobs/shares.ts"
import { Simulation } from "../src/testing/index.ts"
import { behaviour, drain, numbers, start, until } from "./support/engines.ts"

const work = Job.make("work", { payload: Schema.Int, queue: "mill" })

behaviour("a queue is looked into by state, name and headers, and nothing changes by looking", () =>
  Effect.gen(function* () {
    const other = Job.make("other", { payload: Schema.Int, queue: "mill" })
    yield* Job.enqueue(work, 1, { headers: { tenant: "ada" } })
    yield* Job.enqueue(work, 2, { headers: { tenant: "grace" } })
    yield* Job.enqueue(other, 3, { delay: "1 hour" })
    const before = yield* Queue.counts("mill")
    assert.deepInclude(before, { ready: 2, delayed: 1, active: 0, dead: 0 })
    const ada = yield* Stream.runCollect(Queue.peek("mill", "ready", { headers: { tenant: "ada" } }))
    assert.deepStrictEqual(
      ada.map(({ headers, job }) => [job, headers]),
      [["work", { tenant: "ada" }]]
    )
    assert.deepStrictEqual(yield* Stream.runCollect(Queue.peek("mill", "delayed", { job: "work" })), [])
    assert.strictEqual((yield* Stream.runCollect(Queue.peek("mill", "delayed"))).length, 1)
    assert.deepStrictEqual(yield* Queue.counts("mill"), before)
    assert.include([...(yield* Queue.all)], "mill")
    assert.strictEqual(yield* Queue.flush("mill"), 3)
    assert.deepInclude(yield* Queue.counts("mill"), { ready: 0, delayed: 0 })
    yield* Queue.remove("mill")
    assert.notInclude([...(yield* Queue.all)], "mill")
  })
)

behaviour("a limit holds for all workers together", (engine) =>
  Effect.gen(function* () {
    let ran = 0
    const part = Job.handler(work, () => Effect.sync(() => ran++))
    yield* Queue.declare("mill", { limit: { count: 4, per: "400 millis" } })
    yield* Job.enqueueAll(work, numbers(8))
    yield* start([part])
    yield* start([part])
    yield* until(engine, "the first window is used", () => ran >= 4)
    assert.strictEqual(ran, 4)
    yield* until(engine, "so is the second", () => ran === 8)
  })
)

behaviour("jobs of a group run in order and one at a time, also through retries and on several workers", (engine) =>
  Effect.gen(function* () {
    const step = Job.make("step", {
      payload: Schema.Struct({ order: Schema.String, n: Schema.Int }),
      retries: 3,
      backoff: () => "10 millis",
      group: { by: ({ order }) => order }
    })
    const seen = new Map<string, Array<number>>()
    let [now, total] = [0, 0]
    const part = Job.handler(step, ({ n, order }, run) =>
      Effect.gen(function* () {
        now++
        yield* Effect.yieldNow
        now--
        if (n % 4 === 1 && run.attempt === 1) return yield* Effect.die("once")
        seen.set(order, [...(seen.get(order) ?? []), n])
        total++
      })
    )
    yield* start([part])
    yield* start([part])
    for (const n of numbers(10)) {
      yield* Job.enqueueAll(
        step,
        ["a", "b", "c"].map((order) => ({ order, n }))
      )
    }
    yield* until(engine, "all ran", () => total === 30)
    for (const order of ["a", "b", "c"]) assert.deepStrictEqual(seen.get(order), numbers(10))
    assert.strictEqual(now, 0)
  })
)

behaviour("a key of the payload, throttling and debouncing", (engine) =>
  Effect.gen(function* () {
    const index = Job.make("index", {
      payload: Schema.Struct({ page: Schema.Int, text: Schema.String }),
      key: (p) => p.page
    })
    const seen: Array<string> = []
    const part = Job.handler(index, ({ text }) => Effect.sync(() => seen.push(text)))
    const first = yield* Job.enqueue(index, { page: 1, text: "a" })
    const second = yield* Job.enqueue(index, { page: 1, text: "b" })
    assert.deepStrictEqual([first.repeated, second], [false, { id: first.id, repeated: true }])
    yield* drain([part])
    assert.isFalse((yield* Job.enqueue(index, { page: 1, text: "c" })).repeated)
    yield* drain([part])
    assert.deepStrictEqual(seen, ["a", "c"])
    const debounced = { delay: "200 millis", deduplicate: { key: "k", restart: true } } as const
    for (const text of ["d", "e", "f"]) yield* Job.enqueue(index, { page: 2, text }, debounced)
    yield* start([part])
    yield* until(engine, "the last one ran", () => seen.length === 3)
    assert.strictEqual(seen[2], "f")
  })
)

behaviour("a result that its schema refuses is a defect of its job, which is not run again", () =>
  Effect.gen(function* () {
    const small = Job.make("small", {
      payload: Schema.Int,
      success: Schema.Int.pipe(Schema.check(Schema.isLessThan(10))),
      retries: 5
    })
    let runs = 0
    const part = Job.handler(small, (n) => Effect.sync(() => ++runs + n))
    const { id } = yield* Job.enqueue(small, 100)
    yield* drain([part])
    assert.strictEqual(runs, 1)
    assert.deepInclude(yield* Effect.flip(Job.result(small, id)), { _tag: "JobFailed", reason: "Defect" })
  })
)

behaviour("metrics count runs by what became of them", () =>
  Effect.gen(function* () {
    const name = `counted-${Math.floor(performance.now() * 1_000)}`
    const counted = Job.make(name, { payload: Schema.Int, retries: 1, backoff: () => 0 })
    const part = Job.handler(counted, (n) => (n === 1 ? Effect.die("no") : Effect.void))
    yield* Job.enqueueAll(counted, [1, 2, 3])
    yield* drain([part])
    const of = (outcome: string) =>
      Effect.map(
        Metric.value(Metric.withAttributes(Metrics.jobs, { queue: "default", job: name, outcome })),
        ({ count }) => count
      )
    assert.deepStrictEqual([yield* of("done"), yield* of("retry"), yield* of("dead")], [2, 1, 1])
  })
)

describe("definitions", () => {
  const wrong: ReadonlyArray<readonly [string, () => unknown, RegExp]> = [
    ["a brace in the name", () => Job.make("a{b", { payload: Schema.Int }), /job name "a\{b"/],
    ["a long name", () => Job.make("x".repeat(129), { payload: Schema.Int }), /1 to 128/],
    ["a queue name", () => Job.make("a", { payload: Schema.Int, queue: "" }), /queue name/],
    ["negative retries", () => Job.make("a", { payload: Schema.Int, retries: -1 }), /retries must be a whole number/],
    ["no timeout", () => Job.make("a", { payload: Schema.Int, timeout: 0 }), /timeout must be a duration/],
    ["jitter", () => Job.make("a", { payload: Schema.Int, jitter: 2 }), /jitter must be a number from 0 to 1/],
    ["concurrency", () => Job.handler(work, () => Effect.void, { concurrency: 0 }), /concurrency must be/],
    ["a limit", () => Queue.declare("a", { limit: { count: 0, per: "1 second" } }), /limit.count must be/]
  ]
  it.each(wrong)("%s", (_, define, message) => {
    assert.throws(define, message)
  })

  it("the default backoff doubles from ten seconds up to a day", () => {
    const delays = numbers(20, 1).map((retry) => Duration.toMillis(Job.defaultBackoff(retry)))
    assert.deepStrictEqual(
      delays,
      numbers(20, 1).map((n) => Math.max(10_000, Math.min(5_000 * 2 ** n, 86_400_000)))
    )
    assert.deepStrictEqual(delays.slice(0, 4), [10_000, 20_000, 40_000, 80_000])
  })

  it.effect("the simulation refuses handlers of jobs", () =>
    Effect.gen(function* () {
      const part = Job.handler(work, () => Effect.void)
      const exit = yield* Effect.exit(Simulation.run(1, { parts: [part], events: [] }))
      assert.isTrue(Exit.isFailure(exit) && String(Cause.squash(exit.cause)).includes("work handles jobs"))
    })
  )

  it("shares are ten to three to one over any run of claims", () => {
    for (const size of [1, 3, 14, 100, 200]) {
      const shares = new Shares()
      const sum = [0, 0, 0]
      for (let claimed = 0; claimed < 14 * 300; claimed += size) {
        shares.next(size).forEach((share, i) => (sum[i]! += share))
        shares.claimed(size)
      }
      assert.deepStrictEqual(
        sum,
        [10 * 300, 3 * 300, 300].map((share) => share),
        String(size)
      )
    }
  })
})
