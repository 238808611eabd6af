/** What the functions of `Admin` share: times as text, pages, and names that nobody knows. */
import { Clock, DateTime, Effect } from "effect"
import { type Misconfigured, NotFound } from "../../Errors.ts"
import { invalid } from "../names.ts"

/** Milliseconds since 1970 as ISO 8601. */
export const iso = (millis: number): string => {
  // What a foreign writer put where a time belongs may be no time.
  const time = DateTime.make(millis)
  return time._tag === "Some" ? DateTime.formatIso(time.value) : String(millis)
}

/** Seconds from then until now, never negative: the engine's clock may be ahead of ours. */
export const age = (now: number, then: number | undefined): number =>
  then === undefined ? 0 : Math.max(0, now - then) / 1_000

export const now: Effect.Effect<number> = Clock.currentTimeMillis

/** The one of this name. */
export const named = <A extends { readonly name: string }>(
  kind: string,
  all: ReadonlyArray<A>,
  name: string
): Effect.Effect<A, NotFound> => {
  const found = all.find((one) => one.name === name)
  return found === undefined
    ? Effect.fail(new NotFound({ kind, name, known: all.map((one) => one.name) }))
    : Effect.succeed(found)
}

/** A cursor that no page of ours has given. */
export const noCursor = (cursor: string): Misconfigured =>
  invalid(`cursor ${JSON.stringify(cursor)}: give the "next" of the page before`)

/** Partitions of one thing that are asked at the same time. */
export const concurrency = 16

export const range = (size: number, from = 0): ReadonlyArray<number> =>
  Array.from({ length: Math.max(0, size - from) }, (_, i) => from + i)
