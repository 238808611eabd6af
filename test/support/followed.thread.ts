/** A module that runs in worker threads, for the tests: its handler enqueues, and fails if it is told to. */
import { Effect, Schema } from "effect"
import * as Engine from "../../src/Engine.ts"
import * as Job from "../../src/Job.ts"

export const first = Job.make("first", { payload: Schema.Int })
export const next = Job.make("next", { payload: Schema.Int })

export default Job.thread(
  first,
  (n) => {
    const enqueued = Effect.orDie(Effect.asVoid(Job.enqueue(next, n)))
    return n < 0 ? Effect.andThen(enqueued, Effect.die(new Error("told to"))) : enqueued
  },
  // What enqueues needs a store; what is stored goes to that of the worker, with what settles the job.
  Engine.layerMemory
)
