/**
 * What becomes of an event whose handling failed. Attach a policy with `Processor.catchTag`, `catch` or `catchDefect`:
 * that takes the error out of the processor's type. A failure that meets no policy halts the worker.
 *
 * Policies nest like Effect operators: what comes first in the pipe is closest to the handler. `Processor.retry` behind a
 * policy never sees what that policy took: retry first, then settle.
 */

import type { Schedule } from "effect"
import type { NoInfer } from "effect/Types"
import type { Event } from "./Event.ts"
import { checkCount, checkName } from "./internal/names.ts"
import type { Retention } from "./Retention.ts"

const TypeId = "~millrace/Policy"

/** What of a dead-letter topic is chosen where letters are sent to it. */
export interface DeadTarget {
  /** Its name, if it is not `<source>.dead`. */
  readonly topic: string | undefined
  readonly retention: Retention | undefined
}

/** How an event is settled after its failure. */
export type Settlement =
  | { readonly _tag: "Ignore" }
  | ({ readonly _tag: "DeadLetter" } & DeadTarget)
  | { readonly _tag: "Quarantine" }
  | {
      readonly _tag: "Park"
      readonly schedule: Schedule.Schedule<unknown, unknown, never, any>
      /** Events of one key. */
      readonly capacity: number
    }

export interface Policy<in E = unknown, out R = never> {
  readonly [TypeId]: { readonly _E: (_: E) => void; readonly _R: (_: never) => R }
  /** @internal */
  readonly decide: (error: E, event: Event<unknown>) => Settlement
  /** @internal Where it may send dead letters, as far as that is known before an event fails. */
  readonly deadTopics: ReadonlyArray<DeadTarget>
  /** @internal It makes events wait aside, as far as that is known before one fails. */
  readonly parks: boolean
}

const variance = { _E: (_: unknown): void => {}, _R: (_: never): never => _ }

const make = <E = unknown>(
  decide: (error: E, event: Event<unknown>) => Settlement,
  deadTopics: Policy["deadTopics"] = []
): Policy<E> => ({
  [TypeId]: variance,
  decide,
  deadTopics,
  parks: false
})

const always = (settlement: Settlement, deadTopics?: Policy["deadTopics"]): Policy => make(() => settlement, deadTopics)

/** Acknowledge it, drop its staged writes, go on. Counted, and logged at debug level. */
export const ignore: Policy = always({ _tag: "Ignore" })

/**
 * Acknowledge it and store it, with its error, attempts and source, in `<topic>.dead` (or the topic of the given name,
 * with as many partitions as the source), in one commit. Of a failed batch every event becomes a dead letter. See
 * `Topic.dead`, `Topic.deadLetters` and `Topic.redrive`.
 *
 * Letters are kept for ever, unless `retention` says otherwise: the same one wherever the topic is given one. What it drops
 * that was not put back is counted (`Admin.deadTopics`), and `EventsLost` to a processor that had not read it.
 */
export const deadLetter = (options?: {
  readonly topic?: string | undefined
  readonly retention?: Retention | undefined
}): Policy => {
  const target: DeadTarget = {
    topic: options?.topic === undefined ? undefined : checkName("topic", options.topic),
    retention: options?.retention
  }
  return always({ _tag: "DeadLetter", ...target }, [target])
}

/**
 * Do not acknowledge it: put its whole partition aside, for the whole cluster, until somebody releases or skips it. The
 * other partitions go on.
 */
export const quarantine: Policy = always({ _tag: "Quarantine" })

/**
 * The event waits aside with all that follows under its key, and is tried again on the schedule; the other keys go on, and
 * the key keeps its order. What waits is stored with the offset, so it survives restarts and goes to the partition's next
 * owner, with its attempts and the time of its next one. An event without a key waits alone. When it comes back it sees the
 * tables as they are by then.
 *
 * A schedule that runs out hands the failure to the policy behind this one in the pipe, and halts if there is none: give
 * `Processor.catch` a last one. So does an entry that cannot be decoded, since the same bytes decode no better.
 *
 * Of a failed batch each event waits under its own key, and comes back alone. It does not go with `Processor.stream`,
 * `Processor.middleware` and `acknowledge: "before"`, which refuse it. `capacity`: events that one key may hold, 1,000 by
 * default; a partition holds 10,000 in all. Beyond that it waits, and says so. See `Processor.parked`.
 */
export const park = <R = never>(options: {
  readonly schedule: Schedule.Schedule<unknown, unknown, never, R>
  readonly capacity?: number | undefined
}): Policy<unknown, R> => {
  const capacity = checkCount("Policy.park: capacity", options.capacity ?? 1_000, 1, 10_000)
  const settlement: Settlement = { _tag: "Park", schedule: options.schedule, capacity }
  return { ...always(settlement), parks: true } as Policy<unknown, R>
}

/** Decide by looking at the error. */
export const choose = <E, R = never>(f: (error: E, event: Event<unknown>) => Policy<NoInfer<E>, R>): Policy<E, R> =>
  make<E>((error, event) => f(error, event).decide(error, event))
