/** What becomes of a failed unit of work: tried again, settled by a policy, or a halt. */
import { Cause, Effect } from "effect"
import type { Quarantine } from "../../Coordinator.ts"
import { type BetweenEvents, ProcessorHalted } from "../../Errors.ts"
import { tagOf } from "../dead/headers.ts"
import type { Received } from "../record/received.ts"
import type { Parked } from "./parking.ts"
import { postpone } from "./postponing.ts"
import type { Halted, Setup } from "./runner.ts"
import { place, settle } from "./settling.ts"
import { mayRetry, Tries } from "./tries.ts"
import type { Unit } from "./unit.ts"

type Events = ReadonlyArray<Received<unknown>>

/**
 * The same events again; settled, with what that needs staged in the unit; not to be acknowledged, since the partition is
 * asked for; to wait aside under their keys; or nothing is acknowledged from here on, and the partition is put aside.
 */
export type Outcome = "again" | "settled" | "stopped" | Parked | Quarantine

export const isParked = (outcome: Parked | Quarantine): outcome is Parked => "due" in outcome

const isEngineError = (error: unknown): boolean =>
  typeof error === "object" && error !== null && "_tag" in error && error._tag === "EngineError"

/** The engine is away or busy: no failure of the event, and no policy sees it. */
export const infrastructure = (cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.some((reason) => Cause.isFailReason(reason) && isEngineError(reason.error))

export const halt = (setup: Setup, offset: string, cause: Cause.Cause<unknown>): Halted =>
  new ProcessorHalted<unknown>({
    processor: setup.definition.name,
    partition: setup.partition.partition,
    offset,
    cause: cause as Cause.Cause<BetweenEvents>
  })

/** What was tried for the unit that ends with this event. */
export const triesOf = (unit: Unit, event: Received<unknown>): Tries => {
  if (unit.tries?.event !== event) unit.tries = new Tries(event)
  return unit.tries
}

/** It went well, but for a failure that a policy inside a middleware settled. */
export const wasSettled = ({ tries }: Unit, last: Received<unknown>): boolean =>
  tries !== undefined && tries.event === last && tries.settled

/** Waits as long as that, and until events may be handed out; false as soon as the partition is asked for. */
const waits = (setup: Setup, events: Events, millis: number): Effect.Effect<boolean> => {
  const { partition } = setup
  const barred = (): boolean => events.some((event) => partition.barred(event))
  const reopened: Effect.Effect<boolean> = Effect.suspend(() =>
    partition.stopping || barred()
      ? Effect.succeed(false)
      : partition.open
        ? Effect.succeed(true)
        : Effect.flatMap(partition.reopening, () => reopened)
  )
  if (millis <= 0) return reopened
  const isBarred = Effect.flatMap(partition.bars.await, () => (barred() ? Effect.void : Effect.never))
  return Effect.flatMap(
    Effect.raceFirst(Effect.sleep(millis), Effect.raceFirst(partition.stops.await, isBarred)),
    () => reopened
  )
}

const againOrStopped = (go: boolean): Outcome => (go ? "again" : "stopped")

/** After a failure of which a retry gave the delay: counted, waited for, and the next attempt's number is on the events. */
export const tryAgain = (
  setup: Setup,
  events: Events,
  cause: Cause.Cause<unknown>,
  delay: number
): Effect.Effect<Outcome> => {
  setup.counts.retried += events.length
  setup.count("retry", tagOf(Cause.squash(cause)), events.length)
  return place(
    setup,
    events
  )(Effect.logDebug(`a failed event is tried again in ${delay} ms`, cause)).pipe(
    Effect.andThen(waits(setup, events, delay)),
    Effect.map((go) => {
      if (go) countAttempt(events)
      return againOrStopped(go)
    })
  )
}

/** They are about to be tried once more. */
export const countAttempt = (events: Events): void => {
  for (const event of events) {
    event.attempt++
    // A pipeline may have changed it: the event that was read is what policies and letters speak of.
    event.read.attempt = event.attempt
  }
}

/** After a failure of these events, whose unit is undone; `from`: the first of the wraps that was not asked yet. */
export const failed = (
  setup: Setup,
  unit: Unit,
  events: Events,
  cause: Cause.Cause<unknown>,
  from: number
): Effect.Effect<Outcome, Halted> => {
  const last = events[events.length - 1]!
  const { verdict } = triesOf(unit, last)
  if (verdict !== undefined) return Effect.succeed(verdict)
  if (infrastructure(cause)) {
    return place(
      setup,
      events
    )(Effect.logWarning("an event waits for the engine", cause)).pipe(
      Effect.andThen(waits(setup, events, 1_000)),
      Effect.map(againOrStopped)
    )
  }
  setup.counts.failed++
  return decide(setup, unit, events, cause, from)
}

/** What the compiler finds in a program of one's own, but not where the command line runs a module. */
const isMissingService = (cause: Cause.Cause<unknown>): boolean => {
  const error = Cause.squash(cause)
  return error instanceof Error && Cause.hasDies(cause) && error.message.startsWith("Service not found")
}

/** The first of the wraps that takes the failure. */
const decide = (
  setup: Setup,
  unit: Unit,
  events: Events,
  cause: Cause.Cause<unknown>,
  from: number
): Effect.Effect<Outcome, Halted> =>
  Effect.suspend(() => {
    const { wraps } = setup.definition
    const last = events[events.length - 1]!
    for (let i = from; i < wraps.length; i++) {
      const wrap = wraps[i]!
      if (wrap._tag === "Retry" && mayRetry(events)) {
        return Effect.flatMap(triesOf(unit, last).next(wrap, i, cause), (delay) =>
          delay === undefined ? decide(setup, unit, events, cause, i + 1) : tryAgain(setup, events, cause, delay)
        )
      }
      const settlement = wrap._tag === "Catch" ? wrap.settle(cause, last) : undefined
      if (settlement === undefined) continue
      if (settlement._tag !== "Park") return settle(setup, unit, events, settlement, cause)
      return Effect.flatMap(postpone(setup, events, settlement, i, cause), (parked) =>
        parked === undefined ? decide(setup, unit, events, cause, i + 1) : Effect.succeed(parked)
      )
    }
    setup.count("halt", tagOf(Cause.squash(cause)), events.length)
    const line = Effect.logError(
      isMissingService(cause)
        ? "a failed event halts its worker, since a service is missing: it is not acknowledged, and comes again when the " +
            "worker is started; provide it to the worker, to the app (layer) or to this part (Part.provide)"
        : "a failed event halts its worker, since no policy takes this failure: it is not acknowledged, and comes again " +
            "when the worker is started; give the processor a policy for it (Processor.catchTag, catch, catchDefect)",
      cause
    )
    return Effect.andThen(place(setup, events)(line), Effect.fail(halt(setup, last.offset, cause)))
  })
