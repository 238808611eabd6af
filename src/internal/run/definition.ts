/** What a processor is, whatever its types: made by `Processor`, run by the worker. */
import type { Cause, Duration, Effect, Layer, Schedule, Scope, Stream } from "effect"
import type { Start } from "../../Broker.ts"
import type { Event } from "../../Event.ts"
import type { DeadTarget, Settlement } from "../../Policy.ts"
import type * as Table from "../../Table.ts"
import type { Any } from "../../Topic.ts"
import type { Contract } from "../agent/contract.ts"
import type { Holding } from "../join/held.ts"
import { invalid } from "../names.ts"
import type { CacheBounds } from "./cache.ts"
import type { Emitted, Host } from "./unit.ts"

// The worker gives handlers what they need before they run, so below this line they need nothing.
type Handled = Effect.Effect<unknown, unknown>
type Events = Stream.Stream<Event<unknown>, unknown>

export type Shape =
  | {
      readonly _tag: "Each"
      readonly acknowledge: "after" | "before"
      readonly handler: (value: any, event: any) => Handled
    }
  | {
      readonly _tag: "Batch"
      readonly size: number
      readonly within: Duration.Duration
      /** After the failure of a batch of several: settle it as one, or try each of its events alone. */
      readonly onFailure: "whole" | "split"
      readonly handler: (values: any, events: any) => Handled
    }
  | {
      readonly _tag: "Stream"
      readonly acknowledge: "emitted" | "upTo"
      readonly pipeline: (
        events: Stream.Stream<Event<any>>
      ) => Stream.Stream<Event<unknown> | ReadonlyArray<Event<unknown>>, unknown>
    }

/** Try again in place, as long as the schedule, the count and the predicate allow. */
export interface Retry {
  readonly _tag: "Retry"
  readonly schedule: Schedule.Schedule<unknown, unknown> | undefined
  readonly times: number | undefined
  readonly while: ((error: unknown) => boolean) | undefined
}

/** The failure of a request that somebody waits for: they are told, and it is acknowledged. */
export interface Answer {
  readonly _tag: "Answer"
  /** The agent's contract names the error. */
  readonly declared: boolean
  readonly reply: (host: Host) => Emitted
}

/** What stands around a handler, innermost first. */
export type Wrap =
  | Retry
  | {
      readonly _tag: "Catch"
      /** The settlement, if this policy takes the failure. */
      readonly settle: (cause: Cause.Cause<unknown>, event: Event<unknown>) => Settlement | Answer | undefined
      /** It makes events wait aside, as far as that is known before one fails. */
      readonly parks: boolean
      /** Where it may send dead letters. */
      readonly deadTopics: ReadonlyArray<DeadTarget>
    }
  | {
      readonly _tag: "Around"
      readonly f: (
        handle: Effect.Effect<void, unknown>,
        events: readonly [Event<unknown>, ...ReadonlyArray<Event<unknown>>]
      ) => Effect.Effect<void, unknown>
    }

/** What every part has, whatever it is. */
export interface Common {
  readonly name: string
  /** Layers of its own (`Part.provide`), innermost first. */
  readonly layers: ReadonlyArray<Layer.Layer<any, never, any>>
}

export interface Definition extends Common {
  readonly topics: readonly [Any, ...ReadonlyArray<Any>]
  readonly tables: ReadonlyArray<Table.Declared>
  readonly shape: Shape
  readonly concurrency: { readonly _tag: "One" } | { readonly _tag: "PerKey" | "Unordered"; readonly lanes: number }
  readonly maxUncommitted: number | undefined
  readonly prefetch: { readonly events: number | undefined; readonly bytes: number | undefined }
  /** Rows of its tables that a partition keeps in memory. */
  readonly cache: CacheBounds
  readonly startFrom: Start
  readonly slowAfter: Duration.Duration | undefined
  readonly onLost: "halt" | "resume"
  readonly onClaim: ((partition: number) => Effect.Effect<void, never, Scope.Scope>) | undefined
  readonly wraps: ReadonlyArray<Wrap>
  readonly middleware: ReadonlyArray<(events: Events) => Events>
  /** The contract that it answers for, if it is an agent's handler. */
  readonly agent?: Contract | undefined
  /** Of an agent: the same shape, which tells each reply before it is staged. For the testing kit. */
  readonly heard?: ((tell: (request: Event<unknown>, reply: unknown) => void) => Shape) | undefined
}

/** Whether a part is a processor. */
export const isProcessing = <P extends { readonly definition: Common }>(
  part: P
): part is P & { readonly definition: Definition } => "topics" in part.definition

/** Refuse windows where they cannot be closed, or where an event's time is not known. */
export const checkWindows = (definition: Definition): Definition => {
  const isWindowed = definition.tables.some((table) => table.definition.windowed !== undefined)
  const reason = isWindowed ? cannotWindow(definition) : undefined
  if (definition.concurrency._tag === "Unordered" && holdings(definition).length > 0) {
    throw invalid(`processor ${definition.name}: a join of topics keeps the order of each key: leave out unordered`)
  }
  if (reason === undefined) return definition
  throw invalid(`processor ${definition.name}: a table with windows: ${reason}`)
}

const cannotWindow = ({
  concurrency,
  middleware,
  shape
}: Pick<Definition, "concurrency" | "middleware" | "shape">): string | undefined => {
  if (shape._tag === "Batch") return "a batch has no event time of its own: use Processor.make"
  if (shape._tag === "Stream") return "windows close between events, and a pipeline may hold some: use Processor.make"
  if (middleware.length > 0) return "windows close between events, and middleware may hold some: use Processor.around"
  return concurrency._tag === "Unordered" ? "without an order nothing is written: leave out unordered" : undefined
}

const holdings = ({ tables }: Pick<Definition, "tables">): ReadonlyArray<Holding> =>
  tables.flatMap(({ definition: { holding } }) => holding ?? [])

/** Why no event can wait aside in such a processor, and what to do; undefined: it can. */
export const cannotPark = (definition: Pick<Definition, "middleware" | "shape" | "tables">): string | undefined => {
  const { middleware, shape } = definition
  if (holdings(definition).some(({ kind }) => kind !== "inner")) {
    return "what a join tells of when its time is over was read long ago, and has no place to wait: use another policy"
  }
  if (shape._tag === "Stream") {
    return "an event that comes back has no place in the middle of a pipeline: use Processor.make or Processor.batch"
  }
  if (shape._tag === "Each" && shape.acknowledge === "before") {
    return 'with acknowledge "before" no event is handled twice: leave it out, or use another policy'
  }
  return middleware.length > 0
    ? "an event that comes back does not pass Processor.middleware again: use Processor.around"
    : undefined
}
