/**
 * What tools and pages are told, as schemas: plain JSON in both forms, so what a function of `Admin` gives is what the HTTP
 * API serves and what the command line prints. A time is ISO 8601 text in UTC; what is not known, or not there, is null.
 */
import { Schema } from "effect"

const Count = Schema.Int.annotate({ description: "a count" })

/** ISO 8601 in UTC, with milliseconds. */
export const Time = Schema.String.annotate({ format: "date-time" })

/** A page of a list. Ask again with `next` as the cursor until it is null; a page may be empty and not the last. */
export const pageOf = <S extends Schema.Constraint>(item: S) =>
  Schema.Struct({ items: Schema.Array(item), next: Schema.NullOr(Schema.String) })

export interface Page<out A> {
  readonly items: ReadonlyArray<A>
  readonly next: string | null
}

// ------------------------------------------------------------------------------------------------------------- topics

/** What a partition keeps, in events or milliseconds of age. */
export const Retention = Schema.Union([
  Schema.Struct({
    _tag: Schema.Literal("Consumed"),
    capacity: Count,
    keep: Count,
    onFull: Schema.Literals(["wait", "fail"])
  }),
  Schema.Struct({ _tag: Schema.Literal("MaxLength"), events: Count }),
  Schema.Struct({ _tag: Schema.Literal("MaxAge"), millis: Schema.Finite }),
  Schema.Struct({ _tag: Schema.Literal("Forever") })
])

export const Topic = Schema.Struct({
  name: Schema.String,
  partitions: Count,
  /** Null if it was declared by a release that did not store it. */
  retention: Schema.NullOr(Retention),
  /** Its entries hold the fields of a record. */
  flat: Schema.Boolean,
  /** It takes dead letters. */
  letters: Schema.Boolean,
  /** Those that are stored now. */
  entries: Count,
  events: Count,
  /** Those that were ever stored. */
  entriesAdded: Count,
  eventsAdded: Count,
  /** Processors that read it. */
  processors: Schema.Array(Schema.String)
})
export type Topic = typeof Topic.Type

/** One partition's log. */
export const Log = Schema.Struct({
  partition: Schema.Int,
  /** Entry ids, `<millis>-<seq>`; `0-0` where there is none. */
  first: Schema.String,
  last: Schema.String,
  entries: Count,
  events: Count,
  entriesAdded: Count,
  eventsAdded: Count
})
export type Log = typeof Log.Type

/** A topic with its partitions, by number. */
export const TopicLogs = Schema.Struct({ ...Topic.fields, logs: Schema.Array(Log) })
export type TopicLogs = typeof TopicLogs.Type

// --------------------------------------------------------------------------------------------------------- processors

export const Owner = Schema.Struct({
  member: Schema.String,
  /** A whole number, as text since it may be large. */
  epoch: Schema.String
})

export const Processor = Schema.Struct({
  name: Schema.String,
  topics: Schema.Array(Schema.String),
  partitions: Count,
  paused: Schema.Boolean,
  /** Workers that run it. */
  members: Schema.Array(Schema.String),
  /** By partition; null where nobody owns it. Empty for one that never ran. */
  owners: Schema.Array(Schema.NullOr(Owner)),
  /** Partitions that are put aside. */
  quarantined: Schema.Array(Schema.Int),
  /** How often partitions were dealt out. */
  generation: Count
})
export type Processor = typeof Processor.Type

/** How far a processor is behind in one partition of a topic. */
export const PartitionLag = Schema.Struct({
  topic: Schema.String,
  partition: Schema.Int,
  /** Entries not committed whole, events not committed. */
  entries: Count,
  events: Count,
  /** When the oldest of them was stored, and its age now; null and 0 if there is none. */
  oldest: Schema.NullOr(Time),
  seconds: Schema.Finite
})
export type PartitionLag = typeof PartitionLag.Type

/** The same of the whole processor: sums, and the oldest of all. */
export const Lag = Schema.Struct({
  processor: Schema.String,
  entries: Count,
  events: Count,
  oldest: Schema.NullOr(Time),
  seconds: Schema.Finite,
  partitions: Schema.Array(PartitionLag)
})
export type Lag = typeof Lag.Type

/** A partition that is put aside. */
export const Quarantined = Schema.Struct({
  processor: Schema.String,
  partition: Schema.Int,
  reason: Schema.Literals(["failure", "crash loop"]),
  error: Schema.String,
  /** The first event that failed. */
  offset: Schema.String,
  /** The whole unit that failed, which a skip passes. */
  positions: Schema.Array(Schema.Struct({ topic: Schema.String, first: Schema.String, last: Schema.String })),
  /** Who put it aside, and when. */
  member: Schema.String,
  since: Time
})
export type Quarantined = typeof Quarantined.Type

/** What waits aside in a partition: a key, or one event without a key, by its topic and offset. */
export const Lane = Schema.Struct({
  key: Schema.NullOr(Schema.String),
  topic: Schema.NullOr(Schema.String),
  offset: Schema.NullOr(Schema.String)
})
export type Lane = typeof Lane.Type

export const Parked = Schema.Struct({
  processor: Schema.String,
  partition: Schema.Int,
  ...Lane.fields,
  /** Events that wait there. */
  count: Count,
  /** Attempts at the first of them. */
  attempts: Count,
  /** When that is tried again. */
  due: Time,
  /** Why it failed last; empty if it waited for others and was not tried yet. */
  error: Schema.String,
  since: Time
})
export type Parked = typeof Parked.Type

// ------------------------------------------------------------------------------------------------------------- values

/** A stored value, as far as it can be read without its schema. */
export const Payload = Schema.Struct({
  /** How it was written, such as `json` or `msgpack+gzip`. */
  format: Schema.String,
  /** As stored. */
  bytes: Count,
  /** The value in JSON; null if there is a problem. */
  value: Schema.Json,
  /** Why the value is not shown: this program cannot read it, or it is too long for a list. */
  problem: Schema.NullOr(Schema.String),
  /** With a problem, the first bytes as they are stored, in base64. */
  base64: Schema.NullOr(Schema.String)
})
export type Payload = typeof Payload.Type

const Headers = Schema.Record(Schema.String, Schema.String)

// ------------------------------------------------------------------------------------------------------- dead letters

/** A topic that takes dead letters. */
export const DeadTopic = Schema.Struct({
  topic: Schema.String,
  partitions: Count,
  /** Letters that were not put back. */
  letters: Count,
  /** Letters that the topic's retention dropped before they were put back. */
  dropped: Count
})
export type DeadTopic = typeof DeadTopic.Type

export const DeadLetter = Schema.Struct({
  /** Where it lies. */
  topic: Schema.String,
  partition: Schema.Int,
  offset: Schema.String,
  key: Schema.NullOr(Schema.String),
  /** When the event happened, and its own headers. */
  timestamp: Time,
  headers: Headers,
  payload: Payload,
  /** The tag of the error, what it said, and the whole cause (cut at 4,000 characters). */
  error: Schema.Struct({ tag: Schema.String, message: Schema.String, stack: Schema.String }),
  attempts: Count,
  /** Who gave it up, and when. */
  processor: Schema.String,
  failedAt: Schema.NullOr(Time),
  source: Schema.Struct({ topic: Schema.String, partition: Schema.Int, offset: Schema.String })
})
export type DeadLetter = typeof DeadLetter.Type

// ------------------------------------------------------------------------------------------------------------- tables

export const Table = Schema.Struct({
  name: Schema.String,
  processor: Schema.String,
  partitions: Count,
  /** Keys are placed by the documented hash, so the partition of one is known. */
  hashed: Schema.Boolean
})
export type Table = typeof Table.Type

export const Row = Schema.Struct({
  table: Schema.String,
  partition: Schema.Int,
  key: Schema.String,
  payload: Payload
})
export type Row = typeof Row.Type

// --------------------------------------------------------------------------------------------------------------- jobs

export const State = Schema.Literals(["ready", "delayed", "waiting", "active", "dead", "done", "cancelled"])
export type State = typeof State.Type

/** Jobs by state; `done` counts cancelled ones too. */
export const Counts = Schema.Struct({
  ready: Count,
  delayed: Count,
  waiting: Count,
  active: Count,
  dead: Count,
  done: Count
})

export const Queue = Schema.Struct({ name: Schema.String, paused: Schema.Boolean, counts: Counts })
export type Queue = typeof Queue.Type

/** A run that did not end well. */
export const Attempt = Schema.Struct({
  at: Time,
  /** `Failed`, `Defect`, `Timeout`, `Lost`, ... */
  exit: Schema.String,
  attempt: Schema.NullOr(Schema.Int),
  worker: Schema.NullOr(Schema.String),
  message: Schema.NullOr(Schema.String)
})

export const Job = Schema.Struct({
  queue: Schema.String,
  id: Schema.String,
  name: Schema.String,
  state: State,
  priority: Schema.Literals(["high", "medium", "low"]),
  /** Runs that failed, and leases that were lost. */
  failures: Count,
  lost: Count,
  enqueuedAt: Time,
  /** When it is due, or ended; else when it was enqueued. */
  at: Time,
  headers: Headers,
  group: Schema.NullOr(Schema.String),
  /** Why it is dead. */
  reason: Schema.NullOr(Schema.String),
  /** What its last failure said. */
  error: Schema.NullOr(Schema.String),
  /** What its handler told last. */
  progress: Schema.NullOr(Schema.String),
  /** The last twenty, the oldest first. */
  history: Schema.Array(Attempt),
  /** What it was given, or, once it is done, its result. */
  payload: Payload
})
export type Job = typeof Job.Type

/** A job that recurs: stored beside its queue, and enqueued by any worker of it. */
export const JobSchedule = Schema.Struct({
  queue: Schema.String,
  name: Schema.String,
  job: Schema.String,
  /** Milliseconds; or an expression in a time zone. */
  every: Schema.NullOr(Schema.Finite),
  expression: Schema.NullOr(Schema.String),
  timezone: Schema.NullOr(Schema.String),
  missed: Schema.Literals(["skip", "last"]),
  paused: Schema.Boolean,
  /** The last slot that was enqueued, and the next ones; none while it is paused. */
  last: Schema.NullOr(Time),
  next: Schema.Array(Time)
})
export type JobSchedule = typeof JobSchedule.Type

// ------------------------------------------------------------------------------------------------------------ workers

/** What one part has done since its worker began; see `Worker.Counts`. */
export const Part = Schema.Struct({
  name: Schema.String,
  kind: Schema.Literals(["processor", "job", "task", "timer", "cron"]),
  processed: Count,
  failed: Count,
  retried: Count,
  ignored: Count,
  deadLettered: Count,
  parked: Count,
  quarantined: Count,
  /** Events, or runs, that were done in a second, since the report before. */
  perSecond: Schema.Finite,
  /** Milliseconds that one took, in the mean, since the report before; null if there was none. */
  millis: Schema.NullOr(Schema.Finite)
})

/** What a worker does with a partition now. */
export const Doing = Schema.Struct({
  processor: Schema.String,
  partition: Schema.Int,
  paused: Schema.Boolean,
  /** Events in hand; the oldest of them, and for how many milliseconds. */
  inHand: Count,
  offset: Schema.NullOr(Schema.String),
  millis: Schema.Finite,
  /** Events read ahead, and events done or in hand that are not committed. */
  ahead: Count,
  uncommitted: Count
})
export type Doing = typeof Doing.Type

/** A job that runs. */
export const RunningJob = Schema.Struct({
  queue: Schema.String,
  id: Schema.String,
  name: Schema.String,
  millis: Schema.Finite
})
export type RunningJob = typeof RunningJob.Type

/** A schedule of a worker, as that worker has it. */
export const WorkerSchedule = Schema.Struct({
  name: Schema.String,
  kind: Schema.Literals(["task", "timer", "cron"]),
  onLeader: Schema.Boolean,
  /** This worker ticks it. */
  active: Schema.Boolean,
  running: Count,
  next: Schema.NullOr(Time)
})
export type WorkerSchedule = typeof WorkerSchedule.Type

/** What a worker says about itself, every few seconds and when its partitions change. */
export const WorkerReport = Schema.Struct({
  host: Schema.String,
  pid: Schema.Int,
  /** Of Node.js. */
  runtime: Schema.String,
  since: Time,
  /** Resident memory in bytes. */
  memory: Count,
  rebalances: Count,
  parts: Schema.Array(Part),
  partitions: Schema.Array(Doing),
  jobs: Schema.Array(RunningJob),
  schedules: Schema.Array(WorkerSchedule)
})
export type WorkerReport = typeof WorkerReport.Type

export const Worker = Schema.Struct({
  member: Schema.String,
  /** Processors that it is a member of. */
  processors: Schema.Array(Schema.String),
  /** When it said so. Null, as is the report, for one that says nothing: it has just begun, or hangs. */
  reportedAt: Schema.NullOr(Time),
  report: Schema.NullOr(WorkerReport)
})
export type Worker = typeof Worker.Type

// ---------------------------------------------------------------------------------------------------------- schedules

export const Schedule = Schema.Struct({
  name: Schema.String,
  /** Null for one of the leader's that no living worker has. */
  kind: Schema.NullOr(Schema.Literals(["task", "timer", "cron"])),
  onLeader: Schema.Boolean,
  /** The worker that leads; null without one, and for schedules of every worker. */
  leader: Schema.NullOr(Schema.String),
  /** The latest tick that was claimed; null for schedules of every worker, of which nothing is stored. */
  last: Schema.NullOr(Time),
  next: Schema.NullOr(Time),
  /** Runs now, on all workers. */
  running: Count,
  /** Workers that have it. */
  workers: Schema.Array(Schema.String)
})
export type Schedule = typeof Schedule.Type
