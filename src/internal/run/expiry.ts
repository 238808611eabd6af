/**
 * Removes rows that have expired, in commits like any other, also while no event comes. The engine says which: it counts
 * their time from the commit that wrote them, on its own clock. Readers leave them out all the same, so nothing hurries.
 *
 * Gotcha: an answer may be older than a write. Rows that went into a commit while it was on its way are left for the next.
 */
import { Effect, Latch } from "effect"
import type { TableStore } from "../../TableStore.ts"
import type { Partition } from "./partition.ts"
import type { TableState } from "./row.ts"

/** Rows removed in one go, and how long the next go waits when there are more, in milliseconds. */
const most = 1_000
const pauseMillis = 50

/** Not later than so many milliseconds after a row has expired it is removed, if the engine and the partition allow it. */
const latestMillis = 1_000

/** Timers do not reach farther than some weeks. */
const longestMillis = 3_600_000

interface Watch {
  /** Keys of rows that went into commits since it was asked. */
  written: Set<string> | undefined
  /** Open: something was. */
  readonly any: Latch.Latch
}

/** A commit says that its owner did not die here, so one that handled nothing must not be the first. */
const mayCommit = (partition: Partition): boolean =>
  partition.open && !partition.fenced && partition.caution === undefined && !partition.isUntried

export const expiring = (store: TableStore["Service"], partition: Partition): Effect.Effect<unknown> => {
  const { rows } = partition
  const watches = new Map(
    rows.timed.map((table): [TableState, Watch] => [table, { written: undefined, any: Latch.makeUnsafe(false) }])
  )
  rows.onTimed = (cut) => {
    for (const { key, table } of cut) {
      const watch = watches.get(table)
      if (watch === undefined) continue
      watch.written?.add(key)
      watch.any.openUnsafe()
    }
  }

  const one = (table: TableState, watch: Watch, life: number): Effect.Effect<never> => {
    const pause = Math.min(latestMillis, Math.max(10, life / 10))
    const until = (millis: number): Effect.Effect<void> =>
      Effect.sleep(Math.ceil(Math.min(Math.max(millis, pause), life, longestMillis)))
    const ask = Effect.suspend(() => {
      watch.written = new Set(rows.flying.flatMap((row) => (row.table === table ? [row.key] : [])))
      watch.any.closeUnsafe()
      return store.due(partition.processor, table.definition.name, partition.partition, most)
    })
    const round = Effect.gen(function* () {
      if (!mayCommit(partition)) return yield* Effect.sleep(latestMillis)
      const { keys, next } = yield* ask
      const { written } = watch
      watch.written = undefined
      if (!mayCommit(partition)) return
      const removed = keys.filter((key) => !written!.has(key) && rows.expire(table, key))
      if (removed.length > 0) partition.touched()
      if (keys.length === most) return yield* Effect.sleep(pauseMillis)
      if (removed.length < keys.length) return yield* until(0)
      if (next !== undefined) return yield* until(next)
      // Nothing is left that could expire before something is written.
      yield* watch.any.await
      yield* until(life)
    })
    // While the engine is away nothing can be removed.
    const patient = Effect.catch(round, () => Effect.sleep(latestMillis))
    return Effect.forever(patient)
  }
  return Effect.forEach(watches, ([table, watch]) => one(table, watch, table.timeToLive!), {
    concurrency: "unbounded",
    discard: true
  })
}
