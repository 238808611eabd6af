/**
 * The service that lets schedules tick: it waits for what is due, on the program's clock, has each tick claimed, and
 * begins it. Where ticks are claimed and how an effect is run is the worker's part; so a test may replace the one
 * without the other.
 */
import { Clock, Context, Effect, Layer, type Scope, Stream, SubscriptionRef } from "effect"
import type { TakenTicks, TickClaim } from "../../Coordinator.ts"
import { following, type Timing, upTo } from "./timing.ts"

/**
 * Where the ticks of a schedule are claimed: in the engine, or by the worker for itself. These wait until they know; while
 * they wait for an engine that is away they can be interrupted, wherever they stand.
 */
export interface Claims {
  /** For the whole cluster. */
  readonly shared: boolean
  readonly take: Effect.Effect<TakenTicks | undefined>
  readonly claim: (tick: number, done: boolean) => Effect.Effect<TickClaim>
  readonly finish: (tick: number) => Effect.Effect<void>
}

/** Why ticks did not run. */
export type Passed =
  /** The run before was still going on. */
  | "skipped"
  /** Nobody was there, or not able to, when they were due. */
  | "missed"
  /** They had begun, and their leader went away. */
  | "cutShort"

/** A run that has begun. */
export interface Begun {
  readonly since: number
  readonly isOver: () => boolean
  /** Its effect has ended, however. */
  readonly over: Effect.Effect<void>
}

/** A schedule of a worker, to be run until the worker has enough of it. */
export interface Entry {
  readonly name: string
  readonly timing: Timing
  /** What becomes of a tick that is due while the one before it runs. */
  readonly overlap: "skip" | "allow"
  /** Run the last tick that was missed. */
  readonly catchUp: boolean
  /** Run again what a leader before has begun and not done. */
  readonly rerun: boolean
  readonly claims: Claims
  /** Begin it; `finish` when it is over, and not when it was interrupted. Its failures are its own. */
  readonly begin: (tick: number, again: boolean, finish: Effect.Effect<void>) => Effect.Effect<Begun>
  readonly onPassed: (why: Passed, ticks: number) => void
  /** This one comes next. */
  readonly onNext: (tick: number) => void
}

export class Scheduler extends Context.Service<
  Scheduler,
  {
    /** Run a schedule. It never ends by itself; what it has begun goes on when it is interrupted. */
    readonly run: (entry: Entry) => Effect.Effect<never>
    /** A worker of this program leads, until the scope closes; `holds`: not for so long that another may by now. */
    readonly lead: (holds: () => boolean) => Effect.Effect<void, never, Scope.Scope>
    /** A worker of this program is the leader. */
    readonly isLeader: Effect.Effect<boolean>
    /** The same now, and at every change. */
    readonly leadership: Stream.Stream<boolean>
  }
>()("millrace/Scheduler") {}

/** Without an engine and a clock of its own: those of the program. */
export const make = (run: (entry: Entry) => Effect.Effect<never>): Effect.Effect<Scheduler["Service"]> =>
  Effect.map(SubscriptionRef.make<ReadonlyArray<() => boolean>>([]), (leading) => ({
    run,
    lead: (holds) =>
      Effect.acquireRelease(
        SubscriptionRef.update(leading, (all) => [...all, holds]),
        () => SubscriptionRef.update(leading, (all) => all.filter((one) => one !== holds))
      ),
    isLeader: Effect.map(SubscriptionRef.get(leading), (all) => all.some((holds) => holds())),
    leadership: SubscriptionRef.changes(leading).pipe(
      Stream.map((all) => all.length > 0),
      Stream.changes
    )
  }))

/** Missed by more is missed: nobody waits for what was due hours ago. */
const latest = 3_600_000

/**
 * What a change of leader, or an engine that was away, held up is made up for tick by tick, for so many times as long as
 * it took: a schedule whose runs take nearly all of its interval would else be behind for ever.
 */
const patience = 3

/** A timer does not see that the clock was set, or the machine asleep: look now and then. */
const longestSleep = 6 * 3_600_000

/** By the program's clock. */
export const ticking = (entry: Entry): Effect.Effect<never> =>
  Effect.gen(function* () {
    const { claims, onPassed, overlap, timing } = entry
    const clock = yield* Clock.Clock
    const now = (): number => clock.currentTimeMillisUnsafe()
    const taken = yield* claims.take
    if (taken === undefined) return yield* Effect.never
    const { began } = taken
    const next = (last: number): number | undefined => following(timing, last, began)
    /** The run before, where there is one at a time. */
    let running: Begun | undefined
    const begin = (tick: number, again: boolean): Effect.Effect<void> =>
      Effect.map(entry.begin(tick, again, claims.finish(tick)), (begun) => {
        if (overlap === "skip") running = begun
      })

    /** False if another leads. What is claimed is begun: a stop between the two would cut the tick short. */
    const claim = (tick: number, runs: boolean, passed: () => void): Effect.Effect<boolean> =>
      Effect.uninterruptible(
        Effect.flatMap(claims.claim(tick, !runs), (answer) => {
          if (answer !== "Claimed") return Effect.succeed(answer === "Past")
          passed()
          return runs ? Effect.as(begin(tick, false), true) : Effect.succeed(true)
        })
      )

    for (const tick of taken.open) {
      if (entry.rerun) {
        yield* begin(tick, true)
        if (running !== undefined) yield* running.over
      } else {
        onPassed("cutShort", 1)
        yield* claims.finish(tick)
      }
    }

    let tick = next(taken.last)
    let behindUntil = Number.NEGATIVE_INFINITY
    while (tick !== undefined) {
      const at = now()
      if (tick > at) {
        entry.onNext(tick)
        yield* Effect.sleep(Math.min(Math.ceil(tick - at), longestSleep))
        continue
      }
      const busy = running !== undefined && !running.isOver()
      const after = next(tick)
      const missed = missedOf(entry, tick, after, began, at)
      if (missed !== undefined) {
        const { newest } = missed
        const following = next(newest)
        const isMadeUpFor = entry.catchUp && !busy && (following === undefined || following > at)
        const ticks = missed.count - (isMadeUpFor ? 1 : 0)
        const passed = (): void => (ticks > 0 ? onPassed("missed", ticks) : undefined)
        if (!(yield* claim(newest, isMadeUpFor, passed))) break
        tick = following
        continue
      }
      if (after !== undefined && after <= at && tick > behindUntil) {
        behindUntil = at + Math.max(patience * (at - tick), 1_000)
      }
      if (busy) {
        // Only a run that was going on when the tick came due is in its way; another one has begun late itself.
        const own = running!.since > tick ? running!.since + (after ?? tick) - tick : at
        const wait = Math.max(own, behindUntil) - at
        if (wait > 0) {
          yield* Effect.raceFirst(running!.over, Effect.sleep(Math.ceil(wait)))
          continue
        }
      }
      const passed = (): void => (busy ? onPassed("skipped", 1) : undefined)
      if (!(yield* claim(tick, !busy, passed))) break
      tick = after
    }
    return yield* Effect.never
  })

/**
 * The ticks from `tick` on that are not run, since nobody was there. In the cluster: those of the time before the first of
 * its leaders came, for each later one is held up by a change of leader at most. Alone: all that are due but the newest.
 */
const missedOf = (
  { claims, timing }: Entry,
  tick: number,
  after: number | undefined,
  began: number,
  at: number
): { readonly count: number; readonly newest: number } | undefined => {
  const old = claims.shared ? Math.max(began, at - latest) : at - latest
  const isSingle = claims.shared || after === undefined || after > at
  if (timing._tag === "Once" || (tick > old && isSingle)) return undefined
  if (tick <= old) return upTo(timing, tick, old)
  return upTo(timing, tick, upTo(timing, tick, at)!.newest - 1)
}

/** Ticks come by the program's clock. */
export const layer: Layer.Layer<Scheduler> = Layer.effect(Scheduler, make(ticking))

/** Nothing runs by itself: for tests that call the effects. */
export const layerManual: Layer.Layer<Scheduler> = Layer.effect(
  Scheduler,
  make(() => Effect.never)
)
