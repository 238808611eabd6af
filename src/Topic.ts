/**
 * A named, durable log split into partitions. Defining a topic touches no engine; publishing, reading and emitting do.
 * The same key always lands in the same partition, and a partition keeps its order.
 *
 * `publish` stores at once, whoever calls; inside a handler `emit` is what you want: it is stored with the commit of the
 * event, or not at all.
 */
import { type DateTime, Effect, Layer, type Schema, Sink, Stream } from "effect"
import { dual } from "effect/Function"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import type { NoInfer } from "effect/Types"
import type { Broker, Durability, Layout } from "./Broker.ts"
import type {
  DecodeError,
  DurabilityNotReached,
  EncodeError,
  EngineError,
  EventsLost,
  OffsetConflict,
  TopicFull
} from "./Errors.ts"
import type { Event, UnitOfWork } from "./Event.ts"
import { deadHeaders } from "./internal/dead/headers.ts"
import { type DeadLetter, letters } from "./internal/dead/letters.ts"
import { redrive as putBack } from "./internal/dead/redrive.ts"
import { deadOf } from "./internal/dead/topic.ts"
import { checkCount, checkName, invalid } from "./internal/names.ts"
import * as Bulk from "./internal/publish/bulk.ts"
import { CurrentMiddleware, type Middleware } from "./internal/publish/middleware.ts"
import { publish as publishOne } from "./internal/publish/publisher.ts"
import * as Flat from "./internal/record/flat.ts"
import { redactedIn } from "./internal/record/redacted.ts"
import { stage } from "./internal/run/unit.ts"
import { tail } from "./internal/tail.ts"
import { traced } from "./internal/telemetry/tracing.ts"
import * as Partitioner from "./Partitioner.ts"
import * as Retention from "./Retention.ts"
import type { Codec, Serializer } from "./Serializer.ts"
import type { TableStore } from "./TableStore.ts"

const TypeId = "~millrace/Topic"

/** What may be a key; hashed and stored in its text form. */
export type Key = string | number | bigint

type NonEmpty<A> = readonly [A, ...ReadonlyArray<A>]
type Covariant<A> = (_: never) => A

/** What a processor can read. */
export interface Source<out A, out K = unknown> {
  readonly "~millrace/Source": { readonly _A: Covariant<A>; readonly _K: Covariant<K> }
  readonly name: string
  readonly partitions: number
}

export interface Topic<in out A, out K = unknown> extends Source<A, K>, Layout, Pipeable {
  readonly [TypeId]: { readonly _A: (_: A) => A }
  readonly schema: Schema.ConstraintCodec<A, any>
  readonly retention: Retention.Retention
  readonly partitioner: Partitioner.Partitioner
  /** Bytes that one encoded value may have. */
  readonly maxBytes: number
  /** The record's own fields stand in the entry; no serializer. */
  readonly flat: boolean
  /** @internal */
  readonly redacted: ReadonlyArray<string>
  readonly serializer: Codec | undefined
  /** @internal */
  readonly partitionBy: ((value: any) => Key | undefined) | undefined
  /** @internal */
  readonly timestamp: ((value: any) => DateTime.Utc | Date) | undefined
}

/** Any topic. */
export type Any = Topic<any, any>

/** One source, or several co-partitioned ones, merged. */
export type Input = Source<any> | NonEmpty<Source<any>>

/** The values of an input. */
export type Value<T> = T extends ReadonlyArray<infer S> ? Value<S> : T extends Source<infer A> ? A : never

export interface Position {
  readonly topic: string
  readonly partition: number
  /** Empty for a repeated one that is older than the producer's last. */
  readonly offset: string
  /** This (producer, sequence) was stored before; nothing was stored now. */
  readonly repeated: boolean
}

export interface EmitOptions {
  readonly key?: Key | undefined
  /** Beats the key. */
  readonly partition?: number | undefined
  readonly timestamp?: DateTime.Utc | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
}

export type PublishOptions = EmitOptions & { readonly durability?: Durability | undefined } & (
    | { readonly producer?: undefined; readonly sequence?: undefined }
    /** A named producer with rising numbers: one that is not above the last stored is dropped and reported. */
    | { readonly producer: string; readonly sequence: bigint }
  )

/** Where reading begins. An offset is that of the first event wanted. */
export type From = "earliest" | "latest" | { readonly offset: string } | { readonly time: DateTime.Utc }

export type PublishError = EncodeError | TopicFull | DurabilityNotReached | EngineError

/** What publishing needs. */
export type Client = Broker | Serializer

export interface Options<S extends Schema.ConstraintCodec<any, any>, K extends Key | undefined> {
  readonly schema: S
  /** The key of a value, by function or by the name of a field; without it events are spread evenly. */
  readonly partitionBy?: ((value: S["Type"]) => K) | (K extends undefined ? never : FieldOf<S["Type"]>) | undefined
  /** The event time; without it, the time of publishing. */
  readonly timestamp?: ((value: S["Type"]) => DateTime.Utc | Date) | undefined
  /** Default 16. Stored at first use: a program with another count is refused. */
  readonly partitions?: number | undefined
  readonly retention?: Retention.Retention | undefined
  readonly partitioner?: Partitioner.Partitioner | undefined
  readonly serializer?: Codec | undefined
  /** Store the record's own fields, readable by any Redis tool. */
  readonly encoding?: "flat" | undefined
  /** Bytes that one encoded value may have; default 1 MiB. */
  readonly maxBytes?: number | undefined
}

type FieldOf<A> = { readonly [F in keyof A]: A[F] extends Key ? F : never }[keyof A] & string

const Proto = {
  "~millrace/Source": { _A: (_: never) => _, _K: (_: never) => _ },
  [TypeId]: { _A: (_: never) => _ },
  // Asked for when it is declared: until then a schema may refer to one that is not yet defined.
  get redacted(): ReadonlyArray<string> {
    return redactedIn((this as unknown as Any).schema)
  },
  pipe() {
    return pipeArguments(this, arguments)
  }
}

const construct = <A, K>(fields: Omit<Topic<A, K>, keyof typeof Proto | "pipe">): Topic<A, K> =>
  Object.assign(Object.create(Proto), fields)

/** Define a topic. Wrong options throw `Misconfigured` at once, before anything reaches an engine. */
export const make: {
  <S extends Schema.ConstraintCodec<any, any>, const F extends FieldOf<S["Type"]>>(
    name: string,
    options: Omit<Options<S, any>, "partitionBy"> & { readonly partitionBy: F }
  ): Topic<S["Type"], S["Type"][F]>
  <S extends Schema.ConstraintCodec<any, any>, K extends Key | undefined = undefined>(
    name: string,
    options: Omit<Options<S, K>, "partitionBy"> & { readonly partitionBy?: ((value: S["Type"]) => K) | undefined }
  ): Topic<S["Type"], K>
} = (name: string, options: Options<any, any>): Any => {
  checkName("topic", name)
  const field = options.partitionBy
  const flat = options.encoding === "flat"
  if (options.encoding !== undefined && !flat) {
    throw invalid(`topic ${name}: encoding is "flat" or left out, not ${JSON.stringify(options.encoding)}`)
  }
  if (flat) {
    if (options.serializer !== undefined) {
      throw invalid(`topic ${name}: a flat topic stores fields and has no serializer; leave out one of the two`)
    }
    Flat.compile(options.schema, name)
  }
  return construct({
    name,
    schema: options.schema,
    partitions: checkCount(`topic ${name}: partitions`, options.partitions ?? 16, 1, 65_536),
    retention: options.retention ?? Retention.consumed(),
    partitioner: options.partitioner ?? Partitioner.hash,
    maxBytes: checkCount(`topic ${name}: maxBytes`, options.maxBytes ?? 1024 * 1024),
    flat,
    serializer: options.serializer,
    partitionBy: typeof field === "string" ? (value) => value[field] : field,
    timestamp: options.timestamp
  })
}

/** What the topics of an app have in common, where they say nothing else. */
export type Defaults = Pick<Options<any, any>, "partitions" | "retention" | "partitioner" | "serializer" | "maxBytes">

/** `make` with other defaults. A flat topic has no serializer, so it takes none from here. */
export const withDefaults =
  (defaults: Defaults): typeof make =>
  (name: string, options: Options<any, any>): any => {
    const given = Object.entries(options).filter(([, value]) => value !== undefined)
    const { serializer, ...rest } = defaults
    const base = options.encoding === "flat" ? rest : { ...rest, serializer }
    // The overloads are for inference.
    const define = make as (name: string, options: Options<any, any>) => Any
    return define(name, { ...base, ...Object.fromEntries(given) } as Options<any, any>)
  }

/** The same schema under another name, some options changed. */
export const variant: {
  (name: string, changes?: Changes): <A, K>(self: Topic<A, K>) => Topic<A, K>
  <A, K>(self: Topic<A, K>, name: string, changes?: Changes): Topic<A, K>
} = dual(
  (args) => typeof args[0] !== "string",
  <A, K>(self: Topic<A, K>, name: string, changes: Changes = {}) =>
    construct<A, K>({
      ...self,
      name: checkName("topic", name),
      partitions: checkCount(`topic ${name}: partitions`, changes.partitions ?? self.partitions, 1, 65_536),
      retention: changes.retention ?? self.retention
    })
)

export interface Changes {
  readonly partitions?: number | undefined
  readonly retention?: Retention.Retention | undefined
}

/**
 * Where `Policy.deadLetter` sends events of a topic: `<name>.dead`, with its schema and partitions, kept for ever (or as
 * `retention` says, here or in the policy). A processor on it gets typed events; what could not be decoded is a
 * `DecodeError` there too.
 */
export const dead = <A, K>(
  self: Topic<A, K>,
  options?: DeadOptions & { readonly retention?: Retention.Retention | undefined }
): Topic<A, K> => deadOf(self, options?.topic, options?.retention)

/** Store one event now, whoever calls; succeeds when the engine has it. Concurrent calls travel together. */
export const publish = <A, K>(
  topic: Topic<A, K>,
  value: NoInfer<A>,
  options?: PublishOptions
): Effect.Effect<Position, PublishError, Client> => publishOne(topic, value, options)

/**
 * Store many, in order per key. An iterable gives their positions. A stream of any length is stored in bounded memory
 * and counted.
 */
export const publishAll: {
  <A, K>(
    topic: Topic<A, K>,
    values: Iterable<NoInfer<A>>,
    options?: EmitOptions & {
      readonly durability?: Durability | undefined
      /** An entry id (`<millis>-<seq>`) for each value, rising per partition and above what is stored. */
      readonly offsets?: Iterable<string> | undefined
    }
  ): Effect.Effect<ReadonlyArray<Position>, PublishError | OffsetConflict, Client>
  <A, K, E, R>(
    topic: Topic<A, K>,
    values: Stream.Stream<NoInfer<A>, E, R>,
    options?: EmitOptions & { readonly durability?: Durability | undefined }
  ): Effect.Effect<number, PublishError | E, Client | R>
} = (<A, K, E, R>(
  topic: Topic<A, K>,
  values: Iterable<A> | Stream.Stream<A, E, R>,
  options?: Bulk.AllOptions
): Effect.Effect<any, any, any> =>
  Stream.isStream(values) ? Stream.run(values, sink(topic, options)) : Bulk.publishAll(topic, values, options)) as any

/** Store a stream; counts what it stored. */
export const sink = <A, K>(
  topic: Topic<A, K>,
  options?: EmitOptions & { readonly durability?: Durability | undefined }
): Sink.Sink<number, A, never, PublishError, Client> =>
  Sink.unwrap(
    Effect.map(Bulk.feed(topic, options), (feed) =>
      Sink.forEachArray((values: ReadonlyArray<A>) => feed.offer(values)).pipe(Sink.mapEffect(() => feed.end))
    )
  )

/** Stage an event in the unit of work: stored with the commit, or not at all. Never waits and never meets the engine. */
export const emit = <A, K>(
  topic: Topic<A, K>,
  value: NoInfer<A>,
  options?: EmitOptions
): Effect.Effect<void, EncodeError, UnitOfWork> =>
  stage((host, fiber) => host.encode(topic, value, traced(fiber, options)))

/** Stage a received event as it is stored, without decoding and encoding it again; its key and headers go along. */
export const forward = <A, K>(topic: Topic<A, K>, event: Event<A>): Effect.Effect<void, EncodeError, UnitOfWork> =>
  stage((host) => host.forward(topic, event))

/**
 * Stand around every publish and emit of the programs that this layer is given to: change the options (add headers,
 * choose a key), or throw to refuse the event with an `EncodeError`. Several such layers run from the outer to the inner.
 */
export const middleware = (f: Middleware): Layer.Layer<never> =>
  Layer.effect(
    CurrentMiddleware,
    Effect.map(CurrentMiddleware, (outer) => [...outer, f])
  )

/**
 * Read without a group: nothing is acknowledged, nobody's lag changes. `until: "now"` ends at what was the end when it
 * began. Order holds within a partition.
 */
export const stream = <A, K>(
  topic: Topic<A, K>,
  options?: {
    readonly from?: From | undefined
    readonly until?: "now" | undefined
    readonly partitions?: NonEmpty<number> | undefined
  }
): Stream.Stream<Event<A>, DecodeError | EventsLost | EngineError, Client> => tail(topic, options)

// ------------------------------------------------------------------------------------------------------- dead letters

export { type DeadLetter, deadHeaders }

export interface DeadOptions {
  /** The name that `Policy.deadLetter` was given, if letters of this topic do not go to `<name>.dead`. */
  readonly topic?: string | undefined
}

/** The dead letters of a topic that were not put back, up to the present end; order holds within a partition. */
export const deadLetters = <A, K>(
  topic: Topic<A, K>,
  options?: DeadOptions
): Stream.Stream<DeadLetter<A>, EngineError, Client | TableStore> => letters(topic, deadOf(topic, options?.topic))

/**
 * Put dead letters back at the end of their partition of the topic, all or those of these offsets; gives how many. Each
 * is put back exactly once, also if the program dies in between and does it again, and is no longer listed. It comes
 * back with its first attempt, its own headers, and `Topic.deadHeaders.redrivenFrom`.
 */
export const redrive = <A, K>(
  topic: Topic<A, K>,
  options?: DeadOptions & {
    /** As `deadLetters` gives them: an offset alone names a letter in each partition. */
    readonly offsets?: Iterable<{ readonly partition: number; readonly offset: string }> | undefined
  }
): Effect.Effect<number, EngineError, Client | TableStore> =>
  Effect.suspend(() => {
    let wanted: Map<number, Set<string>> | undefined
    if (options?.offsets !== undefined) {
      wanted = new Map()
      for (const { offset, partition } of options.offsets) {
        const offsets = wanted.get(partition)
        if (offsets === undefined) wanted.set(partition, new Set([offset]))
        else offsets.add(offset)
      }
    }
    return putBack((name) => (name === topic.name ? topic : undefined), deadOf(topic, options?.topic), wanted)
  })
