/** Enqueueing on SQLite: one row for each job that is not there. Read `redis/jobEnqueue.ts` beside it. */
import type { Deduplicate, Enqueued, NewJob } from "../JobStore.ts"
import { type Books, die, makeReady, openLane, over } from "./jobLife.ts"
import { find, nextPlace, priorityOf, type Row, update } from "./jobRows.ts"

const dueOf = ({ at, delay }: NewJob, now: number): number =>
  delay !== undefined ? now + Math.ceil(delay) : Math.max(now, Math.ceil(at ?? 0))

/** The job under the key, if a second one is not wanted; changed as asked for. */
const under = (books: Books, job: NewJob, { key, replace, restart }: Deduplicate): Row | undefined => {
  const { db, now, queue } = books
  const known = db
    .prepare("SELECT until, id FROM job_keys WHERE queue = ? AND key = ?")
    .get<{ readonly until: number; readonly id: string }>(queue, key)
  if (known === undefined || (known.until !== 0 && known.until <= now)) return undefined
  const row = find(db, queue, known.id, now)
  if (known.until === 0 && (row === undefined || row.state >= 4)) return undefined
  // Within the time it does not matter what became of it.
  if (row === undefined) return { ...nobody, id: known.id }
  if (row.state === 1 && replace)
    update(db, row.row, { data: job.payload, format: job.format ?? null, headers: job.headers })
  if (row.state === 1 && restart) makeReady(books, row, dueOf(job, now))
  return row
}

const nobody = { row: 0, state: 5 } as Row

/** How many of them are not done; undefined: one is not coming. */
const unfinished = ({ db, now, queue }: Books, id: string, after: ReadonlyArray<string>): number | undefined => {
  let count = 0
  let whole = true
  for (const other of after) {
    const row = find(db, queue, other, now)
    if (row === undefined || row.state === 4 || row.state === 6) whole = false
    else if (row.state < 4) {
      count++
      db.prepare("INSERT OR IGNORE INTO job_parents VALUES (?, ?, ?)").run(queue, other, id)
    }
  }
  return whole ? count : undefined
}

const enqueueOne = (books: Books, job: NewJob): Enqueued => {
  const { db, now, queue } = books
  if (find(db, queue, job.id, now) !== undefined) return { id: job.id, repeated: true }
  const { deduplicate } = job
  if (deduplicate !== undefined) {
    const there = under(books, job, deduplicate)
    if (there !== undefined) return { id: there.id, repeated: true }
    const until = deduplicate.within ? now + Math.ceil(deduplicate.within) : 0
    db.prepare("INSERT OR REPLACE INTO job_keys VALUES (?, ?, ?, ?)").run(queue, deduplicate.key, until, job.id)
  }
  // One that is to be forgotten by now may still be there.
  db.prepare("DELETE FROM jobs WHERE queue = ? AND id = ?").run(queue, job.id)
  const waits = job.after === undefined ? 0 : unfinished(books, job.id, job.after)
  const due = dueOf(job, now)
  const state = waits !== 0 ? 2 : due > now ? 1 : 0
  db.prepare(
    `INSERT INTO jobs (queue, id, name, priority, state, place, at, since, lane, headers, others, waits, format, data)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
  ).run(
    ...[
      queue,
      job.id,
      job.name,
      priorityOf(job.priority),
      state,
      nextPlace(db),
      due,
      now,
      job.group ?? null,
      job.headers
    ],
    ...[JSON.stringify(job.after ?? []), waits ?? 0, job.format ?? null, job.payload]
  )
  openLane(books, job.name, job.group ?? null)
  if (waits === undefined) {
    die(books, find(db, queue, job.id, now)!, "Child", JSON.stringify({ at: now, exit: "Child" }))
    over(books, job.id, false)
  }
  books.work = true
  return { id: job.id, repeated: false }
}

export const enqueue = (books: Books, jobs: ReadonlyArray<NewJob>): ReadonlyArray<Enqueued> => {
  books.db.prepare("INSERT OR IGNORE INTO queues (queue) VALUES (?)").run(books.queue)
  return jobs.map((job) => enqueueOne(books, job))
}
