/**
 * Tries the first events of lanes again when they are due: as units of work of their own, each committed together with its
 * removal from the lane. What is taken from the engine here is only ever the first event of a key, so a key's order holds.
 */
import { Deferred, Effect, Latch, type Semaphore } from "effect"
import { alone } from "./alone.ts"
import { isParked } from "./failing.ts"
import { attempt, Lane } from "./lane.ts"
import type { Waiting } from "./parking.ts"
import type { Returned } from "./returned.ts"
import type { Halted, Setup } from "./runner.ts"
import type { wrapped } from "./wrapped.ts"

type Around = ReturnType<typeof wrapped>

/** Completes when a lane may be due, or something else changed that says when. */
export const untilDue = (setup: Setup): Effect.Effect<void> => {
  const { partition } = setup
  const { due } = partition.parking
  const moved = Effect.raceFirst(partition.moves.next(), partition.stops.await)
  return due === undefined ? moved : Effect.raceFirst(moved, Effect.sleep(Math.max(1, due - setup.now())))
}

/** It was not tried to its end. No commit comes of that, so whoever waits for one is told. */
const cancelled = ({ partition }: Setup, { lane }: Waiting): void => {
  partition.parking.cancel(lane)
  partition.landings.land()
}

/** Try the first event of this lane, which `begin` was called for. */
export const comeBack = (setup: Setup, lane: Lane, around: Around, waiting: Waiting): Effect.Effect<void, Halted> => {
  const { partition } = setup
  const { parking } = partition
  const cancel = Effect.sync(() => cancelled(setup, waiting))
  const settled = (event: Returned): Effect.Effect<void> =>
    Effect.suspend(() => {
      // Refused by the engine: nothing of it is ever committed.
      if (partition.fenced) return Effect.void
      if (!partition.takesBack(event)) return Effect.flatMap(partition.landings.next(), () => settled(event))
      partition.takeBack(event, setup.now())
      return Effect.void
    })
  const tried = (event: Returned): Effect.Effect<void, Halted> =>
    Effect.flatMap(attempt(setup, lane, [event], around.handle, around.from), (ended) => {
      if (ended === "stopped" || ended === "split") return cancel
      if (typeof ended !== "object") {
        if (ended === "handled") setup.counts.processed++
        return settled(event)
      }
      if (isParked(ended)) {
        parking.failed(waiting.lane, ended)
        partition.touched()
      } else partition.bar([event], ended)
      return Effect.void
    })
  return Effect.provideContext(
    Effect.flatMap(setup.retrieve(waiting), (event) => {
      if (event === undefined) return Effect.sync(setup.restart)
      if (event.attempt > 1) setup.counts.retried++
      return tried(event)
    }),
    lane.context
  )
}

/** Beside what a runner does: up to `most` lanes at once; with a `turn`, never while somebody else has it. */
export const returning = (
  setup: Setup,
  around: Around,
  options: { readonly most: number; readonly turn?: Semaphore.Semaphore | undefined }
): Effect.Effect<void, Halted> => {
  const { partition } = setup
  const { parking } = partition
  const failure = Deferred.makeUnsafe<never, Halted>()
  const spare: Array<Lane> = []
  const over = Latch.makeUnsafe(false)
  let running = 0
  const ended = (lane: Lane): Effect.Effect<void> =>
    Effect.sync(() => {
      running--
      spare.push(lane)
      over.openUnsafe()
    })
  const one = (waiting: Waiting): Effect.Effect<void> => {
    const lane = spare.pop() ?? new Lane(setup)
    const back = Effect.suspend(() =>
      partition.open && partition.aside === undefined
        ? comeBack(setup, lane, around, waiting)
        : Effect.sync(() => cancelled(setup, waiting))
    )
    return (options.turn === undefined ? back : options.turn.withPermits(1)(back)).pipe(
      Effect.ensuring(ended(lane)),
      Effect.catchCause((cause) => Deferred.failCause(failure, cause)),
      Effect.asVoid
    )
  }
  const loop: Effect.Effect<void> = Effect.suspend(() => {
    if (partition.stopping || partition.aside !== undefined) return finish
    if (!partition.open) return Effect.flatMap(partition.reopening, () => loop)
    over.closeUnsafe()
    const first = running < options.most ? parking.next(setup.now()) : undefined
    if (first !== undefined) {
      const wait = alone(setup, first.lane)
      if (wait !== undefined) return Effect.flatMap(wait === "later" ? partition.landing() : wait, () => loop)
      if (partition.full) return Effect.flatMap(setup.flush, () => loop)
      parking.begin(first.lane)
      running++
      return Effect.flatMap(Effect.forkChild(one(first)), () => loop)
    }
    const changed = running < options.most ? untilDue(setup) : partition.stops.await
    return Effect.flatMap(Effect.raceFirst(Effect.raceFirst(changed, over.await), partition.bars.await), () => loop)
  })
  // What is being tried ends like any other event in hand.
  const finish: Effect.Effect<void> = Effect.suspend(() => {
    if (running === 0) return Effect.void
    over.closeUnsafe()
    return Effect.flatMap(over.await, () => finish)
  })
  return Effect.raceFirst(loop, Deferred.await(failure))
}
