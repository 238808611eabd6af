/** Tables on Redis: one hash for each table and partition (see `keys.ts`), written by commits, read here by anyone. */
import { Effect, Layer } from "effect"
import type { EngineError } from "../Errors.ts"
import * as Mismatch from "../internal/mismatch.ts"
import { type TableLayout, TableStore } from "../TableStore.ts"
import { Redis } from "./client.ts"
import * as keys from "./keys.ts"
import { declareTables, pairs, rowsOf } from "./layouts.ts"
import * as Timed from "./timed.ts"
import * as Windows from "./windows.ts"

/** Rows asked for at once, and rows of a page, about. */
const keysPerCall = 1_000
const pageSize = 100

const parseLayout = (name: string, stored: string): TableLayout => {
  const [processor = "", partitions, hashed, ...redacted] = stored.split(" ")
  return {
    name,
    processor,
    partitions: Number(partitions),
    hashed: hashed === "1",
    // The paths may hold spaces. A release before this one stored none.
    redacted: redacted.length === 0 ? [] : JSON.parse(redacted.join(" "))
  }
}

const make = Effect.gen(function* () {
  const redis = yield* Redis
  const keysOf = (processor: string, table: string, partition: number): readonly [rows: string, due: string] => {
    const tag = keys.shardTag(redis.namespace, partition % redis.shards)
    return [keys.table(tag, processor, table, partition), keys.due(tag, processor, table, partition)]
  }
  /** Calls of bearable size, which travel together. */
  const inParts = <A>(
    wanted: ReadonlyArray<string>,
    read: (part: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<A>, EngineError>
  ): Effect.Effect<ReadonlyArray<A>, EngineError> => {
    if (wanted.length === 0) return Effect.succeed([])
    if (wanted.length <= keysPerCall) return read(wanted)
    const parts: Array<ReadonlyArray<string>> = []
    for (let i = 0; i < wanted.length; i += keysPerCall) parts.push(wanted.slice(i, i + keysPerCall))
    return Effect.map(Effect.forEach(parts, read, { concurrency: "unbounded" }), (found) => found.flat())
  }

  return TableStore.of({
    readMany: (processor, table, partition, wanted) => {
      const [rows] = keysOf(processor, table, partition)
      return inParts(wanted, (part) =>
        Effect.map(redis.callBuffer<ReadonlyArray<Buffer | null>>("hmget", rows, ...part), (values) =>
          values.map((value) => value ?? undefined)
        )
      )
    },
    readTimed: (processor, table, partition, wanted) =>
      inParts(wanted, (part) => Timed.read(redis, keysOf(processor, table, partition), part)),
    entries: (processor, table, partition, cursor, timed = false) => {
      const names = keysOf(processor, table, partition)
      const from = cursor === "" ? "0" : cursor
      const page = timed
        ? Timed.scan(redis, names, from, pageSize)
        : redis.callBuffer<readonly [Buffer, ReadonlyArray<Buffer>]>("hscan", names[0], from, "COUNT", pageSize)
      return Effect.map(page, ([next, pairs]) => {
        const rows: Array<readonly [string, Uint8Array]> = []
        for (let i = 0; i < pairs.length; i += 2) rows.push([pairs[i]!.toString(), pairs[i + 1]!])
        const position = next.toString()
        return { rows, next: position === "0" ? undefined : position }
      })
    },
    due: (processor, table, partition, count) => Timed.ask(redis, keysOf(processor, table, partition)[1], count),
    windowsDue: (processor, table, partition, count) => {
      const tag = keys.shardTag(redis.namespace, partition % redis.shards)
      return Windows.ask(redis, keys.windows(tag, processor, table, partition), count)
    },
    declare: Effect.fnUntraced(function* (tables) {
      if (tables.length === 0) return
      const args = tables.flatMap(({ name, processor, partitions, hashed, redacted = [] }) => [
        name,
        `${processor} ${partitions}`,
        `${hashed ? "1" : "0"}${redacted.length === 0 ? "" : ` ${JSON.stringify(redacted)}`}`
      ])
      const [name, text] = yield* redis.run(declareTables, [keys.tableLayouts(redis.namespace)], args)
      if (name === undefined || text === undefined) return
      const stored = parseLayout(name, text)
      return yield* Mismatch.ofTable(stored, tables.find((table) => table.name === name)!)
    }),
    layout: (table) =>
      Effect.map(redis.call<string | null>("hget", keys.tableLayouts(redis.namespace), table), (stored) =>
        stored === null ? undefined : parseLayout(table, stored)
      ),
    layouts: () =>
      Effect.map(redis.run(rowsOf, [keys.tableLayouts(redis.namespace)], []), (rows) =>
        pairs(rows).map(([name, stored]) => parseLayout(name, stored))
      )
  })
})

export const layer: Layer.Layer<TableStore, never, Redis> = Layer.effect(TableStore, make)
