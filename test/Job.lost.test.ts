/** Jobs whose worker dies or loses them: taken back in time, without a retry, three times at most. */
import { assert } from "@effect/vitest"
import { Effect, Fiber, Latch, Layer, Logger, Option, Schema, Stream } from "effect"
import { Errors, Job, JobStore, Queue } from "../src/index.ts"
import { Faults } from "../src/testing/index.ts"
import { behaviour, drain, numbers, start, until } from "./support/engines.ts"

const work = Job.make("work", { payload: Schema.Int, success: Schema.Int })

/** A worker that claims all it can get, and is not heard of again. */
const victim = (lease: number) =>
  Effect.gen(function* () {
    const store = yield* JobStore.JobStore
    const session = yield* store.open("default", "victim", lease)
    const answer = yield* store.exchange({
      session,
      number: 1,
      lease,
      settle: [],
      rooms: [{ name: "work", count: 100 }],
      count: 100,
      shares: [72, 21, 7],
      alone: true
    })
    return answer._tag === "Exchanged" ? answer.claimed.length : 0
  })

behaviour("the jobs of a dead worker run within its lease and a second, all of them, and no retry is used", (engine) =>
  Effect.gen(function* () {
    const attempts: Array<number> = []
    const part = Job.handler(work, (n, run) => Effect.sync(() => attempts.push(run.attempt)).pipe(Effect.as(n)))
    yield* Job.enqueueAll(work, numbers(50))
    assert.strictEqual(yield* victim(600), 50)
    yield* start([part], { lease: "1 second" })
    yield* engine.elapse(1_600)
    assert.deepStrictEqual(
      attempts,
      numbers(50).map(() => 1)
    )
  })
)

behaviour(
  "a renewal that fails is logged and made again while the lease lasts: a job of ten leases runs once",
  (engine) =>
    Effect.gen(function* () {
      let extended = 0
      const plan: Faults.Plan = (_, method, call) => {
        if (method !== "extend") return undefined
        extended++
        return call % 3 === 1 ? { _tag: "Fail" } : undefined
      }
      const said: Array<string> = []
      const logger = Logger.make(({ message }) => void said.push(String(message)))
      const runs: Array<number> = []
      const part = Job.handler(work, (n, { attempt }) =>
        Effect.as(
          Effect.andThen(
            Effect.sync(() => runs.push(attempt)),
            Effect.sleep("30 seconds")
          ),
          n
        )
      )
      // What was lost would run elsewhere.
      const others = yield* start([part], { lease: "3 seconds", jobs: { concurrency: 1 } })
      yield* start([part], { lease: "3 seconds", jobs: { concurrency: 1 } }).pipe(
        Effect.provide([Layer.fresh(Faults.layer(plan)), Logger.layer([logger])])
      )
      const handles = yield* Job.enqueueAll(work, [1, 2])
      for (const _ of numbers(32)) yield* engine.elapse(1_000)
      for (const { id } of handles) assert.isTrue(Option.isSome(yield* Job.result(work, id)))
      assert.deepStrictEqual(runs, [1, 1])
      assert.strictEqual((yield* others.stop).parts["work"]!.processed, 1)
      assert.isAbove(extended, 10)
      const failed = said.filter((line) => line.includes("the leases of jobs were not extended"))
      assert.isAtLeast(failed.length, 4)
    }),
  { on: ["memory"] }
)

behaviour("three lost leases are the end of a job", (engine) =>
  Effect.gen(function* () {
    const { id } = yield* Job.enqueue(work, 1)
    const store = yield* JobStore.JobStore
    // Somebody who lives, so that it is not everybody who was away.
    yield* store.open("default", "other", 60_000)
    for (const _ of numbers(3)) {
      assert.strictEqual(yield* victim(100), 1)
      yield* engine.elapse(110)
      yield* store.sweep("default")
    }
    assert.deepInclude(yield* Effect.flip(Job.await(work, id)), { reason: "Lost" })
    const [dead] = yield* Stream.runCollect(Queue.peek("default", "dead"))
    assert.deepInclude(dead, { lost: 3, failures: 0, reason: Option.some("Lost") })
  })
)

behaviour(
  "one that twice lost its lease runs with nothing beside it, though much else waits",
  (engine) =>
    Effect.gen(function* () {
      const store = yield* JobStore.JobStore
      const { id } = yield* Job.enqueue(work, -1)
      yield* store.open("default", "other", 60_000)
      for (const _ of numbers(2)) {
        assert.strictEqual(yield* victim(100), 1)
        yield* engine.elapse(110)
        yield* store.sweep("default")
      }
      const ran: Array<number> = []
      let [now, beside] = [0, 0]
      const part = Job.handler(work, (n) =>
        Effect.gen(function* () {
          ran.push(n)
          now++
          if (n === -1) beside = now
          yield* Effect.sleep(20)
          now--
          return n
        })
      )
      yield* Job.enqueueAll(work, numbers(200))
      yield* start([part], { lease: "400 millis", jobs: { concurrency: 2 } })
      yield* until(engine, "it ran", () => ran.includes(-1))
      assert.isBelow(ran.length, 190)
      assert.strictEqual(beside, 1)
      assert.strictEqual(yield* Effect.map(Job.info(work, id), (info) => Option.getOrThrow(info).failures), 0)
    }),
  // On virtual time the worker would wait for handlers that sleep when it ends.
  { on: ["file", "Redis"] }
)

behaviour("a job of many leases runs once, though an extension fails now and then", (engine) =>
  Effect.gen(function* () {
    let runs = 0
    const part = Job.handler(work, (n) =>
      Effect.andThen(
        Effect.sync(() => runs++),
        Effect.as(Effect.sleep(1_500), n)
      )
    )
    const { id } = yield* Job.enqueue(work, 1)
    const plan: Faults.Plan = (port, method, call) =>
      port === "JobStore" && method === "extend" && call % 3 === 1 ? { _tag: "Fail" } : undefined
    const faulty = start([part], { lease: "450 millis" }).pipe(Effect.provide(Faults.layer(plan)))
    yield* faulty
    yield* start([part], { lease: "450 millis" })
    yield* engine.elapse(2_000)
    assert.deepStrictEqual(yield* Job.result(work, id), Option.some(1))
    assert.strictEqual(runs, 1)
  })
)

behaviour("what is claimed while a lease is asked for again stays in hand, and runs once", (engine) =>
  Effect.gen(function* () {
    let runs = 0
    const part = Job.handler(work, (n) =>
      Effect.andThen(
        Effect.sync(() => runs++),
        Effect.as(Effect.sleep(100), n)
      )
    )
    const refused = yield* Latch.make(false)
    const failing = Layer.effect(
      JobStore.JobStore,
      Effect.map(JobStore.JobStore, (store) => {
        let asked = 0
        return {
          ...store,
          // Nothing is in hand the first time; what comes before it is asked again was not spoken of.
          extend: (...request) =>
            asked++ > 0
              ? store.extend(...request)
              : Effect.andThen(
                  refused.open,
                  Effect.fail(new Errors.EngineError({ operation: "extend", reason: "Unreachable", detail: "once" }))
                )
        }
      })
    )
    yield* start([part], { lease: "300 millis" }).pipe(Effect.provide(failing))
    const asked = yield* Effect.forkChild(Effect.andThen(refused.await, Job.enqueue(work, 1)))
    yield* until(engine, "it is enqueued", () => asked.pollUnsafe() !== undefined)
    yield* engine.elapse(800)
    const { id } = yield* Fiber.join(asked)
    assert.deepStrictEqual(yield* Job.result(work, id), Option.some(1))
    assert.strictEqual(runs, 1)
  })
)

behaviour(
  "answers that are lost, and calls that arrive twice, neither lose a job nor run one twice",
  () =>
    Effect.gen(function* () {
      const runs = new Map<number, number>()
      const part = Job.handler(work, (n) =>
        Effect.sync(() => {
          runs.set(n, (runs.get(n) ?? 0) + 1)
          return n
        })
      )
      const plan: Faults.Plan = (port, method, call) => {
        if (port !== "JobStore" || (method !== "exchange" && method !== "enqueue")) return undefined
        return call % 3 === 1 ? { _tag: "LoseReply" } : call % 3 === 2 ? { _tag: "SendTwice" } : undefined
      }
      yield* Effect.gen(function* () {
        for (let i = 0; i < 10; i++) yield* Job.enqueueAll(work, numbers(30, 30 * i))
        yield* drain([part])
      }).pipe(Effect.provide(Faults.layer(plan)))
      assert.strictEqual(runs.size, 300)
      assert.isTrue(Array.from(runs.values()).every((count) => count === 1))
      assert.strictEqual((yield* Queue.counts("default")).done, 300)
    }),
  { on: ["file", "Redis"] }
)

behaviour("a worker whose jobs were taken away stops them, and what it did does not count", (engine) =>
  Effect.gen(function* () {
    const store = yield* JobStore.JobStore
    let [interrupted, runs] = [0, 0]
    const part = Job.handler(work, (n) =>
      Effect.suspend(() => (++runs === 1 ? Effect.never : Effect.succeed(n))).pipe(
        Effect.onInterrupt(() => Effect.sync(() => interrupted++))
      )
    )
    const { id } = yield* Job.enqueue(work, 7)
    const plan: Faults.Plan = (port, method) =>
      port === "JobStore" && method === "extend" ? { _tag: "Fail" } : undefined
    let cut = true
    const flaky: Faults.Plan = (...call) => (cut ? plan(...call) : undefined)
    yield* start([part], { lease: "300 millis" }).pipe(Effect.provide(Faults.layer(flaky)))
    yield* until(engine, "it runs", () => runs === 1)
    yield* store.open("default", "other", 60_000)
    yield* engine.elapse(350)
    yield* store.sweep("default")
    cut = false
    yield* until(engine, "it was stopped, and ran again", () => interrupted === 1 && runs === 2)
    assert.strictEqual(yield* Job.await(work, id), 7)
  })
)
