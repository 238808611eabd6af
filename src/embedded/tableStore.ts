/**
 * The rows of tables on SQLite, as the last commit left them. Text is stored as text; every value is read as its bytes.
 */
import { Effect, Layer } from "effect"
import { type EngineError, Misconfigured } from "../Errors.ts"
import { type TableLayout, TableStore } from "../TableStore.ts"
import { Sqlite, type Statements } from "./client.ts"
import { createTables, makeNames, type Names } from "./schema.ts"
import * as Windows from "./windows.ts"

const pageRows = 500

const layout = (db: Statements, names: Names, table: string): TableLayout | undefined => {
  const select = db.prepare("SELECT processor, partitions, hashed FROM tables WHERE name = ?")
  const row = select.get<{ processor: string; partitions: number; hashed: number }>(names.stored(table))
  if (row === undefined) return undefined
  return {
    name: table,
    processor: names.plain(row.processor),
    partitions: row.partitions,
    hashed: row.hashed === 1
  }
}

const contradicts = (stored: TableLayout, table: TableLayout): boolean =>
  stored.processor !== table.processor || stored.partitions !== table.partitions

const describe = (table: TableLayout): string => `${table.partitions} partitions, of processor "${table.processor}"`

const declare = (db: Statements, names: Names, tables: ReadonlyArray<TableLayout>): Misconfigured | undefined => {
  for (const table of tables) {
    const stored = layout(db, names, table.name)
    if (stored === undefined || !contradicts(stored, table)) continue
    const detail =
      `table "${table.name}" is stored with ${describe(stored)}, and was declared with ${describe(table)}; ` +
      `use a new name, or remove the processor "${stored.processor}" first`
    return new Misconfigured({ reason: "LayoutMismatch", detail })
  }
  const insert = db.prepare("INSERT OR REPLACE INTO tables (name, processor, partitions, hashed) VALUES (?, ?, ?, ?)")
  for (const table of tables) {
    insert.run(names.stored(table.name), names.stored(table.processor), table.partitions, table.hashed ? 1 : 0)
  }
  return undefined
}

const make = (sqlite: Sqlite["Service"], names: Names): TableStore["Service"] =>
  TableStore.of({
    readMany: (processor, table, partition, keys) =>
      sqlite.query("read table", (db) => {
        const id = names.table(db, processor, table, partition)
        const select = db.prepareArrays("SELECT CAST(value AS BLOB) FROM table_rows WHERE id = ? AND key = ?")
        return keys.map((key) => (id === undefined ? undefined : select.get<[Uint8Array]>(id, key)?.[0]))
      }),
    // The cursor is the last key with a mark before it, so that an empty key is not taken for the beginning.
    entries: (processor, table, partition, cursor) =>
      sqlite.query("scan table", (db) => {
        const id = names.table(db, processor, table, partition)
        if (id === undefined) return { rows: [], next: undefined }
        const columns = "SELECT key, CAST(value AS BLOB) FROM table_rows WHERE id = ?"
        const order = `ORDER BY key LIMIT ${pageRows}`
        const rows =
          cursor === ""
            ? db.prepareArrays(`${columns} ${order}`).all<[string, Uint8Array]>(id)
            : db.prepareArrays(`${columns} AND key > ? ${order}`).all<[string, Uint8Array]>(id, cursor.slice(1))
        return { rows, next: rows.length < pageRows ? undefined : `>${rows[pageRows - 1]![0]}` }
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
    layout: (table) => sqlite.query("table layout", (db) => layout(db, names, table))
  })

export const layer: Layer.Layer<TableStore, EngineError, Sqlite> = Layer.effect(
  TableStore,
  Effect.gen(function* () {
    const sqlite = yield* Sqlite
    yield* sqlite.transaction("create tables", createTables)
    return make(sqlite, makeNames(sqlite.namespace))
  })
)
