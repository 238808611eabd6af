/**
 * The tables of the queues, and the rows in them. A job is one row from its enqueue until it is forgotten; `place` orders
 * those that are ready, so one that is given back stands where it was.
 *
 * Gotcha: `queue` holds the namespace too (`<namespace>:<queue>`).
 */
import type { Claimed, Item, Priority, Reason, State } from "../JobStore.ts"
import type { Statements, Value } from "./client.ts"

export const createTables = (db: Statements): void =>
  db.exec(`
CREATE TABLE IF NOT EXISTS queues (
  queue TEXT PRIMARY KEY, paused INTEGER NOT NULL DEFAULT 0, limit_count INTEGER, limit_per INTEGER,
  window INTEGER NOT NULL DEFAULT 0, used INTEGER NOT NULL DEFAULT 0,
  keep_done INTEGER, dead_count INTEGER, dead_age INTEGER, grace INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
-- state: 0 ready, 1 delayed, 2 waiting, 3 active, 4 dead, 5 done, 6 cancelled. at: due, or when it ended.
-- data: the payload, or the result. others: the ids it comes after, as JSON; waits: how many of them are not done.
CREATE TABLE IF NOT EXISTS jobs (
  row INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL,
  priority INTEGER NOT NULL, state INTEGER NOT NULL, place INTEGER NOT NULL, at INTEGER NOT NULL, since INTEGER NOT NULL,
  slot INTEGER, claim INTEGER, failures INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0,
  lane TEXT, headers TEXT NOT NULL, others TEXT NOT NULL DEFAULT '[]', waits INTEGER NOT NULL DEFAULT 0,
  format TEXT, data BLOB NOT NULL, reason TEXT, history TEXT NOT NULL DEFAULT '', progress TEXT,
  stop INTEGER NOT NULL DEFAULT 0, expires INTEGER, UNIQUE (queue, id)
);
CREATE INDEX IF NOT EXISTS jobs_ready ON jobs (queue, name, priority, place) WHERE state = 0 AND lane IS NULL AND lost < 2;
CREATE INDEX IF NOT EXISTS jobs_suspect ON jobs (queue, name, place) WHERE state = 0 AND lost >= 2;
CREATE INDEX IF NOT EXISTS jobs_in_lane ON jobs (queue, name, lane, state, place) WHERE lane IS NOT NULL AND state < 4;
CREATE INDEX IF NOT EXISTS jobs_due ON jobs (queue, name, at, place) WHERE state = 1;
CREATE INDEX IF NOT EXISTS jobs_active ON jobs (queue, slot) WHERE state = 3;
CREATE INDEX IF NOT EXISTS jobs_waiting ON jobs (queue) WHERE state = 2;
CREATE INDEX IF NOT EXISTS jobs_dead ON jobs (queue, at) WHERE state = 4;
CREATE INDEX IF NOT EXISTS jobs_over ON jobs (queue, expires) WHERE state >= 5;
-- One group of a name: how many of it run, not before when the next may, its window of the limit and when that is over, and
-- whose turn it is.
CREATE TABLE IF NOT EXISTS job_lanes (
  queue TEXT NOT NULL, name TEXT NOT NULL, lane TEXT NOT NULL, running INTEGER NOT NULL DEFAULT 0,
  not_before INTEGER NOT NULL DEFAULT 0, window INTEGER NOT NULL DEFAULT 0, used INTEGER NOT NULL DEFAULT 0,
  turn INTEGER NOT NULL DEFAULT 0, until INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (queue, name, lane)
) WITHOUT ROWID;
-- until 0: while that job is not over.
CREATE TABLE IF NOT EXISTS job_keys (
  queue TEXT NOT NULL, key TEXT NOT NULL, until INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (queue, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS job_keys_of ON job_keys (queue, id);
CREATE TABLE IF NOT EXISTS job_parents (
  queue TEXT NOT NULL, child TEXT NOT NULL, parent TEXT NOT NULL, PRIMARY KEY (queue, child, parent)
) WITHOUT ROWID;
-- number, refused, claimed: of the last exchange; the latter two as JSON.
CREATE TABLE IF NOT EXISTS job_sessions (
  slot INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, worker TEXT NOT NULL, ends INTEGER NOT NULL,
  number INTEGER NOT NULL DEFAULT 0, refused TEXT NOT NULL DEFAULT '[]', claimed TEXT NOT NULL DEFAULT '[]'
);
CREATE INDEX IF NOT EXISTS job_sessions_of ON job_sessions (queue, ends);
-- slot: the next one. definition: missed and the job without its payload, as JSON.
CREATE TABLE IF NOT EXISTS job_recurrences (
  queue TEXT NOT NULL, name TEXT NOT NULL, timing TEXT NOT NULL, definition TEXT NOT NULL, data BLOB NOT NULL,
  paused INTEGER NOT NULL DEFAULT 0, last INTEGER, slot INTEGER NOT NULL, revision INTEGER NOT NULL,
  PRIMARY KEY (queue, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS job_recurrences_due ON job_recurrences (queue, slot) WHERE paused = 0;
-- See internal/jobFacts.ts.
CREATE TABLE IF NOT EXISTS job_facts (
  queue TEXT NOT NULL, name TEXT NOT NULL, facts TEXT NOT NULL, PRIMARY KEY (queue, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS job_places (one INTEGER PRIMARY KEY, last INTEGER NOT NULL);
`)

/** The channel of those who wait for jobs of a queue. */
export const work = (queue: string): string => `jobs:${queue}`

const priorities: ReadonlyArray<Priority> = ["high", "medium", "low"]
export const priorityOf = (priority: Priority): number => priorities.indexOf(priority)

const states: ReadonlyArray<State> = ["ready", "delayed", "waiting", "active", "dead", "done", "cancelled"]
export const stateOf = (state: State): number => states.indexOf(state)

export interface Row {
  readonly row: number
  readonly id: string
  readonly name: string
  readonly priority: number
  readonly state: number
  readonly place: number
  readonly at: number
  readonly since: number
  readonly slot: number | null
  readonly claim: number | null
  readonly failures: number
  readonly lost: number
  readonly lane: string | null
  readonly headers: string
  readonly others: string
  readonly waits: number
  readonly format: string | null
  readonly data: Uint8Array
  readonly reason: Reason | null
  readonly history: string
  readonly progress: string | null
  readonly stop: number
  readonly expires: number | null
}

/** Text is stored as text; all of it is read as bytes. */
export const columns =
  "row, id, name, priority, state, place, at, since, slot, claim, failures, lost, lane, headers, others, waits, format, " +
  "CAST(data AS BLOB) AS data, reason, history, progress, stop, expires"

/** One job, unless it is to be forgotten by now. */
export const find = (db: Statements, queue: string, id: string, now: number): Row | undefined => {
  const row = db.prepare(`SELECT ${columns} FROM jobs WHERE queue = ? AND id = ?`).get<Row>(queue, id)
  return row !== undefined && row.expires !== null && row.expires <= now ? undefined : row
}

/** Rising, so what is given one stands behind all others. */
export const nextPlace = (db: Statements): number =>
  db
    .prepare("INSERT INTO job_places VALUES (1, 1) ON CONFLICT DO UPDATE SET last = last + 1 RETURNING last")
    .get<{ readonly last: number }>()!.last

export const update = (db: Statements, row: number, changes: Readonly<Record<string, Value>>): void => {
  const fields = Object.keys(changes)
  const sets = fields.map((field) => `${field} = ?`).join(", ")
  db.prepare(`UPDATE jobs SET ${sets} WHERE row = ?`).run(...fields.map((field) => changes[field]!), row)
}

export const claimedOf = (row: Row, claim: number): Claimed => ({
  id: row.id,
  name: row.name,
  priority: priorities[row.priority]!,
  claim,
  failures: row.failures,
  lost: row.lost,
  enqueuedAt: row.since,
  format: row.format ?? undefined,
  payload: row.data,
  headers: row.headers,
  group: row.lane ?? undefined,
  after: JSON.parse(row.others)
})

/** One that is due counts as ready. */
export const itemOf = (row: Row, now: number): Item => ({
  id: row.id,
  name: row.name,
  state: row.state === 1 && row.at <= now ? "ready" : states[row.state]!,
  priority: priorities[row.priority]!,
  failures: row.failures,
  lost: row.lost,
  enqueuedAt: row.since,
  at: row.at,
  headers: row.headers,
  group: row.lane ?? undefined,
  reason: row.reason ?? undefined,
  history: row.history === "" ? [] : row.history.trimEnd().split("\n"),
  progress: row.progress ?? undefined,
  format: row.format ?? undefined,
  data: row.data
})
