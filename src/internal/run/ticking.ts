/**
 * Time goes on where no event comes: wakes the runner when windows are due by the clock, and lets the watermark of topics
 * that have been silent for long follow it.
 */
import { Effect } from "effect"
import type { EngineError } from "../../Errors.ts"
import { compare } from "../entryId.ts"
import type { Partition } from "./partition.ts"
import type { TimedLog } from "./timedLog.ts"
import type { Windows } from "./windows.ts"

/** Milliseconds between two looks, at most. */
const lookMillis = 1_000

/** One report of late events in so many milliseconds. */
const reportMillis = 60_000

export interface Options {
  readonly partition: Partition
  readonly windows: Windows
  /** Id of the last entry of a topic's partition. */
  readonly last: (log: TimedLog) => Effect.Effect<string, EngineError>
  readonly now: () => number
  /** How many events came too late, so far. */
  readonly late: () => number
  readonly warn: (late: number) => Effect.Effect<void>
}

export const ticking = ({ last, late, now, partition, warn, windows }: Options): Effect.Effect<never> => {
  const { dues, logs } = windows
  const idle = Math.min(...dues.map(({ timing }) => (timing.time === "event" ? timing.idle : Infinity)))
  const seen = logs.map(({ events }) => ({ events, at: now() }))
  let reported = Number.NEGATIVE_INFINITY
  let told = 0

  /** Notes which topics have been silent for long. */
  const silent = (): ReadonlyArray<TimedLog> =>
    logs.filter(({ events }, i) => {
      if (events !== seen[i]!.events) seen[i] = { events, at: now() }
      return now() - seen[i]!.at >= idle
    })

  /** When the next thing is due, on the engine's clock, if no event comes. */
  const nextDue = (): number => Math.min(...dues.map(({ next, timing }) => next + timing.lateness))

  /** Something would be due if the clock were the watermark. */
  const wanted = (): boolean =>
    dues.some(({ next, timing }) => timing.time === "event" && next + timing.lateness <= windows.now())

  const isQuiet = (): boolean =>
    partition.open && partition.waiting === 0 && partition.taken === 0 && partition.parking.busy === 0

  /** What was published and not handled yet counts first. */
  const hasAll = (log: TimedLog) => Effect.map(last(log), (id) => (compare(id, log.entry) > 0 ? undefined : log))

  const follow = Effect.suspend(() => {
    const all = silent()
    if (all.length === 0 || !isQuiet() || !wanted()) return Effect.void
    const before = all.map(({ events }) => events)
    return Effect.map(Effect.forEach(all, hasAll), (read) => {
      if (!isQuiet() || all.some(({ events }, i) => events !== before[i])) return
      const time = windows.now()
      for (const log of read) log?.follow(time)
      if (windows.isDirty) partition.touched()
    })
  })

  const report = Effect.suspend(() => {
    const count = late() - told
    if (count === 0 || now() - reported < reportMillis) return Effect.void
    reported = now()
    told += count
    return warn(count)
  })

  const tick = Effect.gen(function* () {
    // While the engine is away, nobody can tell whether events wait there.
    yield* Effect.ignore(follow)
    if (partition.open && windows.isDue) partition.arrival.openUnsafe()
    yield* report
  })
  const pause = Effect.suspend(() => {
    const left = nextDue() - windows.now()
    return Effect.sleep(left > 0 && left < lookMillis ? left : lookMillis)
  })
  return Effect.forever(Effect.andThen(pause, tick))
}
