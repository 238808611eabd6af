/** Dead letters and the topics that hold them, as `Admin` tells of them. */
import { Schema } from "effect"
import { Count, Headers, Time } from "./common.ts"
import { Payload } from "./payload.ts"

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
