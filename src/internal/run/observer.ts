/** Told what a worker does, step by step, off the hot path: the testing kit listens here. */
import { type Cause, Context } from "effect"
import type { Event } from "../../Event.ts"
import type { Settlement } from "../../Policy.ts"

export interface Observer {
  /** A policy settled an event. */
  readonly settled: (
    processor: string,
    event: Event<unknown>,
    settlement: Settlement,
    cause: Cause.Cause<unknown>
  ) => void
}

/** Nobody listens, unless somebody is put here. */
export const CurrentObserver = Context.Reference<Observer | undefined>("millrace/internal/Observer", {
  defaultValue: () => undefined
})
