/**
 * Inboxes: replies to the questions of one process, as rows that it reads and removes. An inbox that was not prolonged for
 * a minute goes with all that is in it, when the next one is opened.
 */
import { Effect } from "effect"
import type { Entry, Reply } from "../Broker.ts"
import type { EngineError } from "../Errors.ts"
import type { Sqlite, Statements } from "./client.ts"
import { pack, unpack } from "./entry.ts"
import type { Names } from "./schema.ts"

/** Notified whenever there may be a reply. */
export const inboxChannel = "inbox"

const lastsMillis = 60_000
/** An opening says nothing new for so long. */
export const knownMillis = 20_000
const pageSize = 1_000
/** Expired inboxes that one opening removes. */
const swept = 20

export const open = (db: Statements, asker: string, now: number): void => {
  const expired = db.prepareArrays("SELECT asker FROM inboxes WHERE until <= ? LIMIT ?").all<[string]>(now, swept)
  for (const [gone] of expired) {
    db.prepare("DELETE FROM replies WHERE asker = ?").run(gone)
    db.prepare("DELETE FROM inboxes WHERE asker = ?").run(gone)
  }
  const upsert = "INSERT INTO inboxes (asker, until) VALUES (?, ?) ON CONFLICT DO UPDATE SET until = excluded.until"
  db.prepare(upsert).run(asker, now + lastsMillis)
}

/** Inside the transaction of the commit. */
export const reply = (db: Statements, names: Names, now: number, replies: ReadonlyArray<Reply>): void => {
  const isThere = db.prepare("SELECT 1 FROM inboxes WHERE asker = ? AND until > ?")
  const insert = db.prepare("INSERT INTO replies (asker, fields) VALUES (?, ?)")
  for (const { asker, entry } of replies) {
    const stored = names.stored(asker)
    if (isThere.get(stored, now) !== undefined) insert.run(stored, pack(entry.fields))
  }
}

/** Ids have the form of those of entries. */
const numberOf = (id: string): number => Number(id.slice(0, id.indexOf("-")))

export const removeUpTo = (db: Statements, asker: string, after: string): void => {
  db.prepare("DELETE FROM replies WHERE asker = ? AND id <= ?").run(asker, numberOf(after))
}

export const page = (db: Statements, asker: string, after: string): ReadonlyArray<Entry> =>
  db
    .prepareArrays("SELECT id, fields FROM replies WHERE asker = ? AND id > ? ORDER BY id LIMIT ?")
    .all<[number, Uint8Array]>(asker, numberOf(after), pageSize)
    .map(([id, fields]) => ({ id: `${id}-0`, count: 1, fields: unpack(fields) }))

/** Look, and look again after each change, until there is something or the time is up. */
export const wait = (
  sqlite: Sqlite["Service"],
  look: Effect.Effect<ReadonlyArray<Entry>, EngineError>,
  block: number
): Effect.Effect<ReadonlyArray<Entry>, EngineError> =>
  Effect.suspend(() => {
    let ticket = sqlite.ticket(inboxChannel)
    const again: Effect.Effect<ReadonlyArray<Entry>, EngineError> = Effect.suspend(() =>
      Effect.andThen(
        sqlite.changed(inboxChannel, ticket),
        Effect.suspend(() => {
          ticket = sqlite.ticket(inboxChannel)
          return Effect.flatMap(look, (found) => (found.length > 0 ? Effect.succeed(found) : again))
        })
      )
    )
    return Effect.flatMap(look, (found) =>
      found.length > 0 || block <= 0
        ? Effect.succeed(found)
        : Effect.raceFirst(again, Effect.as(Effect.sleep(block), []))
    )
  })
