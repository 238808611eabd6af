/** Workers and what they say about themselves, as `Admin` tells of them. */
import { Schema } from "effect"
import { Count, Time } from "./common.ts"

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
