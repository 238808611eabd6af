/** What is stored of windows, as look-ups from anywhere show it. */
import { DateTime, Effect } from "effect"
import type { Definition, Key } from "../../Table.ts"
import type * as Window from "../../Window.ts"
import { keyOf } from "../table/keys.ts"
import { rowAt, slicesOf, textOf, valueAt, type Windowing } from "./definition.ts"

/** The windows of these keys that hold a time, or now; `rows` gives what is stored. */
export const lookedUp = <E, R>(
  windowed: Windowing,
  keys: ReadonlyArray<Key>,
  at: DateTime.Utc | undefined,
  rows: (keys: ReadonlyArray<Key>) => Effect.Effect<ReadonlyArray<unknown>, E, R>
): Effect.Effect<ReadonlyArray<unknown>, E, R> =>
  Effect.flatMap(at === undefined ? DateTime.now : Effect.succeed(at), (at) => {
    const time = DateTime.toEpochMillis(at)
    return Effect.map(rows(keys.map((key) => rowAt(windowed, key, time))), (states) =>
      states.map((state) => {
        const found = valueAt(windowed, state, time)
        return found === undefined ? windowed.initial() : found.value
      })
    )
  })

/** The key that a row is of; throws if the schema has none. */
export const keyOfRow = (definition: Definition, row: string): Key => {
  const { windowed } = definition
  return windowed === undefined ? keyOf(definition)(row) : windowed.key(textOf(windowed, row))
}

/** The values of a row: of its windows, or of those with this span. */
export const valuesOfRow = (
  { windowed }: Definition,
  row: string,
  stored: unknown,
  span: Window.Span | undefined
): ReadonlyArray<unknown> => {
  if (windowed === undefined) return [stored]
  const all = slicesOf(windowed, row, stored)
  if (span === undefined) return all.map(({ value }) => value)
  const start = DateTime.toEpochMillis(span.start)
  const end = DateTime.toEpochMillis(span.end)
  return all.filter((slice) => slice.start === start && slice.end === end).map(({ value }) => value)
}
