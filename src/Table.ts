/**
 * Keyed state of a processor, stored per partition in the engine, changed only in the unit of work of an event: a write
 * is committed together with the event's offset, or not at all. Handlers `get`, `set`, `update` and `remove`; any
 * process reads what is committed with `lookup` and `entries`. Values are never changed in place: give back new ones.
 */
import { DateTime, Duration, Effect, Option, Schema, Stream } from "effect"
import type { NoInfer } from "effect/Types"
import { DecodeError, EngineError } from "./Errors.ts"
import type { UnitOfWork } from "./Event.ts"
import { checkName, invalid } from "./internal/names.ts"
import { type ValueCodec, valueCodec } from "./internal/record/stored.ts"
import { missing } from "./internal/run/rows.ts"
import { onRow } from "./internal/run/unit.ts"
import { rowAt, slicesOf, storedAs, textOf, valueAt, type Windowing } from "./internal/window/definition.ts"
import * as Windows from "./internal/window/operations.ts"
import * as Partitioner from "./Partitioner.ts"
import { type Codec, Serializer } from "./Serializer.ts"
import { TableStore } from "./TableStore.ts"
import type { Any, Key } from "./Topic.ts"
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

/** A table with a value for each key and window. */
export interface Windowed<out Name extends string, in out K, in out V> extends Table<Name, K, V> {
  readonly window: Window.Window
}

/** A table with windows and what happens when one of them closes; stands for the table in `tables`. */
export interface Closing<out Name extends string, out E, out R> {
  readonly "~millrace/Closing": { readonly _E: (_: never) => E; readonly _R: (_: never) => R }
  readonly name: Name
  /** @internal */
  readonly definition: Definition
  /** @internal */
  readonly onClose: (closed: Closed<any, any>) => Effect.Effect<unknown, unknown>
}

/** A window as it closed. */
export interface Closed<out K, out V> extends Window.Span {
  readonly key: K
  readonly value: V
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
  const S extends "key" | "partition" = "key"
>(
  name: Name,
  options: {
    readonly key: K
    readonly value: V
    /** What a missing key reads as. */
    readonly initial: () => V["Type"]
    readonly partitionBy?: ((key: K["Type"]) => Key) | undefined
    readonly scope?: S | undefined
  }
): [S] extends ["partition"] ? PerPartition<Name, K["Type"], V["Type"]> : Table<Name, K["Type"], V["Type"]> => {
  checkName("table", name)
  const scope = options.scope ?? "key"
  const definition: Definition = { ...options, name, scope, partitionBy: options.partitionBy }
  // The conditional type follows `scope`, which the compiler cannot see here.
  return { "~millrace/Table": variance, name, scope, definition } as never
}

const variance = { _K: (_: never) => _, _V: (_: never) => _ }

/**
 * Define a table with a value for each key and window. Sessions need `merge`: the value of two that an event makes one, the
 * earlier one first.
 */
export const windowed = <
  const Name extends string,
  K extends Coded<Key>,
  V extends Coded,
  const W extends Window.Window = Window.Window
>(
  name: Name,
  options: {
    readonly key: K
    readonly value: V
    /** What a window without a value reads as. */
    readonly initial: () => V["Type"]
    readonly window: W
    readonly partitionBy?: ((key: K["Type"]) => Key) | undefined
  } & (W extends Window.Session
    ? { readonly merge: (left: V["Type"], right: V["Type"]) => V["Type"] }
    : { readonly merge?: undefined })
): Windowed<Name, K["Type"], V["Type"]> => {
  checkName("table", name)
  const { initial, key, merge, partitionBy, value, window } = options
  if ((window["~millrace/Window"] === "session") !== (merge !== undefined)) {
    throw invalid(
      merge === undefined
        ? `table ${name}: an event may make two sessions one: say with "merge" what their values are together`
        : `table ${name}: only sessions are merged; leave out "merge"`
    )
  }
  const definition: Definition = {
    name,
    scope: "key",
    ...storedAs({ initial, key, merge, partitionBy, value, window })
  }
  return { "~millrace/Table": variance as never, name, scope: "key", definition, window }
}

/**
 * Run `f` once for each window that closes and has a value, with its final value, as a unit of work of its own. It is the
 * owner of the partition that runs it, in the order of ends, also where no event comes any more. Of the processor's
 * policies retries, `Policy.ignore` (the window closes without what `f` staged) and `Policy.quarantine` apply to it; any
 * other, and `Processor.around`, is for events, and its failures halt.
 */
export const onClose = <Name extends string, K, V, E, R>(
  table: Windowed<Name, K, V>,
  f: (closed: Closed<K, V>) => Effect.Effect<unknown, E, R>
): Closing<Name, E, R> => ({
  "~millrace/Closing": { _E: (_: never) => _, _R: (_: never) => _ },
  name: table.name,
  definition: table.definition,
  // The worker gives it what it needs before it runs.
  onClose: f as never
})

// In the unit of work of the event. A key that belongs to another partition is a defect, under `perKey` also one that
// does not go with the event's own key.

/** The value, earlier writes of this unit of work included. In a table with windows: of the event's, of several the last. */
export const get = <Name extends string, K, V>(
  table: State<Name, K, V>,
  key: NoInfer<K>
): Effect.Effect<V, never, UnitOfWork | Reads<Name>> =>
  table.definition.windowed === undefined
    ? onRow(table.definition, key as Key, (row) => row.table.read(row) as V)
    : (Windows.get(table.definition, key as Key) as Effect.Effect<V>)

/** Replace it. In a table with windows: in every one that holds the event's time. */
export const set = <Name extends string, K, V>(
  table: State<Name, K, V>,
  key: NoInfer<K>,
  value: NoInfer<V>
): Effect.Effect<void, never, UnitOfWork | Writes<Name>> =>
  table.definition.windowed === undefined
    ? onRow(table.definition, key as Key, (row, unit) => unit.write(row, value))
    : Windows.set(table.definition, key as Key, value)

/** Change it; gives the new value. In a table with windows: every one that holds the event's time, each by its own value. */
export const update = <Name extends string, K, V>(
  table: State<Name, K, V>,
  key: NoInfer<K>,
  f: (value: NoInfer<V>) => NoInfer<V>
): Effect.Effect<V, never, UnitOfWork | Writes<Name>> =>
  table.definition.windowed === undefined
    ? onRow(table.definition, key as Key, (row, unit) => {
        const value = f(row.table.read(row) as V)
        unit.write(row, value)
        return value
      })
    : (Windows.update(table.definition, key as Key, f) as Effect.Effect<V>)

/** Remove it; it reads as `initial` again. */
export const remove = <Name extends string, K, V>(
  table: State<Name, K, V>,
  key: NoInfer<K>
): Effect.Effect<void, never, UnitOfWork | Writes<Name>> =>
  table.definition.windowed === undefined
    ? onRow(table.definition, key as Key, (row, unit) => unit.write(row, missing))
    : Windows.remove(table.definition, key as Key)

/** The window that holds this moment, on the engine's clock. */
export const now = <Name extends string, K, V>(
  table: Windowed<Name, K, V>,
  key: NoInfer<K>
): Effect.Effect<V, never, UnitOfWork | Reads<Name>> => Windows.now(table.definition, key as Key) as Effect.Effect<V>

/** The window that holds this time, as long as it is kept (`retain`). */
export const at = <Name extends string, K, V>(
  table: Windowed<Name, K, V>,
  key: NoInfer<K>,
  time: DateTime.Utc
): Effect.Effect<V, never, UnitOfWork | Reads<Name>> =>
  Windows.at(table.definition, key as Key, DateTime.toEpochMillis(time)) as Effect.Effect<V>

/** The change of a number: the event's window less the one that holds the time so long before the event. */
export const delta = <Name extends string, K>(
  table: Windowed<Name, K, number>,
  key: NoInfer<K>,
  ago: Duration.Input
): Effect.Effect<number, never, UnitOfWork | Reads<Name>> =>
  Windows.delta(table.definition, key as Key, Duration.toMillis(Duration.fromInputUnsafe(ago)))

// What is committed, from any process, inside a handler or out.

/** One row; in a table with windows the one that holds `at`, on this process' clock now if it is left out. */
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
} = Effect.fnUntraced(function* <V>(
  table: State<string, any, V>,
  key: Key,
  options?: { readonly partition?: number; readonly at?: DateTime.Utc | undefined }
): Effect.fn.Return<V, LookupError, Client> {
  const { definition } = table
  const { windowed } = definition
  if (windowed !== undefined) {
    const time = DateTime.toEpochMillis(options?.at ?? (yield* DateTime.now))
    const state = yield* stored(definition, rowAt(windowed, key, time))
    return (state === missing ? windowed.initial() : (valueAt(windowed, state, time)?.value ?? windowed.initial())) as V
  }
  const value = yield* stored(definition, key, options?.partition)
  return (value === missing ? definition.initial() : value) as V
})

/** What a row holds, as it is stored. */
const stored = Effect.fnUntraced(function* (
  definition: Definition,
  key: Key,
  only?: number
): Effect.fn.Return<unknown, LookupError, Client> {
  const store = yield* TableStore
  const codec = codecOf(definition, yield* Serializer)
  const home = yield* homeOf(definition)
  const partition = only ?? home.partitionOf(String(definition.partitionBy?.(key) ?? key))
  const [bytes] = yield* store.readMany(home.processor, definition.name, partition, [String(key)])
  if (bytes === undefined) return missing
  return yield* decode(definition, codec, partition, String(key), bytes)
})

/**
 * All rows (a scan, no snapshot); a partition's only, if asked. Of a table with windows every window of a key by itself, or
 * those with exactly this span.
 */
export const entries = <Name extends string, K, V>(
  table: State<Name, K, V>,
  options?: { readonly partition?: number | undefined; readonly window?: Window.Span | undefined }
): Stream.Stream<readonly [key: K, value: V], LookupError, Client> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const { definition } = table
      const store = yield* TableStore
      const codec = codecOf(definition, yield* Serializer)
      const home = yield* homeOf(definition)
      const keys = Schema.decodeUnknownSync(Schema.toCodecJson(definition.key))
      const keyOf = (text: string): Key => {
        try {
          return keys(text)
        } catch {
          // Number keys are stored in their text form.
          return keys(Number(text))
        }
      }
      const partitions =
        options?.partition === undefined ? Array.from({ length: home.partitions }, (_, p) => p) : [options.partition]
      return Stream.fromIterable(partitions).pipe(
        Stream.flatMap((partition) =>
          Stream.paginate("", (cursor: string) =>
            Effect.gen(function* () {
              const page = yield* store.entries(home.processor, definition.name, partition, cursor)
              const rows: Array<readonly [K, V]> = []
              for (const [key, bytes] of page.rows) {
                const value = yield* decode(definition, codec, partition, key, bytes)
                if (definition.windowed === undefined) rows.push([keyOf(key) as K, value as V])
                else rows.push(...(slicesIn(definition.windowed, key, value, options?.window) as Array<[K, V]>))
              }
              return [rows, Option.fromUndefinedOr(page.next)] as const
            })
          )
        )
      )
    })
  )

const slicesIn = (windowed: Windowing, row: string, state: unknown, span: Window.Span | undefined) => {
  const start = span === undefined ? undefined : DateTime.toEpochMillis(span.start)
  const end = span === undefined ? undefined : DateTime.toEpochMillis(span.end)
  return slicesOf(windowed, row, state)
    .filter((slice) => span === undefined || (slice.start === start && slice.end === end))
    .map(({ value }) => [windowed.key(textOf(windowed, row)), value] as const)
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
) =>
  Effect.try({
    try: () => codec.decode(bytes),
    catch: (error) =>
      new DecodeError({
        topic: `table ${definition.name}`,
        partition,
        offset: key,
        reason: "Schema",
        detail: error instanceof Error ? error.message : String(error),
        bytes
      })
  })

interface Home {
  readonly processor: string
  readonly partitions: number
  readonly partitionOf: (topicKey: string) => number
}

// A processor that declares a table binds it to its topic; a program without that processor asks the engine.
const homes = new WeakMap<Definition, Home>()

/** Called by the processor that declares the table. */
export const bind = (table: Declared, processor: string, topic: Any): void => {
  homes.set(table.definition, {
    processor,
    partitions: topic.partitions,
    partitionOf: (key) => topic.partitioner(key, topic.partitions)
  })
}

const homeOf = (definition: Definition): Effect.Effect<Home, EngineError, TableStore> =>
  Effect.gen(function* () {
    const bound = homes.get(definition)
    if (bound !== undefined) return bound
    const refuse = (detail: string) => new EngineError({ operation: "Table.lookup", reason: "Refused", detail })
    const layout = yield* (yield* TableStore).layout(definition.name)
    if (layout === undefined) {
      return yield* refuse(
        `table ${definition.name} is not stored here: no worker that declares it has run with this namespace`
      )
    }
    if (!layout.hashed) {
      return yield* refuse(
        `table ${definition.name} is placed by a partitioner of its own: import the processor ${layout.processor} to look it up`
      )
    }
    const home: Home = {
      processor: layout.processor,
      partitions: layout.partitions,
      partitionOf: (key) => Partitioner.hash(key, layout.partitions)
    }
    homes.set(definition, home)
    return home
  })
