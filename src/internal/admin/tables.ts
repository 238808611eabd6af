/** Tables by name: rows as they are stored, from any program. */
import { Effect } from "effect"
import type { EngineError, Misconfigured } from "../../Errors.ts"
import { NotFound } from "../../Errors.ts"
import { hash } from "../../Partitioner.ts"
import { type Codec, Serializer } from "../../Serializer.ts"
import { type TableLayout, TableStore } from "../../TableStore.ts"
import type { Paths } from "../record/redacted.ts"
import { concurrency, named, noCursor, range } from "./known.ts"
import * as Payload from "./payload.ts"
import type { Page } from "./shapes/common.ts"
import type { Row, Table } from "./shapes/tables.ts"

const layouts = TableStore.use((store) => store.layouts())

const find = (name: string): Effect.Effect<TableLayout, EngineError | NotFound, TableStore> =>
  Effect.flatMap(layouts, (all) => named("table", all, name))

const tableOf = ({ hashed, name, partitions, processor }: TableLayout): Table => ({
  name,
  processor,
  partitions,
  hashed
})

export const tables: Effect.Effect<ReadonlyArray<Table>, EngineError, TableStore> = Effect.map(layouts, (all) =>
  all.map(tableOf)
)

export const table = (name: string): Effect.Effect<Table, EngineError | NotFound, TableStore> =>
  Effect.map(find(name), tableOf)

/** Plain JSON stands as it is; else a zero byte, the length of the format, and the format come first. */
const payloadOf = (serializer: Codec, bytes: Uint8Array, most: number, secret: Paths): Row["payload"] => {
  if (bytes[0] !== 0) return Payload.read(serializer, undefined, bytes, most, secret)
  const start = 2 + (bytes[1] ?? 0)
  const format = Buffer.from(bytes.subarray(2, start)).toString()
  return Payload.read(serializer, format, bytes.subarray(start), most, secret)
}

const rowOf =
  (layout: TableLayout, serializer: Codec, most: number) =>
  (partition: number, key: string, bytes: Uint8Array): Row => ({
    table: layout.name,
    partition,
    key,
    payload: payloadOf(serializer, bytes, most, layout.redacted ?? [])
  })

/**
 * One row. Without a partition, the one that the documented hash gives comes first: a table may place its keys by another
 * function, or by something else than the key, so then the others are asked too.
 */
export const row = (
  name: string,
  key: string,
  partition: number | undefined
): Effect.Effect<Row, EngineError | NotFound, TableStore | Serializer> =>
  Effect.gen(function* () {
    const store = yield* TableStore
    const layout = yield* find(name)
    const describe = rowOf(layout, yield* Serializer, Payload.alone)
    const look = (partition: number) =>
      Effect.map(store.readTimed(layout.processor, name, partition, [key]), ([found]) =>
        found === undefined ? undefined : describe(partition, key, found.value)
      )
    const missing = new NotFound({ kind: `row of table ${name}`, name: key, known: [] })
    if (partition !== undefined && !(partition < layout.partitions)) return yield* missing
    const likely = partition ?? hash(key, layout.partitions)
    const found = yield* look(likely)
    if (found !== undefined) return found
    if (partition !== undefined) return yield* missing
    const others = range(layout.partitions).filter((other) => other !== likely)
    const elsewhere = (yield* Effect.forEach(others, look, { concurrency })).find((row) => row !== undefined)
    return elsewhere ?? (yield* missing)
  })

/** A page of rows, partition by partition; of one alone, if it is named. A scan, no snapshot. */
export const rows = (
  name: string,
  options: { readonly partition?: number | undefined; readonly cursor?: string | undefined }
): Effect.Effect<Page<Row>, EngineError | Misconfigured | NotFound, TableStore | Serializer> =>
  Effect.gen(function* () {
    const store = yield* TableStore
    const layout = yield* find(name)
    const describe = rowOf(layout, yield* Serializer, Payload.inList)
    const first = options.partition ?? 0
    const last = options.partition ?? layout.partitions - 1
    const cursor = options.cursor ?? `${first}:`
    const match = /^(\d{1,5}):(.*)$/s.exec(cursor)
    if (match === null) {
      return yield* noCursor(cursor)
    }
    let partition = Number(match[1])
    let inside: string | undefined = match[2]!
    while (partition <= last && partition < layout.partitions) {
      const page: Effect.Success<ReturnType<typeof store.entries>> = yield* store.entries(
        layout.processor,
        name,
        partition,
        inside ?? "",
        true
      )
      const items = page.rows.map(([key, value]) => describe(partition, key, value))
      inside = page.next
      if (items.length > 0) {
        const next = inside === undefined ? `${partition + 1}:` : `${partition}:${inside}`
        return { items, next: inside === undefined && partition >= last ? null : next }
      }
      if (inside === undefined) {
        partition++
        inside = ""
      }
    }
    return { items: [], next: null }
  })
