/** Tables with windows, as `Table` shows them: how they are defined and read, and what happens when a window closes. */
import { DateTime, Duration, type Effect, type Schema } from "effect"
import type { NoInfer } from "effect/Types"
import type { DecodeError } from "../../Errors.ts"
import type { UnitOfWork } from "../../Event.ts"
import type { Definition, Key, Reads, Table } from "../../Table.ts"
import type * as Window from "../../Window.ts"
import { checkName, invalid } from "../names.ts"
import { storedAs } from "./definition.ts"
import * as Operations from "./operations.ts"

type Coded<A = any> = Schema.ConstraintCodec<A, any>

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

/** What `Table.onClose` of the tables of a processor may fail with. */
export type ClosingError<Tables> =
  Tables extends ReadonlyArray<infer T> ? (T extends Closing<string, infer E, any> ? E : never) : never

/** What it needs. */
export type ClosingServices<Tables> =
  Tables extends ReadonlyArray<infer T> ? (T extends Closing<string, any, infer R> ? R : never) : never

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
    partitions: undefined,
    timeToLive: undefined,
    changes: undefined,
    ...storedAs({ initial, key, merge, partitionBy, value, window })
  }
  const variance = { _K: (_: never) => _, _V: (_: never) => _ }
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

/** The window that holds this moment, on the engine's clock. */
export const now = <Name extends string, K, V>(
  table: Windowed<Name, K, V>,
  key: NoInfer<K>
): Effect.Effect<V, DecodeError, UnitOfWork | Reads<Name>> =>
  Operations.now(table.definition, key as Key) as Effect.Effect<V, DecodeError>

/** The window that holds this time, as long as it is kept (`retain`). */
export const at = <Name extends string, K, V>(
  table: Windowed<Name, K, V>,
  key: NoInfer<K>,
  time: DateTime.Utc
): Effect.Effect<V, DecodeError, UnitOfWork | Reads<Name>> =>
  Operations.at(table.definition, key as Key, DateTime.toEpochMillis(time)) as Effect.Effect<V, DecodeError>

/** The change of a number: the event's window less the one that holds the time so long before the event. */
export const delta = <Name extends string, K>(
  table: Windowed<Name, K, number>,
  key: NoInfer<K>,
  ago: Duration.Input
): Effect.Effect<number, DecodeError, UnitOfWork | Reads<Name>> =>
  Operations.delta(table.definition, key as Key, Duration.toMillis(Duration.fromInputUnsafe(ago)))
