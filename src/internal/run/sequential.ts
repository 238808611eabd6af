/** One event at a time, in order: the fast path. No fiber, and nothing allocated beyond what the handler itself does. */
import { Effect, Exit } from "effect"
import type { Received } from "../record/received.ts"
import { failed, wrapped } from "./failing.ts"
import { Lane, maxStaged, next } from "./lane.ts"
import type { Halted, Setup } from "./runner.ts"

export const sequential = (
  setup: Setup,
  handler: (value: any, event: any) => Effect.Effect<unknown, unknown>
): Effect.Effect<void, Halted> => {
  const { counts, partition } = setup
  const lane = new Lane(setup)
  const { unit } = lane
  const around = wrapped(setup, ([event]) =>
    event!.failure === undefined ? handler(event!.value, event!) : Effect.fail(event!.failure)
  )
  const direct = around.from === 0
  let events: Array<Received<unknown>> = []
  let i = 0

  const done = (): void => {
    if (unit.emits.length > 0) partition.emit(unit.emits)
    unit.settle()
    counts.processed++
    partition.done(events[i]!)
    i++
  }
  const each = Effect.whileLoop({
    while: () => i < events.length && partition.open && partition.staged < maxStaged && !lane.scoped,
    body: () => {
      const event = events[i]!
      unit.event = event
      if (direct && event.failure === undefined) return handler(event.value, event)
      return around.handle([event])
    },
    // A scope that the handler used is closed first, outside of the loop.
    step: () => {
      if (!lane.scoped) done()
    }
  })
  const rest: Effect.Effect<void, Halted> = Effect.suspend(() =>
    Effect.matchCauseEffect(each, {
      onSuccess: () => {
        if (lane.scoped) return Effect.andThen(Effect.map(lane.close(Exit.void), done), rest)
        if (i >= events.length || partition.stopping) return Effect.void
        return Effect.flatMap(partition.open ? setup.flush : partition.reopening, () => rest)
      },
      onFailure: (cause) => {
        const event = events[i]!
        return lane.close(Exit.failCause(cause)).pipe(
          Effect.andThen(
            Effect.suspend(() => {
              unit.undo()
              return failed(setup, event, cause, around.from)
            })
          ),
          Effect.flatMap((settled) => {
            if (settled) {
              partition.done(event)
              i++
            }
            return rest
          })
        )
      }
    })
  )
  const cycle: Effect.Effect<void, Halted> = Effect.flatMap(next(setup), (chunk) => {
    if (chunk === undefined) return Effect.void
    events = chunk
    i = 0
    return Effect.flatMap(rest, () => cycle)
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
  const handled = (event: Received<unknown>): Effect.Effect<void, Halted> =>
    Effect.flatMap(Effect.exit(Effect.suspend(() => around.handle([event]))), (exit) =>
      Effect.andThen(
        lane.close(exit),
        Exit.isSuccess(exit)
          ? Effect.sync(() => {
              if (lane.unit.emits.length > 0) partition.emit(lane.unit.emits)
              lane.unit.settle()
              setup.counts.processed++
              partition.touched()
            })
          : Effect.suspend(() => {
              lane.unit.undo()
              return Effect.asVoid(failed(setup, event, exit.cause, around.from))
            })
      )
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
