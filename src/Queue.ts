/**
 * The jobs of a queue as a whole: look at them without taking any, pause and resume, put dead ones back, empty it. A queue
 * comes to be with its first job.
 *
 * Gotcha: looking is a scan, no snapshot: what moves meanwhile may be seen twice or not at all.
 */
import { DateTime, Duration, Effect, Option, Stream } from "effect"
import type { EngineError } from "./Errors.ts"
import type { Schedule } from "./internal/jobs/recurring.ts"
import * as Recurring from "./internal/jobs/recurring.ts"
import { checkCount, checkName } from "./internal/names.ts"
import { type Counts, JobStore, type Limit, type Priority, type State, type Item as Stored } from "./JobStore.ts"

export type { Counts, Schedule, State }

/** A job as it is seen from outside. */
export interface Item {
  readonly id: string
  readonly job: string
  readonly state: State
  readonly priority: Priority
  /** Runs that failed, and leases that were lost. */
  readonly failures: number
  readonly lost: number
  readonly enqueuedAt: DateTime.Utc
  /** When it is due, or ended; else when it was enqueued. */
  readonly at: DateTime.Utc
  readonly headers: Readonly<Record<string, string>>
  readonly group: Option.Option<string>
  /** Why it is dead. */
  readonly reason: Option.Option<string>
  /** What its last failure said. */
  readonly error: Option.Option<string>
  /** The last twenty runs that did not end well, as JSON, the oldest first. */
  readonly history: ReadonlyArray<string>
}

export interface Settings {
  /** Jobs that are given out in a time, by all workers together. */
  readonly limit?: { readonly count: number; readonly per: Duration.Input } | undefined
  /** Finished jobs that are kept at most, beside their time (`resultTtl`); default 1,000,000. */
  readonly keepDone?: number | undefined
  /** Dead jobs that are kept at most, and how long; default: for ever. */
  readonly keepDead?: { readonly count?: number | undefined; readonly age?: Duration.Input | undefined } | undefined
}

const millis = (input: Duration.Input): number => Duration.toMillis(Duration.fromInputUnsafe(input))

const limitOf = (given: Settings["limit"]): Limit | undefined =>
  given && { count: checkCount("limit.count", given.count), per: Math.max(1, millis(given.per)) }

/** Make a queue known, with its settings: they replace those of before. Throws `Misconfigured` for a wrong one. */
export const declare = (name: string, settings: Settings = {}): Effect.Effect<void, EngineError, JobStore> => {
  const { keepDead, keepDone } = settings
  checkName("queue", name)
  if (keepDone !== undefined) checkCount("keepDone", keepDone, 0)
  const limit = limitOf(settings.limit)
  const dead = keepDead && { count: keepDead.count, age: keepDead.age === undefined ? undefined : millis(keepDead.age) }
  return Effect.flatMap(JobStore, (store) => store.configure(name, { limit, keepDone, keepDead: dead }))
}

/** The names of all queues. */
export const all: Effect.Effect<ReadonlyArray<string>, EngineError, JobStore> = Effect.flatMap(
  JobStore,
  (store) => store.queues
)

const itemOf = (item: Stored): Item => {
  const last = item.history[item.history.length - 1]
  return {
    id: item.id,
    job: item.name,
    state: item.state,
    priority: item.priority,
    failures: item.failures,
    lost: item.lost,
    enqueuedAt: DateTime.makeUnsafe(item.enqueuedAt),
    at: DateTime.makeUnsafe(item.at),
    headers: item.headers === "" ? {} : JSON.parse(item.headers),
    group: Option.fromNullishOr(item.group),
    reason: Option.fromNullishOr(item.reason),
    error: last === undefined ? Option.none() : Option.fromNullishOr<string>(JSON.parse(last).message),
    history: item.history
  }
}

/** One page of what `peek` gives; begin without a cursor, go on with `next`. A page may be empty and not the last. */
export const page = (
  name: string,
  state: State,
  options: { readonly job?: string | undefined; readonly cursor?: string | undefined } = {}
): Effect.Effect<{ readonly items: ReadonlyArray<Item>; readonly next: string | undefined }, EngineError, JobStore> =>
  Effect.gen(function* () {
    const store = yield* JobStore
    const { items, next } = yield* store.list(name, state, { name: options.job, cursor: options.cursor ?? "" })
    return { items: items.map(itemOf), next }
  })

/** Look at jobs without taking them: those of a state, and of a name and with these headers if that is asked for. */
export const peek = (
  name: string,
  state: State,
  options: { readonly job?: string | undefined; readonly headers?: Readonly<Record<string, string>> | undefined } = {}
): Stream.Stream<Item, EngineError, JobStore> => {
  const wanted = Object.entries(options.headers ?? {})
  return Stream.paginate("", (cursor) =>
    Effect.map(page(name, state, { job: options.job, cursor }), ({ items, next }) => [
      items.filter(({ headers }) => wanted.every(([header, value]) => headers[header] === value)),
      Option.fromNullishOr(next)
    ])
  )
}

export const counts = (name: string): Effect.Effect<Counts, EngineError, JobStore> =>
  Effect.flatMap(JobStore, (store) => store.counts(name))

/** No job of it is started on any worker; those that run finish. */
export const pause = (name: string): Effect.Effect<void, EngineError, JobStore> =>
  Effect.flatMap(JobStore, (store) => store.pause(name, true))

export const resume = (name: string): Effect.Effect<void, EngineError, JobStore> =>
  Effect.flatMap(JobStore, (store) => store.pause(name, false))

export const isPaused = (name: string): Effect.Effect<boolean, EngineError, JobStore> =>
  Effect.flatMap(JobStore, (store) => store.isPaused(name))

/** Dead jobs are ready again, with all their retries; all, or these. Gives how many. */
export const redrive = (
  name: string,
  options?: { readonly ids?: Iterable<string> | undefined }
): Effect.Effect<number, EngineError, JobStore> =>
  Effect.flatMap(JobStore, (store) => store.redrive(name, options?.ids && Array.from(options.ids)))

/** Forget dead jobs; all, or these. Gives how many. */
export const bury = (
  name: string,
  options?: { readonly ids?: Iterable<string> | undefined }
): Effect.Effect<number, EngineError, JobStore> =>
  Effect.flatMap(JobStore, (store) => store.bury(name, options?.ids && Array.from(options.ids)))

/** Forget what waits (ready, delayed, or for other jobs); what runs, is done or dead stays. Gives how many. */
export const flush = (name: string): Effect.Effect<number, EngineError, JobStore> =>
  Effect.flatMap(JobStore, (store) => store.flush(name))

/** The jobs of it that recur, by name, with as many of their next slots as asked for (default 1). */
export const schedules = (
  name: string,
  options: { readonly runs?: number | undefined } = {}
): Effect.Effect<ReadonlyArray<Schedule>, EngineError, JobStore> =>
  Effect.gen(function* () {
    const { found } = yield* (yield* JobStore).recurrences(name, "all")
    return found.map((one) => Recurring.scheduleOf(name, one, options.runs ?? 1))
  })

/** It is enqueued no more until it is resumed, also if it is set anew. False: there is none of this name. */
export const pauseSchedule = (name: string, schedule: string): Effect.Effect<boolean, EngineError, JobStore> =>
  Effect.flatMap(JobStore, (store) => store.alter(name, schedule, "pause"))

/** It goes on with the next slot from now on; those of the pause are not missed. False: there is none of this name. */
export const resumeSchedule = (name: string, schedule: string): Effect.Effect<boolean, EngineError, JobStore> =>
  Recurring.resume(name, schedule)

/** Jobs that it has enqueued stay. False: there is none of this name. */
export const removeSchedule = (name: string, schedule: string): Effect.Effect<boolean, EngineError, JobStore> =>
  Effect.flatMap(JobStore, (store) => store.alter(name, schedule, "remove"))

/** Forget the queue and all of its jobs and schedules. What runs is not interrupted, and what becomes of it is not stored. */
export const remove = (name: string): Effect.Effect<void, EngineError, JobStore> =>
  Effect.flatMap(JobStore, (store) => store.remove(name))
