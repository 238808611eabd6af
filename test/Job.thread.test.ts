/** Jobs in worker threads: typed on both sides, stopped from outside, and the event loop of the worker stays free. */
import { assert } from "@effect/vitest"
import { DateTime, Effect, Schema } from "effect"
import { Job, Queue } from "../src/index.ts"
import { behaviour, drain, start } from "./support/engines.ts"
import { first } from "./support/followed.thread.ts"
import { primes, TooMany } from "./support/primes.thread.ts"

const url = new URL("./support/primes.thread.ts", import.meta.url)
const since = DateTime.makeUnsafe(1_000)

behaviour(
  "a thread computes while the event loop goes on, and gives typed successes and errors",
  () =>
    Effect.gen(function* () {
      yield* start([Job.handlerInThread(primes, url, { threads: 2 })])
      let ticks = 0
      const timer = setInterval(() => ticks++, 5)
      const all = yield* Effect.forEach([10, 100, 1_000_000], (below) => Job.execute(primes, { below, since }), {
        concurrency: "unbounded"
      })
      clearInterval(timer)
      assert.deepStrictEqual(
        all.map(({ count }) => count),
        [4, 25, 78_498]
      )
      assert.isTrue(all.every(({ thread }) => thread > 0))
      assert.deepStrictEqual(all[0]!.since, since)
      // Computing this takes more than a hundred milliseconds.
      assert.isAbove(ticks, 10)
      assert.deepStrictEqual(yield* Effect.flip(Job.execute(primes, { below: -1, since })), new TooMany({ limit: 1 }))
      const buried = yield* Effect.flip(Job.execute(primes, { below: 0, since }))
      assert.deepInclude(buried, { reason: "Buried", detail: "nothing to count" })
    }),
  { on: ["file", "Redis"], timeout: 60_000 }
)

behaviour(
  "cancel ends the work of a thread that does not listen, and the next job gets a new one",
  () =>
    Effect.gen(function* () {
      yield* start([Job.handlerInThread(primes, url, { threads: 1 })])
      yield* Job.execute(primes, { below: 10, since })
      const { id } = yield* Job.enqueue(primes, { below: 13, since })
      // Real time: a thread computes.
      yield* Effect.sleep(300)
      assert.isTrue(yield* Job.cancel(primes, id))
      assert.deepInclude(yield* Effect.flip(Job.await(primes, id)), { reason: "Cancelled" })
      assert.strictEqual((yield* Job.execute(primes, { below: 100, since })).count, 25)
    }),
  { on: ["file"], timeout: 60_000 }
)

behaviour(
  "a timeout ends the work of a thread that does not listen, too; progress that does not fit harms nobody",
  () =>
    Effect.gen(function* () {
      // The same job, as far as its thread knows, which tells progress too.
      const { payload, success } = primes.spec
      const short = Job.make("primes", { payload, success, timeout: "500 millis" })
      yield* start([Job.handlerInThread(short, url, { threads: 1 })])
      // A thread that is still being started has no time for it.
      const first = yield* Effect.retry(Job.execute(short, { below: 10, since }), { times: 40 })
      const failure = yield* Effect.flip(Job.execute(short, { below: 13, since }))
      assert.deepInclude(failure, { _tag: "JobFailed", reason: "Timeout" })
      const next = yield* Effect.retry(Job.execute(short, { below: 100, since }), { times: 40 })
      assert.strictEqual(next.count, 25)
      assert.notStrictEqual(next.thread, first.thread)
    }),
  { on: ["file"], timeout: 60_000 }
)

behaviour(
  "a module that cannot be run is a defect of its jobs",
  () =>
    Effect.gen(function* () {
      const broken = Job.make("broken", { payload: Schema.Int })
      yield* start([Job.handlerInThread(broken, new URL("./support/none.thread.ts", import.meta.url), { threads: 1 })])
      const failure = yield* Effect.flip(Job.execute(broken, 1))
      assert.deepInclude(failure, { reason: "Defect" })
    }),
  { on: ["file"], timeout: 60_000 }
)

behaviour(
  "what a thread enqueues is part of what settles its job",
  () =>
    Effect.gen(function* () {
      yield* Job.enqueueAll(first, [1, -1, 2])
      const url = new URL("./support/followed.thread.ts", import.meta.url)
      yield* drain([Job.handlerInThread(first, url, { threads: 1 })])
      assert.deepInclude(yield* Queue.counts("default"), { ready: 2, done: 2, dead: 1 })
    }),
  { on: ["file"], timeout: 60_000 }
)
