/** Several handlers at once in one partition: by key, each key in order, or without any order. */
import { Effect, Latch } from "effect"
import type { Received } from "../record/received.ts"
import { setAside } from "./aside.ts"
import { isParked } from "./failing.ts"
import { attempt, Lane, next } from "./lane.ts"
import { returning } from "./returning.ts"
import type { Halted, Setup } from "./runner.ts"
import { wrapped } from "./wrapped.ts"

interface Slot {
  readonly lane: Lane
  readonly queue: Array<Received<unknown>>
  readonly work: Latch.Latch
  key: string | undefined
  busy: boolean
}

/** Several handlers at once: by key, each key in order, or without any order. */
export const lanes = (
  setup: Setup,
  handler: (value: any, event: any) => Effect.Effect<unknown, unknown>
): Effect.Effect<void, Halted> => {
  const { concurrency } = setup.definition
  const { partition } = setup
  const { parking } = partition
  const count = concurrency._tag === "One" ? 1 : concurrency.lanes
  const around = wrapped(setup, ([event]) =>
    event!.failure === undefined ? handler(event!.value, event!) : Effect.fail(event!.failure)
  )
  const byKey = new Map<string, Slot>()
  const idle: Array<Slot> = []
  const free = Latch.makeUnsafe(true)
  const slots = Array.from(
    { length: count },
    (): Slot => ({
      lane: new Lane(setup),
      queue: [],
      work: Latch.makeUnsafe(false),
      key: undefined,
      busy: false
    })
  )
  idle.push(...slots)
  let ended = false

  const serve = (slot: Slot): Effect.Effect<void, Halted> => {
    const loop: Effect.Effect<void, Halted> = Effect.suspend(() => {
      if (!partition.stopping && !partition.open) return Effect.flatMap(partition.reopening, () => loop)
      const event = partition.stopping ? undefined : slot.queue.shift()
      if (event === undefined) {
        if (ended || partition.stopping) return Effect.void
        // Closed first: opening `free` runs who waits for it, who may give this very slot its next event.
        slot.work.closeUnsafe()
        if (slot.busy) {
          slot.busy = false
          if (slot.key !== undefined) byKey.delete(slot.key)
          idle.push(slot)
          free.openUnsafe()
        }
        return Effect.flatMap(slot.work.await, () => loop)
      }
      if (partition.barred(event)) return loop
      if (parking.active && parking.holds(event)) {
        return Effect.flatMap(setAside(setup, event), (aside) => (aside ? loop : handled(event)))
      }
      return handled(event)
    })
    const handled = (event: Received<unknown>): Effect.Effect<void, Halted> =>
      Effect.flatMap(attempt(setup, slot.lane, [event], around.handle, around.from), (ended) => {
        if (ended === "handled") setup.counts.processed++
        if (typeof ended === "object") {
          if (isParked(ended)) return Effect.flatMap(setAside(setup, event, ended), () => loop)
          partition.bar([event], ended)
        } else if (ended !== "stopped") partition.close([event])
        return loop
      })
    return Effect.provideContext(loop, slot.lane.context)
  }

  const assign = (event: Received<unknown>): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (partition.stopping || partition.barred(event)) return Effect.void
      const key = concurrency._tag === "PerKey" ? event.key : undefined
      const slot = (key === undefined ? undefined : byKey.get(key)) ?? idle.pop()
      if (slot === undefined) {
        free.closeUnsafe()
        return Effect.flatMap(Effect.raceFirst(free.await, stopped(setup)), () => assign(event))
      }
      if (!slot.busy) {
        slot.busy = true
        slot.key = key
        if (key !== undefined) byKey.set(key, slot)
      }
      slot.queue.push(event)
      slot.work.openUnsafe()
      return Effect.void
    })

  const dispatch: Effect.Effect<void> = Effect.flatMap(next(setup), (events) => {
    if (events === undefined) {
      ended = true
      for (const slot of slots) slot.work.openUnsafe()
      return Effect.void
    }
    partition.register(events)
    return Effect.flatMap(Effect.forEach(events, assign, { discard: true }), () => dispatch)
  })

  // The other keys finish what comes before an event that puts the partition aside.
  return Effect.andThen(
    Effect.all([dispatch, ...slots.map(serve), returning(setup, around, { most: count, turn: setup.closings?.turn })], {
      concurrency: "unbounded",
      discard: true
    }),
    Effect.sync(() => {
      if (partition.aside !== undefined && !partition.stopping) setup.quarantine(partition.aside)
    })
  )
}

const stopped = (setup: Setup): Effect.Effect<void> =>
  Effect.suspend(() =>
    setup.partition.stopping ? Effect.void : Effect.flatMap(setup.partition.stops.await, () => Effect.void)
  )
