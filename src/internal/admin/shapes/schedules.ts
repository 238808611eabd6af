/** Schedules of all workers, as `Admin` tells of them. */
import { Schema } from "effect"
import { Count, Time } from "./common.ts"

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
