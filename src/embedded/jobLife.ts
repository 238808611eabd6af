/** What happens to one job inside a transaction: it becomes ready, ends, or is taken back; and what follows from that. */
import { maxHistory, maxLost, type Reason } from "../JobStore.ts"
import type { Statements } from "./client.ts"
import { columns, find, nextPlace, type Row, update } from "./jobRows.ts"

/** One queue in one transaction. `told`: somebody may have something to do, or to hear. */
export interface Books {
  readonly db: Statements
  readonly queue: string
  readonly now: number
  work: boolean
  told: boolean
}

/** The last lines of a ledger, with one more. */
export const written = (history: string, entry: string): string =>
  entry === "" ? history : `${[...history.split("\n").slice(0, -1), entry].slice(-maxHistory).join("\n")}\n`

/** Ready, or delayed until a moment. Without a place of its own it stands behind all others. */
export const makeReady = (
  books: Books,
  { row, waits }: Pick<Row, "row" | "waits">,
  at: number,
  place?: number
): void => {
  const state = waits > 0 ? 2 : at > books.now ? 1 : 0
  update(books.db, row, { state, at, place: place ?? nextPlace(books.db), slot: null, claim: null, progress: null })
  books.work = true
}

/** A group that was not used for a while is forgotten. */
export const openLane = ({ db, queue }: Books, name: string, lane: string | null): void => {
  if (lane === null) return
  db.prepare("INSERT OR IGNORE INTO job_lanes (queue, name, lane) VALUES (?, ?, ?)").run(queue, name, lane)
}

/** A running job of a group is not running any more; the next one not before a moment. */
export const leaveLane = (books: Books, { lane, name }: Pick<Row, "lane" | "name">, from = 0): void => {
  if (lane === null) return
  const { db, queue } = books
  books.work = true
  db.prepare(
    `UPDATE job_lanes SET running = max(0, running - 1), not_before = max(not_before, ?)
     WHERE queue = ? AND name = ? AND lane = ?`
  ).run(from, queue, name, lane)
}

/** What waits for it, and whoever asked about it. */
export const over = (books: Books, id: string, well: boolean): void => {
  const { db, now, queue } = books
  books.told = true
  db.prepare("DELETE FROM job_keys WHERE queue = ? AND id = ? AND until = 0").run(queue, id)
  const parents = db
    .prepare("DELETE FROM job_parents WHERE queue = ? AND child = ? RETURNING parent")
    .all<{ readonly parent: string }>(queue, id)
  for (const { parent } of parents) {
    const row = find(db, queue, parent, now)
    if (row?.state !== 2) continue
    if (!well) {
      die(books, row, "Child", JSON.stringify({ at: now, exit: "Child", child: id }))
      continue
    }
    update(db, row.row, { waits: row.waits - 1 })
    if (row.waits === 1) makeReady(books, { row: row.row, waits: 0 }, now, row.place)
  }
}

export const die = (books: Books, row: Row, reason: Reason, entry: string, lost = row.lost): void => {
  const { db, now, queue } = books
  const changes = { state: 4, at: now, reason, lost, slot: null, claim: null, progress: null, stop: 0 }
  update(db, row.row, { ...changes, history: written(row.history, entry) })
  over(books, row.id, false)
  const keep = db
    .prepare("SELECT dead_count AS count, dead_age AS age FROM queues WHERE queue = ?")
    .get<{ readonly count: number | null; readonly age: number | null }>(queue)
  if (keep?.age) {
    const old = "SELECT row FROM jobs WHERE queue = ? AND state = 4 AND at <= ? LIMIT 5"
    db.prepare(`DELETE FROM jobs WHERE row IN (${old})`).run(queue, now - keep.age)
  }
  if (keep?.count) {
    const newest = "SELECT row FROM jobs WHERE queue = ? AND state = 4 ORDER BY at DESC, row DESC LIMIT -1 OFFSET ?"
    db.prepare(`DELETE FROM jobs WHERE row IN (${newest})`).run(queue, keep.count)
  }
}

/** Cancelled; it is remembered for a while. */
export const cancelled = (books: Books, row: Row, ttl: number): void => {
  const { db, now } = books
  if (ttl > 0) {
    const changes = { state: 6, at: now, expires: now + ttl, slot: null, claim: null, progress: null, stop: 0 }
    update(db, row.row, { ...changes, data: "", format: null })
  } else db.prepare("DELETE FROM jobs WHERE row = ?").run(row.row)
  over(books, row.id, false)
}

/** A claimed job goes back to its place; one that was to stop has stopped. */
export const takeBack = (books: Books, row: Row): void => {
  leaveLane(books, row)
  if (row.stop === 1) cancelled(books, row, 0)
  else makeReady(books, row, books.now, row.place)
}

/** All claims of a slot. */
export const claimsOf = ({ db, queue }: Books, slot: number): ReadonlyArray<Row> =>
  db.prepare(`SELECT ${columns} FROM jobs WHERE queue = ? AND state = 3 AND slot = ?`).all<Row>(queue, slot)

/** Its lease has ended once more. */
export const lose = (books: Books, row: Row): void => {
  const entry = JSON.stringify({ at: books.now, exit: "Lost" })
  if (row.lost + 1 >= maxLost) {
    leaveLane(books, row)
    return die(books, row, "Lost", entry, row.lost + 1)
  }
  update(books.db, row.row, { lost: row.lost + 1, history: written(row.history, entry) })
  takeBack(books, row)
}
