/** What is put aside, partitions and keys, as `Admin` tells of it. */
import { Schema } from "effect"
import { Count, Time } from "./common.ts"

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
