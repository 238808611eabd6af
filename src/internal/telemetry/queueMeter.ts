/** What the runs of one queue's jobs in one worker come to: counted by outcome and timed, once for each run. */
import type { Context } from "effect"
import type { Outcome } from "../../JobStore.ts"
import * as Metrics from "../../Metrics.ts"
import { type Timing, timing, total } from "./series.ts"

interface Counted {
  count: number
  /** It stays as it is. */
  readonly end: () => void
}

/** Those of one job. */
class JobMeter {
  readonly time: Timing
  private readonly counts = new Map<Outcome["_tag"] | undefined, Counted>()
  private readonly attributes: { readonly queue: string; readonly job: string }
  private readonly context: Context.Context<never>
  constructor(queue: string, job: string, context: Context.Context<never>) {
    this.attributes = { queue, job }
    this.context = context
    this.time = timing(Metrics.jobSeconds, this.attributes, context)
  }

  settled(tag: Outcome["_tag"] | undefined): void {
    const known = this.counts.get(tag)
    if (known !== undefined) {
      known.count++
      return
    }
    const outcome = tag?.toLowerCase() ?? "refused"
    const made: Counted = {
      count: 1,
      end: total(Metrics.jobs, { ...this.attributes, outcome }, this.context, () => made.count)
    }
    this.counts.set(tag, made)
  }

  end(): void {
    for (const { end } of this.counts.values()) end()
    this.counts.clear()
  }
}

export class QueueMeter {
  private readonly jobs = new Map<string, JobMeter>()
  private readonly queue: string
  private readonly context: Context.Context<never>
  constructor(queue: string, context: Context.Context<never>) {
    this.queue = queue
    this.context = context
  }

  private of(job: string): JobMeter {
    let meter = this.jobs.get(job)
    if (meter === undefined) this.jobs.set(job, (meter = new JobMeter(this.queue, job, this.context)))
    return meter
  }

  /** Undefined: the outcome came too late. */
  settled(job: string, outcome: Outcome | undefined): void {
    this.of(job).settled(outcome?._tag)
  }

  /** One run of it took so many milliseconds. */
  ran(job: string, millis: number): void {
    this.of(job).time.addSeconds(millis / 1_000)
  }

  /** What was counted stays; nothing more is. */
  end(): void {
    for (const meter of this.jobs.values()) meter.end()
  }
}
