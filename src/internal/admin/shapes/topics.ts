/** Topics and their logs, as `Admin` tells of them. */
import { Schema } from "effect"
import { Count } from "./common.ts"

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
