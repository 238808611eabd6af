/** The job that tests with several processes have in common. */
import { Effect, Schema } from "effect"
import * as Job from "../../src/Job.ts"

const Payload = Schema.Struct({ n: Schema.Int, kills: Schema.Boolean })

export const chore = Job.make("chore", { payload: Payload, success: Schema.Int })

/** It takes a moment, and one of them is the end of its process. */
export const choreHandler = (told: (payload: typeof Payload.Type, run: Job.Run) => Effect.Effect<unknown>) =>
  Job.handler(
    chore,
    (payload, run) =>
      Effect.gen(function* () {
        yield* told(payload, run)
        if (payload.kills) process.kill(process.pid, "SIGKILL")
        // Real time: so that there is always something in hand when a process is killed.
        yield* Effect.sleep("20 millis")
        return payload.n
      }),
    { concurrency: 20 }
  )
