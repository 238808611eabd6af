/**
 * Reading: one query per position, all on one state of the database. A read that finds nothing waits until the log
 * channel is notified, another process changes the file, `wake` is called, or its time is up on Effect's clock.
 */
import { Effect } from "effect"
import type { Batch, Entry, Position, Reader } from "../Broker.ts"
import type { EngineError } from "../Errors.ts"
import { mayLose } from "../internal/unread.ts"
import type { Sqlite, Statements } from "./client.ts"
import { parsePlace, unpack } from "./entry.ts"
import * as Log from "./log.ts"
import type { Names } from "./schema.ts"

/** Notified whenever entries were added. */
export const logChannel = "log"

const none: ReadonlyArray<Batch> = []

const readPosition = (db: Statements, names: Names, position: Position, count: number): Batch | undefined => {
  const { partition, topic } = position
  const log = names.log(db, topic.name, partition)
  if (log === undefined) return undefined
  const { ms, seq } = parsePlace(position.after)
  const select = db.prepareArrays(
    `SELECT ms || '-' || seq, count, fields FROM entries WHERE log = ? AND (ms, seq) > (?, ?) ORDER BY ms, seq LIMIT ?`
  )
  const rows = select.all<[string, number, Uint8Array]>(log, ms, seq, count)
  const trimmed = mayLose(position) ? Log.load(db, log).trimmed : undefined
  if (rows.length === 0 && (trimmed === undefined || trimmed <= position.entriesRead)) return undefined
  const entries: Array<Entry> = new Array(rows.length)
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i]!
    entries[i] = { id: row[0], count: row[1], fields: unpack(row[2]) }
  }
  return { topic: topic.name, partition, entries, trimmed }
}

export const makeReader = (sqlite: Sqlite["Service"], names: Names): Reader => {
  let isWoken = false
  let stopWaiting: (() => void) | undefined

  const look = (from: ReadonlyArray<Position>, count: number): Effect.Effect<ReadonlyArray<Batch>, EngineError> =>
    sqlite.query("read", (db) => {
      const batches: Array<Batch> = []
      for (const position of from) {
        const batch = readPosition(db, names, position, count)
        if (batch !== undefined) batches.push(batch)
      }
      return batches.length === 0 ? none : batches
    })
  const woken = Effect.callback<ReadonlyArray<Batch>>((resume) => {
    if (isWoken) return resume(Effect.succeed(none))
    stopWaiting = () => resume(Effect.succeed(none))
  })

  const read: Reader["read"] = (from, { block, count }) =>
    Effect.suspend(() => {
      isWoken = false
      let ticket = sqlite.ticket(logChannel)
      const lookAgain: Effect.Effect<ReadonlyArray<Batch>, EngineError> = Effect.suspend(() =>
        Effect.andThen(
          sqlite.changed(logChannel, ticket),
          Effect.suspend(() => {
            ticket = sqlite.ticket(logChannel)
            return Effect.flatMap(look(from, count), (found) => (found.length > 0 ? Effect.succeed(found) : lookAgain))
          })
        )
      )
      const timeIsUp = Effect.as(Effect.sleep(block), none)
      if (block <= 0) return look(from, count)
      // What is there comes at once, and whoever waits for events reads again and again: others have their turn first.
      return Effect.flatMap(Effect.andThen(Effect.yieldNow, look(from, count)), (found) =>
        found.length > 0 ? Effect.succeed(found) : Effect.raceFirst(lookAgain, Effect.raceFirst(woken, timeIsUp))
      )
    }).pipe(
      Effect.ensuring(
        Effect.sync(() => {
          stopWaiting = undefined
        })
      )
    )

  return {
    read,
    wake: Effect.sync(() => {
      isWoken = true
      stopWaiting?.()
    })
  }
}
