/** The exchange on SQLite: settle, then claim, in one transaction. Read `redis/jobExchange.ts` beside it. */
import {
  type Claimed,
  defaultKeepDone,
  type Exchange,
  type Exchanged,
  type NewJob,
  type Room,
  type Settlement
} from "../JobStore.ts"
import type { Statements } from "./client.ts"
import { type Books, cancelled, die, leaveLane, makeReady, over, takeBack, written } from "./jobLife.ts"
import { claimedOf, columns, find, nextPlace, type Row, update } from "./jobRows.ts"
import { earliest } from "./jobSlots.ts"

export interface SessionRow {
  readonly number: number
  readonly refused: string
  readonly claimed: string
}

export const sessionOf = (db: Statements, queue: string, slot: number): SessionRow | undefined =>
  db
    .prepare("SELECT number, refused, claimed FROM job_sessions WHERE slot = ? AND queue = ?")
    .get<SessionRow>(slot, queue)

interface Settings {
  readonly paused: number
  readonly limit_count: number | null
  readonly limit_per: number | null
  readonly window: number
  readonly used: number
  readonly keep_done: number | null
}

const settingsOf = ({ db, queue }: Books): Settings | undefined =>
  db
    .prepare("SELECT paused, limit_count, limit_per, window, used, keep_done FROM queues WHERE queue = ?")
    .get<Settings>(queue)

/** Into any queue, in the same transaction. */
type Enqueue = (queue: string, job: NewJob) => void

/** False: it came too late. */
const settle = (books: Books, slot: number, { job, outcome }: Settlement, enqueue: Enqueue): boolean => {
  const { db, now, queue } = books
  const row = find(db, queue, job.id, now)
  if (row?.state !== 3 || row.slot !== slot || row.claim !== job.claim) return false
  switch (outcome._tag) {
    case "Done": {
      leaveLane(books, row)
      if (outcome.ttl > 0) {
        const changes = { state: 5, at: now, expires: now + Math.ceil(outcome.ttl), slot: null, claim: null, stop: 0 }
        update(db, row.row, { ...changes, progress: null, data: outcome.result, format: outcome.format ?? null })
      } else db.prepare("DELETE FROM jobs WHERE row = ?").run(row.row)
      over(books, row.id, true)
      for (const { job, queue } of outcome.jobs ?? []) enqueue(queue, job)
      return true
    }
    case "Retry": {
      const failures = row.failures + (outcome.counted ? 1 : 0)
      update(db, row.row, { failures, history: written(row.history, outcome.entry), stop: 0 })
      const due = now + Math.ceil(outcome.delay)
      leaveLane(books, row, due)
      // In a group it stays the first, and the group waits with it.
      if (row.lane === null) makeReady(books, row, due)
      else makeReady(books, row, now, row.place)
      return true
    }
    case "Dead":
      leaveLane(books, row)
      die(books, row, outcome.reason, outcome.entry)
      return true
    case "Cancelled":
      leaveLane(books, row)
      cancelled(books, row, Math.ceil(outcome.ttl))
      return true
    case "Back":
      takeBack(books, { ...row, stop: 0 })
      return true
  }
}

/** Those that are due stand behind all that are ready, the earliest first. */
const promote = (books: Books, name: string): void => {
  const { db, now, queue } = books
  const due = db
    .prepareArrays(
      "SELECT row FROM jobs WHERE queue = ? AND name = ? AND state = 1 AND at <= ? ORDER BY at, place LIMIT 200"
    )
    .all<[number]>(queue, name, now)
  for (const [row] of due) update(db, row, { state: 0, place: nextPlace(db) })
}

/** When a job of the name is due. */
const nextDue = ({ db, queue }: Books, name: string): number | undefined =>
  db
    .prepareArrays("SELECT at FROM jobs WHERE queue = ? AND name = ? AND state = 1 ORDER BY at LIMIT 1")
    .get<[number]>(queue, name)?.[0]

interface Lane {
  readonly lane: string
  readonly running: number
  readonly not_before: number
  readonly window: number
  readonly used: number
}

/** Of a worker that knows a name without groups: an older version, or a newer one. */
const unknownGroup: NonNullable<Room["group"]> = { concurrency: 1, limit: undefined }

/** The next of groups that may run, one of each in turn; `look` is told when one that waits may. */
const fromLanes = (
  books: Books,
  { group = unknownGroup, name }: Room,
  most: number,
  look: (at: number) => void
): Array<Row> => {
  const { db, now, queue } = books
  const found: Array<Row> = []
  const lanes = db
    .prepare(
      `SELECT lane, running, not_before, window, used FROM job_lanes WHERE queue = ? AND name = ? AND running < ?
       AND EXISTS (SELECT 1 FROM jobs j WHERE j.queue = job_lanes.queue AND j.name = job_lanes.name
                   AND j.lane = job_lanes.lane AND j.lane IS NOT NULL AND j.state < 4 AND j.state = 0)
       ORDER BY turn LIMIT 1000`
    )
    .all<Lane>(queue, name, group.concurrency)
  for (const lane of lanes) {
    if (found.length >= most) break
    const { limit } = group
    const fresh = limit === undefined || now >= lane.window + limit.per
    const used = fresh ? 0 : lane.used
    if (lane.not_before > now || (limit !== undefined && used >= limit.count)) {
      look(Math.max(lane.not_before, limit !== undefined && used >= limit.count ? lane.window + limit.per : 0))
      continue
    }
    const row = db
      .prepare(
        `SELECT ${columns} FROM jobs WHERE queue = ? AND name = ? AND lane = ? AND lane IS NOT NULL AND state < 4
         AND state = 0 ORDER BY place LIMIT 1`
      )
      .get<Row>(queue, name, lane.lane)!
    db.prepare(
      `UPDATE job_lanes SET running = running + 1, window = ?, used = ?, turn = ?, until = ?
       WHERE queue = ? AND name = ? AND lane = ?`
    ).run(
      ...[fresh ? now : lane.window, used + 1, nextPlace(db), (fresh ? now : lane.window) + (limit?.per ?? 0)],
      ...[queue, name, lane.lane]
    )
    // Taken from here on: the next look must not find it again.
    update(db, row.row, { state: 3 })
    found.push(row)
  }
  return found
}

const claim = (books: Books, request: Exchange, most: number, look: (at: number) => void): ReadonlyArray<Row> => {
  const { db, queue } = books
  const { alone, rooms, shares } = request
  const left = rooms.map((room) => room.count)
  const found: Array<Row> = []
  for (const { count, name } of rooms) {
    if (count > 0) promote(books, name)
    const due = nextDue(books, name)
    if (due !== undefined) look(due)
  }
  const take = (at: number, rows: ReadonlyArray<Row>): number => {
    for (const row of rows) update(db, row.row, { state: 3, slot: request.session.slot, claim: request.number })
    left[at]! -= rows.length
    found.push(...rows)
    return rows.length
  }
  if (alone) {
    for (const [i, { name }] of rooms.entries()) {
      if (left[i]! <= 0) continue
      const row = db
        .prepare(
          `SELECT ${columns} FROM jobs WHERE queue = ? AND name = ? AND state = 0 AND lost >= 2 AND lane IS NULL
           ORDER BY place LIMIT 1`
        )
        .get<Row>(queue, name)
      if (row !== undefined) {
        take(i, [row])
        return found
      }
    }
  }
  const ready = db.prepare(
    `SELECT ${columns} FROM jobs WHERE queue = ? AND name = ? AND priority = ? AND state = 0 AND lane IS NULL AND lost < 2
     ORDER BY place LIMIT ?`
  )
  const from = (i: number, priority: number, count: number): number => {
    if (count <= 0) return 0
    const room = rooms[i]!
    // Groups have no priority: they stand where medium ones do.
    const grouped = priority === 1 ? take(i, fromLanes(books, room, count, look)) : 0
    const rest = count - grouped
    return grouped + (rest > 0 ? take(i, ready.all<Row>(queue, room.name, priority, rest)) : 0)
  }
  for (const [priority, share] of shares.entries()) {
    let open = Math.min(share, most - found.length)
    for (let i = 0; i < rooms.length; i++) {
      open -= from(i, priority, Math.min(left[i]!, Math.ceil(open / (rooms.length - i))))
    }
  }
  for (const priority of [0, 1, 2]) {
    for (let i = 0; i < rooms.length; i++) from(i, priority, Math.min(left[i]!, most - found.length))
  }
  return found
}

/** Finished jobs whose time is over; with a bound, also those that are too many, which takes a look at all of them. */
const purge = ({ db, now, queue }: Books, keep: number | null): void => {
  const over = "SELECT row FROM jobs WHERE queue = ? AND state >= 5"
  db.prepare(`DELETE FROM jobs WHERE row IN (${over} AND expires <= ? ORDER BY expires LIMIT 1000)`).run(queue, now)
  if (keep === null) return
  db.prepare(`DELETE FROM jobs WHERE row IN (${over} ORDER BY expires DESC, row DESC LIMIT 1000 OFFSET ?)`).run(
    queue,
    keep
  )
}

/** What is dropped now and then: keys and groups that nobody uses, and finished jobs beyond the default bound. */
export const tidy = (books: Books): void => {
  const { db, now, queue } = books
  purge(books, settingsOf(books)?.keep_done ?? defaultKeepDone)
  const keys = "SELECT key FROM job_keys WHERE queue = ?1 AND until > 0 AND until <= ?2 LIMIT 1000"
  db.prepare(`DELETE FROM job_keys WHERE queue = ?1 AND key IN (${keys})`).run(queue, now)
  db.prepare(
    `DELETE FROM job_lanes WHERE queue = ?1 AND running = 0 AND not_before <= ?2 AND until <= ?2
     AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.queue = ?1 AND j.name = job_lanes.name AND j.lane = job_lanes.lane
                     AND j.lane IS NOT NULL AND j.state < 4)`
  ).run(queue, now)
}

/** Whether an exchange that settles nothing would find anything: only then is it worth a transaction. */
export const isInVain = ({ db, now, queue }: Books, request: Exchange): boolean => {
  const session = sessionOf(db, queue, request.session.slot)
  if (session === undefined || session.number >= request.number) return false
  const ready = db.prepareArrays("SELECT 1 FROM jobs WHERE queue = ? AND name = ? AND state = 0 LIMIT 1")
  const due = db.prepareArrays("SELECT 1 FROM jobs WHERE queue = ? AND name = ? AND state = 1 AND at <= ? LIMIT 1")
  return !request.rooms.some(
    ({ name }) => ready.get(queue, name) !== undefined || due.get(queue, name, now) !== undefined
  )
}

/** Without `enqueue` nothing is changed, only looked at. */
export const exchange = (books: Books, request: Exchange, enqueue: Enqueue | undefined): Exchanged => {
  const { db, now, queue } = books
  const { number, rooms, session, settle: settlements } = request
  const { slot } = session
  const known = sessionOf(db, queue, slot)
  if (known === undefined || number < known.number) return { _tag: "Unknown" }
  let next: number | undefined
  const look = (at: number): void => {
    if (next === undefined || at < next) next = at
  }
  let refused: Array<string> = []
  let claimed: ReadonlyArray<Claimed> = []
  if (number === known.number) {
    refused = JSON.parse(known.refused)
    claimed = (JSON.parse(known.claimed) as ReadonlyArray<string>).flatMap((id) => {
      const row = find(db, queue, id, now)
      return row?.state === 3 && row.slot === slot && row.claim === number ? [claimedOf(row, number)] : []
    })
    look(now)
  } else if (enqueue === undefined) {
    for (const { name } of rooms) {
      const due = nextDue(books, name)
      if (due !== undefined) look(due)
    }
  } else {
    refused = settlements.filter((settlement) => !settle(books, slot, settlement, enqueue)).map(({ job }) => job.id)
    const settings = settingsOf(books)
    let most = settings?.paused === 1 ? 0 : request.count
    const per = settings?.limit_per ?? undefined
    const fresh = per !== undefined && now >= settings!.window + per
    const used = fresh ? 0 : (settings?.used ?? 0)
    if (per !== undefined && most > 0) {
      const open = settings!.limit_count! - used
      if (open < most) look((fresh ? now : settings!.window) + per)
      most = Math.min(most, open)
    }
    const rows = most > 0 ? claim(books, request, most, look) : []
    if (per !== undefined && rows.length > 0) {
      db.prepare("UPDATE queues SET window = ?, used = ? WHERE queue = ?").run(
        fresh ? now : settings!.window,
        used + rows.length,
        queue
      )
    }
    claimed = rows.map((row) => claimedOf(row, number))
    if (rows.length > 0 || settlements.length > 0) {
      db.prepare("UPDATE job_sessions SET number = ?, refused = ?, claimed = ? WHERE slot = ?").run(
        number,
        JSON.stringify(refused),
        JSON.stringify(claimed.map(({ id }) => id)),
        slot
      )
    }
    if (settlements.length > 0) purge(books, settings?.keep_done ?? null)
  }
  const suspect = db.prepareArrays(
    "SELECT 1 FROM jobs WHERE queue = ? AND name = ? AND state = 0 AND lost >= 2 LIMIT 1"
  )
  const suspects = rooms.some(({ name }) => suspect.get(queue, name) !== undefined)
  const due = { next, slot: earliest(books) }
  return { _tag: "Exchanged", now, refused, claimed, ...due, suspects, expired: hasExpired(books) }
}

export const hasExpired = ({ db, now, queue }: Books): boolean =>
  db.prepareArrays("SELECT 1 FROM job_sessions WHERE queue = ? AND ends <= ? LIMIT 1").get(queue, now) !== undefined
