/**
 * What a worker says about itself: one small write every five seconds, and soon after its partitions have changed, so that
 * any worker and any tool can show all of them. Nothing depends on it: one that cannot be sent is left out.
 */
import { hostname } from "node:os"
import { Clock, type Context, Effect, Latch } from "effect"
import type { Coordinator } from "../../Coordinator.ts"
import type * as Parts from "../../Part.ts"
import type { Doing as DoingJob } from "../jobs/doing.ts"
import type { Doing } from "../run/doing.ts"
import type { Counts } from "../run/runner.ts"
import { isSchedule } from "../schedule/definition.ts"
import type { Doing as DoingSchedule } from "../schedule/schedules.ts"
import { iso } from "./known.ts"
import type { WorkerReport } from "./shapes.ts"

const everyMillis = 5_000
/** After the first: by then it has settled what it does. */
const soonMillis = 1_000
/** Changes come together: a rebalance is told once. */
const gatherMillis = 100
/** It is forgotten after so long without the next one. */
const keptMillis = 15_000
/** Of each list; the rest is left out, so that a report stays small. */
const most = 1_000

export interface Part {
  readonly name: string
  readonly kind: WorkerReport["parts"][number]["kind"]
  readonly counts: Counts
}

export const kindOf = (part: Parts.Any): Part["kind"] =>
  part.job !== undefined ? "job" : isSchedule(part) ? part.definition.kind : "processor"

export interface Options {
  readonly coordinator: Context.Service.Shape<typeof Coordinator>
  readonly member: string
  readonly parts: ReadonlyArray<Part>
  readonly partitions: (now: number) => ReadonlyArray<Doing>
  readonly jobs: (now: number) => ReadonlyArray<DoingJob>
  readonly schedules: () => ReadonlyArray<DoingSchedule>
  readonly rebalances: () => number
}

export interface Reporting {
  /** Reports until it is interrupted. */
  readonly run: Effect.Effect<never>
  /** Something changed that should be told soon. */
  readonly changed: () => void
  /** It has ended. */
  readonly end: Effect.Effect<void>
}

export const make = (options: Options): Effect.Effect<Reporting> =>
  Effect.map(Clock.Clock, (clock) => {
    const { coordinator, jobs, member, parts, partitions, rebalances, schedules } = options
    const since = clock.currentTimeMillisUnsafe()
    const bell = Latch.makeUnsafe(false)
    let before = new Map<string, number>()
    let told = since
    let ended = false

    const describe = (): WorkerReport => {
      const now = clock.currentTimeMillisUnsafe()
      const seconds = (now - told) / 1_000
      const rates = new Map(
        parts.map(({ counts, name }) => [
          name,
          seconds <= 0 ? 0 : Math.max(0, counts.processed - (before.get(name) ?? 0)) / seconds
        ])
      )
      before = new Map(parts.map(({ counts, name }) => [name, counts.processed]))
      told = now
      return {
        host: hostname(),
        pid: process.pid,
        runtime: process.version,
        since: iso(since),
        memory: process.memoryUsage.rss(),
        rebalances: rebalances(),
        parts: parts.map(({ counts, kind, name }) => ({
          name,
          kind,
          ...counts,
          perSecond: Math.round((rates.get(name) ?? 0) * 10) / 10
        })),
        partitions: partitions(now).slice(0, most),
        jobs: jobs(now).slice(0, most),
        schedules: schedules()
          .slice(0, most)
          .map(({ next, ...one }) => ({ ...one, next: next === undefined ? null : iso(next) }))
      }
    }

    const report = Effect.ignore(
      Effect.suspend(() => (ended ? Effect.void : coordinator.report(member, JSON.stringify(describe()), keptMillis)))
    )
    return {
      run: Effect.gen(function* () {
        for (let wait = soonMillis; ; wait = everyMillis) {
          bell.closeUnsafe()
          yield* report
          // A change is told soon, and those that come with it along.
          yield* Effect.timeoutOption(bell.await, wait)
          yield* Effect.sleep(gatherMillis)
        }
      }),
      changed: () => bell.openUnsafe(),
      end: Effect.suspend(() => {
        ended = true
        return Effect.ignore(Effect.timeoutOption(coordinator.report(member, "", 0), "1 second"))
      })
    }
  })
