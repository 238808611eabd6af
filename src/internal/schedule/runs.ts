/**
 * The runs of one schedule in one worker: begun by the scheduler, in a fiber that belongs to the worker, so that they may
 * finish within the grace when nothing new is begun. What a run fails with is logged and counted, and never more.
 */
import { Cause, Clock, Context, DateTime, Deferred, Effect, Exit, Fiber, Metric, type Scope } from "effect"
import * as Metrics from "../../Metrics.ts"
import { Repeats } from "../run/repeats.ts"
import type { Counts } from "../run/runner.ts"
import { type Definition, Tick, type Ticked } from "./definition.ts"
import type { Entry, Passed } from "./scheduler.ts"

interface Run {
  readonly tick: number
  readonly since: number
  /** The worker has ended it, so it is not done. */
  stopped: boolean
  fiber: Fiber.Fiber<void> | undefined
}

export interface Runs extends Pick<Entry, "begin" | "onPassed" | "onNext"> {
  readonly quiet: () => boolean
  /** Wait for what runs, for so many milliseconds; then interrupt it. */
  readonly end: (grace: number) => Effect.Effect<void>
  readonly report: (now: number, waits: string | undefined) => string
  /** How many run now, and the next tick, in milliseconds since 1970, if there is one. */
  readonly doing: () => { readonly running: number; readonly next: number | undefined }
}

export const make = (options: {
  readonly definition: Definition
  readonly counts: Counts
  /** What the effect needs. */
  readonly services: Context.Context<never>
  /** A run has ended. */
  readonly onProgress: () => void
}): Effect.Effect<Runs, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { counts, definition, onProgress, services } = options
    const scope = yield* Effect.scope
    const clock = yield* Clock.Clock
    const fork = Effect.runForkWith(yield* Effect.context<never>())
    const running = new Set<Run>()
    const repeats = new Repeats()
    let next: number | undefined
    const annotate = Effect.annotateLogs({ schedule: definition.name })

    const count = (outcome: Passed | "done" | "failed", ticks: number): void =>
      Metric.withAttributes(Metrics.ticks, { schedule: definition.name, outcome }).updateUnsafe(ticks, services)

    const settled = (exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> => {
      if (Exit.isSuccess(exit)) {
        counts.processed++
        count("done", 1)
        return Effect.void
      }
      counts.failed++
      count("failed", 1)
      const after = definition.kind === "task" ? "it is not tried again" : "the next tick runs all the same"
      const line = Effect.logWarning(`a run of the ${definition.kind} failed: ${after}`, exit.cause)
      return repeats.say(kindOf(exit.cause), clock.currentTimeMillisUnsafe(), line)
    }

    const begin: Runs["begin"] = (tick, again, finish) =>
      Effect.suspend(() => {
        const { effect, name } = definition
        const due = DateTime.makeUnsafe(tick)
        const ticked: Ticked = { id: `${name}@${tick}`, schedule: name, tick, due, again }
        const over = Deferred.makeUnsafe<void>()
        const run: Run = { tick, since: clock.currentTimeMillisUnsafe(), stopped: false, fiber: undefined }
        running.add(run)
        const whole = Effect.exit(
          Effect.scoped(Effect.provideContext(effect, Context.add(services, Tick, ticked)))
        ).pipe(
          Effect.onExit(() => Effect.sync(() => Deferred.doneUnsafe(over, Exit.void))),
          Effect.flatMap((exit) =>
            // What was interrupted from outside stays open: the next leader decides what becomes of it.
            run.stopped && Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
              ? Effect.void
              : Effect.andThen(settled(exit), finish)
          ),
          Effect.annotateLogs({ schedule: name, tick: DateTime.formatIso(due) }),
          Effect.ensuring(
            Effect.sync(() => {
              running.delete(run)
              onProgress()
            })
          )
        )
        // At once: a run that is interrupted before it has started would never be over.
        return Effect.map(Effect.forkIn(whole, scope, { startImmediately: true }), (fiber) => {
          run.fiber = fiber
          return { since: run.since, isOver: () => Deferred.isDoneUnsafe(over), over: Deferred.await(over) }
        })
      })

    const onPassed: Runs["onPassed"] = (why, ticks) => {
      count(why, ticks)
      if (why === "skipped") return
      const what = ticks === 1 ? "a tick" : `${ticks} ticks`
      const told = {
        missed: `${what} came due while nobody could run the schedule, and will not run${
          definition.kind === "cron" && !definition.catchUp ? " (catchUp runs the last one)" : ""
        }`,
        cutShort: `${what} had begun under a leader that went away, and will not run again (rerun runs it again)`
      }
      fork(annotate(Effect.logWarning(told[why])))
    }

    const end: Runs["end"] = (grace) =>
      Effect.gen(function* () {
        const fibers = [...running].flatMap(({ fiber }) => fiber ?? [])
        if (fibers.length === 0) return
        const left = yield* Effect.timeoutOption(Fiber.awaitAll(fibers), grace)
        if (left._tag === "Some") return
        for (const run of running) {
          run.stopped = true
          run.fiber?.interruptUnsafe()
        }
        const interrupted = yield* Effect.timeoutOption(Fiber.awaitAll(fibers), "1 second")
        if (interrupted._tag === "None") {
          yield* annotate(Effect.logWarning("a run cannot be interrupted; the worker goes on without it"))
        }
      })

    return {
      begin,
      onPassed,
      onNext: (tick) => {
        next = tick
      },
      quiet: () => running.size === 0,
      end,
      doing: () => ({ running: running.size, next }),
      report: (now, waits) => {
        const oldest = Math.min(...Array.from(running, ({ since }) => since))
        const runs =
          running.size === 0
            ? "nothing runs"
            : `${running.size} in hand since ${Math.round((now - oldest) / 1_000)} s, ${[...running].map(({ tick }) => iso(tick)).join(", ")}`
        return `${definition.name}: ${runs}, ${waits ?? (next === undefined || next <= now ? "nothing due" : `next at ${iso(next)}`)}`
      }
    }
  })

/** By what failures are told apart. */
const kindOf = (cause: Cause.Cause<unknown>): string => {
  const error: unknown = Cause.squash(cause)
  const tag = typeof error === "object" && error !== null && "_tag" in error ? error._tag : undefined
  return `${Cause.hasDies(cause) ? "died" : "failed"} ${tag ?? (error instanceof Error ? error.name : typeof error)}`
}

const iso = (millis: number): string => DateTime.formatIso(DateTime.makeUnsafe(millis))
