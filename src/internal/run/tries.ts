/**
 * What was tried for one event after its failures. Each `Processor.retry` around the handler counts for itself, and one
 * that stands outside starts those inside it afresh. Made at the first failure: an event that goes well has none.
 */
import { Cause, Clock, Duration, Effect, Pull, Schedule } from "effect"
import type { Quarantine } from "../../Coordinator.ts"
import type { Event } from "../../Event.ts"
import type { Received } from "../record/received.ts"
import type { Retry } from "./definition.ts"
import type { Parked } from "./parking.ts"

/** The same bytes decode no better a second time. */
export const mayRetry = (events: ReadonlyArray<Received<unknown>>): boolean =>
  events.every((event) => event.failure === undefined)

interface State {
  count: number
  step: Step | undefined
}

type Step = (now: number, input: unknown) => Pull.Pull<[unknown, Duration.Duration], never, unknown>

/** Where schedules stand, by the place of their policy among the wraps. */
export type Steps = Map<number, Step>

export class Tries {
  /** The last event of the unit. */
  readonly event: Event<unknown>
  /** Decided inside the handler's own effect, where a middleware may stand around it. */
  verdict: "stopped" | Parked | Quarantine | undefined
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
      ? Effect.map(stepsOf(retry.schedule), (step) => (state.step = step))
      : Effect.succeed(state.step)
  return Effect.flatMap(stepped, (step) => Effect.flatMap(Clock.currentTimeMillis, (now) => advance(step, now, error)))
}

const stepsOf = (schedule: Schedule.Schedule<unknown, unknown, never, any>): Effect.Effect<Step> =>
  Effect.map(Schedule.toStep(schedule), (step) => step as Step) as Effect.Effect<Step>

/** Milliseconds; undefined: it has run out. */
const advance = (step: Step, now: number, error: unknown): Effect.Effect<number | undefined> =>
  Effect.map(step(now, error), ([, delay]): number | undefined => Duration.toMillis(delay)).pipe(
    Pull.catchDone(() => Effect.succeed<number | undefined>(undefined))
  ) as Effect.Effect<number | undefined>

/**
 * Milliseconds that an event waits aside after its latest failure; undefined: the schedule has run out. Whoever takes over
 * drives the schedule to where it stood: through as many rounds, from the first failure on.
 */
export const delayAside = (
  steps: Steps,
  at: number,
  schedule: Schedule.Schedule<unknown, unknown, never, any>,
  before: { readonly rounds: number; readonly since: number },
  error: unknown
): Effect.Effect<number | undefined> =>
  Effect.gen(function* () {
    let step = steps.get(at)
    if (step === undefined) {
      step = yield* stepsOf(schedule)
      let time = before.since
      for (let round = 0; round < before.rounds; round++) {
        const delay = yield* advance(step, time, error)
        if (delay === undefined) return undefined
        time += delay
      }
      steps.set(at, step)
    }
    return yield* advance(step, yield* Clock.currentTimeMillis, error)
  })
