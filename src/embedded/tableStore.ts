/**
 * The rows of tables on SQLite, as the last commit left them. Text is stored as text; every value is read as its bytes.
 */
import { Effect, Layer } from "effect"
import type { EngineError, Misconfigured } from "../Errors.ts"
import * as Mismatch from "../internal/mismatch.ts"
import { type TableLayout, TableStore } from "../TableStore.ts"
import { Sqlite, type Statements } from "./client.ts"
import { createTables, makeNames, type Names } from "./schema.ts"
import * as Timed from "./timed.ts"
import * as Windows from "./windows.ts"

/** Of a page. One row is in any. */
const pageRows = 500
const pageBytes = 4 * 1024 * 1024

const columns = "name, processor, partitions, hashed, redacted"

type Stored = [name: string, processor: string, partitions: number, hashed: number, redacted: string | null]

const layoutOf = (names: Names, [name, processor, partitions, hashed, redacted]: Stored): TableLayout => ({
  name: names.plain(name),
  processor: names.plain(processor),
  partitions,
  hashed: hashed === 1,
  redacted: JSON.parse(redacted ?? "[]")
})

const layout = (db: Statements, names: Names, table: string): TableLayout | undefined => {
  const select = db.prepareArrays(`SELECT ${columns} FROM tables WHERE name = ?`)
  const row = select.get<Stored>(names.stored(table))
  return row && layoutOf(names, row)
}

const layouts = (db: Statements, names: Names): ReadonlyArray<TableLayout> =>
  db
    .prepareArrays(`SELECT ${columns} FROM tables WHERE substr(name, 1, ?) = ? ORDER BY name`)
    .all<Stored>(names.stored("").length, names.stored(""))
    .map((row) => layoutOf(names, row))

const contradicts = (stored: TableLayout, table: TableLayout): boolean =>
  stored.processor !== table.processor || stored.partitions !== table.partitions

const declare = (db: Statements, names: Names, tables: ReadonlyArray<TableLayout>): Misconfigured | undefined => {
  for (const table of tables) {
    const stored = layout(db, names, table.name)
    if (stored === undefined || !contradicts(stored, table)) continue
    return Mismatch.ofTable(stored, table)
  }
  const insert = db.prepare(`INSERT OR REPLACE INTO tables (${columns}) VALUES (?, ?, ?, ?, ?)`)
  for (const { hashed, name, partitions, processor, redacted = [] } of tables) {
    const paths = redacted.length === 0 ? null : JSON.stringify(redacted)
    insert.run(names.stored(name), names.stored(processor), partitions, hashed ? 1 : 0, paths)
  }
  return undefined
}

interface Extent {
  /** The last key of the page. */
  readonly last: string
  readonly isEnd: boolean
}

/** How far a page reaches; undefined: nothing is left. */
const extent = (db: Statements, id: number, after: string | undefined): Extent | undefined => {
  const sizes = db
    .prepareArrays(
      `SELECT key, octet_length(value) FROM table_rows WHERE id = ?1 AND (?2 IS NULL OR key > ?2) ORDER BY key
       LIMIT ${pageRows}`
    )
    .all<readonly [key: string, bytes: number]>(id, after ?? null)
  let bytes = 0
  const over = sizes.findIndex(([, size], i) => (bytes += size) > pageBytes && i > 0)
  const last = sizes.at(over < 0 ? -1 : over - 1)
  return last && { last: last[0], isEnd: over < 0 && sizes.length < pageRows }
}

const page = (db: Statements, id: number, after: string | undefined, last: string) =>
  db
    .prepareArrays(
      `SELECT key, CAST(value AS BLOB) FROM table_rows WHERE id = ?1 AND (?2 IS NULL OR key > ?2) AND key <= ?3
       ORDER BY key`
    )
    .all<readonly [key: string, value: Uint8Array]>(id, after ?? null, last)

const make = (sqlite: Sqlite["Service"], names: Names): TableStore["Service"] =>
  TableStore.of({
    readMany: (processor, table, partition, keys) =>
      sqlite.query("read table", (db) => {
        const id = names.table(db, processor, table, partition)
        const select = db.prepareArrays("SELECT CAST(value AS BLOB) FROM table_rows WHERE id = ? AND key = ?")
        return keys.map((key) => (id === undefined ? undefined : select.get<[Uint8Array]>(id, key)?.[0]))
      }),
    readTimed: (processor, table, partition, keys) =>
      sqlite.query("read table", (db, now) => {
        const id = names.table(db, processor, table, partition)
        return keys.map((key) => (id === undefined ? undefined : Timed.read(db, id, now, key)))
      }),
    // The cursor is the last key with a mark before it, so that an empty key is not taken for the beginning.
    entries: (processor, table, partition, cursor, timed = false) =>
      sqlite.query("scan table", (db, now) => {
        const id = names.table(db, processor, table, partition)
        if (id === undefined) return { rows: [], next: undefined }
        const after = cursor === "" ? undefined : cursor.slice(1)
        const upTo = extent(db, id, after)
        if (upTo === undefined) return { rows: [], next: undefined }
        const { isEnd, last } = upTo
        const rows = timed ? Timed.page(db, id, now, after, last) : page(db, id, after, last)
        return { rows, next: isEnd ? undefined : `>${last}` }
      }),
    due: (processor, table, partition, count) =>
      sqlite.query("due rows", (db, now) => {
        const id = names.table(db, processor, table, partition)
        return id === undefined ? { keys: [], next: undefined } : Timed.due(db, id, now, count)
      }),
    windowsDue: (processor, table, partition, count) =>
      sqlite.query("windows due", (db, now) =>
        Windows.due(db, names.table(db, processor, table, partition), now, count)
      ),
    declare: (tables) =>
      Effect.flatMap(
        sqlite.transaction("declare tables", (db) => declare(db, names, tables)),
        (wrong) => (wrong === undefined ? Effect.void : Effect.fail(wrong))
      ),
    layout: (table) => sqlite.query("table layout", (db) => layout(db, names, table)),
    layouts: () => sqlite.query("tables", (db) => layouts(db, names))
  })

export const layer: Layer.Layer<TableStore, EngineError, Sqlite> = Layer.effect(
  TableStore,
  Effect.gen(function* () {
    const sqlite = yield* Sqlite
    yield* sqlite.create(createTables)
    return make(sqlite, makeNames(sqlite.namespace))
  })
)
