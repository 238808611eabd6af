/** Rows that expire: when each does stands beside the table's rows, so that tables without it pay nothing. */
import type { Due, TimedRow } from "../TableStore.ts"
import type { Statements } from "./client.ts"

/** `due` in milliseconds; undefined: the row is removed. */
export const write = (db: Statements, id: number, key: string, due: number | undefined): void => {
  if (due === undefined) {
    db.prepare("DELETE FROM row_ends WHERE id = ? AND key = ?").run(id, key)
    return
  }
  const upsert = "INSERT INTO row_ends (id, key, due) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET due = excluded.due"
  db.prepare(upsert).run(id, key, due)
}

/** Those that have not expired, and when they do. */
const live = `SELECT r.key, CAST(r.value AS BLOB), e.due FROM table_rows r LEFT JOIN row_ends e ON e.id = r.id AND e.key = r.key
  WHERE r.id = ?1 AND (e.due IS NULL OR e.due > ?2)`

type Row = readonly [key: string, value: Uint8Array, due: number | null]

export const read = (db: Statements, id: number, now: number, key: string): TimedRow | undefined => {
  const row = db.prepareArrays(`${live} AND r.key = ?3`).get<Row>(id, now, key)
  return row && { value: row[1], left: row[2] === null ? undefined : row[2] - now }
}

export const page = (
  db: Statements,
  id: number,
  now: number,
  after: string | undefined,
  last: string
): ReadonlyArray<readonly [key: string, value: Uint8Array]> =>
  db
    .prepareArrays(`${live} AND (?3 IS NULL OR r.key > ?3) AND r.key <= ?4 ORDER BY r.key`)
    .all<Row>(id, now, after ?? null, last)
    .map(([key, value]) => [key, value])

export const due = (db: Statements, id: number, now: number, count: number): Due => {
  const rows = db
    .prepareArrays("SELECT key, due FROM row_ends WHERE id = ? ORDER BY due LIMIT ?")
    .all<readonly [string, number]>(id, count + 1)
  const keys = rows.slice(0, count).flatMap(([key, due]) => (due <= now ? [key] : []))
  const next = rows[keys.length]
  return { keys, next: next === undefined ? undefined : Math.max(0, next[1] - now) }
}
