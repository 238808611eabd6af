/**
 * One partition's log: its state, adding entries, trimming, and places in it. All of it runs inside a transaction.
 *
 * Every entry stores its place (`nth`) and the events up to its end (`upto`), both counted from the log's beginning, so
 * that no count here walks over the log.
 */
import type { Committed, LogInfo, NewEntry, Start } from "../Broker.ts"
import type { Retention } from "../Retention.ts"
import type { Statements } from "./client.ts"
import { type EntryId, formatId, isAbove, nextId, pack, parseId, parseOffset, parsePlace } from "./entry.ts"

/** No transaction drops more entries than this; the rest goes with the next ones. */
export const trimLimit = 4_000

/** Numbers as in the table `logs`; changed in place, written back by `save`. */
export interface Log {
  readonly id: number
  last: EntryId
  added: number
  events: number
  trimmed: number
  trimmedEvents: number
}

export const load = (db: Statements, id: number): Log => {
  const select = db.prepareArrays("SELECT last, added, events, trimmed, trimmed_events FROM logs WHERE id = ?")
  const row = select.get<[string, number, number, number, number]>(id)!
  return { id, last: parseId(row[0]), added: row[1], events: row[2], trimmed: row[3], trimmedEvents: row[4] }
}

export const save = (db: Statements, log: Log): void => {
  db.prepare("UPDATE logs SET last = ?, added = ?, events = ?, trimmed = ?, trimmed_events = ? WHERE id = ?").run(
    formatId(log.last),
    log.added,
    log.events,
    log.trimmed,
    log.trimmedEvents,
    log.id
  )
}

/** The id that each entry will have, or undefined if an explicit one is not above its predecessor. */
export const assignIds = (log: Log, entries: ReadonlyArray<NewEntry>, now: number): Array<EntryId> | undefined => {
  const ids: Array<EntryId> = []
  let last = log.last
  for (const entry of entries) {
    const id: EntryId = entry.id === undefined ? nextId(last, now) : parseId(entry.id)
    if (!isAbove(id, last)) return undefined
    ids.push(id)
    last = id
  }
  return ids
}

/** Add the first `length` entries under their ids. */
export const add = (
  db: Statements,
  log: Log,
  entries: ReadonlyArray<NewEntry>,
  ids: ReadonlyArray<EntryId>,
  length: number
): void => {
  const insert = db.prepare("INSERT INTO entries (log, ms, seq, count, nth, upto, fields) VALUES (?, ?, ?, ?, ?, ?, ?)")
  for (let i = 0; i < length; i++) {
    const { count, fields } = entries[i]!
    const id = ids[i]!
    log.added++
    log.events += count
    insert.run(log.id, id.ms, id.seq, count, log.added, log.events, pack(fields))
    log.last = id
  }
}

/** The first entry that stays: its id as text halves, its place, and the events before it. */
type Kept = [ms: string, seq: string, nth: number, before: number]
const keptColumns = "SELECT CAST(ms AS TEXT), CAST(seq AS TEXT), nth, upto - count FROM entries WHERE log = ?"

const drop = (db: Statements, log: Log, kept: Kept | undefined): number => {
  const before = log.trimmed
  if (kept === undefined) {
    if (log.added === log.trimmed) return 0
    if (log.added - log.trimmed > trimLimit) return drop(db, log, afterLimit(db, log))
    db.prepare("DELETE FROM entries WHERE log = ?").run(log.id)
    log.trimmed = log.added
    log.trimmedEvents = log.events
    return log.trimmed - before
  }
  if (kept[2] - 1 - log.trimmed > trimLimit) kept = afterLimit(db, log) ?? kept
  if (kept[2] - 1 <= log.trimmed) return 0
  const id = parseId(`${kept[0]}-${kept[1]}`)
  db.prepare("DELETE FROM entries WHERE log = ? AND (ms, seq) < (?, ?)").run(log.id, id.ms, id.seq)
  log.trimmed = kept[2] - 1
  log.trimmedEvents = kept[3]
  return log.trimmed - before
}

const afterLimit = (db: Statements, log: Log): Kept | undefined =>
  db.prepareArrays(`${keptColumns} ORDER BY ms, seq LIMIT 1 OFFSET ${trimLimit}`).get<Kept>(log.id)

// Walks over what is to go, and one entry more.
const firstAbove = (db: Statements, log: Log, upto: number): Kept | undefined =>
  db.prepareArrays(`${keptColumns} AND upto > ? ORDER BY ms, seq LIMIT 1`).get<Kept>(log.id, upto)

/** The processor with the fewest events done; undefined if the log has none. */
export const slowest = (
  db: Statements,
  log: Log
): { readonly processor: string; readonly events: number } | undefined =>
  db.prepare("SELECT processor, events FROM positions WHERE log = ? ORDER BY events LIMIT 1").get(log.id)

/** Events that not every processor has done; with no processor, all that are stored. */
export const uncommitted = (log: Log, holder: { readonly events: number } | undefined): number =>
  Math.max(0, log.events - Math.max(holder === undefined ? 0 : holder.events, log.trimmedEvents))

/** Drop what every processor has done whole, except the last `keep` events. */
const trimConsumed = (db: Statements, log: Log, keep: number): number => {
  const select = db.prepareArrays("SELECT entry FROM positions WHERE log = ? ORDER BY ms, seq LIMIT 1")
  const floor = select.get<[string]>(log.id)?.[0]
  if (floor === undefined || log.added === log.trimmed) return 0
  const id = parsePlace(floor)
  const byPosition = db.prepareArrays(`${keptColumns} AND (ms, seq) > (?, ?) ORDER BY ms, seq LIMIT 1`)
  const unread = byPosition.get<Kept>(log.id, id.ms, id.seq)
  if (keep === 0) return drop(db, log, unread)
  if (log.events - keep <= log.trimmedEvents) return 0
  const kept = firstAbove(db, log, log.events - keep)!
  return drop(db, log, unread !== undefined && unread[2] < kept[2] ? unread : kept)
}

/** Drop what the retention lets go, at most `trimLimit` entries; gives how many. The caller saves the log. */
export const trim = (db: Statements, log: Log, retention: Retention, now: number): number => {
  switch (retention._tag) {
    case "Consumed":
      return trimConsumed(db, log, retention.keep)
    case "MaxLength": {
      if (log.events - retention.events <= log.trimmedEvents) return 0
      return drop(db, log, firstAbove(db, log, log.events - retention.events))
    }
    case "MaxAge": {
      const byAge = db.prepareArrays(`${keptColumns} AND ms >= ? ORDER BY ms, seq LIMIT 1`)
      return drop(db, log, byAge.get<Kept>(log.id, Math.max(0, now - retention.millis)))
    }
    case "Forever":
      return 0
  }
}

const firstId = (db: Statements, log: number): string => {
  const select = db.prepareArrays("SELECT ms || '-' || seq FROM entries WHERE log = ? ORDER BY ms, seq LIMIT 1")
  return select.get<[string]>(log)?.[0] ?? "0-0"
}

export const info = (db: Statements, id: number | undefined, topic: string, partition: number): LogInfo => {
  if (id === undefined) return { topic, partition, first: "0-0", last: "0-0", length: 0, added: 0, extra: 0, events: 0 }
  const { added, events, last, trimmed, trimmedEvents } = load(db, id)
  return {
    topic,
    partition,
    first: firstId(db, id),
    last: formatId(last),
    length: added - trimmed,
    added,
    extra: events - added,
    events: events - trimmedEvents
  }
}

/** A place in a log, as it is committed. */
export type Place = Omit<Committed, "topic">

export const beginning: Place = { offset: "0-0.0", entry: "0-0", entries: 0, events: 0 }

type Found = [id: string, count: number, nth: number, upto: number]
const foundColumns = "SELECT ms || '-' || seq, count, nth, upto FROM entries WHERE log = ?"

/** The end of an entry. */
const endOf = ([id, count, nth, upto]: Found): Place => ({
  offset: `${id}.${count - 1}`,
  entry: id,
  entries: nth,
  events: upto
})

const beforeEntry = (db: Statements, log: Log, [id, count, nth, upto]: Found): Place => {
  const at = parseId(id)
  const select = db.prepareArrays(`${foundColumns} AND (ms, seq) < (?, ?) ORDER BY ms DESC, seq DESC LIMIT 1`)
  const previous = select.get<Found>(log.id, at.ms, at.seq)
  return previous === undefined ? { ...beginning, entries: nth - 1, events: upto - count } : endOf(previous)
}

const atEnd = (db: Statements, log: Log): Place => {
  if (log.added === 0) return beginning
  const newest = db.prepareArrays(`${foundColumns} ORDER BY ms DESC, seq DESC LIMIT 1`).get<Found>(log.id)
  if (newest !== undefined) return endOf(newest)
  const last = formatId(log.last)
  return { offset: `${last}.0`, entry: last, entries: log.added, events: log.events }
}

const firstFrom = (db: Statements, log: Log, id: EntryId): Found | undefined =>
  db.prepareArrays(`${foundColumns} AND (ms, seq) >= (?, ?) ORDER BY ms, seq LIMIT 1`).get<Found>(log.id, id.ms, id.seq)

/** The place from which `start` is next. */
export const placeOf = (db: Statements, log: Log, start: Start): Place => {
  if (start === "earliest") return { ...beginning, entries: log.trimmed, events: log.trimmedEvents }
  if (start === "latest") return atEnd(db, log)
  const { id, index } = "time" in start ? { id: startOf(start.time), index: 0 } : parseOffset(start.offset)
  const found = firstFrom(db, log, id)
  if (found === undefined) return atEnd(db, log)
  if (index === 0 || found[0] !== formatId(id)) return beforeEntry(db, log, found)
  if (index >= found[1]) return endOf(found)
  const previous = beforeEntry(db, log, found)
  return { ...previous, offset: `${found[0]}.${index - 1}`, events: previous.events + index }
}

/** Entries ever added below an id. */
export const entriesBefore = (db: Statements, log: Log, id: string): number => {
  const found = firstFrom(db, log, parseId(id))
  return found === undefined ? log.added : found[2] - 1
}

const startOf = (time: number): EntryId => ({ ms: Math.max(0, Math.ceil(time)), seq: 0 })

/** The first retained id if events at or after `start` may have been trimmed. */
export const lostBefore = (db: Statements, log: Log, start: Start): string | undefined => {
  if (typeof start === "string" || log.trimmed === 0) return undefined
  const id = "time" in start ? startOf(start.time) : parseOffset(start.offset).id
  const first = firstId(db, log.id)
  const bound = log.added === log.trimmed ? log.last : parseId(first)
  const isBefore = isAbove(bound, id) || (log.added === log.trimmed && formatId(bound) === formatId(id))
  return isBefore ? first : undefined
}
