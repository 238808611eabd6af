/**
 * Hooks on what workers and publishers do, for monitors of your own: each is called once per step, when it begins, and
 * what it returns is called when the step ends, so the state of the begin is whatever that function closes over.
 *
 * ```ts
 * const slow = Sensor.layer({
 *   commit: ({ processor, partitions }) => {
 *     const began = performance.now()
 *     return (exit) => report(processor, partitions.length, performance.now() - began, exit)
 *   }
 * })
 * ```
 *
 * Hooks are plain functions that must not wait. One that throws is logged, once a minute, and harms nothing. A step
 * without a hook costs nothing; `handle` is the only one that is called for each event.
 */
import { Effect, type Exit, Layer } from "effect"
import type { Event } from "./Event.ts"
import { CurrentHooks } from "./internal/telemetry/sensing.ts"

/** Called when a step begins; what it returns is called with how the step ended. */
export type Hook<Begin, Value = unknown> = (begin: Begin) => ((exit: Exit.Exit<Value, unknown>) => void) | void

/** Events go into a handler, and come out of it: one, or those of a batch; again with each attempt. */
export interface Handled {
  readonly processor: string
  readonly partition: number
  readonly events: ReadonlyArray<Event<unknown>>
}

/** One call to the engine that commits what some partitions of a processor have done. */
export interface Committed {
  readonly processor: string
  readonly partitions: ReadonlyArray<number>
  /** Rows of tables that are written or removed. */
  readonly rows: number
  /** Events that are emitted, dead letters included. */
  readonly emitted: number
  readonly jobs: number
}

/** One call to the engine that stores what was published to a topic. */
export interface Published {
  readonly topic: string
  readonly partitions: ReadonlyArray<number>
  readonly events: number
}

/** Rows that a handler asked for and that are not in memory are read from the engine. */
export interface TableRead {
  readonly processor: string
  readonly table: string
  readonly partition: number
  /** Empty for the first look at a table, which reads a page of it. */
  readonly keys: ReadonlyArray<string>
}

/** A partition that was granted is claimed and begins to run, or one that is wanted elsewhere is let go. */
export interface Rebalanced {
  readonly change: "claimed" | "released"
  readonly processor: string
  readonly partition: number
}

/** One run of a job. */
export interface JobRun {
  readonly queue: string
  readonly job: string
  readonly id: string
  readonly attempt: number
}

/** A request to an agent that waits for its reply. */
export interface Asked {
  readonly agent: string
  readonly partition: number
}

/** A request to the web server that a worker or `Web.layer` serves. */
export interface WebRequest {
  readonly method: string
  /** As it was asked for, without its query: it may hold names and keys. */
  readonly path: string
}

/** What such a request was answered, refusals included; one whose client left before that ends with an interruption. */
export interface WebAnswer {
  readonly status: number
  /** As it was declared (`/api/topics/:name`); undefined where there is none, or the guard refused before it was looked for. */
  readonly route: string | undefined
  /** Until the answer began: a stream of events goes on after it. */
  readonly millis: number
}

export interface Hooks {
  readonly handle?: Hook<Handled> | undefined
  readonly commit?: Hook<Committed> | undefined
  readonly publish?: Hook<Published> | undefined
  readonly table?: Hook<TableRead> | undefined
  readonly rebalance?: Hook<Rebalanced> | undefined
  readonly job?: Hook<JobRun> | undefined
  readonly request?: Hook<Asked> | undefined
  readonly web?: Hook<WebRequest, WebAnswer> | undefined
}

/**
 * For the workers and publishers of the programs that this layer is given to; several such layers are all called. Those
 * of publishing are the ones of whoever publishes to a topic of an engine first.
 */
export const layer = (hooks: Hooks): Layer.Layer<never> =>
  Layer.effect(
    CurrentHooks,
    Effect.map(CurrentHooks, (outer) => [...outer, hooks])
  )
