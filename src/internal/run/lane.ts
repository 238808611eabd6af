/**
 * Where handlers run: a lane is a unit of work and a scope in one context, made once and used for event after event.
 */
import { Context, Effect, Exit, Scope } from "effect"
import { UnitOfWork } from "../../Event.ts"
import type { Received } from "../record/received.ts"
import { failed, wrapped } from "./failing.ts"
import type { Halted, Setup } from "./runner.ts"
import { Unit } from "./unit.ts"

/** Writes that may wait for a commit; at the bound the partition waits for it. */
export const maxStaged = 2_500

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
    if (partition.stopping) return Effect.succeed(undefined)
    if (!partition.open) return Effect.flatMap(partition.reopening, () => look)
    if (partition.pressure.due) {
      return Effect.flatMap(Effect.raceFirst(partition.pressure.relief, partition.stops.await), () => look)
    }
    if (partition.staged >= maxStaged) return Effect.flatMap(setup.flush, () => look)
    const events = partition.take()
    return events.length > 0 ? Effect.succeed(events) : Effect.flatMap(partition.arrival.await, () => look)
  })
  return look
}

/** Run some events as one unit of work in a lane, trying again while the engine is away; false if a policy settled it. */
export const attempt = (
  setup: Setup,
  lane: Lane,
  events: ReadonlyArray<Received<unknown>>,
  handle: (events: ReadonlyArray<Received<unknown>>) => Effect.Effect<unknown, unknown>,
  from: number
): Effect.Effect<boolean, Halted> => {
  const last = events[events.length - 1]!
  const again: Effect.Effect<boolean, Halted> = Effect.suspend(() => {
    lane.unit.event = last
    // On exit, so that an interrupted handler's scope is closed too.
    const handled = Effect.onExit(
      Effect.suspend(() => handle(events)),
      lane.close
    )
    return Effect.flatMap(Effect.exit(handled), (exit) => {
      if (Exit.isSuccess(exit)) {
        setup.partition.stage(last.read as Received<unknown>, lane.unit.take())
        return Effect.succeed(true)
      }
      lane.unit.undo()
      return Effect.flatMap(failed(setup, last, exit.cause, from), (settled) =>
        settled ? Effect.succeed(false) : again
      )
    })
  })
  return again
}

/** For batches and streamed events: run them as one unit, then they are done. */
export const unitRunner = (
  setup: Setup,
  handler: (events: ReadonlyArray<Received<unknown>>) => Effect.Effect<unknown, unknown>
): ((events: Received<unknown> | ReadonlyArray<Received<unknown>>) => Effect.Effect<void, Halted>) => {
  const lane = new Lane(setup)
  const around = wrapped(setup, handler)
  return (given) => {
    const events = Array.isArray(given) ? (given as ReadonlyArray<Received<unknown>>) : [given as Received<unknown>]
    return Effect.provideContext(
      Effect.map(attempt(setup, lane, events, around.handle, around.from), (handled) => {
        if (handled) setup.counts.processed += events.length
        setup.partition.close(events.map((event) => event.read as Received<unknown>))
      }),
      lane.context
    )
  }
}
