/** The jobs that tests with several processes have in common. */
import { Effect, Schema } from "effect"
import * as Job from "../../src/Job.ts"

const Payload = Schema.Struct({ n: Schema.Int, kind: Schema.Literals(["works", "fails", "kills"]), millis: Schema.Int })

export class Refused extends Schema.TaggedError<Refused>()("Refused", { n: Schema.Int }) {}

export const chore = Job.make("chore", {
  payload: Payload,
  success: Schema.Int,
  error: Refused,
  retries: 1,
  backoff: () => "100 millis"
})

/** It takes a moment, so that there is always something in hand when a process is killed; some are the end of theirs. */
export const choreHandler = (told: (payload: typeof Payload.Type, run: Job.Run) => Effect.Effect<unknown>) =>
  Job.handler(
    chore,
    (payload, run) =>
      Effect.gen(function* () {
        yield* told(payload, run)
        if (payload.kind === "kills") process.kill(process.pid, "SIGKILL")
        // Real time: what is killed is a real process.
        yield* Effect.sleep(payload.millis)
        return payload.kind === "fails" ? yield* new Refused({ n: payload.n }) : payload.n
      }),
    { concurrency: 20 }
  )

/** One after the other in each lane. */
export const step = Job.make("step", {
  payload: Schema.Struct({ lane: Schema.String, n: Schema.Int, millis: Schema.Int }),
  success: Schema.Int,
  group: { by: ({ lane }) => lane }
})

export const stepHandler = (told: (step: { readonly lane: string; readonly n: number }) => Effect.Effect<unknown>) =>
  Job.handler(step, ({ lane, millis, n }) =>
    told({ lane, n }).pipe(
      // Real time, as above.
      Effect.andThen(Effect.sleep(millis)),
      Effect.as(n)
    )
  )
