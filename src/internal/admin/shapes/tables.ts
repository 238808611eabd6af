/** Tables and their rows, as `Admin` tells of them. */
import { Schema } from "effect"
import { Count } from "./common.ts"
import { Payload } from "./payload.ts"

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
