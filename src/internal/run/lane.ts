/**
 * Where handlers run: a lane is a unit of work and a scope in one context, made once and used for event after event.
 */
import { Cause, Context, Effect, Exit, Scope } from "effect"
import type { Quarantine } from "../../Coordinator.ts"
import { UnitOfWork } from "../../Event.ts"
import { tagOf } from "../dead/headers.ts"
import type { Received } from "../record/received.ts"
import { countAttempt, failed, infrastructure, wasSettled } from "./failing.ts"
import type { Halted, Setup } from "./runner.ts"
import { place } from "./settling.ts"
import { sizeOf, Unit } from "./unit.ts"
import { wrapped } from "./wrapped.ts"

/** A unit of work in waiting: its own unit and scope, in one context that is made once. */
export class Lane {
  readonly unit: Unit
  readonly context: Context.Context<never>
  private readonly scope = Scope.makeUnsafe()
  private readonly empty = this.scope.state
  constructor(setup: Setup) {
    const { concurrency } = setup.definition
    this.unit = new Unit(setup.host, concurrency._tag === "PerKey")
    this.context = Context.add(
      Context.add(setup.context, UnitOfWork, this.unit),
      Scope.Scope,
      this.scope
    ) as Context.Context<never>
  }
  /** The handler opened something that must be closed before the next event. */
  get scoped(): boolean {
    return this.scope.state._tag !== "Empty"
  }
  readonly close = (exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> => {
    if (!this.scoped) return Effect.void
    return Effect.ensuring(
      Scope.close(this.scope, exit),
      // A closed scope is as good as new: nothing refers to it any more.
      Effect.sync(() => {
        this.scope.state = this.empty
      })
    )
  }
}

/** The next events, or undefined once the partition is stopped. */
export const next = (setup: Setup): Effect.Effect<Array<Received<unknown>> | undefined> => {
  const { partition } = setup
  const look: Effect.Effect<Array<Received<unknown>> | undefined> = Effect.suspend(() => {
    if (partition.stopping || partition.aside !== undefined) return Effect.succeed(undefined)
    if (!partition.open) return Effect.flatMap(partition.reopening, () => look)
    if (partition.pressure.due) {
      return Effect.flatMap(Effect.raceFirst(partition.pressure.relief, partition.stops.await), () => look)
    }
    if (partition.full) return Effect.flatMap(setup.flush, () => look)
    const events = partition.take()
    return events.length > 0 ? Effect.succeed(events) : Effect.flatMap(partition.arrival.await, () => look)
  })
  return look
}

/**
 * How a unit of work ended: handled or settled, both staged; left alone, since the partition is asked for; split, after
 * the failure of a batch whose events are to be tried alone; or the partition is to be put aside.
 */
export type Ended = "handled" | "settled" | "stopped" | "split" | Quarantine

/** Run some events as one unit of work in a lane, again and again as long as a retry or the engine wants it. */
export const attempt = (
  setup: Setup,
  lane: Lane,
  events: ReadonlyArray<Received<unknown>>,
  handle: (events: ReadonlyArray<Received<unknown>>) => Effect.Effect<unknown, unknown>,
  from: number,
  splits = false
): Effect.Effect<Ended, Halted> => {
  const { unit } = lane
  const { partition } = setup
  const last = events[events.length - 1]!
  const again: Effect.Effect<Ended, Halted> = Effect.suspend(() => {
    unit.event = last
    // On exit, so that an interrupted handler's scope is closed too.
    const handled = Effect.onExit(
      Effect.suspend(() => handle(events)),
      lane.close
    )
    return Effect.flatMap(Effect.exit(handled), (exit): Effect.Effect<Ended, Halted> => {
      if (Exit.isSuccess(exit) && !unit.tooLarge) {
        partition.stage(
          events.map((event) => event.read),
          unit.take()
        )
        return Effect.succeed(wasSettled(unit, last) ? "settled" : "handled")
      }
      const cause = Exit.isSuccess(exit) ? Cause.fail(unit.excess(setup.definition.name)) : exit.cause
      unit.undo()
      if (splits && events.length > 1 && !infrastructure(cause) && !Cause.hasInterruptsOnly(cause)) {
        return split(setup, events, cause)
      }
      return Effect.flatMap(failed(setup, unit, events, cause, from), (outcome): Effect.Effect<Ended, Halted> => {
        if (outcome === "again") return again
        // Dead letters, one for each event: each goes with its own.
        if (outcome === "settled" && unit.size > 0) {
          const { emits } = unit.take()
          emits.forEach((emitted, i) => {
            partition.stage([events[i]!.read], { rows: [], values: [], emits: [emitted], bytes: sizeOf(emitted) })
          })
        }
        return Effect.succeed(outcome)
      })
    })
  })
  return again
}

/** A batch failed, and each of its events is tried alone: only what fails then meets retries and policies. */
const split = (
  setup: Setup,
  events: ReadonlyArray<Received<unknown>>,
  cause: Cause.Cause<unknown>
): Effect.Effect<"split"> => {
  setup.counts.failed++
  setup.counts.retried += events.length
  setup.count("split", tagOf(Cause.squash(cause)), events.length)
  countAttempt(events)
  return Effect.as(place(setup, events)(Effect.logDebug("a failed batch is tried event by event", cause)), "split")
}

/** For batches and streamed events: run them as one unit, then they are done. */
export const unitRunner = (
  setup: Setup,
  handler: (events: ReadonlyArray<Received<unknown>>) => Effect.Effect<unknown, unknown>,
  splits = false
): ((events: Received<unknown> | ReadonlyArray<Received<unknown>>) => Effect.Effect<void, Halted>) => {
  const { counts, partition } = setup
  const lane = new Lane(setup)
  const around = wrapped(setup, handler)
  const one = (events: ReadonlyArray<Received<unknown>>): Effect.Effect<void, Halted> =>
    Effect.suspend(() => {
      // What was only gathered belongs to the next owner.
      if (partition.stopping || events.some((event) => partition.barred(event))) return Effect.void
      return Effect.flatMap(attempt(setup, lane, events, around.handle, around.from, splits), (ended) => {
        if (ended === "stopped") return Effect.void
        if (ended === "split") return Effect.forEach(events, (event) => one([event]), { discard: true })
        if (typeof ended === "object") return Effect.sync(() => partition.bar(events, ended))
        if (ended === "handled") counts.processed += events.length
        partition.close(events.map((event) => event.read))
        return Effect.void
      })
    })
  return (given) =>
    Effect.provideContext(
      one((Array.isArray(given) ? given : [given]) as ReadonlyArray<Received<unknown>>),
      lane.context
    )
}
