/** One event at a time, in order: the fast path. No fiber, and nothing allocated beyond what the handler itself does. */
import { Cause, Effect, Exit } from "effect"
import type { Quarantine } from "../../Coordinator.ts"
import type { Received } from "../record/received.ts"
import { alone } from "./alone.ts"
import { admit, reportFull } from "./aside.ts"
import { failed, isParked, wasSettled } from "./failing.ts"
import { Lane, next } from "./lane.ts"
import type { Parked } from "./parking.ts"
import { comeBack, untilDue } from "./returning.ts"
import type { Halted, Setup } from "./runner.ts"
import { wrapped } from "./wrapped.ts"

export const sequential = (
  setup: Setup,
  handler: (value: any, event: any) => Effect.Effect<unknown, unknown>
): Effect.Effect<void, Halted> => {
  const { counts, meter, partition } = setup
  const { parking } = partition
  const lane = new Lane(setup)
  const { unit } = lane
  const around = wrapped(setup, ([event]) =>
    event!.failure === undefined ? handler(event!.value, event!) : Effect.fail(event!.failure)
  )
  const direct = around.from === 0
  let events: Array<Received<unknown>> = []
  let i = 0

  /** A handler that went well is not done yet: its scope is open, or the commit that is being filled has no room. */
  let held = false

  const take = (): void => {
    if (unit.emits.length > 0) partition.emit(unit.emits, unit.bytes)
    unit.settle()
    partition.done(events[i]!)
    i++
  }
  const done = (): void => {
    if (direct || !wasSettled(unit, events[i]!)) counts.processed++
    take()
  }
  const each = Effect.whileLoop({
    while: () =>
      !held && i < events.length && partition.open && !partition.full && !(parking.active && isAside(events[i]!)),
    body: () => {
      const event = events[i]!
      unit.event = event
      if (direct && event.failure === undefined) return handler(event.value, event)
      return around.handle([event])
    },
    // What takes effects is finished outside of the loop.
    step: () => {
      if (lane.scoped || !partition.takes(unit)) held = true
      else done()
    }
  })
  /** Settled by a policy, with a dead letter staged or nothing. */
  const settled: Effect.Effect<void, Halted> = Effect.suspend(() => {
    if (partition.fenced) return Effect.void
    if (!partition.takes(unit)) return Effect.flatMap(setup.flush, () => settled)
    take()
    return rest
  })
  const failing = (cause: Cause.Cause<unknown>): Effect.Effect<void, Halted> =>
    Effect.suspend(() => {
      unit.undo()
      return Effect.flatMap(failed(setup, unit, [events[i]!], cause, around.from), (outcome) => {
        if (outcome === "again") return rest
        if (outcome === "settled") return settled
        if (outcome === "stopped") return Effect.void
        if (isParked(outcome)) return setAside(outcome)
        setup.quarantine(outcome)
        return Effect.void
      })
    })

  /** Of parked events none is tried while another event is handled: tables belong to all keys alike. */
  let back: Lane | undefined
  const isDue = (): boolean | Effect.Effect<void> => {
    const waiting = parking.next(setup.now())
    if (waiting === undefined) return false
    const wait = alone(setup, waiting.lane)
    return wait === undefined ? true : wait === "later" ? false : wait
  }
  /** When the timer ends that is set; a later one would do no good. */
  let armed = Infinity
  const arm = (): Effect.Effect<unknown> | undefined => {
    const { due } = parking
    if (due === undefined || due >= armed) return undefined
    armed = due
    const over = Effect.sync(() => {
      if (armed === due) armed = Infinity
      parking.stirred = true
      partition.rouse()
    })
    return Effect.forkChild(Effect.andThen(Effect.sleep(Math.max(1, due - setup.now())), over))
  }
  const isAside = (event: Received<unknown>): boolean => parking.stirred || parking.holds(event)
  /** The next event is not for the handler, or not yet. */
  const aside: Effect.Effect<void, Halted> = Effect.suspend(() => {
    parking.stirred = false
    if (isDue() === true) return Effect.flatMap(due, () => rest)
    const timer = arm()
    if (timer !== undefined) return Effect.flatMap(timer, () => aside)
    return i < events.length && parking.holds(events[i]!) ? setAside(undefined) : rest
  })
  const due: Effect.Effect<void, Halted> = Effect.suspend(() => {
    const waiting = parking.next(setup.now())
    if (waiting === undefined) return Effect.void
    parking.begin(waiting.lane)
    return Effect.map(comeBack(setup, (back ??= new Lane(setup)), around, waiting), () => {
      if (partition.aside !== undefined && !partition.stopping) setup.quarantine(partition.aside)
    })
  })
  /** With `parked` it has failed; without, an event of its key has. */
  const setAside = (parked: Parked | undefined, reported = false): Effect.Effect<void, Halted> =>
    Effect.suspend(() => {
      const event = events[i]!
      parking.heldUp = 0
      if (!partition.open) return partition.stopping ? Effect.void : waited(partition.reopening, parked, reported)
      if (parked === undefined && !parking.holds(event)) return rest
      if (!parking.hasRoom(event)) {
        parking.heldUp = 1
        if (!reported) return waited(reportFull(setup, event), parked, true)
        return waited(isDue() === true ? due : untilDue(setup), parked, true)
      }
      const { bytes, report } = admit(setup, event, parked)
      return Effect.flatMap(report, () => staged(event, bytes))
    })
  const waited = (wait: Effect.Effect<void, Halted>, parked: Parked | undefined, reported: boolean) =>
    Effect.flatMap(wait, () => setAside(parked, reported))
  const staged = (event: Received<unknown>, bytes: number): Effect.Effect<void, Halted> =>
    Effect.suspend(() => {
      if (partition.fenced) return Effect.void
      if (!partition.takesAside(bytes)) return Effect.flatMap(setup.flush, () => staged(event, bytes))
      parking.stage(event)
      partition.done(event)
      i++
      return rest
    })
  const closed: Effect.Effect<void, Halted> = Effect.suspend(() => {
    held = false
    if (unit.tooLarge) return failing(Cause.fail(unit.excess(setup.definition.name)))
    // Refused by the engine: nothing of it is ever committed, and there is no room to wait for.
    if (partition.fenced) return Effect.void
    if (!partition.takes(unit)) return Effect.flatMap(setup.flush, () => closed)
    done()
    return rest
  })
  const rest: Effect.Effect<void, Halted> = Effect.suspend(() =>
    Effect.matchCauseEffect(each, {
      onSuccess: () => {
        if (held) return Effect.andThen(lane.close(Exit.void), closed)
        if (partition.stopping) return Effect.void
        if (parking.active && partition.open && !partition.full) return i < events.length ? aside : Effect.void
        if (i >= events.length) return Effect.void
        return Effect.flatMap(partition.open ? setup.flush : partition.reopening, () => rest)
      },
      onFailure: (cause) => Effect.andThen(lane.close(Exit.failCause(cause)), failing(cause))
    })
  )
  const cycle: Effect.Effect<void, Halted> = Effect.flatMap(next(setup, { isDue, arm }), (chunk) => {
    if (chunk === undefined) return Effect.void
    events = chunk
    i = 0
    // None: something that was parked is due.
    if (chunk.length === 0) return Effect.flatMap(due, () => cycle)
    const since = meter.clock.currentTimeNanosUnsafe()
    return Effect.flatMap(rest, () => {
      if (i > 0) meter.handled(since, i)
      return cycle
    })
  })
  // An interrupted handler's scope is closed by nobody else.
  return Effect.provideContext(Effect.onExit(cycle, lane.close), lane.context)
}

/** At most once: the offset is committed before the handler starts; what it stages is a commit after it. */
export const beforehand = (
  setup: Setup,
  handler: (value: any, event: any) => Effect.Effect<unknown, unknown>
): Effect.Effect<void, Halted> => {
  const { partition } = setup
  const lane = new Lane(setup)
  const around = wrapped(setup, ([event]) =>
    event!.failure === undefined ? handler(event!.value, event!) : Effect.fail(event!.failure)
  )
  const one = (event: Received<unknown>): Effect.Effect<void, Halted> =>
    Effect.suspend(() => {
      partition.done(event)
      lane.unit.event = event
      return setup.flush
    }).pipe(
      // Refused by the engine: somebody else has it.
      Effect.andThen(Effect.suspend(() => (partition.fenced ? Effect.void : handled(event))))
    )
  const take = (): void => {
    if (lane.unit.emits.length > 0) partition.emit(lane.unit.emits, lane.unit.bytes)
    lane.unit.settle()
    partition.touched()
  }
  const handled = (event: Received<unknown>): Effect.Effect<void, Halted> =>
    Effect.flatMap(Effect.exit(Effect.suspend(() => around.handle([event]))), (exit) =>
      Effect.flatMap(lane.close(exit), () => {
        if (Exit.isSuccess(exit) && !lane.unit.tooLarge) {
          if (!wasSettled(lane.unit, event)) setup.counts.processed++
          return Effect.sync(take)
        }
        const cause = Exit.isSuccess(exit) ? Cause.fail(lane.unit.excess(setup.definition.name)) : exit.cause
        lane.unit.undo()
        return Effect.flatMap(failed(setup, lane.unit, [event], cause, around.from), (outcome) => {
          if (outcome === "again") return handled(event)
          if (outcome === "settled") take()
          // Nothing is parked that may not be handled twice.
          else if (outcome !== "stopped") setup.quarantine(outcome as Quarantine)
          return Effect.void
        })
      })
    )
  const cycle: Effect.Effect<void, Halted> = Effect.flatMap(next(setup), (events) => {
    if (events === undefined) return Effect.void
    let i = 0
    const each = Effect.whileLoop({
      while: () => i < events.length && partition.open,
      body: () => one(events[i++]!),
      step: () => {}
    })
    const rest: Effect.Effect<void, Halted> = Effect.flatMap(each, () =>
      i >= events.length || partition.stopping ? Effect.void : Effect.flatMap(partition.reopening, () => rest)
    )
    return Effect.flatMap(rest, () => cycle)
  })
  return Effect.provideContext(Effect.onExit(cycle, lane.close), lane.context)
}
