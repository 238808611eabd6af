/**
 * What a processor's handler gets for an event that goes into a join: in the unit of work of that event it is put beside
 * what came before of its key, and gives a value for each that belongs to it. Any number of values, so also none.
 */
import { Effect, Option } from "effect"
import type { DecodeError } from "../../Errors.ts"
import * as Table from "../../Table.ts"
import type { Source } from "../../Topic.ts"
import type { Received } from "../record/received.ts"
import { heldOf, logOf, Overdue, received } from "../run/overdue.ts"
import { missing, Timed } from "../run/row.ts"
import { onRow, unitOf } from "../run/unit.ts"
import { keyOf } from "../table/keys.ts"
import { type Item, join, type Side, tells, textsOf } from "./held.ts"
import { holdingTable, isJoin, type Lookup, type Streams, topicsOf } from "./plan.ts"

/** The values that an event stands for. */
export type Values = (event: Received<unknown>) => Effect.Effect<ReadonlyArray<unknown>, unknown>

export interface Compiled {
  readonly values: Values
  /** What it holds. */
  readonly tables: ReadonlyArray<Table.Declared>
}

const none: Effect.Effect<ReadonlyArray<unknown>> = Effect.succeed([])

/** `undefined`: nothing is joined, and each event stands for itself. */
export const compile = (
  processor: string,
  sources: ReadonlyArray<Source<any>>,
  declared: ReadonlyArray<Table.Declared>
): Compiled | undefined => {
  if (!sources.some(isJoin)) return undefined
  const tables: Array<Table.Declared> = []
  const byTopic = new Map<string, Values>()
  const own = new Set(declared.map(({ definition }) => definition))
  const valuesOf = (source: Source<any>): Values => {
    if (!isJoin(source)) return (event) => Effect.succeed([event.value])
    const { plan } = source
    if (plan._tag === "Lookup") return lookedUp(plan, valuesOf(plan.source), own)
    const table = holdingTable(processor, plan)
    tables.push(table)
    return paired(plan, table.definition)
  }
  for (const source of sources) {
    const values = valuesOf(source)
    for (const { name } of topicsOf(source)!) byTopic.set(name, values)
  }
  return { values: (event) => byTopic.get(event.topic)!(event), tables }
}

// ------------------------------------------------------------------------------------------------------------ two topics

const pairOf = ({ kind }: Pick<Streams, "kind">, left: unknown, right: unknown): unknown => {
  if (kind === "inner") return { left, right }
  return kind === "left" ? { left, right: Option.some(right) } : { left: Option.some(left), right: Option.some(right) }
}

/** Nothing belongs to it. */
const loneOf = ({ kind }: Pick<Streams, "kind">, side: Side, value: unknown): unknown => {
  if (kind === "left") return { left: value, right: Option.none() }
  return side === "left"
    ? { left: Option.some(value), right: Option.none() }
    : { left: Option.none(), right: Option.some(value) }
}

const paired = (plan: Streams, definition: Table.Definition): Values => {
  const holding = definition.holding!
  const lone = (side: Side, value: unknown): ReadonlyArray<unknown> =>
    tells(plan.kind, side) ? [loneOf(plan, side, value)] : []

  const valueOf = (item: Item, others: Parameters<typeof logOf>[0], partition: number): unknown => {
    const { failure, value } = received(logOf(others, holding, item), partition, item)
    if (failure !== undefined) throw failure
    return value
  }

  return (event) =>
    Effect.withFiber<ReadonlyArray<unknown>, DecodeError>((fiber) => {
      const unit = unitOf(fiber.context)
      const { value } = event
      const { read } = event
      if (read instanceof Overdue) {
        return Effect.map(read.letGo(unit), (isLone) => (isLone ? lone(read.item.side, value) : []))
      }
      const side: Side = event.topic === plan.left.name ? "left" : "right"
      const { key } = event
      // Nothing can belong to it, now or later.
      if (key === undefined) return Effect.succeed(lone(side, value))
      const { partition } = unit.host
      const windows = unit.host.windows!
      return unit.with(definition, key, (row, unit) => {
        const held = heldOf(row)
        const upTo = windows.closed(definition)
        const arrival = {
          side,
          time: windows.timeOf(definition, event),
          offset: event.offset,
          fields: () => textsOf(event.stored())
        }
        const joined = join(held, holding, upTo, arrival)
        const values = joined.partners.map((item) => {
          const other = valueOf(item, windows.logs, partition)
          return side === "left" ? pairOf(plan, value, other) : pairOf(plan, other, value)
        })
        if (joined.isLate) windows.late(event)
        if (joined.held !== held) unit.write(row, joined.held.length === 0 ? missing : joined.held)
        return joined.isLate && values.length === 0 ? lone(side, value) : values
      })
    })
}

// -------------------------------------------------------------------------------------------------------- topic and table

/** The row as this moment has it: that of this very unit of work, or what another processor has committed. */
const rowOf = (plan: Lookup, own: ReadonlySet<Table.Definition>) => {
  const { definition } = plan.table
  const parse = keyOf(definition)
  if (!own.has(definition)) return (key: string) => Table.find(plan.table as never, parse(key) as never)
  return (key: string): Effect.Effect<Option.Option<unknown>, DecodeError> =>
    onRow(definition, parse(key), (row) => {
      const { value } = row
      const isGone = value === missing || (value instanceof Timed && row.table.now() >= value.until)
      return isGone ? Option.none() : Option.some(row.table.read(row))
    })
}

const lookedUp = (plan: Lookup, values: Values, own: ReadonlySet<Table.Definition>): Values => {
  const row = rowOf(plan, own) as (key: string) => Effect.Effect<Option.Option<unknown>, unknown>
  return (event) =>
    Effect.flatMap(values(event), (lefts) => {
      if (lefts.length === 0) return none
      const { key } = event
      const found = key === undefined ? Effect.succeed(Option.none<unknown>()) : row(key)
      return Effect.map(found, (right) => {
        if (plan.kind === "left") return lefts.map((left) => ({ left, right }))
        return Option.isNone(right) ? [] : lefts.map((left) => ({ left, right: right.value }))
      })
    })
}
