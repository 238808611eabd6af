/** A module that runs in worker threads, for the tests: counts primes, and does not listen while it does. */
import { Context, Effect, Layer, Schema } from "effect"
import * as Job from "../../src/Job.ts"

export class TooMany extends Schema.TaggedError<TooMany>()("TooMany", { limit: Schema.Int }) {}

export const primes = Job.make("primes", {
  payload: Schema.Struct({ below: Schema.Int, since: Schema.DateTimeUtc }),
  success: Schema.Struct({ count: Schema.Int, thread: Schema.Int, since: Schema.DateTimeUtc }),
  error: TooMany,
  progress: Schema.Finite,
  timeout: "1 minute"
})

class Counter extends Context.Service<Counter, { count(below: number): number }>()("test/Counter") {}

const counter = Layer.succeed(Counter, {
  count: (below) => {
    let count = 0
    for (let n = 2; n < below; n++) {
      let isPrime = true
      for (let d = 2; d * d <= n && isPrime; d++) isPrime = n % d !== 0
      if (isPrime) count++
    }
    return count
  }
})

export default Job.thread(
  primes,
  ({ below, since }, run) =>
    Effect.gen(function* () {
      if (below < 0) return yield* new TooMany({ limit: run.attempt })
      if (below === 0) return yield* Job.bury("nothing to count")
      // For ever, and deaf.
      if (below === 13) for (;;);
      yield* Job.progress(primes, 0.5)
      const { count } = yield* Counter
      return {
        count: count(below),
        thread: (yield* Effect.promise(() => import("node:worker_threads"))).threadId,
        since
      }
    }),
  counter
)
