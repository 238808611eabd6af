/**
 * The schedules of one worker: those of its own, from when it is ready to its end, and those of the leader, for as long as
 * it owns the one partition of the leaders' group. To the worker that group is one like those of its processors.
 */
import { type Context, Effect, Exit, Scope } from "effect"
import type { Coordinator } from "../../Coordinator.ts"
import type { EngineError } from "../../Errors.ts"
import type * as Part from "../../Part.ts"
import type { Lease } from "../run/lease.ts"
import type { Owner } from "../run/ownership.ts"
import type { Counts } from "../run/runner.ts"
import * as Claims from "./claims.ts"
import { type Definition, isSchedule } from "./definition.ts"
import * as Runs from "./runs.ts"
import { type Entry, Scheduler } from "./scheduler.ts"
import { inZone } from "./timing.ts"

export interface Schedules {
  /** The leaders' group; undefined where no schedule asks for a leader. */
  readonly leaders: Owner | undefined
  /** The worker is ready. */
  readonly start: Effect.Effect<void>
  /** Begin nothing more of one's own; wait for what runs, for so many milliseconds, and interrupt it then. */
  readonly stop: (grace: number) => Effect.Effect<void>
  readonly quiet: () => boolean
  /** A line for each. */
  readonly report: (now: number) => ReadonlyArray<string>
  readonly doing: () => ReadonlyArray<Doing>
}

export interface Doing extends Pick<Definition, "name" | "kind" | "onLeader"> {
  /** It ticks here. */
  readonly active: boolean
  readonly running: number
  readonly next: number | undefined
}

interface Schedule {
  readonly definition: Definition
  readonly counts: Counts
  /** What the effect needs. */
  readonly services: Context.Context<never>
}

export interface Options {
  readonly schedules: ReadonlyArray<Schedule>
  readonly coordinator: Context.Service.Shape<typeof Coordinator>
  readonly lease: Lease
  /** Of cron entries that name none. */
  readonly timezone: string
  readonly onFailure: (error: EngineError) => void
  /** The engine does not know us as the leader: ask anew. */
  readonly onFenced: (epoch: bigint) => void
  readonly onProgress: () => void
}

/** Those of the parts that are schedules, each with what it needs. */
export const ofParts = <R>(
  parts: ReadonlyArray<Part.Any>,
  servicesOf: (part: Part.Any) => Effect.Effect<Context.Context<never>, never, R>,
  counts: ReadonlyMap<string, Counts>
): Effect.Effect<ReadonlyArray<Schedule>, never, R> =>
  Effect.forEach(parts.filter(isSchedule), (part) =>
    Effect.map(servicesOf(part), (services) => ({
      definition: part.definition,
      counts: counts.get(part.name)!,
      services
    }))
  )

interface Leading {
  readonly scope: Scope.Closeable
  revoked: boolean
}

export const make = (options: Options): Effect.Effect<Schedules, never, Scheduler | Scope.Scope> =>
  Effect.gen(function* () {
    const { coordinator, lease, onFailure, onFenced, onProgress, schedules, timezone } = options
    const scheduler = yield* Scheduler
    const scope = yield* Effect.scope
    const all = yield* Effect.forEach(schedules, ({ counts, definition, services }) =>
      Effect.map(Runs.make({ definition, counts, services, onProgress }), (runs) => ({ definition, runs }))
    )
    const ofLeader = all.filter(({ definition }) => definition.onLeader)
    const own = all.filter(({ definition }) => !definition.onLeader)

    const entry = ({ definition, runs }: (typeof all)[number], claims: Entry["claims"]): Entry => {
      const { catchUp, name, overlap, rerun, timing } = definition
      const { begin, onNext, onPassed } = runs
      return { name, timing: inZone(timing, timezone), overlap, catchUp, rerun, claims, begin, onPassed, onNext }
    }
    const ended = (some: typeof all, grace: number): Effect.Effect<void> =>
      Effect.forEach(some, ({ runs }) => runs.end(grace), { concurrency: "unbounded", discard: true })

    // Of a scope of its own, so that nothing new begins while the last runs finish.
    const ticking = yield* Scope.fork(scope)
    const start = Effect.forEach(
      own,
      (one) => {
        const claims = one.definition.kind === "task" ? Claims.ownTask : Claims.own
        // At once: who waits for the worker to be idle waits for its tasks.
        return Effect.forkIn(scheduler.run(entry(one, claims)), ticking, { startImmediately: true })
      },
      { discard: true }
    )

    const epochs = new Map<number, bigint>()
    let leading: Leading | undefined

    const leave = (grace: number): Effect.Effect<void> =>
      Effect.gen(function* () {
        const was = leading
        if (was === undefined) return
        was.revoked = true
        yield* Scope.close(was.scope, Exit.void)
        yield* ended(ofLeader, grace)
        if (leading === was) {
          leading = undefined
          epochs.clear()
        }
      })

    const leaders: Owner = {
      partitions: 1,
      epochs,
      start: (partition, epoch) =>
        Effect.gen(function* () {
          const now: Leading = { scope: yield* Scope.fork(scope), revoked: false }
          leading = now
          epochs.set(partition, epoch)
          yield* Scope.provide(
            scheduler.lead(() => !now.revoked && lease.held),
            now.scope
          )
          for (const one of ofLeader) {
            const claims = Claims.ofLeader({
              coordinator,
              schedule: one.definition.name,
              epoch,
              isTask: one.definition.kind === "task",
              onFenced: () => onFenced(epoch),
              onFailure
            })
            yield* Effect.forkIn(scheduler.run(entry(one, claims)), now.scope)
          }
          yield* Effect.logDebug("this worker leads").pipe(Effect.annotateLogs({ epoch: String(epoch) }))
          return undefined
        }),
      stop: (_, grace) => leave(grace),
      revoke: () => {
        if (leading !== undefined) leading.revoked = true
      },
      drop: () => leave(0),
      // Ticks are claimed one by one, by whoever leads: there is nothing to hold back.
      pause: () => {}
    }

    return {
      leaders: ofLeader.length === 0 ? undefined : leaders,
      start,
      stop: (grace) => Effect.andThen(Scope.close(ticking, Exit.void), ended(own, grace)),
      quiet: () => all.every(({ runs }) => runs.quiet()),
      report: (now) =>
        all.map(({ definition, runs }) =>
          runs.report(now, definition.onLeader && leading === undefined ? "another worker leads" : undefined)
        ),
      doing: () =>
        all.map(({ definition: { kind, name, onLeader }, runs }) => ({
          name,
          kind,
          onLeader,
          active: !onLeader || leading !== undefined,
          ...runs.doing()
        }))
    }
  })
