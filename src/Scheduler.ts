/**
 * Effects that a worker runs by time, beside its processors: a task when it is ready, a timer at a fixed rate, a cron entry
 * by the calendar. Each runs on every worker, or on the leader alone: then each tick is claimed once in the engine, and a
 * change of leader neither loses nor doubles one. A run that fails is logged and counted, and the next tick runs.
 *
 * Gotcha: exactly once is the claim. What the effect does elsewhere may be done twice if its leader dies in the middle and
 * `rerun` is set; what it publishes or enqueues under the id of its tick (`Scheduler.Tick`) is stored once.
 */
import { type Cron, type DateTime, type Duration, Effect, type Scope, Stream } from "effect"
import { pipeArguments } from "effect/Pipeable"
import { checkName, invalid } from "./internal/names.ts"
import type { Definition, Tick } from "./internal/schedule/definition.ts"
import { Scheduler } from "./internal/schedule/scheduler.ts"
import * as Timing from "./internal/schedule/timing.ts"
import type { Part } from "./Part.ts"

export { Tick, type Ticked } from "./internal/schedule/definition.ts"
export { type Claims, type Entry, layer, layerManual, type Passed, Scheduler } from "./internal/schedule/scheduler.ts"

/** A schedule as a part of a worker. What the effect fails with is its own: it halts nothing. */
export interface Scheduled<out E, out R> extends Part<never, R> {
  /** What runs at each tick, for tests that call it. */
  readonly effect: Effect.Effect<unknown, E, R | Tick | Scope.Scope>
}

/** What a worker gives to the effect. */
export type Needs<R> = Exclude<R, Tick | Scope.Scope>

export interface TaskOptions {
  /** Once for the cluster, from when its first worker comes until its last one has left. Default: on every worker. */
  readonly onLeader?: boolean | undefined
  /** With `onLeader`: run it again on the next leader if it was cut short; default true. */
  readonly rerun?: boolean | undefined
}

export interface TickOptions {
  /** On the leader alone, each tick claimed once. Default: on every worker. */
  readonly onLeader?: boolean | undefined
  /** A tick that is due while the one before it runs is skipped, and counted (default); or runs beside it. */
  readonly overlap?: "skip" | "allow" | undefined
  /** With `onLeader`: run a tick again on the next leader if it was cut short; default false: it is counted. */
  readonly rerun?: boolean | undefined
}

export interface TimerOptions extends TickOptions {
  /** At least a millisecond. */
  readonly every: Duration.Input
}

export interface CronOptions extends TickOptions {
  /** Five fields (minute, hour, day, month, weekday), six with seconds before them, or a `Cron`. */
  readonly expression: string | Cron.Cron
  /** Such as "Europe/Vienna"; default: that of the settings (`timezone`), which is UTC if nobody says otherwise. */
  readonly timezone?: string | DateTime.TimeZone | undefined
  /** Run the last tick that came due while there was no worker; default false. */
  readonly catchUp?: boolean | undefined
}

const Proto = {
  "~millrace/Part": { _E: (_: never) => _, _R: (_: never) => _ },
  "~millrace/Scheduled": "Scheduled",
  with(this: { readonly definition: Definition }, changes: Partial<Definition>) {
    return fromDefinition({ ...this.definition, ...changes })
  },
  pipe() {
    return pipeArguments(this, arguments)
  }
}

const fromDefinition = (definition: Definition): Scheduled<any, any> =>
  Object.assign(Object.create(Proto), { name: definition.name, definition, effect: definition.effect })

const define = <E, R>(
  kind: Definition["kind"],
  name: string,
  timing: Timing.Timing,
  options: TickOptions & { readonly catchUp?: boolean | undefined },
  effect: Effect.Effect<unknown, E, R>
): Scheduled<E, Needs<R>> => {
  const at = `${kind} ${name}`
  const { catchUp, onLeader, overlap, rerun } = options
  for (const [option, value] of Object.entries({ onLeader, rerun, catchUp })) {
    if (value !== undefined && typeof value !== "boolean")
      throw invalid(`${at}: ${option} is true or false, not ${value}`)
  }
  if (overlap !== undefined && overlap !== "skip" && overlap !== "allow") {
    throw invalid(`${at}: overlap is "skip" or "allow", not ${JSON.stringify(overlap)}`)
  }
  if (rerun !== undefined && !onLeader) {
    throw invalid(
      `${at}: rerun goes with onLeader: true; on every worker there is no next leader that could run it again`
    )
  }
  if (!Effect.isEffect(effect)) throw invalid(`${at}: give it an effect to run`)
  return fromDefinition({
    name,
    kind,
    timing,
    onLeader: onLeader ?? false,
    overlap: overlap ?? "skip",
    catchUp: catchUp ?? false,
    rerun: rerun ?? kind === "task",
    // What it needs is in the context that it is run with.
    effect: effect as Effect.Effect<unknown, E>,
    layers: []
  })
}

/** Once, when a worker is ready; on the leader, once for the cluster. Throws `Misconfigured` for wrong options. */
export const task = <E, R>(
  name: string,
  effect: Effect.Effect<unknown, E, R>,
  options: TaskOptions = {}
): Scheduled<E, Needs<R>> => define("task", checkName("task", name), { _tag: "Once" }, options, effect)

/** At a fixed rate, for the first time after one interval. Throws `Misconfigured` for wrong options. */
export const timer = <E, R>(
  name: string,
  options: TimerOptions,
  effect: Effect.Effect<unknown, E, R>
): Scheduled<E, Needs<R>> => {
  checkName("timer", name)
  return define("timer", name, Timing.every(`timer ${name}`, options.every), options, effect)
}

/**
 * By cron expression, in a time zone; right across changes of daylight saving (Effect's `Cron`): a time that a change
 * leaves out comes after it, one that it repeats comes once. Throws `Misconfigured` for wrong options.
 */
export const cron = <E, R>(
  name: string,
  options: CronOptions,
  effect: Effect.Effect<unknown, E, R>
): Scheduled<E, Needs<R>> => {
  checkName("cron", name)
  const timing = Timing.cron(`cron ${name}`, options.expression, options.timezone)
  return define("cron", name, timing, options, effect)
}

/** True while a worker of this program is the leader; there is one as long as some worker runs a part with `onLeader`. */
export const isLeader: Effect.Effect<boolean, never, Scheduler> = Scheduler.use((scheduler) => scheduler.isLeader)

/** The same now, and at every change. */
export const leadership: Stream.Stream<boolean, never, Scheduler> = Stream.unwrap(
  Scheduler.useSync((scheduler) => scheduler.leadership)
)
