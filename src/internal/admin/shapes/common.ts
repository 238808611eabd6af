/**
 * What the shapes have in common: counts, times, pages, headers.
 *
 * All shapes are plain JSON in both forms, so what a function of `Admin` gives is what the HTTP API serves and what the
 * command line prints. A time is ISO 8601 text in UTC; what is not known, or not there, is null.
 */
import { Schema } from "effect"

export const Count = Schema.Int.annotate({ description: "a count" })

/** ISO 8601 in UTC, with milliseconds. */
export const Time = Schema.String.annotate({ format: "date-time" })

/** A page of a list. Ask again with `next` as the cursor until it is null; a page may be empty and not the last. */
export const pageOf = <S extends Schema.Constraint>(item: S) =>
  Schema.Struct({ items: Schema.Array(item), next: Schema.NullOr(Schema.String) })

export interface Page<out A> {
  readonly items: ReadonlyArray<A>
  readonly next: string | null
}

export const Headers = Schema.Record(Schema.String, Schema.String)
