/** Processors, who owns their partitions, and how far they are behind, as `Admin` tells of them. */
import { Schema } from "effect"
import { Count, Time } from "./common.ts"

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
