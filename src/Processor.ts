/**
 * Named code over the events of a topic. The name is the consumer group: every processor sees every event, and each
 * partition has one owner in the whole cluster. What a handler stages (table writes, `Topic.emit`) is committed with the
 * event's offset, or not at all.
 *
 * Policies nest like Effect operators: what comes first in the pipe is closest to the handler. What no policy takes
 * halts the worker, typed.
 */
import { Cause, DateTime, Duration, type Effect, type Schedule, type Scope, type Stream } from "effect"
import { dual } from "effect/Function"
import { pipeArguments } from "effect/Pipeable"
import type { NoInfer, Tags } from "effect/Types"
import { Broker, type Lag, type Start } from "./Broker.ts"
import { Coordinator } from "./Coordinator.ts"
import type { DecodeError, EncodeError, EngineError, EventsLost, Misconfigured } from "./Errors.ts"
import type { Event, Excess, UnitOfWork } from "./Event.ts"
import { deadTopicsOf } from "./internal/dead/topic.ts"
import { parseOffset } from "./internal/entryId.ts"
import { shaped } from "./internal/join/shaped.ts"
import { readTogether } from "./internal/join/sources.ts"
import { compile } from "./internal/join/values.ts"
import { checkCount, checkName, invalid } from "./internal/names.ts"
import * as Operations from "./internal/operations.ts"
import type { Parked, ParkedLane } from "./internal/parked.ts"
import * as Aside from "./internal/parked.ts"
import * as Release from "./internal/release.ts"
import { standardBounds } from "./internal/run/cache.ts"
import { cannotPark, checkWindows, type Definition, type Shape, type Wrap } from "./internal/run/definition.ts"
import * as Skip from "./internal/skip.ts"
import { bind } from "./internal/table/homes.ts"
import type { Part } from "./Part.ts"
import type { Policy } from "./Policy.ts"
import type * as Table from "./Table.ts"
import * as Topic from "./Topic.ts"

type NonEmpty<A> = readonly [A, ...ReadonlyArray<A>]
type TagOf<K> = K extends ReadonlyArray<infer T> ? T : K

export interface Processor<out E, out R> extends Part<E, R> {
  readonly "~millrace/Processor": string
  /** @internal */
  readonly definition: Definition
}

/** Left out: one event at a time per partition. `perKey`: parallel across keys. `unordered`: no order, no table writes. */
export type Concurrency = { readonly perKey: number } | { readonly unordered: number }

export type { Lag, Parked, ParkedLane }

/** A partition that is put aside for the whole cluster until it is released or skipped. */
export interface Quarantined {
  readonly processor: string
  readonly partition: number
  /** The first event of the unit of work that failed. */
  readonly offset: string
  /** `"crash loop"`: its owners died at this offset, again and again. */
  readonly reason: "failure" | "crash loop"
  readonly error: string
  /** On the engine's clock. */
  readonly since: DateTime.Utc
  /** The worker that put it aside. */
  readonly member: string
  /** The whole unit: its first and last event in each topic. `skip` passes all of it. */
  readonly positions: ReadonlyArray<{ readonly topic: string; readonly first: string; readonly last: string }>
}

export interface Settings<Tables> {
  /** The tables that the handler reads and writes; each belongs to one processor. */
  readonly tables?: Tables | undefined
  /** Events of a partition that may be done or in hand without being committed; default 10,000. */
  readonly maxUncommitted?: number | undefined
  /** What is read ahead per partition; default 256 events and 1 MiB. */
  readonly prefetch?: { readonly events?: number | undefined; readonly bytes?: number | undefined } | undefined
  /** Rows of its tables that are kept in memory, per partition; default 10,000 rows and 16 MiB as stored. */
  readonly cache?: { readonly rows?: number | undefined; readonly bytes?: number | undefined } | undefined
  /** Where a new processor begins; counts only the first time. Default `"earliest"`. */
  readonly startFrom?: Topic.From | undefined
  /** An event in hand for longer is reported, and not interrupted; default 5 minutes. */
  readonly slowAfter?: Duration.Input | undefined
  /** Unread events were trimmed, or the server went back: halt (default), or go on with what there is, reported. */
  readonly onLost?: "halt" | "resume" | undefined
  /** Runs when a partition is claimed; its scope closes before the partition is given away. */
  readonly onClaim?: ((partition: number) => Effect.Effect<void, never, Scope.Scope>) | undefined
}

export interface Options<T, Tables, C> extends Settings<Tables> {
  readonly topic: T
  readonly concurrency?: C | undefined
  /** `"before"`: at most once; the offset is committed before the handler starts. */
  readonly acknowledge?: "after" | "before" | undefined
}

export interface BatchOptions<T, Tables> extends Settings<Tables> {
  readonly topic: T
  readonly size: number
  readonly within: Duration.Input
  /**
   * What a failure of several events together does. `"whole"` (default): retries and policies meet the batch as one.
   * `"split"`: its events are tried again one by one, each a unit of work of its own with retries and policies of its own.
   */
  readonly onFailure?: "whole" | "split" | undefined
}

export interface StreamOptions<T, Tables> extends Settings<Tables> {
  readonly topic: T
  /** `"upTo"`: an emitted event settles all before it. */
  readonly acknowledge?: "emitted" | "upTo" | undefined
}

type Names<Tables> = Tables extends ReadonlyArray<{ readonly name: infer N extends string }> ? N : never

// One requirement for each name: a requirement for several names at once is met by nobody.
type ReadsOf<Name extends string> = Name extends string ? Table.Reads<Name> : never
type WritesOf<Name extends string> = Name extends string ? Table.Writes<Name> : never

/** What the processor itself gives its handler. */
export type Supplied<Tables, C = never> =
  | UnitOfWork
  | Scope.Scope
  | ReadsOf<Names<Tables>>
  | ([Extract<C, { readonly unordered: number }>] extends [never] ? WritesOf<Names<Tables>> : never)

export type Needs<R, Tables, C = never> =
  | Exclude<R, Supplied<Tables, C>>
  | Exclude<Table.ClosingServices<Tables>, Supplied<Tables>>

const Proto = {
  "~millrace/Part": { _E: (_: never) => _, _R: (_: never) => _ },
  "~millrace/Processor": "Processor",
  with(this: { readonly definition: Definition }, changes: Partial<Definition>) {
    return fromDefinition({ ...this.definition, ...changes })
  },
  pipe() {
    return pipeArguments(this, arguments)
  }
}

const fromDefinition = (definition: Definition): Processor<any, never> =>
  Object.assign(Object.create(Proto), { name: definition.name, definition: checkWindows(definition) })

const define = (
  name: string,
  input: Topic.Input,
  settings: Settings<ReadonlyArray<Table.Declared>>,
  shape: Shape,
  concurrency: Definition["concurrency"] = { _tag: "One" }
): Processor<any, never> => {
  checkName("processor", name)
  const at = `processor ${name}`
  const sources = (Array.isArray(input) ? input : [input]) as NonEmpty<Topic.Source<any>>
  if (sources.length === 0) throw invalid(`${at}: give it a topic`)
  const topics = readTogether(at, sources)
  const joined = compile(name, sources, settings.tables ?? [])
  const tables = [...(settings.tables ?? []), ...(joined?.tables ?? [])]
  if (new Set(tables.map((table) => table.name)).size < tables.length) throw invalid(`${at}: a table is named twice`)
  for (const table of tables) bind(table, name, topics[0])
  const { cache, onLost, prefetch } = settings
  if (onLost !== undefined && onLost !== "halt" && onLost !== "resume")
    throw invalid(`${at}: onLost is "halt" or "resume"`)
  const count = (option: string, value: number | undefined): number | undefined =>
    value === undefined ? undefined : checkCount(`${at}: ${option}`, value)
  return fromDefinition({
    name,
    topics,
    tables,
    shape: joined === undefined ? shape : shaped(shape, joined.values),
    concurrency,
    maxUncommitted: count("maxUncommitted", settings.maxUncommitted),
    prefetch: { events: count("prefetch.events", prefetch?.events), bytes: count("prefetch.bytes", prefetch?.bytes) },
    cache: {
      rows: count("cache.rows", cache?.rows) ?? standardBounds.rows,
      bytes: count("cache.bytes", cache?.bytes) ?? standardBounds.bytes
    },
    startFrom: startOf(at, settings.startFrom ?? "earliest"),
    slowAfter: settings.slowAfter === undefined ? undefined : positive(`${at}: slowAfter`, settings.slowAfter),
    onLost: onLost ?? "halt",
    onClaim: settings.onClaim,
    wraps: [],
    middleware: [],
    layers: []
  })
}

const positive = (option: string, input: Duration.Input): Duration.Duration => {
  const duration = Duration.fromInputUnsafe(input)
  if (Duration.toMillis(duration) <= 0) throw invalid(`${option} must be longer than nothing`)
  return duration
}

const startOf = (at: string, from: Topic.From): Start => {
  if (from === "earliest" || from === "latest") return from
  if (typeof from === "object" && "time" in from) return { time: DateTime.toEpochMillis(from.time) }
  if (typeof from === "object" && parseOffset(from.offset) !== undefined) return from
  throw invalid(
    `${at}: ${JSON.stringify(from)} is no start: use "earliest", "latest", { time } or { offset: "<millis>-<seq>.<index>" }`
  )
}

/** One event at a time. */
export const make = <
  const T extends Topic.Input,
  E,
  R,
  const Tables extends ReadonlyArray<Table.Declared> = readonly [],
  const C extends Concurrency = { readonly perKey: 1 }
>(
  name: string,
  options: Options<T, Tables, C>,
  handler: (value: Topic.Value<T>, event: Event<Topic.Value<T>>) => Effect.Effect<unknown, E, R>
): Processor<Exclude<E | Table.ClosingError<Tables>, EngineError> | DecodeError | Excess<R>, Needs<R, Tables, C>> => {
  const { acknowledge = "after", concurrency } = options
  if (acknowledge !== "after" && acknowledge !== "before") {
    throw invalid(`processor ${name}: acknowledge is "after" or "before", not ${JSON.stringify(acknowledge)}`)
  }
  if (acknowledge === "before" && concurrency !== undefined) {
    throw invalid(`processor ${name}: acknowledge "before" goes with one event at a time; leave out concurrency`)
  }
  return define(
    name,
    options.topic,
    options,
    { _tag: "Each", acknowledge, handler: handler as never },
    concurrencyOf(name, concurrency)
  )
}

const concurrencyOf = (name: string, concurrency: Concurrency | undefined): Definition["concurrency"] => {
  if (concurrency === undefined) return { _tag: "One" }
  if ("perKey" in concurrency) {
    const lanes = checkCount(`processor ${name}: concurrency.perKey`, concurrency.perKey, 1, 10_000)
    return lanes === 1 ? { _tag: "One" } : { _tag: "PerKey", lanes }
  }
  return {
    _tag: "Unordered",
    lanes: checkCount(`processor ${name}: concurrency.unordered`, concurrency.unordered, 1, 10_000)
  }
}

/** Up to `size` events, or what came `within` the time of the first; the batch is one unit of work, of one partition. */
export const batch = <
  const T extends Topic.Input,
  E,
  R,
  const Tables extends ReadonlyArray<Table.Declared> = readonly []
>(
  name: string,
  options: BatchOptions<T, Tables>,
  handler: (values: NonEmpty<Topic.Value<T>>, events: NonEmpty<Event<Topic.Value<T>>>) => Effect.Effect<unknown, E, R>
): Processor<Exclude<E | Table.ClosingError<Tables>, EngineError> | DecodeError | Excess<R>, Needs<R, Tables>> => {
  const { onFailure = "whole" } = options
  if (onFailure !== "whole" && onFailure !== "split") {
    throw invalid(`processor ${name}: onFailure is "whole" or "split", not ${JSON.stringify(onFailure)}`)
  }
  return define(name, options.topic, options, {
    _tag: "Batch",
    onFailure,
    size: checkCount(`processor ${name}: size`, options.size),
    within: positive(`processor ${name}: within`, options.within),
    handler: handler as never
  })
}

/**
 * Any stream operators, per partition; what is emitted (alone or in an array) is done. Table writes and emits stand
 * inside `Event.mapEffect` or `Event.mapBatch`, where policies see their failures; a failure elsewhere halts.
 */
export const stream = <
  const T extends Topic.Input,
  E,
  R,
  const Tables extends ReadonlyArray<Table.Declared> = readonly []
>(
  name: string,
  options: StreamOptions<T, Tables>,
  pipeline: (
    events: Stream.Stream<Event<Topic.Value<T>>>
  ) => Stream.Stream<Event<unknown> | ReadonlyArray<Event<unknown>>, E, R>
): Processor<Exclude<E, EngineError> | DecodeError, Exclude<R, Exclude<Supplied<Tables>, UnitOfWork>>> => {
  const { acknowledge = "emitted" } = options
  if (acknowledge !== "emitted" && acknowledge !== "upTo") {
    throw invalid(`processor ${name}: acknowledge is "emitted" or "upTo", not ${JSON.stringify(acknowledge)}`)
  }
  return define(name, options.topic, options, { _tag: "Stream", acknowledge, pipeline: pipeline as never })
}

/** Copy a topic into another one with its own key or partition count, exactly once: group by. */
export const repartition = <A, K, K2>(
  name: string,
  options: { readonly topic: Topic.Source<A, K>; readonly to: Topic.Topic<A, K2> }
): Processor<DecodeError | EncodeError, never> => {
  const { to, topic } = options
  if (topic.name === to.name) throw invalid(`processor ${name}: a topic cannot be repartitioned onto itself`)
  return define(
    name,
    topic,
    {},
    {
      _tag: "Each",
      acknowledge: "after",
      handler: (value: A, event: Event<A>) =>
        // Without a key function of its own the target keeps the key.
        Topic.emit(to, value, {
          headers: event.headers,
          timestamp: event.timestamp,
          ...(to.partitionBy === undefined && event.key !== undefined ? { key: event.key } : {})
        }) as Effect.Effect<void, EncodeError>
    }
  )
}

// ----------------------------------------------------------------------------------------------------------- policies

const wrap = (self: Processor<any, any>, added: Wrap): Processor<any, any> => {
  const wraps = [...self.definition.wraps, added]
  checkParking({ ...self.definition, wraps })
  // A name that is too long for a dead-letter topic is refused here.
  deadTopicsOf({ topics: self.definition.topics, wraps })
  return self.with({ wraps })
}

const checkParking = (definition: Definition): void => {
  const parks = definition.wraps.some((wrap) => wrap._tag === "Catch" && wrap.parks)
  const reason = parks ? cannotPark(definition) : undefined
  if (reason !== undefined) throw invalid(`processor ${definition.name}: Policy.park: ${reason}`)
}

const caught = (
  self: Processor<any, any>,
  { deadTopics, parks }: Policy<any, any>,
  settle: Extract<Wrap, { readonly _tag: "Catch" }>["settle"]
): Processor<any, any> => wrap(self, { _tag: "Catch", deadTopics, parks, settle })

export interface RetryOptions<E, R> {
  /** How long to wait before each try, and for how many tries; it sees the errors. */
  readonly schedule?: Schedule.Schedule<unknown, NoInfer<E>, never, R> | undefined
  /** Tries after the first, at most. */
  readonly times?: number | undefined
  readonly while?: ((error: NoInfer<E>) => boolean) | undefined
}

/**
 * Try again in place, with fresh staged writes; the number of the attempt is on the event. Meanwhile the partition waits,
 * or with `concurrency: { perKey }` the key; it can be given away all the same. `E` stays: it can still run out. Defects
 * and entries that cannot be decoded are not tried again. Give it a schedule, a count, or both.
 */
export const retry: {
  <E, R2 = never>(options: RetryOptions<E, R2>): <R>(self: Processor<E, R>) => Processor<E, R | R2>
  <E, R, R2 = never>(self: Processor<E, R>, options: RetryOptions<E, R2>): Processor<E, R | R2>
} = dual(2, (self: Processor<any, any>, options: RetryOptions<any, any>) => {
  const { schedule, times } = options
  const at = `processor ${self.name}: retry`
  if (schedule === undefined && times === undefined) {
    throw invalid(
      `${at} without a schedule and a count would try for ever without a pause: give it "schedule" or "times"`
    )
  }
  if (times !== undefined) checkCount(`${at}: times`, times, 0)
  // What the schedule needs is in the processor's own requirements.
  return wrap(self, { _tag: "Retry", schedule: schedule as never, times, while: options.while as never })
})

const tagOf = (error: unknown): unknown =>
  typeof error === "object" && error !== null && "_tag" in error ? error._tag : undefined

/** Settle errors of these tags; takes them out of `E`. A tag that cannot occur does not compile. */
export const catchTag: {
  <const K extends Tags<E> | NonEmpty<Tags<E>>, E, R2>(
    tag: K,
    policy: Policy<Extract<NoInfer<E>, { readonly _tag: TagOf<K> }>, R2>
  ): <R>(self: Processor<E, R>) => Processor<Exclude<E, { readonly _tag: TagOf<K> }>, R | R2>
  <E, R, const K extends Tags<E> | NonEmpty<Tags<E>>, R2>(
    self: Processor<E, R>,
    tag: K,
    policy: Policy<Extract<NoInfer<E>, { readonly _tag: TagOf<K> }>, R2>
  ): Processor<Exclude<E, { readonly _tag: TagOf<K> }>, R | R2>
} = dual(3, (self: Processor<any, any>, tag: string | ReadonlyArray<string>, policy: Policy<any, any>) => {
  const tags: ReadonlyArray<unknown> = typeof tag === "string" ? [tag] : tag
  if (policy.parks && tags.includes("DecodeError")) {
    throw invalid(
      `processor ${self.name}: Policy.park: the same bytes decode no better later; give DecodeError another policy`
    )
  }
  return caught(self, policy, (cause, event) => {
    const error = Cause.findErrorOption(cause)
    return error._tag === "Some" && tags.includes(tagOf(error.value)) ? policy.decide(error.value, event) : undefined
  })
})

const catch_: {
  <E, R2>(policy: Policy<NoInfer<E>, R2>): <R>(self: Processor<E, R>) => Processor<never, R | R2>
  <E, R, R2>(self: Processor<E, R>, policy: Policy<NoInfer<E>, R2>): Processor<never, R | R2>
} = dual(2, (self: Processor<any, any>, policy: Policy<any, any>) =>
  caught(self, policy, (cause, event) => {
    const error = Cause.findErrorOption(cause)
    return error._tag === "Some" ? policy.decide(error.value, event) : undefined
  })
)

export {
  /** Settle every error that is left (Effect's name: `catch`, not `catchAll`). Defects still halt. */
  catch_ as catch
}

/** Settle defects, which otherwise halt. */
export const catchDefect: {
  <R2>(policy: Policy<unknown, R2>): <E, R>(self: Processor<E, R>) => Processor<E, R | R2>
  <E, R, R2>(self: Processor<E, R>, policy: Policy<unknown, R2>): Processor<E, R | R2>
} = dual(2, (self: Processor<any, any>, policy: Policy<any, any>) =>
  caught(self, policy, (cause, event) => {
    const defect = cause.reasons.find(Cause.isDieReason)
    return defect === undefined ? undefined : policy.decide(defect.defect, event)
  })
)

/** Before the handler: see, drop (with `Event.filter`) or delay events, not change their type. The last added is the outermost. */
export const middleware: {
  <E2, R2>(
    f: (events: Stream.Stream<Event<unknown>>) => Stream.Stream<Event<unknown>, E2, R2>
  ): <E, R>(self: Processor<E, R>) => Processor<E | E2, R | Exclude<R2, UnitOfWork | Scope.Scope>>
  <E, R, E2, R2>(
    self: Processor<E, R>,
    f: (events: Stream.Stream<Event<unknown>>) => Stream.Stream<Event<unknown>, E2, R2>
  ): Processor<E | E2, R | Exclude<R2, UnitOfWork | Scope.Scope>>
} = dual(2, (self: Processor<any, any>, f: Definition["middleware"][number]) => {
  const { concurrency, name, shape } = self.definition
  if (concurrency._tag !== "One" || (shape._tag === "Each" && shape.acknowledge === "before")) {
    throw invalid(
      `processor ${name}: middleware goes with one event at a time, batches and streams; use Processor.around`
    )
  }
  const definition = { ...self.definition, middleware: [...self.definition.middleware, f] }
  checkParking(definition)
  return self.with(definition)
})

/** Around the handler: must run `handle` (or veto by not doing so); its own failures are failures of the event. */
export const around: {
  <E, E2, R2>(
    f: (handle: Effect.Effect<void, E>, events: NonEmpty<Event<unknown>>) => Effect.Effect<void, E2, R2>
  ): <R>(self: Processor<E, R>) => Processor<E2, R | Exclude<R2, UnitOfWork | Scope.Scope>>
  <E, R, E2, R2>(
    self: Processor<E, R>,
    f: (handle: Effect.Effect<void, E>, events: NonEmpty<Event<unknown>>) => Effect.Effect<void, E2, R2>
  ): Processor<E2, R | Exclude<R2, UnitOfWork | Scope.Scope>>
} = dual(2, (self: Processor<any, any>, f: any) => {
  if (self.definition.shape._tag === "Stream") {
    throw invalid(`processor ${self.name}: a stream has no handler to stand around; use Processor.middleware`)
  }
  return wrap(self, { _tag: "Around", f })
})

// ------------------------------------------------------------------------------- by name, for the whole cluster, live

/** How far a processor is behind, by topic and partition. */
export const lag = (name: string): Effect.Effect<ReadonlyArray<Lag>, EngineError, Broker> =>
  Broker.use((broker) => broker.lag(name))

/**
 * Move the position of all partitions: handling begins at the first event at or after it. Refused while the processor
 * runs unpaused. `resetTables` empties its tables too; without it they stay as they are.
 */
export const seek = (
  processor: Processor<any, any>,
  to: Topic.From,
  options?: { readonly resetTables?: boolean | undefined }
): Effect.Effect<void, EngineError | EventsLost | Misconfigured, Broker | Coordinator> =>
  Operations.seek(processor.definition, startOf("seek", to), options?.resetTables ?? false)

/** Keep owners, hand out nothing, on every worker, until resumed. */
export const pause = (name: string): Effect.Effect<void, EngineError, Coordinator> =>
  Coordinator.use((coordinator) => coordinator.pause(name, true))

export const resume = (name: string): Effect.Effect<void, EngineError, Coordinator> =>
  Coordinator.use((coordinator) => coordinator.pause(name, false))

/** The partitions that are put aside, and why, in order; empty for a processor that never ran. */
export const quarantined: (name: string) => Effect.Effect<ReadonlyArray<Quarantined>, EngineError, Coordinator> =
  Release.quarantined

/** The keys that wait aside (`Policy.park`), by partition, and by when they are tried again. */
export const parked: (name: string) => Effect.Effect<ReadonlyArray<Parked>, EngineError, Broker | Coordinator> =
  Aside.parked

/**
 * Put a quarantined partition back to work, live: it goes on at its committed offset and meets what failed again. With a
 * key, or one of what `parked` gives: try its first event now, whoever owns the partition; that one takes a second to
 * hear of it, drops what it has in hand of the partition, and handles it again.
 */
export const release: {
  (name: string, partition: number): Effect.Effect<void, EngineError | Misconfigured, Coordinator>
  (
    name: string,
    partition: number,
    lane: ParkedLane
  ): Effect.Effect<void, EngineError | Misconfigured, Broker | Coordinator>
} = (name: string, partition: number, lane?: ParkedLane): Effect.Effect<void, any, any> =>
  lane === undefined ? Release.release(name, partition) : Aside.release(name, partition, lane)

/**
 * Put a quarantined partition back to work behind the unit that failed; none of its effects are stored. Refused, with
 * nothing changed, while events before it are not committed. If it fails with `EngineError`, it may be called again.
 *
 * With a key, or one of what `parked` gives: drop its first event and go on with the next one at once; `all` drops every
 * event that waits there. After an `EngineError` look at `parked` first: the event may be gone.
 */
export const skip = (
  name: string,
  partition: number,
  lane?: ParkedLane & { readonly all?: boolean | undefined }
): Effect.Effect<void, EngineError | Misconfigured, Broker | Coordinator> =>
  lane === undefined ? Skip.skip(name, partition) : Aside.skip(name, partition, lane, lane.all ?? false)

/** Forget the group: it holds no topic's floor any more; its tables and position are gone. Refused while it runs. */
export const remove = (name: string): Effect.Effect<void, EngineError | Misconfigured, Broker | Coordinator> =>
  Operations.remove(name)
