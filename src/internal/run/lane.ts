/**
 * Where handlers run: a lane is a unit of work and a scope in one context, made once and used for event after event.
 */
import { Cause, Context, Effect, Exit, Scope, type Semaphore } from "effect"
import type { Quarantine } from "../../Coordinator.ts"
import { UnitOfWork } from "../../Event.ts"
import { tagOf } from "../dead/headers.ts"
import type { Received } from "../record/received.ts"
import { alone } from "./alone.ts"
import { setAllAside, setAside } from "./aside.ts"
import { countAttempt, failed, infrastructure, isParked, wasSettled } from "./failing.ts"
import type { Parked } from "./parking.ts"
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

/** For somebody who also tries parked events: whether one is due, and what ends the wait for others when one will be. */
interface Back {
  readonly isDue: () => boolean | Effect.Effect<void>
  readonly arm: () => Effect.Effect<unknown> | undefined
}

/** The next events, or undefined once the partition is stopped; with `back` none, if a parked one is due. */
export const next = (setup: Setup, back?: Back): Effect.Effect<Array<Received<unknown>> | undefined> => {
  const { partition } = setup
  const { parking } = partition
  const look: Effect.Effect<Array<Received<unknown>> | undefined> = Effect.suspend(() => {
    if (partition.stopping || partition.aside !== undefined) return Effect.succeed(undefined)
    if (!partition.open) return Effect.flatMap(partition.reopening, () => look)
    if (partition.pressure.due) {
      return Effect.flatMap(Effect.raceFirst(partition.pressure.relief, partition.stops.await), () => look)
    }
    if (partition.full) return Effect.flatMap(setup.flush, () => look)
    if (setup.closings?.windows.closes === true) return Effect.flatMap(setup.closings.close, () => look)
    if (setup.letting !== undefined && partition.lets) return Effect.flatMap(setup.letting.gather, () => look)
    if (parking.active && back !== undefined) {
      const isDue = back.isDue()
      if (isDue !== false) return isDue === true ? Effect.succeed([]) : Effect.flatMap(isDue, () => look)
    }
    if (partition.caution !== undefined && partition.waiting > 0 && partition.begins(partition.caution)) {
      const wait = alone(setup, undefined)
      if (wait !== undefined) return Effect.flatMap(wait === "later" ? partition.landing() : wait, () => look)
    }
    const events = partition.take()
    setup.meter.received += events.length
    if (events.length > 0) return Effect.succeed(events)
    const arrival = Effect.flatMap(partition.arrival.await, () => look)
    const timer = parking.active ? back?.arm() : undefined
    return timer === undefined ? arrival : Effect.flatMap(timer, () => arrival)
  })
  return look
}

/**
 * How a unit of work ended: handled or settled, both staged; left alone, since the partition is asked for; split, after
 * the failure of a batch whose events are to be tried alone; its events are to wait aside; or the partition is to be put
 * aside.
 */
export type Ended = "handled" | "settled" | "stopped" | "split" | Parked | Quarantine

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
        // Dead letters, one for each event: each goes with its own. Rows are those of all.
        if (outcome === "settled" && unit.size > 0) {
          const { emits, rows, values } = unit.take()
          partition.stage(
            events.map((event) => event.read),
            { rows, values, emits: [], bytes: 0 }
          )
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

/** For batches and streamed events: run them as one unit, then they are done. `turn`: who else wants it tries parked ones. */
export const unitRunner = (
  setup: Setup,
  handler: (events: ReadonlyArray<Received<unknown>>) => Effect.Effect<unknown, unknown>,
  splits = false,
  turn?: Semaphore.Semaphore
): ((events: Received<unknown> | ReadonlyArray<Received<unknown>>) => Effect.Effect<void, Halted>) => {
  const { counts, partition } = setup
  const lane = new Lane(setup)
  const around = wrapped(setup, handler)
  const { parking } = partition
  /** Those whose key does not wait aside; the others do now. */
  const free = (events: ReadonlyArray<Received<unknown>>): Effect.Effect<ReadonlyArray<Received<unknown>>> =>
    Effect.map(
      Effect.forEach(events, (event) => (parking.holds(event) ? setAside(setup, event) : Effect.succeed(false))),
      (aside) => events.filter((_, i) => !aside[i])
    )
  const one = (events: ReadonlyArray<Received<unknown>>): Effect.Effect<void, Halted> =>
    Effect.suspend(() => {
      // What was only gathered belongs to the next owner.
      if (partition.stopping || events.some((event) => partition.barred(event))) return Effect.void
      if (!parking.active) return unit(events, false)
      return Effect.flatMap(free(events), (left) => (left.length === 0 ? Effect.void : unit(left, true)))
    })
  const unit = (events: ReadonlyArray<Received<unknown>>, taking: boolean): Effect.Effect<void, Halted> =>
    Effect.suspend(() => {
      const tried = attempt(setup, lane, events, around.handle, around.from, splits)
      return Effect.flatMap(taking && turn !== undefined ? turn.withPermits(1)(tried) : tried, (ended) => {
        if (ended === "stopped") return Effect.void
        if (ended === "split") return Effect.forEach(events, (event) => one([event]), { discard: true })
        if (typeof ended === "object") {
          return isParked(ended) ? setAllAside(setup, events, ended) : Effect.sync(() => partition.bar(events, ended))
        }
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
