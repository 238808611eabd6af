/**
 * What workers and publishers measure, as Effect metrics: any exporter of Effect's shows them (`PrometheusMetrics`,
 * `Otlp`). Events are never counted one by one: most of these are read when somebody looks, the others are updated once
 * per chunk, commit or call. Times are seconds; several workers of a process add up.
 *
 * | metric | type | attributes | what |
 * | --- | --- | --- | --- |
 * | `millrace_events_received_total` | counter | processor | events handed to a handler for the first time by this worker |
 * | `millrace_events_processed_total` | counter | processor | events that were handled; their commit follows at once |
 * | `millrace_events_emitted_total` | counter | processor | events that its commits stored in topics: emitted ones, dead letters, changes of tables |
 * | `millrace_events_failed_total` | counter | processor | failures of handlers, those that a policy settled included |
 * | `millrace_events_retried_total` | counter | processor | events that were tried again after a failure |
 * | `millrace_events_ignored_total` | counter | processor | events that `Policy.ignore` acknowledged |
 * | `millrace_events_dead_lettered_total` | counter | processor | events that `Policy.deadLetter` acknowledged |
 * | `millrace_events_parked_total` | counter | processor | events that `Policy.park` set aside, and those that came behind them |
 * | `millrace_partitions_quarantined_total` | counter | processor | partitions that `Policy.quarantine` or a crash loop put aside |
 * | `millrace_failures_total` | counter | processor, outcome, tag | failed events by what became of them (`retry`, `split`, `ignore`, `deadLetter`, `park`, `quarantine`, `answer`, `halt`) and by the tag of their error |
 * | `millrace_events_late_total` | counter | processor | events that came too late for a window (see `Window`), and were left out of it |
 * | `millrace_entries_lost_total` | counter | processor | entries trimmed before this processor had read them |
 * | `millrace_events_stalled_total` | counter | processor | reports of an event that has been in hand for longer than `slowAfter` |
 * | `millrace_commits_total` | counter | processor | commits of a partition |
 * | `millrace_commit_seconds` | histogram | processor | one call that commits what its partitions have done, until it is answered |
 * | `millrace_handler_seconds` | histogram | processor | handling an event: the mean of its chunk or batch, waits between tries included; of every 32nd event where several are handled at once, and of every 32nd unit of work in a pipeline |
 * | `millrace_lag_events` | gauge | processor, topic, partition | events of a partition owned here that are not committed |
 * | `millrace_lag_seconds` | gauge | processor, topic, partition | age of the oldest entry that is not committed |
 * | `millrace_partitions_owned` | gauge | processor | partitions that this process runs |
 * | `millrace_partitions_aside` | gauge | processor | partitions in quarantine, in the whole cluster (take the maximum over workers) |
 * | `millrace_events_aside` | gauge | processor | parked events of the partitions owned here |
 * | `millrace_handovers_total` | counter | processor, change | partitions that came (`claimed`) and went (`released`) |
 * | `millrace_handover_seconds` | histogram | processor, change | until a granted partition runs (`claimed`), and until one that is wanted elsewhere is let go (`released`) |
 * | `millrace_events_published_total` | counter | topic | events stored by `publish`, `publishAll`, `cast` and `ask` |
 * | `millrace_append_seconds` | histogram | topic | one call that stores what was published, until it is answered |
 * | `millrace_append_failures_total` | counter | topic | such calls that failed |
 * | `millrace_ticks_total` | counter | schedule, outcome | ticks by what became of them (`done`, `failed`, `skipped`, `missed`, `cutShort`) |
 * | `millrace_jobs_total` | counter | queue, job, outcome | runs of jobs by what became of them (`done`, `retry`, `dead`, `cancelled`, `back`, `refused`) |
 * | `millrace_job_seconds` | histogram | queue, job | one run of a job |
 * | `millrace_queue_jobs` | gauge | queue, state | jobs of a queue, in the whole cluster (take the maximum over workers) |
 * | `millrace_workers` | gauge | | workers that run in this process |
 * | `millrace_loop_delay_seconds` | gauge | quantile | delay of this process's event loop since the last look (`0.5`, `0.99`, `1`); the first look begins the measurement |
 * | `millrace_probe_runs_total` | counter | probe, outcome | runs of probes (`passed`, `failed`, `timeout`, `stalled`) |
 * | `millrace_probe_failing` | gauge | probe | 1 from the report that a probe's suite has failed until it recovers |
 *
 * What only the engine knows (lag, quarantine, queues) is asked for every 5 seconds while somebody looks, and at once by
 * `refresh`, which belongs before whatever answers a scrape.
 */
import { Effect, Metric } from "effect"
import { refreshed } from "./internal/telemetry/refreshing.ts"

const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true })
const gauge = (name: string, description: string) => Metric.gauge(name, { description })

/** Upper bounds of the buckets of all histograms, in seconds. */
export const boundaries: ReadonlyArray<number> = [
  0.000_01, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60
]
const seconds = (name: string, description: string) => Metric.histogram(name, { description, boundaries })

export const received = counter("millrace_events_received_total", "Events handed to a handler for the first time")
export const processed = counter("millrace_events_processed_total", "Events that were handled")
export const emitted = counter("millrace_events_emitted_total", "Events that handlers have emitted")
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
export const commitSeconds = seconds("millrace_commit_seconds", "One call that commits, until it is answered")
export const handlerSeconds = seconds("millrace_handler_seconds", "Handling an event")
export const lag = gauge("millrace_lag_events", "Events of a partition that are not committed")
export const lagSeconds = gauge("millrace_lag_seconds", "Age of the oldest entry that is not committed")
export const owned = gauge("millrace_partitions_owned", "Partitions that this process runs")
export const inQuarantine = gauge("millrace_partitions_aside", "Partitions in quarantine, in the whole cluster")
export const aside = gauge("millrace_events_aside", "Parked events of the partitions owned here")
export const handovers = counter("millrace_handovers_total", "Partitions that came and went")
export const handoverSeconds = seconds("millrace_handover_seconds", "Until a partition runs, or is let go")
export const published = counter("millrace_events_published_total", "Events stored by publishing")
export const appendSeconds = seconds("millrace_append_seconds", "One call that publishes, until it is answered")
export const appendFailures = counter("millrace_append_failures_total", "Calls that publish and failed")
export const ticks = counter("millrace_ticks_total", "Ticks of schedules by outcome")
export const jobs = counter("millrace_jobs_total", "Runs of jobs by what became of them")
export const jobSeconds = seconds("millrace_job_seconds", "One run of a job")
export const queueJobs = gauge("millrace_queue_jobs", "Jobs of a queue, in the whole cluster")
export const workers = gauge("millrace_workers", "Workers that run in this process")
export const loopDelay = gauge("millrace_loop_delay_seconds", "Delay of the event loop of this process")
export const probeRuns = counter("millrace_probe_runs_total", "Runs of probes by outcome")
export const probeFailing = gauge("millrace_probe_failing", "Whether the suite of a probe has failed")

/**
 * Ask the engine now for what only it knows, for all workers of this process; what cannot be had stays as it was.
 * `Effect.andThen(Metrics.refresh, PrometheusMetrics.format())` answers a scrape.
 */
export const refresh: Effect.Effect<void> = Effect.contextWith(refreshed)
