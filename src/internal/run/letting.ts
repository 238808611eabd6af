/**
 * Lets go of what joins hold whose time is over. What has nothing to tell leaves its row at once, if no unit of work has
 * changed that row meanwhile; the others are handed out as events (`Overdue`), in front of those that were read, and leave
 * with their unit of work, exactly once.
 *
 * Gotcha: the engine's list of what is due is as old as the last commit. So all that is done is committed first, and what
 * was handed out already is skipped.
 */
import { Effect } from "effect"
import { DecodeError } from "../../Errors.ts"
import { type Item, isItem, over } from "../join/held.ts"
import type { Received } from "../record/received.ts"
import { Books } from "./books.ts"
import { heldOf, logOf, Overdue, restored, without } from "./overdue.ts"
import { missing, type Row } from "./row.ts"
import type { Setup } from "./runner.ts"
import type { Hold, Windows } from "./windows.ts"

/** Rows that are looked at together, beside those of events in hand. */
const pageRows = 100

export interface Letting {
  /** Where `Partition.lets`, before more events are handed out. */
  readonly gather: Effect.Effect<void>
  /** Of the events that it hands out. */
  readonly books: Books
}

const nameOf = ({ item }: Overdue): string => `${item.side} ${item.offset}`

export const make = (setup: Setup, windows: Windows): Letting => {
  const { partition } = setup
  const { rows } = partition
  const number = partition.partition
  /** Handed out, and not done. */
  const handed = new Set<string>()
  const books = new Books()
  books.log = { done: (event: Received<unknown>) => void handed.delete(nameOf(event as Overdue)) }

  const earlier = (hold: Hold, at: number): void => {
    hold.next = Math.min(hold.next, at)
  }

  const overdue = (hold: Hold, row: Row, item: Item): Overdue => {
    const log = logOf(windows.logs, hold.holding, item)
    return new Overdue(restored(log, number, item, books, partition.fence.epoch), item, hold.definition, row.key)
  }

  /** Nobody is changing this row: what is written now is not undone, and undoes nothing. */
  const drop = (hold: Hold, row: Row, items: ReadonlyArray<Item>, upTo: number): void => {
    if (row.value !== row.settled) return earlier(hold, upTo + 1)
    row.value = without(heldOf(row), (item) => !items.some(isItem(item)))
    rows.settle(row, row.value)
    partition.touched()
  }

  const sweep = (hold: Hold, row: Row, upTo: number): ReadonlyArray<Overdue> => {
    if (row.value === missing) {
      // Its last item left, and the list may not know of it.
      if (row.settled === missing && !row.dirty && !row.inFlight) {
        windows.defer(hold, row.key, undefined)
        partition.touched()
      }
      return []
    }
    const { dropped, told } = over(heldOf(row), hold.holding, upTo)
    if (dropped.length > 0) drop(hold, row, dropped, upTo)
    return told.flatMap((item) => {
      const event = overdue(hold, row, item)
      const name = nameOf(event)
      if (handed.has(name)) return []
      handed.add(name)
      return [event]
    })
  }

  const one = (hold: Hold) =>
    Effect.gen(function* () {
      hold.next = Number.POSITIVE_INFINITY
      const most = pageRows + handed.size
      const found = yield* windows.ask(hold, most)
      const upTo = windows.watermark(hold)
      const later = found.find(({ at }) => at > upTo)
      if (later !== undefined) earlier(hold, later.at)
      else if (found.length === most) earlier(hold, upTo)
      const table = rows.table(hold.definition)
      const events: Array<Overdue> = []
      for (const { at, key } of found) {
        if (at > upTo) break
        const row = rows.cached(table, key) ?? (yield* rows.load(table, key))
        try {
          events.push(...sweep(hold, row, upTo))
        } catch (error) {
          if (!(error instanceof DecodeError)) throw error
          // Whoever reads the row next meets it: that is a failure of an event, and has a policy.
          earlier(hold, upTo + 1)
        }
      }
      return events
    })

  const gather = Effect.gen(function* () {
    yield* setup.flush
    const events: Array<Overdue> = []
    for (const hold of windows.holds) {
      if (partition.open && hold.next <= windows.watermark(hold)) events.push(...(yield* one(hold)))
    }
    partition.give(events.toSorted((a, b) => a.item.time - b.item.time))
    windows.onDone()
  })

  return { gather, books }
}
