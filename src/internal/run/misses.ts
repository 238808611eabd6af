/**
 * Rows that are not in the cache, fetched together: those that handlers of one moment miss, and, where a table's keys are
 * those of its events, the rows of the events that were handed out with this one. One question for all of them.
 *
 * Gotcha: an answer may be older than what was written since it was asked for. A row that came and left meanwhile is
 * asked for again, and one that is in the cache is never taken from an answer.
 */
import { Effect, Latch } from "effect"
import type { EngineError } from "../../Errors.ts"
import type { TableStore } from "../../TableStore.ts"
import { untilAnswered } from "../backoff.ts"
import type { Fetched, TableState } from "./row.ts"

/** How rows are read from the engine: some, or the first page of all. */
export interface Stored {
  readonly rows: (
    table: TableState,
    keys: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyArray<Fetched | undefined>, EngineError>
  readonly page: (table: string) => Effect.Effect<
    {
      readonly rows: ReadonlyArray<readonly [key: string, value: Uint8Array]>
      readonly next: string | undefined
    },
    EngineError
  >
}

/** The rows of one partition of a processor. */
export const storedIn = (
  tables: TableStore["Service"],
  processor: string,
  partition: number,
  now: () => number
): Stored => ({
  page: (table) => tables.entries(processor, table, partition, ""),
  rows: ({ definition: { name }, timeToLive }, keys) =>
    timeToLive === undefined
      ? Effect.map(tables.readMany(processor, name, partition, keys), (values) =>
          values.map((bytes) => (bytes === undefined ? undefined : { bytes, until: undefined }))
        )
      : Effect.map(tables.readTimed(processor, name, partition, keys), (rows) =>
          rows.map((row) => row && { bytes: row.value, until: row.left === undefined ? undefined : now() + row.left })
        )
})

/** Keys of one question. */
const mostKeys = 1_000

/** The retry is made when it is needed, and not for each row. */
const patient = <A>(read: Effect.Effect<A, EngineError>): Effect.Effect<A> =>
  Effect.catch(read, (error) => (error.reason === "Unsupported" ? Effect.die(error) : untilAnswered(read)))

interface Question {
  readonly table: TableState
  /** Rows that left the cache since it was asked: what it is answered of them may be too old. */
  readonly left: Set<string>
}

interface Round {
  readonly keys: Set<string>
  readonly over: Latch.Latch
}

export class Misses {
  private readonly gathering = new Map<TableState, Round>()
  /** Tables that are looked at for the first time. */
  private readonly looking = new Map<TableState, Latch.Latch>()
  /** Those that are not answered yet. */
  private readonly questions = new Set<Question>()
  /** Handlers have missed rows at the same time, so it is worth a moment to wait for each other. */
  private together = true
  private readonly stored: Stored
  /** Keys of events in hand, in order. */
  private readonly upcoming: () => Iterable<string>
  constructor(stored: Stored, upcoming: () => Iterable<string>) {
    this.stored = stored
    this.upcoming = upcoming
  }

  leave(table: TableState, key: string): void {
    table.forget(key)
    table.complete = false
    for (const question of this.questions) if (question.table === table) question.left.add(key)
  }

  /** Completes when it may be known what is stored under this key; who asks looks again. */
  fetch(table: TableState, key: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      const looking = this.looking.get(table)
      if (looking !== undefined) return looking.await
      if (!table.looked) return this.look(table)
      const known = this.gathering.get(table)
      if (known !== undefined && known.keys.size < mostKeys) {
        known.keys.add(key)
        return known.over.await
      }
      if (this.questions.size > 0) this.together = true
      const round: Round = { keys: new Set([key]), over: Latch.makeUnsafe(false) }
      // Whoever opens a round closes it, also when it is interrupted: others wait for that.
      return Effect.ensuring(
        Effect.suspend(() => {
          const asked = this.ask(table, round)
          if (!this.together) return asked
          if (!this.gathering.has(table)) this.gathering.set(table, round)
          // After the fibers of this turn, so that what they miss is asked for with it.
          return Effect.andThen(Effect.yieldNow, asked)
        }),
        Effect.sync(() => {
          this.close(table, round)
          round.over.openUnsafe()
        })
      )
    })
  }

  private close(table: TableState, round: Round): void {
    if (this.gathering.get(table) === round) this.gathering.delete(table)
  }

  /** A table that is small is read whole, once: then a key that it does not have costs no question. */
  private look(table: TableState): Effect.Effect<void> {
    const over = Latch.makeUnsafe(false)
    const page = Effect.suspend(() => {
      if (table.looked) return Effect.void
      table.looked = true
      this.looking.set(table, over)
      return Effect.map(patient(this.stored.page(table.definition.name)), ({ next, rows }) => {
        if (next !== undefined) return
        for (const [key, bytes] of rows) table.keep(key, { bytes, until: undefined })
        table.complete = true
        table.makeRoom(0)
      })
    })
    const end = Effect.sync(() => {
      if (this.looking.get(table) === over) this.looking.delete(table)
      over.openUnsafe()
    })
    return Effect.ensuring(page, end)
  }

  private ask(table: TableState, round: Round): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.close(table, round)
      this.together = round.keys.size > 1
      if (table.follows) this.foresee(table, round)
      const keys = Array.from(round.keys)
      const question: Question = { table, left: new Set() }
      const answered = Effect.suspend(() => {
        this.questions.add(question)
        return Effect.map(patient(this.stored.rows(table, keys)), (found) => {
          table.makeRoom(keys.length)
          keys.forEach((key, i) => {
            if (!question.left.has(key) && !table.rows.has(key)) table.keep(key, found[i])
          })
        })
      })
      return Effect.ensuring(
        answered,
        Effect.sync(() => this.questions.delete(question))
      )
    })
  }

  private foresee(table: TableState, { keys }: Round): void {
    const most = Math.min(mostKeys, keys.size + table.foreseeable)
    for (const key of this.upcoming()) {
      if (keys.size >= most) return
      if (!table.rows.has(key) && !table.knows(key)) keys.add(key)
    }
  }
}
