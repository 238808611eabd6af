/** A whole database as plain rows, and back: for engines that a test makes go back to an earlier state. */
import type { Copy } from "../internal/copies.ts"
import type { Value } from "./client.ts"

/** What is needed of a connection. */
interface Database {
  exec(sql: string): void
  prepare(sql: string): {
    setReadBigInts(enabled: boolean): void
    setReturnArrays(enabled: boolean): void
    all(): Array<unknown>
    run(...values: ReadonlyArray<Value>): unknown
  }
}

type Row = ReadonlyArray<Value>

const rowsOf = (database: Database, sql: string): Array<Row> => {
  const select = database.prepare(sql)
  // No number is beyond what a bigint can hold.
  select.setReadBigInts(true)
  select.setReturnArrays(true)
  return select.all() as Array<Row>
}

/** All tables at this moment. */
export const take = (database: Database): Copy =>
  rowsOf(database, "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'").map(
    ([name, sql]) => ({ name: String(name), made: String(sql), rows: rowsOf(database, `SELECT * FROM "${name}"`) })
  )

/** Make these tables in a database that has none. Indexes are made again by those who need them. */
export const fill = (database: Database, copy: Copy): void => {
  if (copy.length === 0) return
  database.exec("BEGIN IMMEDIATE")
  for (const { made, name, rows } of copy) {
    database.exec(made)
    if (rows.length === 0) continue
    const insert = database.prepare(`INSERT INTO "${name}" VALUES (${rows[0]!.map(() => "?").join(", ")})`)
    for (const row of rows) insert.run(...(row as Row))
  }
  database.exec("COMMIT")
}
