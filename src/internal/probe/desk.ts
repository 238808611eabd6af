/**
 * One probe in one worker: hears signals, runs the check, and reports. It is made when the worker starts, as the layer of
 * the probe's part, and ends with it.
 */
import {
  Cause,
  Clock,
  Context,
  DateTime,
  Duration,
  Effect,
  Exit,
  Metric,
  type Schema,
  type Scope,
  Stream
} from "effect"
import { SignalTimeout } from "../../Errors.ts"
import * as Metrics from "../../Metrics.ts"
import { Scheduler } from "../../Scheduler.ts"
import * as Topic from "../../Topic.ts"
import { level } from "../telemetry/series.ts"
import { Board } from "./board.ts"
import { type Ended, ended, fresh, type Outcome, silent } from "./suite.ts"
import { signalsOf } from "./topics.ts"

export interface Report {
  readonly probe: string
  readonly outcome: Outcome
  /** The run; of `stalled` the last one that ended, if any. */
  readonly id: string | undefined
  /** How long the run took, or for how long none has ended. */
  readonly millis: number
  /** Runs in a row that did not pass. */
  readonly failures: number
  /** Why it did not pass. */
  readonly cause: Cause.Cause<unknown> | undefined
}

/** What a run is told. */
export interface Running {
  readonly id: string
  readonly wait: (signal: string, timeout: Duration.Duration) => Effect.Effect<Schema.Json, SignalTimeout>
}

export class Current extends Context.Service<Current, Running>()("millrace/Probe/Current") {}

export interface Options {
  readonly name: string
  /** Runs come by the clock, on the leader alone. */
  readonly timed: boolean
  /** Milliseconds. */
  readonly timeout: number
  readonly stalledAfter: number
  readonly failures: number
  readonly onReport: ((report: Report) => Effect.Effect<unknown, never, any>) | undefined
}

export class Desk extends Context.Service<
  Desk,
  {
    /** A whole run; it never fails. */
    readonly run: <R>(
      id: string,
      check: Effect.Effect<unknown, unknown, R>
    ) => Effect.Effect<void, never, Exclude<R, Current>>
  }
>()("millrace/Probe/Desk") {}

/** Signals that are older than a worker by so many milliseconds may still be for its runs. */
const beforeMillis = 60_000

/** How often it is looked whether runs still end, in parts of what counts as stalled. */
const looks = 10

export const make = (options: Options): Effect.Effect<Desk["Service"], never, Topic.Client | Scheduler | Scope.Scope> =>
  Effect.gen(function* () {
    const { name: probe, onReport } = options
    const context = yield* Effect.context<never>()
    const clock = yield* Clock.Clock
    const scheduler = yield* Scheduler
    const now = (): number => clock.currentTimeMillisUnsafe()
    const board = new Board<Schema.Json>()
    let suite = fresh
    let last: string | undefined
    let since = now()

    yield* Effect.acquireRelease(
      Effect.sync(() => level(Metrics.probeFailing, { probe }, context, () => (suite.failing ? 1 : 0))),
      (end) => Effect.sync(end)
    )

    const hear = Effect.suspend(() => {
      const from = Math.max(0, now() - beforeMillis)
      return Stream.runForEach(Topic.stream(signalsOf(probe), { from: { time: momentOf(from) } }), ({ value }) =>
        Effect.sync(() => board.post(value.id, value.signal, value.value ?? null))
      )
    }).pipe(
      // Away, or something in the topic that is no signal: from about here on again.
      Effect.catch((error) => Effect.logDebug("signals of a probe are not heard; trying again", error)),
      Effect.andThen(Effect.sleep("1 second")),
      Effect.forever
    )
    yield* Effect.forkScoped(Effect.annotateLogs(hear, { probe }))

    const tell = (report: Report): Effect.Effect<void, never, any> => {
      const { cause, failures, id, millis, outcome } = report
      if (outcome !== "suiteFailed" && outcome !== "recovered") {
        Metric.withAttributes(Metrics.probeRuns, { probe, outcome }).updateUnsafe(1, context)
      }
      const said = Effect.annotateLogs(lineOf(outcome, cause), { probe, run: id, millis, failures })
      return onReport === undefined ? said : Effect.andThen(said, onReport(report))
    }
    const tellAll = (told: ReadonlyArray<Outcome>, rest: Omit<Report, "outcome" | "probe">) =>
      Effect.forEach(told, (outcome) => tell({ probe, outcome, ...rest }), { discard: true })

    const run: Desk["Service"]["run"] = (id, check) =>
      Effect.gen(function* () {
        const began = now()
        const wait: Running["wait"] = (signal, timeout) =>
          Effect.timeoutOrElse(board.wait(id, signal), {
            duration: timeout,
            orElse: () => Effect.fail(new SignalTimeout({ probe, run: id, signal, millis: Duration.toMillis(timeout) }))
          })
        const limited = Effect.timeoutOption(Effect.provideService(check, Current, { id, wait }), options.timeout)
        const exit = yield* Effect.exit(limited)
        board.forget(id)
        // Whoever stops the worker ends no run: it is begun again.
        if (Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)) return yield* Effect.interrupt
        const step = ended(suite, endOf(exit), options.failures)
        const { failures } = step.suite
        suite = step.suite
        last = id
        since = now()
        const cause = Exit.isFailure(exit) ? exit.cause : undefined
        yield* tellAll(step.told, { id, millis: since - began, failures, cause })
      }) as Effect.Effect<void, never, any>

    const look = Effect.gen(function* () {
      yield* Effect.sleep(options.stalledAfter / looks)
      // Another worker runs it.
      if (options.timed && !(yield* scheduler.isLeader)) since = now()
      const millis = now() - since
      if (millis < options.stalledAfter) return
      const step = silent(suite)
      suite = step.suite
      yield* tellAll(step.told, { id: last, millis, failures: suite.failures, cause: undefined })
    })
    yield* Effect.forkScoped(Effect.forever(look))
    return { run }
  })

const momentOf = (millis: number) => DateTime.makeUnsafe(millis)

/** A run that took too long has no value. */
const endOf = (exit: Exit.Exit<{ readonly _tag: "Some" | "None" }, unknown>): Ended => {
  if (Exit.isSuccess(exit)) return exit.value._tag === "Some" ? "passed" : "timeout"
  const failure = Cause.findErrorOption(exit.cause)
  return failure._tag === "Some" && failure.value instanceof SignalTimeout ? "timeout" : "failed"
}

const lineOf = (outcome: Outcome, cause: Cause.Cause<unknown> | undefined): Effect.Effect<void> => {
  switch (outcome) {
    case "passed":
      return Effect.logDebug("a probe passed")
    case "failed":
      return Effect.logWarning("a probe failed", cause)
    case "timeout":
      return cause === undefined
        ? Effect.logWarning("a probe took too long")
        : Effect.logWarning("a probe did not get its signal in time", cause)
    case "stalled":
      return Effect.logError("a probe has stalled: none of its runs has ended for long")
    case "suiteFailed":
      return Effect.logError("a probe fails again and again", ...(cause === undefined ? [] : [cause]))
    case "recovered":
      return Effect.logInfo("a probe passes again")
  }
}
