/** Setting jobs that recur, and looking at them: from what users write to what the store keeps, and back. */
import { type Cron, DateTime, Duration, Effect, Option } from "effect"
import type { EncodeError, EngineError } from "../../Errors.ts"
import { JobStore, type NewRecurrence, type Priority, type Recurrence } from "../../JobStore.ts"
import { Serializer } from "../../Serializer.ts"
import * as Settings from "../../Settings.ts"
import { checkName, invalid } from "../names.ts"
import * as Timing from "../schedule/timing.ts"
import { attempt } from "./codec.ts"
import { prepare } from "./prepare.ts"
import { type Recurring, read, slotAfter, write } from "./recurrence.ts"
import type { Spec } from "./spec.ts"
import { untold } from "./telling.ts"

interface Given {
  readonly payload: unknown
  readonly missed?: "skip" | "last" | undefined
  readonly priority?: Priority | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
}

const where = (spec: Spec, name: string): string => `${checkName("schedule", name)} of job ${spec.name}`

/** Nobody can say which of the two was meant. */
const only = (at: string, options: object, kind: "every" | "expression"): void => {
  const other = kind === "every" ? "expression" : "every"
  if (other in options) {
    throw invalid(`${at}: it has ${other} too; use Job.every for a period, and Job.cron for an expression`)
  }
}

const least = 1_000

/** Throws `Misconfigured`. */
export const everyOf = (spec: Spec, name: string, options: { readonly every: Duration.Input }): Recurring => {
  const at = `schedule ${where(spec, name)}`
  only(at, options, "every")
  const timing = Timing.every(at, options.every)
  if (timing._tag === "Every" && timing.millis >= least) return timing
  throw invalid(`${at}: every is ${String(options.every)}: give a duration of at least 1 second`)
}

/** Throws `Misconfigured`. */
export const cronOf = (
  spec: Spec,
  name: string,
  options: { readonly expression: string | Cron.Cron; readonly timezone?: string | DateTime.TimeZone | undefined }
): Recurring => {
  const at = `schedule ${where(spec, name)}`
  only(at, options, "expression")
  const timing = Timing.cron(at, options.expression, options.timezone)
  if (timing._tag === "Cron") return timing
  throw invalid(`${at}: give a cron expression`)
}

export const set = (
  spec: Spec,
  name: string,
  timing: Recurring,
  options: Given
): Effect.Effect<void, EncodeError | EngineError, JobStore | Serializer> => {
  const { headers, missed = "skip", payload, priority } = options
  if (missed !== "skip" && missed !== "last") {
    throw invalid(`schedule ${where(spec, name)}: missed is "skip" or "last", not ${JSON.stringify(missed)}`)
  }
  return Effect.gen(function* () {
    const store = yield* JobStore
    const serializer = yield* Serializer
    const prepared = yield* attempt(() => prepare(spec, payload, { headers, priority }, store, serializer))
    yield* untold(store, spec) ?? Effect.void
    const { after, at, delay, id, ...job } = prepared
    const { now } = yield* store.recurrences(spec.queue, "due")
    const how = Timing.inZone(timing, (yield* Settings.current).timezone)
    const recurrence: NewRecurrence = { name, timing: write(how), missed, job, first: slotAfter(how, now) }
    yield* store.recur(spec.queue, recurrence)
  })
}

/** The slots that come next, as many as asked for; only one of what a newer release wrote, and none while it is paused. */
const nextOf = ({ paused, slot, timing }: Recurrence, runs: number): ReadonlyArray<DateTime.Utc> => {
  if (paused || runs < 1) return []
  const how = Option.getOrUndefined(Option.liftThrowable(read)(timing))
  const slots = [slot]
  while (how !== undefined && slots.length < runs) slots.push(slotAfter(how, slots[slots.length - 1]!))
  return slots.map((at) => DateTime.makeUnsafe(at))
}

/** A job that recurs, as it is seen from outside. */
export interface Schedule {
  readonly name: string
  readonly queue: string
  readonly job: string
  /** It has a period, or an expression with a time zone. */
  readonly every: Option.Option<Duration.Duration>
  readonly expression: Option.Option<string>
  readonly timezone: Option.Option<string>
  readonly missed: "skip" | "last"
  readonly priority: Priority
  readonly paused: boolean
  /** The last slot that was enqueued: its job has the id `<name>@<milliseconds since 1970>`. */
  readonly last: Option.Option<DateTime.Utc>
  /** Those to come; none while it is paused. */
  readonly next: ReadonlyArray<DateTime.Utc>
}

export const scheduleOf = (queue: string, one: Recurrence, runs: number): Schedule => {
  const { every, expression, zone } = Option.getOrElse(Option.liftThrowable(JSON.parse)(one.timing), () => ({}))
  return {
    name: one.name,
    queue,
    job: one.job.name,
    every: every === undefined ? Option.none() : Option.some(Duration.millis(every)),
    expression: Option.fromNullishOr(expression),
    timezone: Option.fromNullishOr(zone),
    missed: one.missed,
    priority: one.job.priority,
    paused: one.paused,
    last: Option.map(Option.fromNullishOr(one.last), (last) => DateTime.makeUnsafe(last)),
    next: nextOf(one, runs)
  }
}

/** Paused slots are not missed: it goes on with the first one that is to come. */
export const resume = (queue: string, name: string): Effect.Effect<boolean, EngineError, JobStore> =>
  Effect.gen(function* () {
    const store = yield* JobStore
    const { found, now } = yield* store.recurrences(queue, "all")
    const one = found.find((other) => other.name === name)
    if (one === undefined) return false
    return yield* store.alter(queue, name, { resume: slotAfter(read(one.timing), now) })
  })
