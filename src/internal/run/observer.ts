/** Told what a worker does, step by step, off the hot path: the testing kit listens here. */
import { type Cause, Context } from "effect"
import type { Event } from "../../Event.ts"
import type { Settlement } from "../../Policy.ts"
import { type Sense, senseOf } from "../telemetry/sensing.ts"
import { type Tracing, tracingOf } from "../telemetry/tracing.ts"

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

/** Who watches what handlers do, each undefined if nobody asked for it. */
export interface Watching {
  readonly observer: Observer | undefined
  readonly sensing: Sense<"handle">
  readonly tracing: Tracing | undefined
}

export const watchingOf = (context: Context.Context<never>): Watching => ({
  observer: Context.get(context, CurrentObserver),
  sensing: senseOf(context, "handle"),
  tracing: tracingOf(context)
})
