/** Readings with a time of their own, and processors that sum them up by window: for the tests of windows. */
import { DateTime, Duration, Effect, Schema } from "effect"
import { TestClock } from "effect/testing"
import * as Processor from "../../src/Processor.ts"
import * as Retention from "../../src/Retention.ts"
import * as Table from "../../src/Table.ts"
import * as Topic from "../../src/Topic.ts"
import type * as Window from "../../src/Window.ts"
import { type BehaviourOptions, behaviour, type TestEngine } from "./engines.ts"

/** Long ago, and a beginning of windows of every size that is used here. */
export const zero = Date.UTC(2020, 0, 1)
export const utc = (at: number): DateTime.Utc => DateTime.makeUnsafe(zero + at)

/** Events of long ago come piece by piece: silence between them says nothing. */
export const never = { idle: Duration.infinity }

const Reading = Schema.Struct({ key: Schema.String, at: Schema.Int, n: Schema.Int })
export type Reading = typeof Reading.Type

/** `at` counts from the beginning. */
export const topicOf = (name = "readings", partitions = 1) =>
  Topic.make(name, {
    schema: Reading,
    partitionBy: "key",
    partitions,
    retention: Retention.forever,
    timestamp: ({ at }) => DateTime.makeUnsafe(zero + at)
  })

export const reading = (at: number, n = 1, key = "a"): Reading => ({ key, at, n })

export type Sums<Name extends string = string> = Table.Windowed<Name, string, number>

export const sumsIn = <const Name extends string = "sums">(
  window: Window.Window,
  name = "sums" as Name
): Sums<Name> => {
  const options = { key: Schema.String, value: Schema.Int, initial: () => 0 }
  if (window["~millrace/Window"] === "session") {
    return Table.windowed(name, { ...options, window: window as Window.Session, merge: (a, b) => a + b })
  }
  return Table.windowed(name, { ...options, window })
}

export const lineOf = ({ end, key, start, value }: Table.Closed<string, number>): string =>
  `${key} ${DateTime.toEpochMillis(start) - zero}-${DateTime.toEpochMillis(end) - zero}: ${value}`

/** Sums up by key, and notes what closes: key, start and end from the beginning, value. */
export const summing = (
  window: Window.Window,
  { concurrency, topic = topicOf() }: { topic?: ReturnType<typeof topicOf>; concurrency?: { perKey: number } } = {}
) => {
  const table = sumsIn(window)
  const closed: Array<string> = []
  const closing = Table.onClose(table, (window) => Effect.sync(() => closed.push(lineOf(window))))
  const part = Processor.make("summing", { topic, tables: [closing], concurrency }, ({ key, n }) =>
    Table.update(table, key, (sum) => sum + n)
  )
  return { table, part, closed, topic }
}

/** A behaviour in our days: event times must not be ahead of the clock. */
export const inOurDays: typeof behaviour = (sentence, body, options?: BehaviourOptions) =>
  behaviour(
    sentence,
    (engine: TestEngine) =>
      Effect.andThen(engine.virtual ? TestClock.setTime(Date.UTC(2026, 0, 1)) : Effect.void, body(engine)),
    options
  )
