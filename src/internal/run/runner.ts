/**
 * Runs a processor's code over the events of one partition until the partition is stopped or halts. Four shapes share
 * one bookkeeping (`Partition`) and one way to fail: one event at a time (the fast path: no fiber, no allocation beyond
 * the handler's own), lanes (several at once, by key or without order), batches, and free-form streams.
 */
import { type Context, type Effect, Stream } from "effect"
import type { Quarantine } from "../../Coordinator.ts"
import type { ProcessorHalted } from "../../Errors.ts"
import type { Definition } from "./definition.ts"
import { unitRunner } from "./lane.ts"
import { lanes } from "./lanes.ts"
import type { Observer } from "./observer.ts"
import type { Partition } from "./partition.ts"
import { beforehand, sequential } from "./sequential.ts"
import { emitted, streamed } from "./streamed.ts"
import type { Host } from "./unit.ts"

/** Counted per processor, for the worker's summary. */
export interface Counts {
  processed: number
  failed: number
  retried: number
  ignored: number
  deadLettered: number
  quarantined: number
}

export interface Setup {
  readonly definition: Definition
  readonly partition: Partition
  readonly host: Host
  /** The services of the handler. */
  readonly context: Context.Context<never>
  readonly counts: Counts
  /** Completes when everything done so far is committed. */
  readonly flush: Effect.Effect<void>
  /** Counts failed events by what became of them and by the tag of their error. */
  readonly count: (outcome: string, tag: string, events: number) => void
  /** Everything before the failed unit is done: stop, and have the partition put aside for the whole cluster. */
  readonly quarantine: (entry: Quarantine) => void
  readonly observer: Observer | undefined
}

/** What a runner ends with, if it does not end because its partition was stopped. */
export type Halted = ProcessorHalted<unknown>

export const run = (setup: Setup): Effect.Effect<void, Halted> => {
  const { concurrency, middleware, shape } = setup.definition
  switch (shape._tag) {
    case "Each":
      if (concurrency._tag !== "One") return lanes(setup, shape.handler)
      if (shape.acknowledge === "before") return beforehand(setup, shape.handler)
      return middleware.length === 0
        ? sequential(setup, shape.handler)
        : streamed(setup, (events) =>
            Stream.runForEach(
              events,
              unitRunner(setup, ([event]) => shape.handler(event!.value, event!))
            )
          )
    case "Batch": {
      const handle = unitRunner(
        setup,
        (events) =>
          shape.handler(
            events.map((event) => event.value),
            events
          ),
        shape.onFailure === "split"
      )
      return streamed(setup, (events) =>
        events.pipe(Stream.groupedWithin(shape.size, shape.within), Stream.runForEach(handle))
      )
    }
    case "Stream":
      return streamed(setup, (events) => emitted(setup, shape.pipeline(events as never), shape.acknowledge))
  }
}
