/** What a join is, whatever its types: a source that several topics, or a topic and a table, go into. */
import { Schema } from "effect"
import type * as Table from "../../Table.ts"
import type { Any, Source } from "../../Topic.ts"
import { checkName } from "../names.ts"
import { due, type Holding, type Kind, schema } from "./held.ts"

/** Events of two topics with the same key, not too far apart in time. */
export interface Streams extends Pick<Holding, "left" | "right" | "kind" | "within" | "lateness" | "idle"> {
  readonly _tag: "Streams"
}

/** Each value of a source with the row of its event's key. */
export interface Lookup {
  readonly _tag: "Lookup"
  readonly source: Source<any>
  readonly table: Table.State<string, any, any>
  readonly kind: Exclude<Kind, "outer">
}

export interface Join extends Source<any, any> {
  readonly plan: Streams | Lookup
}

export const isJoin = (source: Source<any>): source is Join => "plan" in source

export const isTopic = (source: Source<any>): source is Any => "schema" in source

/** The topics that go into it; undefined: it is nothing that can be read. */
export const topicsOf = (source: Source<any>): ReadonlyArray<Any> | undefined => {
  if (isTopic(source)) return [source]
  if (!isJoin(source)) return undefined
  return source.plan._tag === "Streams" ? [source.plan.left, source.plan.right] : topicsOf(source.plan.source)
}

/** The table in which a processor holds what a join waits for. */
export const holdingTable = (processor: string, { idle, kind, lateness, left, right, within }: Streams) => {
  const name = checkName("table", `${processor}.join.${left.name}.${right.name}`)
  const definition: Table.Definition = {
    name,
    scope: "key",
    key: Schema.String,
    value: schema,
    initial: () => [],
    partitionBy: undefined,
    partitions: undefined,
    timeToLive: undefined,
    changes: undefined,
    holding: { left, right, kind, within, lateness, idle, time: "event", due: due(within) }
  }
  const variance = { _K: (_: never) => _, _V: (_: never) => _ }
  const table: Table.State<string, any, any> = { "~millrace/Table": variance as never, name, definition }
  return table
}
