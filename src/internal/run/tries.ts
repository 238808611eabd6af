/**
 * What was tried for one event after its failures. Each `Processor.retry` around the handler counts for itself, and one
 * that stands outside starts those inside it afresh. Made at the first failure: an event that goes well has none.
 */
import { Cause, Clock, Duration, Effect, Pull, Schedule } from "effect"
import type { Quarantine } from "../../Coordinator.ts"
import type { Event } from "../../Event.ts"
import type { Retry } from "./definition.ts"

interface State {
  count: number
  step: Step | undefined
}

type Step = (now: number, input: unknown) => Pull.Pull<[unknown, Duration.Duration], never, unknown>

export class Tries {
  /** The last event of the unit. */
  readonly event: Event<unknown>
  /** Decided inside the handler's own effect, where a middleware may stand around it. */
  verdict: "stopped" | Quarantine | undefined
  /** A policy inside a middleware has settled it: for what stands around it went well. */
  settled = false
  private readonly states = new Map<number, State>()
  constructor(event: Event<unknown>) {
    this.event = event
  }

  /** Milliseconds until the next try; undefined if this retry does not take the failure, or has run out. */
  next(retry: Retry, at: number, cause: Cause.Cause<unknown>): Effect.Effect<number | undefined> {
    return Effect.suspend(() => {
      const found = Cause.findErrorOption(cause)
      if (found._tag === "None" || retry.while?.(found.value) === false) return Effect.succeed(undefined)
      const state = this.states.get(at) ?? { count: 0, step: undefined }
      if (state.count >= (retry.times ?? Infinity)) return Effect.succeed(undefined)
      this.states.set(at, state)
      return Effect.map(delayOf(retry, state, found.value), (delay) => {
        if (delay === undefined) return undefined
        state.count++
        for (const inner of this.states.keys()) if (inner < at) this.states.delete(inner)
        return delay
      })
    })
  }
}

const delayOf = (retry: Retry, state: State, error: unknown): Effect.Effect<number | undefined> => {
  if (retry.schedule === undefined) return Effect.succeed(0)
  const stepped =
    state.step === undefined
      ? Effect.map(Schedule.toStep(retry.schedule), (step) => (state.step = step as Step))
      : Effect.succeed(state.step)
  return Effect.flatMap(stepped, (step) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      Effect.map(step(now, error), ([, delay]): number | undefined => Duration.toMillis(delay)).pipe(
        Pull.catchDone(() => Effect.succeed<number | undefined>(undefined))
      )
    )
  )
}
