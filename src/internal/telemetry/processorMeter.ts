/** What one processor in one worker measures: numbers that its runners count anyway, read when somebody looks. */
import { type Clock, type Context, type Exit, Metric } from "effect"
import type { Commit } from "../../Broker.ts"
import * as Metrics from "../../Metrics.ts"
import type { Committed } from "../../Sensor.ts"
import type { Counts } from "../run/runner.ts"
import { type Sense, senseOf } from "./sensing.ts"
import { type Attributes, level, type Timing, timing, total } from "./series.ts"

export class ProcessorMeter {
  /** Counted by who does it. */
  received = 0
  turn = 0
  stalled = 0
  private emitted = 0
  private commits = 0
  private lost = 0
  private late = 0
  readonly clock: Clock.Clock
  readonly commitTime: Timing
  readonly handlerTime: Timing
  private readonly attributes: Attributes
  private readonly context: Context.Context<never>
  private readonly sense: Sense<"commit">
  private readonly ends: ReadonlyArray<() => void>
  constructor(
    processor: string,
    context: Context.Context<never>,
    clock: Clock.Clock,
    counts: Counts,
    partitions: { readonly owned: () => number; readonly aside: () => number }
  ) {
    const attributes = { processor }
    this.attributes = attributes
    this.context = context
    this.clock = clock
    this.sense = senseOf(context, "commit")
    this.commitTime = timing(Metrics.commitSeconds, attributes, context)
    this.handlerTime = timing(Metrics.handlerSeconds, attributes, context)
    const of = (metric: Metric.Counter<number>, read: () => number) => total(metric, attributes, context, read)
    this.ends = [
      of(Metrics.received, () => this.received),
      of(Metrics.processed, () => counts.processed),
      of(Metrics.emitted, () => this.emitted),
      of(Metrics.failed, () => counts.failed),
      of(Metrics.retried, () => counts.retried),
      of(Metrics.ignored, () => counts.ignored),
      of(Metrics.deadLettered, () => counts.deadLettered),
      of(Metrics.parked, () => counts.parked),
      of(Metrics.quarantined, () => counts.quarantined),
      of(Metrics.late, () => this.late),
      of(Metrics.lost, () => this.lost),
      of(Metrics.stalled, () => this.stalled),
      of(Metrics.commits, () => this.commits),
      level(Metrics.owned, attributes, context, partitions.owned),
      level(Metrics.aside, attributes, context, partitions.aside)
    ]
  }

  /** Failed events by what became of them. */
  readonly settled = (outcome: string, tag: string, events: number): void =>
    Metric.withAttributes(Metrics.failures, { ...this.attributes, outcome, tag }).updateUnsafe(events, this.context)

  /** So many events were handled since then. */
  handled(since: bigint, events: number): void {
    this.handlerTime.add(this.clock.currentTimeNanosUnsafe() - since, events)
  }

  readonly lose = (entries: number): void => {
    this.lost += entries
  }

  readonly tellLate = (events: number): void => {
    this.late = events
  }

  /** What the commits of one call say, told when it begins; what this gives is called with how it ended. */
  readonly sends = (commits: ReadonlyArray<Commit>): ((exit: Exit.Exit<unknown, unknown>) => void) => {
    const since = this.clock.currentTimeNanosUnsafe()
    const end = this.sense?.(stepOf(commits))
    return (exit) => {
      this.commitTime.add(this.clock.currentTimeNanosUnsafe() - since)
      end?.(exit)
    }
  }

  committed({ emits }: Commit): void {
    this.commits++
    if (emits.length > 0) this.emitted += emittedIn(emits)
  }

  /** Its totals stay. */
  end(): void {
    for (const end of this.ends) end()
  }
}

/** The commits of one call, of one processor. */
const stepOf = (commits: ReadonlyArray<Commit>): Committed => ({
  processor: commits[0]!.processor,
  partitions: commits.map(({ partition }) => partition),
  rows: commits.reduce((sum, { rows }) => sum + rows.length, 0),
  emitted: commits.reduce((sum, { emits }) => sum + emittedIn(emits), 0),
  jobs: commits.reduce((sum, { jobs = [] }) => sum + jobs.length, 0)
})

const emittedIn = (emits: Commit["emits"]): number => {
  let events = 0
  for (const { entries } of emits) for (const { count } of entries) events += count
  return events
}
