/**
 * What of a dead-letter topic is still listed. Of the letters that are kept, those that were put back are passed: all up to a
 * place, and single ones beyond it, which stand as rows in a hidden table of a hidden group. Both change only in the
 * commits of `redrive.ts`, so a letter is put back and leaves the list in one step.
 */
import { Effect, type Scope } from "effect"
import { Broker, type Entry, type Position, type Reader } from "../../Broker.ts"
import type { EngineError } from "../../Errors.ts"
import type { Origin } from "../../Event.ts"
import { Serializer } from "../../Serializer.ts"
import { TableStore } from "../../TableStore.ts"
import type { Any } from "../../Topic.ts"
import { compare, zero } from "../entryId.ts"
import type { Received } from "../record/received.ts"
import { codecOf } from "../record/record.ts"
import { deadHeaders } from "./headers.ts"

/** The group that puts letters of this topic back; its table, and the row that holds the place. */
export const groupOf = (dead: Any): string => `${dead.name}.redrive`
export const table = "redriven"
export const placeKey = "up to"
/** The row that counts the events passed up to that place: others before it were dropped by the topic's retention. */
export const countKey = "count"

/** What was put back in one partition. */
export interface Passed {
  /** Everything up to this entry. */
  readonly upTo: string
  /** Offsets beyond it. */
  readonly offsets: ReadonlySet<string>
  /** Events up to `upTo` that were passed; those that the topic's retention dropped before are not among them. */
  readonly count: number
}

export const passed = (dead: Any, partition: number): Effect.Effect<Passed, EngineError, TableStore> =>
  Effect.gen(function* () {
    const store = yield* TableStore
    const offsets = new Set<string>()
    let upTo = zero
    let count = 0
    let cursor: string | undefined = ""
    while (cursor !== undefined) {
      const page: Effect.Success<ReturnType<typeof store.entries>> = yield* store.entries(
        groupOf(dead),
        table,
        partition,
        cursor
      )
      for (const [key, value] of page.rows) {
        if (key === placeKey) upTo = Buffer.from(value).toString()
        else if (key === countKey) count = Number(Buffer.from(value).toString())
        else offsets.add(key)
      }
      cursor = page.next
    }
    return { upTo, offsets, count }
  })

/** Letters are looked at, not worked on. */
export const nobody: Origin = {
  drop: () => {},
  unit: () => {
    throw new Error("Event.mapEffect and mapBatch are for Processor.stream; use Stream.mapEffect on dead letters")
  }
}

/** A letter has our headers; what somebody else published to the topic is none. */
export const isLetter = (event: Received<unknown>): boolean => event.headers[deadHeaders.sourceTopic] !== undefined

/** One stored entry of a dead-letter topic. */
export interface Stored {
  readonly entry: Entry
  /** Entries before it that its retention dropped behind the one before. */
  readonly dropped: number
  readonly events: ReadonlyArray<Received<unknown>>
}

const pageEntries = 100

/**
 * Reads one partition from an entry on, page by page, up to what was its end; an empty page is the end. `entriesRead`: up to
 * that entry, for whoever counts.
 */
export const pages = (
  dead: Any,
  partition: number,
  from: string,
  entriesRead = Number.POSITIVE_INFINITY
): Effect.Effect<Effect.Effect<ReadonlyArray<Stored>, EngineError>, EngineError, Broker | Serializer | Scope.Scope> =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const codec = codecOf(dead, yield* Serializer)
    const reader: Reader = yield* broker.reader(partition % broker.shards)
    const [info] = yield* broker.inspect(dead, [partition])
    const end = info?.last ?? zero
    let after = from
    let read = entriesRead
    return Effect.suspend(() => {
      if (compare(after, end) >= 0) return Effect.succeed([])
      const position: Position = { topic: dead, partition, after, entriesRead: read, ungrouped: true }
      return Effect.map(reader.read([position], { count: pageEntries, block: 0 }), ([batch]) => {
        const entries = (batch?.entries ?? []).filter(({ id }) => compare(id, end) <= 0)
        const dropped = Math.max(0, (batch?.trimmed ?? 0) - read)
        after = entries.at(-1)?.id ?? end
        read += dropped + entries.length
        return entries.map(
          (entry, i): Stored => ({
            entry,
            dropped: i === 0 ? dropped : 0,
            events: codec.unpack(entry, partition, 0, nobody, 0n)
          })
        )
      })
    })
  })
