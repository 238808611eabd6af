/** How long to wait before asking an engine again: twice as long each time, up to a most, never all at the same moment. */
import { type Duration, Effect, Schedule } from "effect"
import type { EngineError } from "../Errors.ts"

export const backoff = (first: Duration.Input, most: Duration.Input) =>
  Schedule.min([Schedule.exponential(first), Schedule.spaced(most)]).pipe(Schedule.jittered)

/** For a worker: soon, since the engine is mostly away for a moment. */
export const soon = backoff("20 millis", "1 second")

/** For callers outside of a worker: what cannot reach the engine fails after so long. */
export const forAWhile = backoff("50 millis", "1 second").pipe(Schedule.upTo({ duration: "30 seconds" }))

const patient = backoff("50 millis", "2 seconds")

/** For the owner of a partition: waits while the engine is away. What the engine cannot do at all is a defect. */
export const untilAnswered = <A>(read: Effect.Effect<A, EngineError>): Effect.Effect<A> =>
  Effect.orDie(Effect.retry(read, { schedule: patient, while: (error) => error.reason !== "Unsupported" }))

/**
 * What stands around a call that fails, such as retries, made only then: nearly every call is answered at once. `around` is
 * given the call as if it had not run yet: it fails with what it failed with, and runs from the second time on.
 */
export const whenFailed = <A, E, R, E2>(
  call: Effect.Effect<A, E, R>,
  around: (call: Effect.Effect<A, E, R>) => Effect.Effect<A, E2, R>
): Effect.Effect<A, E2, R> =>
  Effect.catch(call, (error) => {
    let again = false
    return around(
      Effect.suspend(() => {
        if (again) return call
        again = true
        return Effect.fail(error)
      })
    )
  })

/** For publishers, readers without a group, and the start of a worker: a server that is away for a moment is asked again. */
export const patiently = <A, E extends { readonly _tag: string }, R>(
  call: Effect.Effect<A, E | EngineError, R>
): Effect.Effect<A, E | EngineError, R> =>
  whenFailed(call, (call) =>
    Effect.retry(call, {
      schedule: forAWhile,
      while: (error) => error._tag === "EngineError" && (error as EngineError).reason === "Unreachable"
    })
  )
