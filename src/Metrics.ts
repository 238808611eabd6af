/**
 * What a worker counts, as Effect metrics: any exporter of Effect's shows them (`PrometheusMetrics`, `Otlp`). They are
 * updated once per commit, not per event.
 *
 * | metric | attributes | counts |
 * | --- | --- | --- |
 * | `millrace_events_processed_total` | processor | events whose handling is committed |
 * | `millrace_events_failed_total` | processor | failures of handlers, those that a policy settled included |
 * | `millrace_events_ignored_total` | processor | events that `Policy.ignore` acknowledged |
 * | `millrace_entries_lost_total` | processor | entries trimmed before this processor had read them |
 * | `millrace_events_stalled_total` | processor | reports of an event that has been in hand for longer than `slowAfter` |
 * | `millrace_commits_total` | processor | commits of a partition |
 */
import { type Context, Metric } from "effect"

const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true })

export const processed = counter("millrace_events_processed_total", "Events whose handling is committed")
export const failed = counter("millrace_events_failed_total", "Failures of handlers")
export const ignored = counter("millrace_events_ignored_total", "Events that Policy.ignore acknowledged")
export const lost = counter("millrace_entries_lost_total", "Entries trimmed before a processor had read them")
export const stalled = counter("millrace_events_stalled_total", "Reports of events in hand for longer than slowAfter")
export const commits = counter("millrace_commits_total", "Commits of a partition")

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
    ignored: of(ignored),
    lost: of(lost),
    stalled: of(stalled),
    commits: of(commits)
  }
}
