/**
 * When the ticks of a schedule are due, in milliseconds since 1970: pure, so that a virtual year takes no time. A tick
 * follows from the one before it, never from the time at which somebody looked, so nothing drifts.
 */
import { Cron, Duration, Option, Result } from "effect"
import { invalid } from "../names.ts"

export type Timing =
  /** One tick, at the begin. */
  | { readonly _tag: "Once" }
  | { readonly _tag: "Every"; readonly millis: number }
  /** Without a time zone it has that of the settings, which are not known where it is defined (see `inZone`). */
  | { readonly _tag: "Cron"; readonly cron: Cron.Cron }

/** The tick after `last`, for a schedule whose worker (or group of leaders) began at `began`; undefined: there is none. */
export const following = (timing: Timing, last: number, began: number): number | undefined => {
  switch (timing._tag) {
    case "Once":
      return began > last ? began : undefined
    case "Every":
      // While nobody runs it a timer has no ticks: the first one comes after one interval.
      return Math.max(last, began) + timing.millis
    case "Cron":
      return Cron.next(timing.cron, last).getTime()
  }
}

/** So many are counted; for a number that nobody reads more need not be looked up. */
const mostCounted = 1_000

/** How many ticks there are from this one on and not after `until`, and the newest of them. */
export const upTo = (
  timing: Timing,
  tick: number,
  until: number
): { readonly count: number; readonly newest: number } => {
  if (timing._tag === "Every") {
    const more = Math.max(0, Math.floor((until - tick) / timing.millis))
    return { count: more + 1, newest: tick + more * timing.millis }
  }
  if (timing._tag === "Once") return { count: 1, newest: tick }
  const newest = Math.max(tick, Cron.prev(timing.cron, until + 1).getTime())
  let count = 1
  for (let next = tick; next < newest && count < mostCounted; count++) next = Cron.next(timing.cron, next).getTime()
  return { count, newest }
}

/** A fixed rate; a thrown `Misconfigured` if there is no such interval. */
export const every = (at: string, input: Duration.Input): Timing => {
  const duration = typeof input === "number" && !Number.isFinite(input) ? Option.none() : Duration.fromInput(input)
  const millis = Option.isSome(duration) ? Math.round(Duration.toMillis(duration.value)) : Number.NaN
  if (!Number.isSafeInteger(millis) || millis < 1) {
    throw invalid(`${at}: every is ${shown(input)}: give a duration of at least 1 milli, such as "10 seconds"`)
  }
  return { _tag: "Every", millis }
}

/** By expression, in its time zone if it names one; a thrown `Misconfigured` that says which of them is wrong. */
export const cron = (at: string, expression: string | Cron.Cron, timezone: string | TimeZone | undefined): Timing => {
  const parsed = Cron.isCron(expression) ? zoned(at, expression, timezone) : parse(at, expression, timezone)
  // It can be right in form and never come: 30 February.
  const next = Result.try(() => Cron.next(parsed, 0))
  if (Result.isFailure(next)) throw invalid(`${at}: the cron expression ${written(expression)} never comes`)
  return { _tag: "Cron", cron: parsed }
}

/** Where it is used: one that names no time zone is in this one. */
export const inZone = <T extends Timing>(timing: T, timezone: string): T =>
  timing._tag === "Cron" && Option.isNone(timing.cron.tz)
    ? { ...timing, cron: zoned("the settings", timing.cron, timezone) }
    : timing

type TimeZone = NonNullable<Option.Option.Value<Cron.Cron["tz"]>>

const parse = (at: string, expression: string, timezone: string | TimeZone | undefined): Cron.Cron => {
  if (typeof expression !== "string") throw invalid(`${at}: expression is ${shown(expression)}: give a cron expression`)
  const parsed = Cron.parse(expression, timezone)
  if (Result.isSuccess(parsed)) return parsed.success
  // Which of the two is wrong: without the zone.
  if (timezone !== undefined && Result.isSuccess(Cron.parse(expression, "UTC"))) {
    throw invalid(`${at}: ${shown(timezone)} is no time zone: give a name such as "Europe/Vienna", or "+02:00"`)
  }
  const fields = "five fields (minute, hour, day, month, weekday), or six with seconds before them"
  throw invalid(`${at}: ${shown(expression)} is no cron expression (${parsed.failure.message}): give ${fields}`)
}

/** Its own time zone stands; one without gets that of the option, if there is one. */
const zoned = (at: string, cron: Cron.Cron, timezone: string | TimeZone | undefined): Cron.Cron => {
  if (Option.isSome(cron.tz)) {
    if (timezone === undefined) return cron
    throw invalid(`${at}: the Cron has a time zone of its own; leave out timezone`)
  }
  if (timezone === undefined) return cron
  const { tz } = parse(at, "* * * * *", timezone)
  return Cron.make({ ...(cron as Omit<Cron.Cron, "tz">), tz: Option.getOrUndefined(tz) })
}

const written = (expression: string | Cron.Cron): string =>
  JSON.stringify(Cron.isCron(expression) ? Cron.format(expression) : expression)

const shown = (value: unknown): string => (typeof value === "string" ? JSON.stringify(value) : String(value))
