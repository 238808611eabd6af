/**
 * Sets events aside, each in the lane of its key: those that a policy parks, and later ones of a key that waits already.
 * A lane that is full holds its event up, and whoever hands out the next ones; that is reported.
 */
import { Effect } from "effect"
import type { Received } from "../record/received.ts"
import { bounds, type Parked } from "./parking.ts"
import type { Setup } from "./runner.ts"
import { place } from "./settling.ts"

/** Says once that an event finds no room. */
export const reportFull = (setup: Setup, event: Received<unknown>): Effect.Effect<void> => {
  const { parking } = setup.partition
  const what =
    parking.events >= bounds.partition
      ? `${bounds.partition} events of this partition wait aside, which is all it holds`
      : "the key of this event holds as many parked events as it may"
  return place(setup, [event])(
    Effect.logWarning(
      `${what}: the partition waits until some of them are done; see Processor.parked, and make room with ` +
        "Processor.release or Processor.skip"
    ).pipe(Effect.annotateLogs({ key: event.key, parked: parking.events }))
  )
}

/** What the first of a lane is told about; those behind it only count. */
const reportParked = (setup: Setup, event: Received<unknown>, { due, error, now }: Parked): Effect.Effect<void> =>
  setup.repeats.say(
    "parked",
    now,
    place(setup, [event])(
      Effect.logWarning(
        "a failed event waits aside, with all that follows under its key: see Processor.parked, retry it now with " +
          "Processor.release, drop it with Processor.skip"
      ).pipe(Effect.annotateLogs({ key: event.key, error, retryInMillis: due - now }))
    )
  )

/** It is counted as waiting from this moment on; gives its bytes, and what there is to say. */
export const admit = (
  setup: Setup,
  event: Received<unknown>,
  parked: Parked | undefined
): { readonly bytes: number; readonly report: Effect.Effect<void> } => {
  const { parking } = setup.partition
  setup.counts.parked++
  return parked === undefined || parking.holds(event)
    ? { bytes: parking.join(event), report: Effect.void }
    : { bytes: parking.park(event, parked), report: reportParked(setup, event, parked) }
}

/**
 * For runners that finish out of order. False: its key does not wait any more, so it is to be handled; an event that failed
 * always goes aside. It is not acknowledged if the partition is stopped meanwhile.
 */
export const setAside = (setup: Setup, event: Received<unknown>, parked?: Parked): Effect.Effect<boolean> => {
  const { partition } = setup
  const { parking } = partition
  const look = (waits: (again: Effect.Effect<boolean>) => Effect.Effect<boolean>): Effect.Effect<boolean> =>
    Effect.suspend(() => {
      if (partition.stopping || partition.barred(event)) return Effect.succeed(true)
      if (parked === undefined && !parking.holds(event)) return Effect.succeed(false)
      if (!parking.hasRoom(event)) return waits(Effect.flatMap(partition.landing(), () => look((again) => again)))
      const { bytes, report } = admit(setup, event, parked)
      partition.stage([event], { rows: [], values: [], emits: [], bytes, aside: event })
      partition.close([event])
      return Effect.as(report, true)
    })
  return look(() => {
    parking.heldUp++
    // Who waited for it to be done need not wait any longer.
    partition.landings.land()
    const again = Effect.flatMap(reportFull(setup, event), () => look((again) => again))
    return Effect.ensuring(
      again,
      Effect.sync(() => void parking.heldUp--)
    )
  })
}

/** Of a failed batch each event waits under its own key; all but the first drive schedules of their own. */
export const setAllAside = (setup: Setup, events: ReadonlyArray<Received<unknown>>, parked: Parked) =>
  Effect.forEach(
    events,
    (event, i) =>
      setAside(setup, event, { ...parked, attempts: event.attempt, steps: i === 0 ? parked.steps : new Map() }),
    { discard: true }
  )
