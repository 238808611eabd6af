/**
 * What belongs together in two topics, or in a topic and a table: a source that a processor reads like a topic. The
 * handler gets a pair within the unit of work of the event that completed it; what waits for its other half lies in the
 * engine, written by the same commits, so each pair comes once, whoever dies in between.
 *
 * Gotcha: what is joined must have the same key, partition count and partitioner; `Processor.repartition` makes it so.
 */
import { Duration, type Option } from "effect"
import type { NoInfer } from "effect/Types"
import { Misconfigured } from "./Errors.ts"
import { isTopic, type Join, topicsOf } from "./internal/join/plan.ts"
import { invalid } from "./internal/names.ts"
import { partitionsOf } from "./internal/table/homes.ts"
import type * as Table from "./Table.ts"
import type { Any, Key, Source } from "./Topic.ts"

/** What becomes of an event that nothing belongs to: it is left out, given if it is of the left side, or given. */
export type Kind = "inner" | "left" | "outer"

export interface Pair<out L, out R> {
  readonly left: L
  readonly right: R
}

export type PairOf<L, R, Kd> = Kd extends "inner"
  ? Pair<L, R>
  : Kd extends "left"
    ? Pair<L, Option.Option<R>>
    : Pair<Option.Option<L>, Option.Option<R>>

export interface StreamsOptions<Kd> {
  /** How far the times of a pair may lie apart, either way. */
  readonly within: Duration.Input
  /** Default `"inner"`. */
  readonly kind?: Kd | undefined
  /** How much an event may come behind the newest one of its topic; default none. Held events wait so much longer. */
  readonly lateness?: Duration.Input | undefined
  /** As in `Window.Options`: after so long without events a topic's time follows the clock; default 30 seconds. */
  readonly idle?: Duration.Input | undefined
}

const variance = { _A: (_: never) => _, _K: (_: never) => _ }

const source = (name: string, partitions: number, plan: Join["plan"]): Join => ({
  "~millrace/Source": variance,
  name,
  partitions,
  plan
})

const hint = "give them the same count, or re-key one with Processor.repartition"

/**
 * Pairs of events of two topics with the same key and times (see `Topic.make`) at most `within` apart. Each pair comes
 * once. Of `left` and `outer` joins an event that nothing belonged to comes alone, once, when its time is over: when the
 * partition's watermark (the lower of both topics' highest event times, less `lateness`) has passed its time and
 * `within`; also when no event comes any more, and after a failover.
 *
 * An event whose time is over when it comes is late (`millrace_events_late_total`): it is put beside what is still there,
 * and does not wait for more. All that is held of a key is one row: keep `within` short for keys with many events.
 */
export const streams = <A, B, K extends Key, const Kd extends Kind = "inner">(
  left: Source<A, K>,
  right: Source<B, NoInfer<K>>,
  options: StreamsOptions<Kd>
): Source<PairOf<A, B, Kd>, K> => {
  const name = `${left.name}+${right.name}`
  const at = `join ${name}`
  const [one, other] = [left, right].map((side): Any => {
    if (isTopic(side)) return side
    throw invalid(`${at}: ${side.name} is not a topic; emit what it gives to a topic, and join that one`)
  }) as [Any, Any]
  if (one.name === other.name) throw invalid(`${at}: a topic is not joined with itself; emit to a second topic first`)
  if (one.partitions !== other.partitions) {
    throw mismatch(
      `${at}: ${one.name} has ${one.partitions} partitions and ${other.name} has ${other.partitions}: ${hint}`
    )
  }
  if (one.partitioner !== other.partitioner) {
    throw mismatch(
      `${at}: ${one.name} and ${other.name} have different partitioners, so a key is not in the same partition of both: ` +
        "give them the same one, or re-key one with Processor.repartition"
    )
  }
  const { idle = "30 seconds", kind = "inner", lateness = 0, within } = options
  if (kind !== "inner" && kind !== "left" && kind !== "outer") {
    throw invalid(`${at}: kind is "inner", "left" or "outer", not ${JSON.stringify(kind)}`)
  }
  return source(name, one.partitions, {
    _tag: "Streams",
    left: one,
    right: other,
    kind,
    within: millis(at, "within", within, 0),
    lateness: millis(at, "lateness", lateness, 0),
    idle: millis(at, "idle", idle, 1)
  })
}

const mismatch = (detail: string): Misconfigured => new Misconfigured({ reason: "PartitionsMismatch", detail })

const millis = (at: string, option: string, input: Duration.Input, least: number): number => {
  const value = Duration.toMillis(Duration.fromInputUnsafe(input))
  const isForever = option === "idle" && value === Number.POSITIVE_INFINITY
  if (isForever || (value >= least && Number.isSafeInteger(value))) return value
  throw invalid(`${at}: ${option} is ${value} ms; give whole milliseconds, ${least} at least`)
}

/**
 * Each event with the row of its key, as its turn finds it. Of a table that the reading processor declares itself, that is
 * the row with all that it wrote; of another processor's, what is committed at that moment, at the price of one look-up for
 * each event. A key without a row gives nothing (`inner`) or none (`left`). What goes in may be a join too.
 */
export const table = <A, K extends Key, Name extends string, V, const Kd extends "inner" | "left" = "inner">(
  left: Source<A, K>,
  right: Table.Table<Name, K, V>,
  options?: { readonly kind?: Kd | undefined }
): Source<PairOf<A, V, Kd>, K> => {
  const name = `${left.name}+${right.name}`
  const at = `join ${name}`
  const { kind = "inner" } = options ?? {}
  if (kind !== "inner" && kind !== "left")
    throw invalid(`${at}: kind is "inner" or "left", not ${JSON.stringify(kind)}`)
  if (topicsOf(left) === undefined) throw invalid(`${at}: ${left.name} is neither a topic nor a join`)
  if (right.scope !== "key" || right.definition.windowed !== undefined) {
    throw invalid(
      `${at}: a table with windows has no one row of a key; look it up in the handler (Table.at, Table.lookup)`
    )
  }
  const partitions = partitionsOf(right)
  if (partitions !== undefined && partitions !== left.partitions) {
    throw mismatch(
      `${at}: ${left.name} has ${left.partitions} partitions and table ${right.name} has ${partitions}: ${hint}`
    )
  }
  return source(name, left.partitions, { _tag: "Lookup", source: left, table: right, kind })
}

/**
 * A view of two tables with the same keys, for `Table.lookup`, `lookupMany`, `find` and `entries`: what is committed in
 * both, at the moment of asking. A row that is missing on one side reads as that side's `initial`; what is on neither is
 * not among the entries. Nothing is stored, so it needs no processor and no handler reads or writes it.
 */
export const tables = <N1 extends string, N2 extends string, K, V1, V2>(
  left: Table.Table<N1, K, V1>,
  right: Table.Table<N2, K, V2>
): Table.Table<`${N1}+${N2}`, K, readonly [V1, V2]> => {
  const name = `${left.name}+${right.name}` as const
  for (const { definition, name: side, scope } of [left, right]) {
    if (scope === "key" && definition.windowed === undefined) continue
    throw invalid(`join ${name}: table ${side} has no one row of a key; look up both in your own code`)
  }
  const [one, other] = [partitionsOf(left), partitionsOf(right)]
  if (one !== undefined && other !== undefined && one !== other) {
    throw mismatch(
      `join ${name}: table ${left.name} has ${one} partitions and table ${right.name} has ${other}: give their topics the ` +
        "same count, or re-key one with Processor.repartition"
    )
  }
  const { definition } = left
  const view = { ...definition, name, changes: undefined, view: { left, right } }
  return { "~millrace/Table": left["~millrace/Table"] as never, name, scope: "key", definition: view }
}
