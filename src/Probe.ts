/**
 * Live probes: a check of a running system from one end to the other, as a part of a worker. A run does something (it
 * publishes a test order) and waits for signals that the system's own code sends under the run's id; it passes if all
 * come in time. It runs at an interval, on the leader, or for a share of real traffic (`trigger`).
 *
 * ```ts
 * const checkout = Probe.make("checkout", { every: "1 minute" }, Effect.gen(function* () {
 *   const id = yield* Probe.id
 *   yield* Topic.publish(orders, testOrder(id))
 *   yield* Probe.wait("charged", { timeout: "10 seconds" })
 * }))
 * // in the handler that charges, in its unit of work; for an order of no run it does nothing
 * yield* Probe.signal(checkout, order.id, "charged")
 * ```
 *
 * How runs end is told by log line, by metric (`millrace_probe_runs_total`, `millrace_probe_failing`) and to `onReport`.
 */
import { Duration, Effect, Layer, Option, type Schema, type Scope } from "effect"
import type { EncodeError, EngineError, SignalTimeout, TopicFull } from "./Errors.ts"
import { checkCount, checkName, invalid } from "./internal/names.ts"
import { Current, Desk, make as makeDesk, type Report } from "./internal/probe/desk.ts"
import { runsOf, signalsOf } from "./internal/probe/topics.ts"
import { publish } from "./internal/publish/publisher.ts"
import { stage, unitIn } from "./internal/run/unit.ts"
import * as Part from "./Part.ts"
import { murmur3 } from "./Partitioner.ts"
import * as Policy from "./Policy.ts"
import * as Processor from "./Processor.ts"
import * as Scheduler from "./Scheduler.ts"
import type * as Topic from "./Topic.ts"

export type { Current, Report }

/** What whoever triggers and signals has to know: the same name and share as those of the probe. */
export interface Address {
  readonly name: string
  /** Of the ids that real traffic brings; 0 for a probe at an interval. */
  readonly share: number
}

/** A probe as a part of a worker; it never halts it. */
export interface Probe<out R> extends Part.Part<never, R>, Address {}

export interface Options<R> {
  /** A run so often, on the leader. Without it, runs are begun by `trigger`. */
  readonly every?: Duration.Input | undefined
  /** Of the ids given to `trigger`, the share that begin a run; default 0.5. */
  readonly share?: number | undefined
  /** A run that takes longer is over; default 1 minute. */
  readonly timeout?: Duration.Input | undefined
  /** Told once, if no run has ended for so long; default 30 minutes. */
  readonly stalledAfter?: Duration.Input | undefined
  /** Runs in a row that do not pass, after which the suite has failed; default 30. */
  readonly failures?: number | undefined
  readonly onReport?: ((report: Report) => Effect.Effect<unknown, never, R>) | undefined
}

/** What a worker gives to the effect of a run. */
export type Needs<R> = Exclude<R, Current | Scope.Scope | Scheduler.Tick>

const millisOf = (probe: string, option: string, input: Duration.Input): number => {
  const parsed = Duration.fromInput(input)
  const millis = Option.isSome(parsed) ? Duration.toMillis(parsed.value) : Number.NaN
  if (millis >= 1 && Number.isFinite(millis)) return millis
  throw invalid(`probe ${probe}: ${option} is a duration of at least 1 milli, such as "1 minute"`)
}

/** Throws `Misconfigured` for wrong options. */
export const make = <E, R, R2 = never>(
  name: string,
  options: Options<R2>,
  check: Effect.Effect<unknown, E, R>
): Probe<Needs<R> | R2 | Topic.Client | Scheduler.Scheduler> => {
  checkName("probe", name)
  const { every, onReport, share } = options
  if (every !== undefined && share !== undefined) {
    throw invalid(`probe ${name}: it runs every so often, or for a share of real traffic: leave out one of the two`)
  }
  if (share !== undefined && !(share >= 0 && share <= 1)) {
    throw invalid(`probe ${name}: share is a number from 0 to 1, not ${share}`)
  }
  const settings = {
    name,
    timed: every !== undefined,
    timeout: millisOf(name, "timeout", options.timeout ?? "1 minute"),
    stalledAfter: millisOf(name, "stalledAfter", options.stalledAfter ?? "30 minutes"),
    failures: checkCount(`probe ${name}: failures`, options.failures ?? 30),
    onReport
  }
  const run = (id: string) =>
    Desk.use((desk) => desk.run(id, Effect.scoped(check as Effect.Effect<unknown, E, Exclude<R, Scope.Scope>>)))
  const part: Part.Part<never, any> =
    every === undefined
      ? Processor.make(name, { topic: runsOf(name), concurrency: { unordered: mostRuns } }, run).pipe(
          // What is no id was not triggered by `trigger`.
          Processor.catch(Policy.ignore)
        )
      : Scheduler.timer(
          name,
          { every, onLeader: true },
          Effect.flatMap(Scheduler.Tick, ({ id }) => run(id))
        )
  // Built for each worker that it runs in.
  const own = Part.provide(part, Layer.effect(Desk, makeDesk(settings)))
  return Object.assign(own, { share: every === undefined ? (share ?? 0.5) : 0 }) as Probe<any>
}

/** Runs of real traffic at a time, per worker. */
const mostRuns = 100

/** Whether an id is that of a run: of one at an interval, or chosen of real traffic, wherever it is asked. */
const isRun = ({ name, share }: Address, id: string): boolean =>
  id.startsWith(`${name}@`) || (share > 0 && murmur3(`${name} ${id}`) < share * 2 ** 32)

export type SendError = EncodeError | TopicFull | EngineError

/** In a unit of work it is there with its commit, or not at all. */
const put = <A>(topic: Topic.Topic<A>, value: A): Effect.Effect<void, SendError, Topic.Client> =>
  Effect.withFiber((fiber) =>
    unitIn(fiber.context) === undefined
      ? // What is only in memory is as safe as it is to be.
        (Effect.asVoid(publish(topic, value, undefined)) as Effect.Effect<void, SendError, Topic.Client>)
      : (stage((host) => host.encode(topic, value, undefined)) as Effect.Effect<void, EncodeError>)
  )

/** Real traffic under this id has come: begin a run, if the id is one of the share. True: it is. */
export const trigger = (probe: Address, id: string): Effect.Effect<boolean, SendError, Topic.Client> =>
  isRun(probe, id) ? Effect.as(put(runsOf(probe.name), id), true) : Effect.succeed(false)

/** Tell the run of this id, wherever it is, that something has happened; does nothing for an id of no run. */
export const signal = (
  probe: Address,
  id: string,
  name: string,
  value?: Schema.Json
): Effect.Effect<void, SendError, Topic.Client> =>
  isRun(probe, id)
    ? put(signalsOf(probe.name), { id, signal: name, ...(value === undefined ? {} : { value }) })
    : Effect.void

/** The id of the run: what it does in the system has to carry it. */
export const id: Effect.Effect<string, never, Current> = Effect.map(Current, (run) => run.id)

/** Wait for a signal of this run, and its value (null if it was sent without one); default 30 seconds. */
export const wait = (
  name: string,
  options?: { readonly timeout?: Duration.Input | undefined }
): Effect.Effect<Schema.Json, SignalTimeout, Current> =>
  Effect.flatMap(Current, (run) => run.wait(name, Duration.fromInputUnsafe(options?.timeout ?? "30 seconds")))
