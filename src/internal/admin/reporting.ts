/**
 * What a worker says about itself: one small write every five seconds, and soon after its partitions have changed, so that
 * any worker and any tool can show all of them. Nothing depends on it: one that cannot be sent is left out.
 */
import { hostname } from "node:os"
import { Clock, type Context, Effect, Exit, Latch, Metric } from "effect"
import type { Coordinator } from "../../Coordinator.ts"
import * as Metrics from "../../Metrics.ts"
import type * as Parts from "../../Part.ts"
import type { Doing as DoingJob } from "../jobs/doing.ts"
import type { Doing } from "../run/doing.ts"
import type { Counts } from "../run/runner.ts"
import { isSchedule } from "../schedule/definition.ts"
import type { Doing as DoingSchedule } from "../schedule/schedules.ts"
import { iso } from "./known.ts"
import type { WorkerReport } from "./shapes/workers.ts"

const everyMillis = 5_000
/** After the first: by then it has settled what it does. */
const soonMillis = 1_000
/** Changes come together: a rebalance is told once. */
const gatherMillis = 100
/** After one that failed. */
const awayMillis = 10_000
/** It is forgotten after so long without the next one. */
const keptMillis = 15_000
/** Of each list; the rest is left out, so that a report stays small. */
const most = 1_000

export interface Part {
  readonly name: string
  /** Of a job. */
  readonly queue: string | undefined
  readonly kind: WorkerReport["parts"][number]["kind"]
  readonly counts: Counts
}

/** How long its events or runs took so far: seconds, and how many. */
type Taken = Pick<Metric.HistogramState, "sum" | "count">

const nothing: Taken = { sum: 0, count: 0 }

// A metric comes to be by being looked at, so one of nothing is not.
const takenBy = ({ counts, kind, name, queue }: Part, context: Context.Context<never>): Taken => {
  if (counts.processed + counts.failed === 0 || (kind !== "processor" && kind !== "job")) return nothing
  const of =
    queue === undefined
      ? Metric.withAttributes(Metrics.handlerSeconds, { processor: name })
      : Metric.withAttributes(Metrics.jobSeconds, { queue, job: name })
  return of.valueUnsafe(context)
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

const rounded = (value: number): number => Math.round(value * 1_000) / 1_000

export interface Reporting {
  /** Reports until it is interrupted. */
  readonly run: Effect.Effect<never>
  /** Something changed that should be told soon. */
  readonly changed: () => void
  /** It has ended. */
  readonly end: Effect.Effect<void>
}

export const make = (options: Options): Effect.Effect<Reporting> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const context = yield* Effect.context<never>()
    const { coordinator, jobs, member, parts, partitions, rebalances, schedules } = options
    const since = clock.currentTimeMillisUnsafe()
    const bell = Latch.makeUnsafe(false)
    let before = new Map<string, { readonly processed: number; readonly taken: Taken }>()
    let told = since
    let ended = false

    const describe = (): WorkerReport => {
      const now = clock.currentTimeMillisUnsafe()
      const seconds = (now - told) / 1_000
      const seen = new Map(
        parts.map((part) => [part.name, { processed: part.counts.processed, taken: takenBy(part, context) }])
      )
      const measured = new Map(
        Array.from(seen, ([name, { processed, taken }]) => {
          const last = before.get(name) ?? { processed: 0, taken: nothing }
          const runs = taken.count - last.taken.count
          return [
            name,
            {
              perSecond: seconds <= 0 ? 0 : rounded(Math.max(0, processed - last.processed) / seconds),
              millis: runs <= 0 ? null : rounded(((taken.sum - last.taken.sum) * 1_000) / runs)
            }
          ]
        })
      )
      before = seen
      told = now
      return {
        host: hostname(),
        pid: process.pid,
        runtime: process.version,
        since: iso(since),
        memory: process.memoryUsage.rss(),
        rebalances: rebalances(),
        parts: parts.map(({ counts, kind, name }) => ({ name, kind, ...counts, ...measured.get(name)! })),
        partitions: partitions(now).slice(0, most),
        jobs: jobs(now).slice(0, most),
        schedules: schedules()
          .slice(0, most)
          .map(({ next, ...one }) => ({ ...one, next: next === undefined ? null : iso(next) }))
      }
    }

    const report = Effect.suspend(() =>
      ended ? Effect.void : coordinator.report(member, JSON.stringify(describe()), keptMillis)
    )
    return {
      run: Effect.gen(function* () {
        for (let wait = soonMillis; ; wait = everyMillis) {
          bell.closeUnsafe()
          // An engine that is away is not bothered with it, whatever changes: each refusal costs a new connection.
          if (Exit.isFailure(yield* Effect.exit(report))) yield* Effect.sleep(awayMillis)
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
