/** Queues, jobs, and those that recur, as `Admin` tells of them. */
import { Schema } from "effect"
import { Count, Headers, Time } from "./common.ts"
import { Payload } from "./payload.ts"

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
