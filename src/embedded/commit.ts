/**
 * Fences and numbered commits: claim, mark, release, commit, seek. A commit is judged first (epoch and incarnation, then its number)
 * and written after; one that is refused writes nothing.
 */
import type { Claim, Commit, CommitResult, Committed, Fence, Layout, Start } from "../Broker.ts"
import { emit } from "./append.ts"
import type { Statements } from "./client.ts"
import { formatId, isAbove, parseOffset, parsePlace } from "./entry.ts"
import * as Inbox from "./inbox.ts"
import { enqueue as enqueueJobs } from "./jobEnqueue.ts"
import * as Log from "./log.ts"
import * as Parking from "./parking.ts"
import * as Probation from "./probation.ts"
import type { Names } from "./schema.ts"
import * as Timed from "./timed.ts"
import * as Windows from "./windows.ts"

interface Stored {
  readonly epoch: string
  readonly incarnation: string
  readonly number: number
  readonly trial: string
}

const stored = (db: Statements, processor: string, partition: number): Stored | undefined =>
  db
    .prepare("SELECT epoch, incarnation, number, trial FROM fences WHERE processor = ? AND partition = ?")
    .get(processor, partition)

const done: CommitResult = { _tag: "Done" }
const doneBefore: CommitResult = { _tag: "DoneBefore" }

/** The answer that needs no write; undefined if the commit is to be applied. */
const judge = (found: Stored | undefined, fence: Fence, number: number): CommitResult | undefined => {
  if (found === undefined) return { _tag: "WentBack", found: 0 }
  if (found.incarnation !== fence.incarnation || found.epoch !== String(fence.epoch)) {
    const inForce = BigInt(found.epoch)
    // A lower epoch: the server has lost our claim.
    return inForce < fence.epoch ? { _tag: "WentBack", found: found.number } : { _tag: "Fenced", inForce }
  }
  if (found.number === number) return undefined
  return found.number === number + 1 ? doneBefore : { _tag: "WentBack", found: found.number }
}

const countCommit = (db: Statements, processor: string, partition: number): void => {
  db.prepare("UPDATE fences SET number = number + 1, trial = '' WHERE processor = ? AND partition = ?").run(
    processor,
    partition
  )
}

const moveTo = (db: Statements, log: number, processor: string, place: Log.Place): void => {
  const { ms, seq } = parsePlace(place.entry)
  db.prepare(
    `INSERT INTO positions (log, processor, offset, entry, ms, seq, entries, events) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET offset = excluded.offset, entry = excluded.entry, ms = excluded.ms, seq = excluded.seq,
       entries = excluded.entries, events = excluded.events`
  ).run(log, processor, place.offset, place.entry, ms, seq, place.entries, place.events)
}

/** A log in which more could be dropped than one transaction may. */
export interface Untrimmed {
  readonly topic: Layout
  readonly partition: number
}

const trimDone = (
  db: Statements,
  log: number,
  topic: Layout,
  partition: number,
  now: number,
  untrimmed: Array<Untrimmed>
): void => {
  if (topic.retention._tag !== "Consumed") return
  const state = Log.load(db, log)
  const dropped = Log.trim(db, state, topic.retention, now)
  if (dropped === 0) return
  Log.save(db, state)
  if (dropped === Log.trimLimit) untrimmed.push({ topic, partition })
}

const writeRows = (db: Statements, names: Names, now: number, commit: Commit): void => {
  const upsert = db.prepare(
    "INSERT INTO table_rows (id, key, value) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
  )
  const remove = db.prepare("DELETE FROM table_rows WHERE id = ? AND key = ?")
  // Rows of one table mostly stand together.
  let table: string | undefined
  let id = 0
  for (const row of commit.rows) {
    if (row.table !== table) {
      table = row.table
      id = names.tableOrNew(db, commit.processor, table, commit.partition)
    }
    if (row.value === undefined) remove.run(id, row.key)
    else upsert.run(id, row.key, row.value)
    if (row.timeToLive !== undefined)
      Timed.write(db, id, row.key, row.value === undefined ? undefined : now + row.timeToLive)
  }
}

export const commit = (
  db: Statements,
  names: Names,
  now: number,
  request: Commit,
  untrimmed: Array<Untrimmed>
): CommitResult => {
  const { partition } = request
  const processor = names.stored(request.processor)
  const refused = judge(stored(db, processor, partition), request, request.number)
  if (refused !== undefined) return refused
  const { parking } = request
  if (parking !== undefined && !Parking.isFirst(db, processor, partition, parking.remove)) {
    return { _tag: "WentBack", found: request.number }
  }
  for (const { offset, topic } of request.offsets) {
    const { last } = Log.load(db, names.logOrNew(db, topic, partition))
    // The file may be an older one than it was: nothing goes beyond what it has.
    if (isAbove(parseOffset(offset).id, last)) return { _tag: "Truncated", topic, last: formatId(last) }
  }
  countCommit(db, processor, partition)
  for (const place of request.offsets) {
    const log = names.logOrNew(db, place.topic, partition)
    moveTo(db, log, processor, place)
    trimDone(db, log, place.layout, partition, now, untrimmed)
  }
  writeRows(db, names, now, request)
  for (const emitted of request.emits) if (emitted.entries.length > 0) emit(db, names, now, emitted)
  if (request.replies !== undefined) Inbox.reply(db, names, now, request.replies)
  for (const { job, queue } of request.jobs ?? []) {
    enqueueJobs({ db, queue: names.stored(queue), now, work: false, told: false }, [job])
  }
  if (parking !== undefined) Parking.change(db, processor, partition, parking)
  if (request.windows !== undefined) Windows.change(db, names, request.processor, partition, request.windows)
  return done
}

const committedIn = (db: Statements, names: Names, processor: string, topic: string, partition: number): Committed => {
  const log = names.log(db, topic, partition)
  const select = db.prepareArrays(
    "SELECT offset, entry, entries, events FROM positions WHERE log = ? AND processor = ?"
  )
  const row = log === undefined ? undefined : select.get<[string, string, number, number]>(log, processor)
  return row === undefined
    ? { topic, ...Log.beginning }
    : { topic, offset: row[0], entry: row[1], entries: row[2], events: row[3] }
}

export const claim = (
  db: Statements,
  names: Names,
  name: string,
  partition: number,
  topics: ReadonlyArray<Layout>,
  fence: Fence
): Claim => {
  const processor = names.stored(name)
  const found = stored(db, processor, partition)
  const inForce = found === undefined ? undefined : BigInt(found.epoch)
  const lanes = Parking.lanes(db, processor, partition)
  let trial = found?.trial ?? ""
  if (inForce !== undefined && inForce >= fence.epoch) {
    const isSame = inForce === fence.epoch && found!.incarnation === fence.incarnation
    if (!isSame) return { _tag: "Refused", inForce }
  } else {
    const isPending = () =>
      lanes.length > 0 || topics.some(({ name }) => hasEvents(db, processor, names.log(db, name, partition)))
    trial = Probation.installed(trial, found?.incarnation === fence.incarnation, isPending)
    db.prepare(
      `INSERT INTO fences (processor, partition, epoch, incarnation, number, trial) VALUES (?, ?, ?, ?, 1, ?)
       ON CONFLICT DO UPDATE SET epoch = excluded.epoch, incarnation = excluded.incarnation, trial = excluded.trial`
    ).run(processor, partition, String(fence.epoch), fence.incarnation, trial)
  }
  return {
    _tag: "Claimed",
    number: found?.number ?? 1,
    committed: topics.map((topic) => committedIn(db, names, processor, topic.name, partition)),
    logs: topics.map((topic) => Log.info(db, names.log(db, topic.name, partition), topic.name, partition)),
    lanes,
    times: Windows.times(db, names, name, partition, topics),
    probation: Probation.countOf(trial)
  }
}

/** Whether entries stand behind the last one that is done whole. */
const hasEvents = (db: Statements, processor: string, log: number | undefined): boolean => {
  const place = "(SELECT ms, seq FROM positions WHERE log = ?1 AND processor = ?2 UNION ALL SELECT -1, -1 LIMIT 1)"
  const select = db.prepare(`SELECT 1 FROM entries WHERE log = ?1 AND (ms, seq) > ${place} LIMIT 1`)
  return log !== undefined && select.get(log, processor) !== undefined
}

export type Judged = Exclude<CommitResult, { readonly _tag: "DoneBefore" }>

/** Run `f` for the owner alone. */
const asOwner = (
  db: Statements,
  names: Names,
  name: string,
  partition: number,
  fence: Fence,
  f: typeof Probation.mark
): Judged => {
  const processor = names.stored(name)
  const found = stored(db, processor, partition)
  const refused = judge(found, fence, found?.number ?? 0)
  // With the number that is stored, none is done before.
  if (refused !== undefined) return refused as Judged
  f(db, processor, partition)
  return { _tag: "Done" }
}

export const mark = (db: Statements, names: Names, name: string, partition: number, fence: Fence): Judged =>
  asOwner(db, names, name, partition, fence, Probation.mark)

export const release = (db: Statements, names: Names, name: string, partition: number, fence: Fence): Judged =>
  asOwner(db, names, name, partition, fence, Probation.release)

/** Put a processor at its start in every partition of these topics where it has no position yet. */
export const register = (
  db: Statements,
  names: Names,
  processor: string,
  topics: ReadonlyArray<Layout>,
  start: Start
): void => {
  const select = db.prepare("SELECT 1 FROM positions WHERE log = ? AND processor = ?")
  const name = names.stored(processor)
  for (const topic of topics) {
    for (let partition = 0; partition < topic.partitions; partition++) {
      const log = names.logOrNew(db, topic.name, partition)
      if (select.get(log, name) === undefined) moveTo(db, log, name, Log.placeOf(db, Log.load(db, log), start))
    }
  }
}

export interface Seek extends Fence {
  readonly processor: string
  readonly partition: number
  readonly number: number
  readonly topics: ReadonlyArray<Layout>
  readonly to: Start
  readonly reset: boolean
}

export type SeekResult = CommitResult | { readonly _tag: "Lost"; readonly topic: string; readonly first: string }

export const seek = (
  db: Statements,
  names: Names,
  now: number,
  request: Seek,
  untrimmed: Array<Untrimmed>
): SeekResult => {
  const { partition, to, topics } = request
  const processor = names.stored(request.processor)
  const refused = judge(stored(db, processor, partition), request, request.number)
  if (refused !== undefined) return refused
  const logs = topics.map((topic) => ({ topic, log: Log.load(db, names.logOrNew(db, topic.name, partition)) }))
  for (const { log, topic } of logs) {
    const first = Log.lostBefore(db, log, to)
    if (first !== undefined) return { _tag: "Lost", topic: topic.name, first }
  }
  countCommit(db, processor, partition)
  for (const { log, topic } of logs) {
    moveTo(db, log.id, processor, Log.placeOf(db, log, to))
    trimDone(db, log.id, topic, partition, now, untrimmed)
  }
  // All rows in this very transaction, however many: half a reset would be a table that never was.
  if (request.reset) {
    const own = "WHERE id IN (SELECT id FROM table_names WHERE processor = ? AND partition = ?)"
    db.prepare(`DELETE FROM table_rows ${own}`).run(processor, partition)
    db.prepare(`DELETE FROM row_ends ${own}`).run(processor, partition)
    Parking.empty(db, processor, partition, Number.MAX_SAFE_INTEGER)
    Windows.empty(db, processor, partition, Number.MAX_SAFE_INTEGER)
  }
  return done
}
