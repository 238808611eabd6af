/**
 * Keyed state of a processor, stored per partition in the engine, changed only in the unit of work of an event: a write
 * is committed together with the event's offset, or not at all. Handlers `get`, `set`, `update` and `remove`; any
 * process reads what is committed with `lookup` and `entries`. Values are never changed in place: give back new ones.
 */
import { type DateTime, Duration, Effect, HashSet, Option, Schema, Stream } from "effect"
import type { NoInfer } from "effect/Types"
import type { DecodeError, EngineError } from "./Errors.ts"
import type { UnitOfWork } from "./Event.ts"
import type { Holding } from "./internal/join/held.ts"
import { checkCount, checkName, invalid } from "./internal/names.ts"
import { type ValueCodec, valueCodec } from "./internal/record/stored.ts"
import { missing, undecodable } from "./internal/run/row.ts"
import { onRow } from "./internal/run/unit.ts"
import { topicOf } from "./internal/table/changes.ts"
import { boundTo, homeOf } from "./internal/table/homes.ts"
import {
  add,
  apply,
  change,
  discard,
  has,
  isRequest,
  type Operation,
  type Request,
  request,
  requests
} from "./internal/table/sets.ts"
import * as Views from "./internal/table/views.ts"
import type { Windowing } from "./internal/window/definition.ts"
import * as Windows from "./internal/window/operations.ts"
import { keyOfRow, lookedUp, valuesOfRow } from "./internal/window/reading.ts"
import type { Closing, Windowed } from "./internal/window/table.ts"
import * as Partitioner from "./Partitioner.ts"
import * as Retention from "./Retention.ts"
import { type Codec, Serializer } from "./Serializer.ts"
import { TableStore } from "./TableStore.ts"
import type { Key, Topic } from "./Topic.ts"
import type * as Window from "./Window.ts"

export type { Key }

type Coded<A = any> = Schema.ConstraintCodec<A, any>

/** What a table is, whatever its types. */
export interface Definition {
  readonly name: string
  readonly scope: "key" | "partition"
  readonly key: Coded<Key>
  readonly value: Coded
  readonly initial: () => unknown
  readonly partitionBy: ((key: any) => Key) | undefined
  readonly partitions: number | undefined
  readonly timeToLive: Duration.Duration | undefined
  /** What is kept of its changes, if they are written down. */
  readonly changes: Retention.Retention | undefined
  /** Where it is a view over two tables (see `Join.tables`): nothing of its own is stored. */
  readonly view?: Views.View | undefined
  /** Where it is what a join holds: a table of the runtime's own. */
  readonly holding?: Holding | undefined
  /** Where it has windows: then key, value and the others are those of what is stored. */
  readonly windowed?: Windowing | undefined
}

/** What tables have in common: state of a processor, keyed, stored per partition, reached by handlers. */
export interface State<out Name extends string, in out K, in out V> {
  readonly "~millrace/Table": { readonly _K: (_: K) => K; readonly _V: (_: V) => V }
  readonly name: Name
  /** @internal */
  readonly definition: Definition
}

/** A key belongs to one partition, so it can be looked up from anywhere. */
export interface Table<out Name extends string, in out K, in out V> extends State<Name, K, V> {
  readonly scope: "key"
}

/** `scope: "partition"`: one row of a key in every partition, as for a total that its readers sum up. */
export interface PerPartition<out Name extends string, in out K, in out V> extends State<Name, K, V> {
  readonly scope: "partition"
}

/** A table whose values are sets. */
export interface Sets<out Name extends string, in out K, in out M> extends Table<Name, K, HashSet.HashSet<M>> {
  /** @internal */
  readonly member: Coded<M>
  /** @internal Where others ask for changes. */
  readonly partitioner?: Partitioner.Partitioner | undefined
}

/** A table whose commits are written to a topic as well (option `changes`). */
export interface Logged {
  readonly "~millrace/Logged": true
}

/** What is kept of the changes of a table: `true` for the last 100,000 of each partition, or what you say. */
export type Changes = boolean | { readonly retention: Retention.Retention }

export type LoggedIf<L> = [L] extends [false] ? unknown : Logged

/** A change of a row, as its commit left it; none: the row was removed, or has expired. */
export interface Change<K, V> {
  readonly key: K
  readonly value: Option.Option<V>
}

/** A handler that reads the table of this name needs to run in the processor that declares it. */
export interface Reads<in out Name extends string> {
  readonly "~millrace/Reads": Name
}

/** The same for writing; not there under `concurrency: { unordered }`. */
export interface Writes<in out Name extends string> {
  readonly "~millrace/Writes": Name
}

/** What a processor may declare. */
export type Declared = State<string, any, any> | Closing<string, any, any>

/** What look-ups need. */
export type Client = TableStore | Serializer

export type LookupError = DecodeError | EngineError

/** Define a table. `partitionBy` gives the topic key that a table key goes with (default: the table key itself). */
export const make = <
  const Name extends string,
  K extends Coded<Key>,
  V extends Coded,
  const S extends "key" | "partition" = "key",
  const L extends Changes = false
>(
  name: Name,
  options: {
    readonly key: K
    readonly value: V
    /** What a missing key reads as. */
    readonly initial: () => V["Type"]
    readonly partitionBy?: ((key: K["Type"]) => Key) | undefined
    readonly scope?: S | undefined
    /** Partitions of the topic that it goes with, for programs that do not import its processor; checked where they do. */
    readonly partitions?: number | undefined
    /** So long after its last write a row expires: it reads as missing then, and is removed, also when no event comes. */
    readonly timeToLive?: Duration.Input | undefined
    /** Write each commit's changes to a topic too: see `Table.changes`. */
    readonly changes?: L | undefined
  }
): ([S] extends ["partition"] ? PerPartition<Name, K["Type"], V["Type"]> : Table<Name, K["Type"], V["Type"]>) &
  LoggedIf<L> => {
  checkName("table", name)
  const { changes, partitionBy, partitions, scope = "key", timeToLive } = options
  if (scope !== "key" && scope !== "partition") {
    throw invalid(`table ${name}: scope is "key" or "partition", not ${JSON.stringify(scope)}`)
  }
  const definition: Definition = {
    name,
    scope,
    key: options.key,
    value: options.value,
    initial: options.initial,
    partitionBy,
    partitions: partitions === undefined ? undefined : checkCount(`table ${name}: partitions`, partitions, 1, 65_536),
    timeToLive: timeToLive === undefined ? undefined : lifeOf(name, timeToLive),
    changes: changes === undefined || changes === false ? undefined : keptOf(name, changes)
  }
  // The conditional type follows `scope` and `changes`, which the compiler cannot see here.
  return { "~millrace/Table": variance, name, scope, definition } as never
}

/**
 * Define a table whose values are sets, changed member by member: `add`, `discard`, `has`, `change`, and all that other
 * tables have. A set is one row, as large as a unit of work may be at most. Members are equal if their values are.
 */
export const sets = <const Name extends string, K extends Coded<Key>, M extends Coded, const L extends Changes = false>(
  name: Name,
  options: {
    readonly key: K
    readonly member: M
    readonly partitionBy?: ((key: K["Type"]) => Key) | undefined
    /** As in `make`; needed for `Table.request`. */
    readonly partitions?: number | undefined
    /** That of the processor's topics, for `Table.request`, if they have one of their own. */
    readonly partitioner?: Partitioner.Partitioner | undefined
    readonly timeToLive?: Duration.Input | undefined
    readonly changes?: L | undefined
  }
): Sets<Name, K["Type"], M["Type"]> & LoggedIf<L> => {
  const { member, partitioner, ...others } = options
  const table = make(name, { ...others, value: Schema.HashSet(member), initial: () => HashSet.empty<M["Type"]>() })
  // The same table, with what is known of its members beside it.
  return { ...table, member, partitioner } as never
}

export * from "./internal/window/table.ts"
export { add, apply, change, discard, has, isRequest, type Operation, type Request, request, requests }

const variance = { _K: (_: never) => _, _V: (_: never) => _ }

const lifeOf = (name: string, input: Duration.Input): Duration.Duration => {
  const millis = Math.ceil(Duration.toMillis(Duration.fromInputUnsafe(input)))
  if (millis >= 1 && Number.isSafeInteger(millis)) return Duration.millis(millis)
  throw invalid(`table ${name}: timeToLive must be longer than nothing, and end; leave it out for rows that stay`)
}

/** Changes of a partition that are kept, unless the table says otherwise. */
const keptChanges = 100_000

const keptOf = (name: string, changes: Exclude<Changes, false>): Retention.Retention => {
  checkName("topic", `${name}.changes`)
  return changes === true ? Retention.maxLength(keptChanges) : changes.retention
}

// In the unit of work of the event. A key that belongs to another partition is a defect, under `perKey` also one that
// does not go with the event's own key.

/** The value, earlier writes of this unit of work included. In a table with windows: of the event's, of several the last. */
export const get = <Name extends string, K, V>(
  table: State<Name, K, V>,
  key: NoInfer<K>
): Effect.Effect<V, DecodeError, UnitOfWork | Reads<Name>> =>
  table.definition.windowed === undefined
    ? onRow(table.definition, key as Key, (row) => row.table.read(row) as V)
    : (Windows.get(table.definition, key as Key) as Effect.Effect<V, DecodeError>)

/** Replace it. In a table with windows: in every one that holds the event's time. */
export const set = <Name extends string, K, V>(
  table: State<Name, K, V>,
  key: NoInfer<K>,
  value: NoInfer<V>
): Effect.Effect<void, never, UnitOfWork | Writes<Name>> =>
  written(
    table.definition.windowed === undefined
      ? onRow(table.definition, key as Key, (row, unit) => unit.write(row, value))
      : Windows.set(table.definition, key as Key, value)
  )

/** Change it; gives the new value. In a table with windows: every one that holds the event's time, each by its own value. */
export const update = <Name extends string, K, V>(
  table: State<Name, K, V>,
  key: NoInfer<K>,
  f: (value: NoInfer<V>) => NoInfer<V>
): Effect.Effect<V, DecodeError, UnitOfWork | Writes<Name>> =>
  table.definition.windowed === undefined
    ? onRow(table.definition, key as Key, (row, unit) => {
        const value = f(row.table.read(row) as V)
        unit.write(row, value)
        return value
      })
    : (Windows.update(table.definition, key as Key, f) as Effect.Effect<V, DecodeError>)

/** Remove it; it reads as `initial` again. */
export const remove = <Name extends string, K, V>(
  table: State<Name, K, V>,
  key: NoInfer<K>
): Effect.Effect<void, never, UnitOfWork | Writes<Name>> =>
  written(
    table.definition.windowed === undefined
      ? onRow(table.definition, key as Key, (row, unit) => unit.write(row, missing))
      : Windows.remove(table.definition, key as Key)
  )

/** Only what reads a value can find that it does not decode. */
const written = (effect: Effect.Effect<void, DecodeError>): Effect.Effect<void> => effect as Effect.Effect<void>

// What is committed, from any process, inside a handler or out.

/**
 * One row; a missing one reads as `initial`. In a table with windows the one that holds `at`, or left out, this moment on
 * this process' clock.
 */
export const lookup: {
  <Name extends string, K, V>(
    table: Windowed<Name, K, V>,
    key: NoInfer<K>,
    options?: { readonly at?: DateTime.Utc | undefined }
  ): Effect.Effect<V, LookupError, Client>
  <Name extends string, K, V>(table: Table<Name, K, V>, key: NoInfer<K>): Effect.Effect<V, LookupError, Client>
  <Name extends string, K, V>(
    table: PerPartition<Name, K, V>,
    key: NoInfer<K>,
    options: { readonly partition: number }
  ): Effect.Effect<V, LookupError, Client>
} = <V>(
  table: State<string, any, V>,
  key: Key,
  options?: { readonly partition?: number; readonly at?: DateTime.Utc | undefined }
): Effect.Effect<V, LookupError, Client> =>
  Effect.map(windowsOf(table, [key], options?.partition, options?.at), ([value]) => value as V)

/** Several rows, in the order of the keys: one question for each partition that they lie in. */
export const lookupMany: {
  <Name extends string, K, V>(
    table: Table<Name, K, V>,
    keys: Iterable<NoInfer<K>>
  ): Effect.Effect<ReadonlyArray<V>, LookupError, Client>
  <Name extends string, K, V>(
    table: PerPartition<Name, K, V>,
    keys: Iterable<NoInfer<K>>,
    options: { readonly partition: number }
  ): Effect.Effect<ReadonlyArray<V>, LookupError, Client>
} = <V>(
  table: State<string, any, V>,
  keys: Iterable<Key>,
  options?: { readonly partition: number }
): Effect.Effect<ReadonlyArray<V>, LookupError, Client> => windowsOf(table, Array.from(keys), options?.partition)

const windowsOf = <V>(
  table: State<string, any, V>,
  keys: ReadonlyArray<Key>,
  only: number | undefined,
  at?: DateTime.Utc
): Effect.Effect<ReadonlyArray<V>, LookupError, Client> => {
  const { view, windowed } = table.definition
  if (view !== undefined)
    return Effect.map(Views.rows(view, present, keys), (rows) => rows.map(Views.valueOf(view))) as Effect.Effect<
      never,
      LookupError,
      Client
    >
  if (windowed === undefined) return rowsOf(table, keys, only)
  return lookedUp(windowed, keys, at, (rows) => rowsOf(table, rows, only)) as Effect.Effect<never, LookupError, Client>
}

/** One row, if there is one. Not for tables with windows. */
export const find = <Name extends string, K, V>(
  table: Table<Name, K, V>,
  key: NoInfer<K>
): Effect.Effect<Option.Option<V>, LookupError, Client> => Effect.map(present<V>(table, [key as Key]), ([row]) => row!)

/** Those that are there, in the order of the keys. */
const present = <V>(
  table: State<string, any, V>,
  keys: ReadonlyArray<Key>
): Effect.Effect<ReadonlyArray<Option.Option<V>>, LookupError, Client> => {
  const { view } = table.definition
  if (view !== undefined) {
    return Effect.map(Views.rows(view, present, keys), (rows) => rows.map(Views.some(view))) as never
  }
  return Effect.map(rowsOf<V | typeof missing>(table as never, keys, undefined, missing), (values) =>
    values.map((value) => (value === missing ? Option.none() : Option.some(value as V)))
  )
}

/** Partitions that are asked at the same time. */
const lookupConcurrency = 16

const rowsOf = Effect.fnUntraced(function* <V>(
  table: State<string, any, V>,
  keys: ReadonlyArray<Key>,
  only: number | undefined,
  absent?: V
): Effect.fn.Return<ReadonlyArray<V>, LookupError, Client> {
  const { definition } = table
  const { name, timeToLive } = definition
  const store = yield* TableStore
  const codec = codecOf(definition, yield* Serializer)
  const home = yield* homeOf(definition)
  const places = new Map<number, Array<number>>()
  keys.forEach((key, i) => {
    const partition = only ?? home.partitionOf(String(definition.partitionBy?.(key) ?? key))
    const place = places.get(partition)
    if (place === undefined) places.set(partition, [i])
    else place.push(i)
  })
  const values = new Array<V>(keys.length)
  const one = Effect.fnUntraced(function* ([partition, at]: readonly [number, ReadonlyArray<number>]) {
    const texts = at.map((i) => String(keys[i]))
    const found =
      timeToLive === undefined
        ? yield* store.readMany(home.processor, name, partition, texts)
        : (yield* store.readTimed(home.processor, name, partition, texts)).map((row) => row?.value)
    for (let j = 0; j < at.length; j++) {
      const bytes = found[j]
      values[at[j]!] = (
        bytes === undefined
          ? (absent ?? definition.initial())
          : yield* decode(definition, codec, partition, texts[j]!, bytes)
      ) as V
    }
  })
  yield* Effect.forEach(places, one, { concurrency: lookupConcurrency, discard: true })
  return values
})

/**
 * All rows (a scan in bounded memory, no snapshot); a partition's only, if asked. Of a table with windows every window of a
 * key by itself, or those with exactly this span.
 */
export const entries = <Name extends string, K, V>(
  table: State<Name, K, V>,
  options?: { readonly partition?: number | undefined; readonly window?: Window.Span | undefined }
): Stream.Stream<readonly [key: K, value: V], LookupError, Client> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const { definition } = table
      if (definition.view !== undefined) {
        return Views.entries(definition.view, present, (side) => entries(side, options)) as Stream.Stream<
          never,
          LookupError,
          Client
        >
      }
      const store = yield* TableStore
      const codec = codecOf(definition, yield* Serializer)
      const home = yield* homeOf(definition)
      const isTimed = definition.timeToLive !== undefined
      const partitions =
        options?.partition === undefined ? Array.from({ length: home.partitions }, (_, p) => p) : [options.partition]
      return Stream.fromIterable(partitions).pipe(
        Stream.flatMap((partition) =>
          Stream.paginate("", (cursor: string) =>
            Effect.gen(function* () {
              const page = yield* store.entries(home.processor, definition.name, partition, cursor, isTimed)
              const rows: Array<readonly [K, V]> = []
              for (const [text, bytes] of page.rows) {
                const key = yield* attempt(definition, partition, text, bytes, () => keyOfRow(definition, text))
                const value = yield* decode(definition, codec, partition, text, bytes)
                for (const one of valuesOfRow(definition, text, value, options?.window)) rows.push([key as K, one as V])
              }
              return [rows, Option.fromUndefinedOr(page.next)] as const
            })
          )
        )
      )
    })
  )

/**
 * The topic of a table's changes: what each commit left of the rows that it changed, in the order of commits per
 * partition. It begins with the first commit after the option was set, and keeps what the option says. That a seek has
 * emptied the table (`resetTables`) is not among them.
 */
export const changes = <Name extends string, K, V>(
  table: State<Name, K, V> & Logged
): Topic<Change<K, V>, Key | undefined> => {
  const { definition } = table
  const home = boundTo(definition)
  const partitions = home?.partitions ?? definition.partitions
  if (partitions === undefined) {
    throw invalid(
      `table ${table.name}: how many partitions its changes have is not known here; import the processor that declares ` +
        `it, or give the table the option partitions`
    )
  }
  // The schema is that of this very table.
  return topicOf(definition, { partitions, partitioner: home?.partitioner ?? Partitioner.hash }) as never
}

const codecs = new WeakMap<Definition, WeakMap<Codec, ValueCodec<unknown>>>()

const codecOf = (definition: Definition, serializer: Codec): ValueCodec<unknown> => {
  let known = codecs.get(definition)
  if (known === undefined) codecs.set(definition, (known = new WeakMap()))
  let codec = known.get(serializer)
  if (codec === undefined) known.set(serializer, (codec = valueCodec(definition.value, serializer)))
  return codec
}

const decode = (
  definition: Definition,
  codec: ValueCodec<unknown>,
  partition: number,
  key: string,
  bytes: Uint8Array
) => attempt(definition, partition, key, bytes, () => codec.decode(bytes))

const attempt = <A>(
  { name }: Definition,
  partition: number,
  key: string,
  bytes: Uint8Array,
  f: () => A
): Effect.Effect<A, DecodeError> =>
  Effect.try({ try: f, catch: (error) => undecodable(name, partition, key, bytes, error) })
