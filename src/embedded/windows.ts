/**
 * What is due of tables with windows, and how far partitions have come in time: beside the rows, changed by commits alone.
 */
import type { Layout, Time, Windows } from "../Broker.ts"
import type { WindowsDue } from "../TableStore.ts"
import type { Statements } from "./client.ts"
import type { Names } from "./schema.ts"

export const change = (
  db: Statements,
  names: Names,
  processor: string,
  partition: number,
  { due, times }: Windows
): void => {
  const put = db.prepare(
    "INSERT INTO windows (id, key, at) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET at = excluded.at"
  )
  const drop = db.prepare("DELETE FROM windows WHERE id = ? AND key = ?")
  for (const { at, key, table } of due) {
    const id = names.tableOrNew(db, processor, table, partition)
    if (at === undefined) drop.run(id, key)
    else put.run(id, key, at)
  }
  const reach = db.prepare("INSERT OR REPLACE INTO times (processor, partition, source, time) VALUES (?, ?, ?, ?)")
  for (const { source, time } of times) {
    reach.run(names.stored(processor), partition, source === "" ? "" : names.stored(source), time)
  }
}

export const times = (
  db: Statements,
  names: Names,
  processor: string,
  partition: number,
  topics: ReadonlyArray<Layout>
): ReadonlyArray<Time> => {
  const select = db.prepareArrays("SELECT time FROM times WHERE processor = ? AND partition = ? AND source = ?")
  return ["", ...topics.map(({ name }) => name)].flatMap((source) => {
    const stored = source === "" ? "" : names.stored(source)
    const time = select.get<[number]>(names.stored(processor), partition, stored)?.[0]
    return time === undefined ? [] : [{ source, time }]
  })
}

export const due = (db: Statements, id: number | undefined, now: number, count: number): WindowsDue => {
  if (id === undefined) return { rows: [], now }
  const select = db.prepareArrays("SELECT key, at FROM windows WHERE id = ? ORDER BY at, key LIMIT ?")
  return { rows: select.all<[string, number]>(id, count).map(([key, at]) => ({ key, at })), now }
}

/** Remove all of one partition, or of all; at most so many. Gives how many there were. */
export const empty = (db: Statements, processor: string, partition: number | undefined, most: number): number => {
  const own = "processor = ?1 AND (?2 IS NULL OR partition = ?2)"
  const { changes } = db
    .prepare(
      `DELETE FROM windows WHERE (id, key) IN (SELECT id, key FROM windows WHERE id IN
       (SELECT id FROM table_names WHERE ${own}) LIMIT ?3)`
    )
    .run(processor, partition ?? null, most)
  if (Number(changes) < most) db.prepare(`DELETE FROM times WHERE ${own}`).run(processor, partition ?? null)
  return Number(changes)
}
