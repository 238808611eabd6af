/**
 * How time is cut into spans, for tables that hold a value for each key and span (`Table.windowed`). A window closes when
 * the watermark of its partition passes its end: the highest event time that was handled there, less `lateness`.
 *
 * Gotcha: what is later than that is left out of the window, counted (`millrace_events_late_total`) and reported.
 */
import { type DateTime, Duration } from "effect"
import { invalid } from "./internal/names.ts"

/** Times in milliseconds. */
type Shape =
  | { readonly _tag: "Aligned"; readonly size: number; readonly step: number }
  | { readonly _tag: "Sliding"; readonly before: number; readonly after: number }
  | { readonly _tag: "Session"; readonly gap: number }

export interface Window extends Timing {
  readonly "~millrace/Window": "tumbling" | "hopping" | "sliding" | "session"
  /** @internal */
  readonly shape: Shape
  /** Milliseconds after its start for which a window can be read. @internal */
  readonly retain: number
}

/** What time a table goes by, in milliseconds. */
export interface Timing {
  /** @internal */
  readonly lateness: number
  /** @internal */
  readonly idle: number
  /** @internal */
  readonly time: "event" | "clock"
}

/** One whose spans depend on the events: where two become one, their values are merged. */
export interface Session extends Window {
  readonly "~millrace/Window": "session"
}

/** `end` is the first moment that does not belong to it. */
export interface Span {
  readonly start: DateTime.Utc
  readonly end: DateTime.Utc
}

export interface Options {
  /** How long after its start a window can be read; at least until it closes, which is the default. */
  readonly retain?: Duration.Input | undefined
  /** How much an event may come behind the newest one; default none. */
  readonly lateness?: Duration.Input | undefined
  /**
   * After so long without events the watermark of a topic's partition follows the clock; default 30 seconds,
   * `Duration.infinity`: never, as for events of long ago that are loaded piece by piece. The shortest of a processor's
   * tables counts for all of them.
   */
  readonly idle?: Duration.Input | undefined
  /** `"event"` (default): the event's timestamp (see `Topic.make`); `"clock"`: the time at which it is handled. */
  readonly time?: "event" | "clock" | undefined
}

const millis = (option: string, input: Duration.Input, least: number): number => {
  const value = Duration.toMillis(Duration.fromInputUnsafe(input))
  if (value >= least && Number.isSafeInteger(value)) return value
  throw invalid(`window: ${option} is ${value} ms; give whole milliseconds, ${least} at least`)
}

const make = <Kind extends Window["~millrace/Window"]>(
  kind: Kind,
  shape: Shape,
  size: number,
  options: Options = {}
): Window & { readonly "~millrace/Window": Kind } => {
  const { idle = "30 seconds", lateness = 0, retain, time = "event" } = options
  if (time !== "event" && time !== "clock") {
    throw invalid(`window: time is "event" or "clock", not ${JSON.stringify(time)}`)
  }
  const idleMillis = Duration.toMillis(Duration.fromInputUnsafe(idle))
  const kept = retain === undefined ? size : millis("retain", retain, 0)
  if (kept < size) throw invalid(`window: retain is ${kept} ms, less than the size, ${size} ms: give at least that`)
  return {
    "~millrace/Window": kind,
    shape,
    retain: kept,
    lateness: millis("lateness", lateness, 0),
    idle: idleMillis === Number.POSITIVE_INFINITY ? idleMillis : millis("idle", idle, 1),
    time
  }
}

/** One after the other, from multiples of the size since 1970 (UTC): each moment is in exactly one. */
export const tumbling = (size: Duration.Input, options?: Options): Window => {
  const span = millis("size", size, 1)
  return make("tumbling", { _tag: "Aligned", size: span, step: span }, span, options)
}

/** One begins every `step`, each `size` long: an event counts in all that hold its time. */
export const hopping = (size: Duration.Input, step: Duration.Input, options?: Options): Window => {
  const span = millis("size", size, 1)
  const every = millis("step", step, 1)
  if (every > span) throw invalid(`window: step is ${every} ms, more than the size, ${span} ms: times between fall out`)
  return make("hopping", { _tag: "Aligned", size: span, step: every }, span, options)
}

/**
 * One around each event: what is no more than `before` earlier and `after` later, of the same key, both ends included. All
 * of a key are one row that grows with the events in them: keep spans and `retain` short.
 */
export const sliding = (before: Duration.Input, after: Duration.Input, options?: Options): Window => {
  const shape = { _tag: "Sliding", before: millis("before", before, 0), after: millis("after", after, 0) } as const
  return make("sliding", shape, shape.before + shape.after + 1, options)
}

/** As long as events of a key come less than `gap` apart; one that stands between two makes them one. */
export const session = (gap: Duration.Input, options?: Options): Session => {
  const span = millis("gap", gap, 1)
  return make("session", { _tag: "Session", gap: span }, span, options)
}
