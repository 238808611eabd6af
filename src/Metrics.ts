/**
 * What a worker counts, as Effect metrics: any exporter of Effect's shows them (`PrometheusMetrics`, `Otlp`). They are
 * updated once per commit, not per event; `millrace_failures_total` at each failure.
 *
 * | metric | attributes | counts |
 * | --- | --- | --- |
 * | `millrace_events_processed_total` | processor | events whose handling is committed |
 * | `millrace_events_failed_total` | processor | failures of handlers, those that a policy settled included |
 * | `millrace_events_retried_total` | processor | events that were tried again after a failure |
 * | `millrace_events_ignored_total` | processor | events that `Policy.ignore` acknowledged |
 * | `millrace_events_dead_lettered_total` | processor | events that `Policy.deadLetter` acknowledged |
 * | `millrace_events_parked_total` | processor | events that `Policy.park` set aside, and those that came behind them |
 * | `millrace_partitions_quarantined_total` | processor | partitions that `Policy.quarantine` or a crash loop put aside |
 * | `millrace_failures_total` | processor, outcome, tag | failed events by what became of them (`retry`, `split`, `ignore`, `deadLetter`, `park`, `quarantine`, `halt`) and by the tag of their error |
 * | `millrace_events_late_total` | processor | events that came too late for a window (see `Window`), and were left out of it |
 * | `millrace_entries_lost_total` | processor | entries trimmed before this processor had read them |
 * | `millrace_events_stalled_total` | processor | reports of an event that has been in hand for longer than `slowAfter` |
 * | `millrace_commits_total` | processor | commits of a partition |
 * | `millrace_ticks_total` | schedule, outcome | ticks by what became of them (`done`, `failed`, `skipped`, `missed`, `cutShort`) |
 * | `millrace_jobs_total` | queue, job, outcome | runs of jobs by what became of them (`done`, `retry`, `dead`, `cancelled`, `back`, `refused`) |
 */
import { type Context, Metric } from "effect"
import type { Outcome } from "./JobStore.ts"

const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true })

export const processed = counter("millrace_events_processed_total", "Events whose handling is committed")
export const failed = counter("millrace_events_failed_total", "Failures of handlers")
export const retried = counter("millrace_events_retried_total", "Events that were tried again after a failure")
export const ignored = counter("millrace_events_ignored_total", "Events that Policy.ignore acknowledged")
export const deadLettered = counter("millrace_events_dead_lettered_total", "Events that Policy.deadLetter acknowledged")
export const parked = counter(
  "millrace_events_parked_total",
  "Events that Policy.park set aside, and those that came behind them"
)
export const quarantined = counter(
  "millrace_partitions_quarantined_total",
  "Partitions that Policy.quarantine or a crash loop put aside"
)
export const failures = counter("millrace_failures_total", "Failed events by outcome and by the tag of their error")
export const late = counter("millrace_events_late_total", "Events that came too late for a window")
export const lost = counter("millrace_entries_lost_total", "Entries trimmed before a processor had read them")
export const stalled = counter("millrace_events_stalled_total", "Reports of events in hand for longer than slowAfter")
export const commits = counter("millrace_commits_total", "Commits of a partition")
export const ticks = counter("millrace_ticks_total", "Ticks of schedules by outcome")
export const jobs = counter("millrace_jobs_total", "Runs of jobs by what became of them")

/** Counters of one processor, updated by differences of what it counted itself. */
export const ofProcessor = (processor: string, context: Context.Context<never>) => {
  const of = (metric: Metric.Counter<number>) => {
    const own = Metric.withAttributes(metric, { processor })
    let last = 0
    return (total: number): void => {
      if (total === last) return
      own.updateUnsafe(total - last, context)
      last = total
    }
  }
  return {
    processed: of(processed),
    failed: of(failed),
    retried: of(retried),
    ignored: of(ignored),
    deadLettered: of(deadLettered),
    parked: of(parked),
    quarantined: of(quarantined),
    settled: (outcome: string, tag: string, events: number): void =>
      Metric.withAttributes(failures, { processor, outcome, tag }).updateUnsafe(events, context),
    late: of(late),
    lost: of(lost),
    stalled: of(stalled),
    commits: of(commits)
  }
}

/** Counts the runs of one queue; undefined: the outcome came too late. */
export const ofQueue = (queue: string, context: Context.Context<never>) => {
  const counters = new Map<string, Metric.Counter<number>>()
  return {
    settled: (job: string, outcome: Outcome | undefined): void => {
      const word = outcome === undefined ? "refused" : outcome._tag.toLowerCase()
      const key = `${job} ${word}`
      let own = counters.get(key)
      if (own === undefined) counters.set(key, (own = Metric.withAttributes(jobs, { queue, job, outcome: word })))
      own.updateUnsafe(1, context)
    }
  }
}
