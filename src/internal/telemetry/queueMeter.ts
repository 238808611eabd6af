/** What the runs of one queue's jobs in one worker come to: counted by outcome and timed, once for each run. */
import { type Context, Metric } from "effect"
import type { Outcome } from "../../JobStore.ts"
import * as Metrics from "../../Metrics.ts"
import { type Timing, timing } from "./series.ts"

export class QueueMeter {
  private readonly outcomes = new Map<string, Metric.Counter<number>>()
  private readonly times = new Map<string, Timing>()
  private readonly queue: string
  private readonly context: Context.Context<never>
  constructor(queue: string, context: Context.Context<never>) {
    this.queue = queue
    this.context = context
  }

  /** Undefined: the outcome came too late. */
  settled(job: string, outcome: Outcome | undefined): void {
    const word = outcome === undefined ? "refused" : outcome._tag.toLowerCase()
    const key = `${job} ${word}`
    let own = this.outcomes.get(key)
    if (own === undefined) {
      own = Metric.withAttributes(Metrics.jobs, { queue: this.queue, job, outcome: word })
      this.outcomes.set(key, own)
    }
    own.updateUnsafe(1, this.context)
  }

  /** One run of it took so many milliseconds. */
  ran(job: string, millis: number): void {
    let own = this.times.get(job)
    if (own === undefined) {
      own = timing(Metrics.jobSeconds, { queue: this.queue, job }, this.context)
      this.times.set(job, own)
    }
    own.add(BigInt(Math.round(millis * 1e6)))
  }
}
