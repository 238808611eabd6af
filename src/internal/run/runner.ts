/**
 * Runs a processor's code over the events of one partition until the partition is stopped or halts. Four shapes share
 * one bookkeeping (`Partition`) and one way to fail: one event at a time (the fast path: no fiber, no allocation beyond
 * the handler's own), lanes (several at once, by key or without order), batches, and free-form streams.
 */
import { type Context, Effect, Semaphore, Stream } from "effect"
import type { Quarantine } from "../../Coordinator.ts"
import type { ProcessorHalted } from "../../Errors.ts"
import type { Received } from "../record/received.ts"
import { instrumented } from "../telemetry/handling.ts"
import type { ProcessorMeter } from "../telemetry/processorMeter.ts"
import * as Closing from "./closing.ts"
import type { Definition } from "./definition.ts"
import { next, unitRunner } from "./lane.ts"
import { lanes } from "./lanes.ts"
import * as Letting from "./letting.ts"
import type { Watching } from "./observer.ts"
import type { Waiting } from "./parking.ts"
import type { Partition } from "./partition.ts"
import type { Repeats } from "./repeats.ts"
import type { Returned } from "./returned.ts"
import { returning } from "./returning.ts"
import { beforehand, sequential } from "./sequential.ts"
import { emitted, streamed } from "./streamed.ts"
import type { Host } from "./unit.ts"
import { wrapped } from "./wrapped.ts"

/** Counted per processor, for the worker's summary. */
export interface Counts {
  processed: number
  failed: number
  retried: number
  ignored: number
  deadLettered: number
  parked: number
  quarantined: number
}

export interface Setup extends Watching {
  readonly definition: Definition
  readonly partition: Partition
  readonly host: Host
  /** The services of the handler. */
  readonly context: Context.Context<never>
  readonly counts: Counts
  /** Completes when everything done so far is committed. */
  readonly flush: Effect.Effect<void>
  readonly meter: ProcessorMeter
  /** Counts failed events by what became of them and by the tag of their error. */
  readonly count: (outcome: string, tag: string, events: number) => void
  /** For log lines that may come with every event. */
  readonly repeats: Repeats
  /** Everything before the failed unit is done: stop, and have the partition put aside for the whole cluster. */
  readonly quarantine: (entry: Quarantine) => void
  /** The first event of a lane, as the engine has it; undefined if it has none. */
  readonly retrieve: (waiting: Waiting) => Effect.Effect<Returned | undefined>
  /** What we know of the partition and what the engine has differ: have it granted anew. */
  readonly restart: () => void
  /** Tells the engine that an event is handed out (see `Broker.mark`). */
  readonly mark: Effect.Effect<void>
  /** Milliseconds since 1970. */
  readonly now: () => number
  /** Where a table has windows. */
  readonly closings?: Closing.Closings | undefined
  /** Where a join holds events. */
  readonly letting?: Letting.Letting | undefined
}

/** What a runner ends with, if it does not end because its partition was stopped. */
export type Halted = ProcessorHalted<unknown>

export const run = (given: Setup, tick: Effect.Effect<never>): Effect.Effect<void, Halted> => {
  const { windows } = given.partition
  if (windows === undefined) return shaped(given)
  const letting = windows.holds.length > 0 ? Letting.make(given, windows) : undefined
  const closings = windows.tables.length > 0 ? Closing.make(given, windows) : undefined
  const beside = closings === undefined ? tick : Effect.raceFirst(closings.halted, tick)
  return Effect.andThen(windows.begin, Effect.raceFirst(shaped({ ...given, closings, letting }), beside))
}

const shaped = (setup: Setup): Effect.Effect<void, Halted> => {
  const { concurrency, middleware } = setup.definition
  const shape = instrumented(setup)
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
      const handler = (events: ReadonlyArray<Received<unknown>>) => {
        const [{ failure } = { failure: undefined }] = events
        if (failure !== undefined) return Effect.fail(failure)
        return shape.handler(
          events.map((event) => event.value),
          events
        )
      }
      const turn = Semaphore.makeUnsafe(1)
      const handle = unitRunner(setup, handler, shape.onFailure === "split", turn)
      const batches = streamed(setup, (events) =>
        events.pipe(Stream.groupedWithin(shape.size, shape.within), Stream.runForEach(handle))
      )
      const back = returning(setup, wrapped(setup, handler), { most: 1, turn })
      return Effect.all([Effect.andThen(oneByOne(setup, handle), batches), back], { concurrency: 2, discard: true })
    }
    case "Stream":
      return streamed(setup, (events) => emitted(setup, shape.pipeline(events as never), shape.acknowledge))
  }
}

/** What goes out alone waits for no batch. */
const oneByOne = (
  setup: Setup,
  handle: (events: ReadonlyArray<Received<unknown>>) => Effect.Effect<void, Halted>
): Effect.Effect<void, Halted> =>
  Effect.suspend(() => {
    const { partition } = setup
    if (partition.caution === undefined) return Effect.void
    return Effect.flatMap(next(setup), (events) => {
      if (events === undefined) return Effect.void
      partition.register(events)
      return Effect.flatMap(handle(events), () => oneByOne(setup, handle))
    })
  })
