/** Jobs that recur, on SQLite. Read `redis/jobSlots.ts` beside it. */
import type { Firing, NewRecurrence, Recurrence } from "../JobStore.ts"
import { enqueue } from "./jobEnqueue.ts"
import type { Books } from "./jobLife.ts"
import { nextPlace } from "./jobRows.ts"

/** Due ones that one look gives. */
const page = 100

interface Row {
  readonly name: string
  readonly timing: string
  readonly definition: string
  readonly data: Uint8Array
  readonly paused: number
  readonly last: number | null
  readonly slot: number
  readonly revision: number
}

const columns = "name, timing, definition, CAST(data AS BLOB) AS data, paused, last, slot, revision"

/** When the first slot of those that are not paused is due. */
export const earliest = ({ db, queue }: Pick<Books, "db" | "queue">): number | undefined =>
  db
    .prepareArrays("SELECT slot FROM job_recurrences WHERE queue = ? AND paused = 0 ORDER BY slot LIMIT 1")
    .get<[number]>(queue)?.[0]

const find = ({ db, queue }: Books, name: string): Row | undefined =>
  db.prepare(`SELECT ${columns} FROM job_recurrences WHERE queue = ? AND name = ?`).get<Row>(queue, name)

export const recur = (books: Books, { first, job, missed, name, timing }: NewRecurrence): void => {
  const { db, queue } = books
  const { payload, ...rest } = job
  const definition = JSON.stringify({ missed, job: rest })
  const known = find(books, name)
  const same = known?.timing === timing
  if (same && known.definition === definition && Buffer.from(payload).equals(known.data)) return
  books.work = true
  db.prepare("INSERT OR IGNORE INTO queues (queue) VALUES (?)").run(queue)
  db.prepare("INSERT OR REPLACE INTO job_recurrences VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)").run(
    ...[queue, name, timing, definition, payload],
    ...[known?.paused ?? 0, known?.last ?? null, same ? known.slot : first, nextPlace(db)]
  )
}

const recurrenceOf = ({ data, definition, last, paused, ...row }: Row): Recurrence => {
  const { job, missed } = JSON.parse(definition)
  return { ...row, missed, job: { ...job, payload: data }, paused: paused === 1, last: last ?? undefined }
}

export const recurrences = ({ db, now, queue }: Books, which: "all" | "due"): ReadonlyArray<Recurrence> => {
  const select = `SELECT ${columns} FROM job_recurrences WHERE queue = ?`
  const rows =
    which === "all"
      ? db.prepare(`${select} ORDER BY name`).all<Row>(queue)
      : db.prepare(`${select} AND paused = 0 AND slot <= ? ORDER BY slot LIMIT ${page}`).all<Row>(queue, now)
  return rows.map(recurrenceOf)
}

export const fire = (books: Books, firings: ReadonlyArray<Firing>): void => {
  const { db, now, queue } = books
  for (const { name, next, revision, run, slot } of firings) {
    const row = find(books, name)
    if (row?.revision !== revision || row.paused === 1 || row.slot !== slot || slot > now) continue
    if (run !== undefined) enqueue(books, [run.job])
    db.prepare("UPDATE job_recurrences SET slot = ?, last = ? WHERE queue = ? AND name = ?").run(
      ...[next, run?.slot ?? row.last, queue, name]
    )
  }
}

/** False: there is none of this name. */
export const alter = (
  books: Books,
  name: string,
  change: "pause" | "remove" | { readonly resume: number }
): boolean => {
  const { db, queue } = books
  const row = find(books, name)
  if (row === undefined) return false
  books.work = true
  if (change === "remove") db.prepare("DELETE FROM job_recurrences WHERE queue = ? AND name = ?").run(queue, name)
  else if (change === "pause") {
    db.prepare("UPDATE job_recurrences SET paused = 1 WHERE queue = ? AND name = ?").run(queue, name)
  } else if (row.paused === 1) {
    db.prepare("UPDATE job_recurrences SET paused = 0, slot = ? WHERE queue = ? AND name = ?").run(
      ...[change.resume, queue, name]
    )
  }
  return true
}
