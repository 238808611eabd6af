/** A stored value as far as it can be read without its schema, as `Admin` shows it. */
import { Schema } from "effect"
import { Count } from "./common.ts"

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
