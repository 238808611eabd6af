/**
 * Appending: each append is judged for itself (publisher's number, producer's sequence, explicit ids, capacity) and then
 * stored with one row per entry.
 *
 * A publisher's last five appends are remembered as runs of ids (`<first id>*<length>`, joined by commas), oldest first,
 * joined by bars. One that is gone for ten minutes is forgotten.
 */
import type { Append, Appended, Layout, NewEntry } from "../Broker.ts"
import { EngineError } from "../Errors.ts"
import { trimsUnread } from "../internal/unread.ts"
import type { Retention } from "../Retention.ts"
import type { Statements } from "./client.ts"
import { type EntryId, formatId, parseId } from "./entry.ts"
import * as Log from "./log.ts"
import type { Names } from "./schema.ts"

const forgottenAfter = 10 * 60_000
const remembered = 5

interface Publisher {
  readonly number: number
  readonly recent: ReadonlyArray<string>
}

/** Ids that follow each other in one millisecond are one run, as almost all ids of an append are. */
const toRuns = (ids: ReadonlyArray<EntryId>, length: number): string => {
  const runs: Array<string> = []
  for (let i = 0; i < length; ) {
    const { ms, seq } = ids[i]!
    let n = 1
    while (i + n < length && ids[i + n]!.ms === ms && BigInt(ids[i + n]!.seq) === BigInt(seq) + BigInt(n)) n++
    runs.push(`${ms}-${seq}*${n}`)
    i += n
  }
  return runs.join(",")
}

const fromRuns = (text: string): Array<string> => {
  const ids: Array<string> = []
  if (text === "") return ids
  for (const run of text.split(",")) {
    const star = run.indexOf("*")
    const { ms, seq } = parseId(run.slice(0, star))
    const length = Number(run.slice(star + 1))
    for (let i = 0; i < length; i++) ids.push(`${ms}-${BigInt(seq) + BigInt(i)}`)
  }
  return ids
}

const findPublisher = (db: Statements, log: number, publisher: string, now: number): Publisher | undefined => {
  const select = db.prepareArrays("SELECT number, seen, recent FROM publishers WHERE publisher = ? AND log = ?")
  const row = select.get<[number, number, string]>(publisher, log)
  if (row === undefined) return undefined
  if (now - row[1] >= forgottenAfter) {
    // Quiet here, but perhaps busy in other partitions.
    const latest = db.prepareArrays("SELECT max(seen) FROM publishers WHERE publisher = ?").get<[number]>(publisher)
    if (now - latest![0] >= forgottenAfter) return undefined
  }
  return { number: row[0], recent: row[2].split("|") }
}

const savePublisher = (
  db: Statements,
  log: number,
  append: Append,
  known: Publisher | undefined,
  runs: string,
  now: number
): void => {
  const recent = known === undefined ? runs : [...known.recent.slice(1 - remembered), runs].join("|")
  db.prepare("INSERT OR REPLACE INTO publishers (publisher, log, number, seen, recent) VALUES (?, ?, ?, ?, ?)").run(
    append.publisher,
    log,
    append.number,
    now,
    recent
  )
}

/** Forget publishers that are gone; a few at a time. */
export const sweepPublishers = (db: Statements, now: number): void => {
  db.prepare(
    `DELETE FROM publishers WHERE publisher IN
       (SELECT publisher FROM publishers GROUP BY publisher HAVING max(seen) <= ? LIMIT 100)`
  ).run(now - forgottenAfter)
}

/** What a repeated number was answered then; fewer ids than entries were the prefix that had found room. */
const answerAgain = (db: Statements, names: Names, log: Log.Log, append: Append, runs: string): Appended => {
  const ids = fromRuns(runs)
  if (ids.length >= append.entries.length) return { _tag: "Stored", ids, repeated: true }
  return { _tag: "Full", ids, heldBy: holderOf(names, Log.slowest(db, log)) }
}

const holderOf = (names: Names, holder: { readonly processor: string } | undefined): string | undefined =>
  holder === undefined ? undefined : names.plain(holder.processor)

/** The id of a producer's sequence if it was stored before; "" if only a later one is remembered. */
const producedBefore = (db: Statements, log: number, producer: NonNullable<Append["producer"]>): string | undefined => {
  const select = db.prepareArrays("SELECT sequence, id FROM producers WHERE log = ? AND producer = ?")
  const row = select.get<[string, string]>(log, producer.id)
  if (row === undefined) return undefined
  const last = BigInt(row[0])
  return producer.sequence > last ? undefined : producer.sequence === last ? row[1] : ""
}

const saveProducer = (db: Statements, log: number, producer: NonNullable<Append["producer"]>, id: string): void => {
  const upsert = db.prepare("INSERT OR REPLACE INTO producers (log, producer, sequence, id) VALUES (?, ?, ?, ?)")
  upsert.run(log, producer.id, String(producer.sequence), id)
}

/** How many entries find room, and who is in the way if not all do. */
const room = (
  db: Statements,
  log: Log.Log,
  retention: Retention,
  entries: ReadonlyArray<NewEntry>
): { readonly length: number; readonly holder: { readonly processor: string } | undefined } => {
  if (retention._tag !== "Consumed") return { length: entries.length, holder: undefined }
  let events = 0
  for (const entry of entries) events += entry.count
  // What is stored bounds what is uncommitted: most appends need to ask no further.
  if (log.events - log.trimmedEvents + events <= retention.capacity)
    return { length: entries.length, holder: undefined }
  const holder = Log.slowest(db, log)
  let waiting = Log.uncommitted(log, holder)
  for (let i = 0; i < entries.length; i++) {
    const { count } = entries[i]!
    if (waiting > 0 && waiting + count > retention.capacity) return { length: i, holder }
    waiting += count
  }
  return { length: entries.length, holder: undefined }
}

/** May an event be appended within the capacity? */
export const hasRoom = (db: Statements, names: Names, topic: Layout, partition: number): boolean => {
  if (topic.retention._tag !== "Consumed") return true
  const id = names.log(db, topic.name, partition)
  if (id === undefined) return true
  const log = Log.load(db, id)
  return Log.uncommitted(log, Log.slowest(db, log)) < topic.retention.capacity
}

export const append = (db: Statements, names: Names, now: number, request: Append): Appended => {
  const { entries, number, producer, topic } = request
  const log = Log.load(db, names.logOrNew(db, topic.name, request.partition))
  const publisher = findPublisher(db, log.id, request.publisher, now)
  const last = publisher?.number ?? 0
  if (number !== last + 1) {
    const runs = publisher?.recent[publisher.recent.length - 1 - (last - number)]
    return number > last || runs === undefined ? { _tag: "Gap", last } : answerAgain(db, names, log, request, runs)
  }
  if (producer !== undefined) {
    const id = producedBefore(db, log.id, producer)
    if (id !== undefined) {
      savePublisher(db, log.id, request, publisher, id === "" ? "" : toRuns([parseId(id)], 1), now)
      return { _tag: "Stored", ids: [id], repeated: true }
    }
  }
  const ids = Log.assignIds(log, entries, now)
  if (ids === undefined) return { _tag: "Conflict", last: formatId(log.last) }
  const { holder, length } = room(db, log, topic.retention, entries)
  if (length === 0 && entries.length > 0) return { _tag: "Full", ids: [], heldBy: holderOf(names, holder) }

  Log.add(db, log, entries, ids, length)
  if (trimsUnread(topic.retention)) Log.trim(db, log, topic.retention, now)
  Log.save(db, log)
  savePublisher(db, log.id, request, publisher, toRuns(ids, length), now)
  const texts: Array<string> = []
  for (let i = 0; i < length; i++) texts.push(formatId(ids[i]!))
  if (length < entries.length) return { _tag: "Full", ids: texts, heldBy: holderOf(names, holder) }
  if (producer !== undefined && length > 0) saveProducer(db, log.id, producer, texts[0]!)
  return { _tag: "Stored", ids: texts, repeated: false }
}

/** Entries that a commit emits: taken beyond capacity. */
export const emit = (
  db: Statements,
  names: Names,
  now: number,
  request: { readonly topic: Append["topic"]; readonly partition: number; readonly entries: ReadonlyArray<NewEntry> }
): void => {
  const { entries, partition, topic } = request
  const log = Log.load(db, names.logOrNew(db, topic.name, partition))
  const ids = Log.assignIds(log, entries, now)
  if (ids === undefined) {
    throw new EngineError({
      operation: "commit",
      reason: "Refused",
      detail: `an emitted id is not above the last one of ${topic.name}/${partition}, ${formatId(log.last)}; emit without ids`
    })
  }
  Log.add(db, log, entries, ids, entries.length)
  if (trimsUnread(topic.retention)) Log.trim(db, log, topic.retention, now)
  Log.save(db, log)
}
