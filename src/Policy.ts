/**
 * What becomes of an event whose handling failed. Attach a policy with `Processor.catchTag`, `catch` or `catchDefect`:
 * that takes the error out of the processor's type. A failure that meets no policy halts the worker.
 *
 * Policies nest like Effect operators: what comes first in the pipe is closest to the handler. `Processor.retry` behind a
 * policy never sees what that policy took: retry first, then settle.
 */

import type { NoInfer } from "effect/Types"
import type { Event } from "./Event.ts"
import { checkName } from "./internal/names.ts"

const TypeId = "~millrace/Policy"

/** How an event is settled after its failure. */
export type Settlement =
  | { readonly _tag: "Ignore" }
  /** `topic`: the name of the dead-letter topic, if it is not the source's own. */
  | { readonly _tag: "DeadLetter"; readonly topic: string | undefined }
  | { readonly _tag: "Quarantine" }

export interface Policy<in E = unknown, out R = never> {
  readonly [TypeId]: { readonly _E: (_: E) => void; readonly _R: (_: never) => R }
  /** @internal */
  readonly decide: (error: E, event: Event<unknown>) => Settlement
  /** @internal Where it may send dead letters, as far as that is known before an event fails. */
  readonly deadTopics: ReadonlyArray<string | undefined>
}

const variance = { _E: (_: unknown): void => {}, _R: (_: never): never => _ }

const make = <E = unknown>(
  decide: (error: E, event: Event<unknown>) => Settlement,
  deadTopics: Policy["deadTopics"] = []
): Policy<E> => ({
  [TypeId]: variance,
  decide,
  deadTopics
})

const always = (settlement: Settlement, deadTopics?: Policy["deadTopics"]): Policy => make(() => settlement, deadTopics)

/** Acknowledge it, drop its staged writes, go on. Counted, and logged at debug level. */
export const ignore: Policy = always({ _tag: "Ignore" })

/**
 * Acknowledge it and store it, with its error, attempts and source, in `<topic>.dead` (or the topic of the given name,
 * with as many partitions as the source), in one commit. Of a failed batch every event becomes a dead letter. See
 * `Topic.dead`, `Topic.deadLetters` and `Topic.redrive`.
 */
export const deadLetter = (options?: { readonly topic?: string | undefined }): Policy => {
  const topic = options?.topic === undefined ? undefined : checkName("topic", options.topic)
  return always({ _tag: "DeadLetter", topic }, [topic])
}

/**
 * Do not acknowledge it: put its whole partition aside, for the whole cluster, until somebody releases or skips it. The
 * other partitions go on.
 */
export const quarantine: Policy = always({ _tag: "Quarantine" })

/** Decide by looking at the error. */
export const choose = <E, R = never>(f: (error: E, event: Event<unknown>) => Policy<NoInfer<E>, R>): Policy<E, R> =>
  make<E>((error, event) => f(error, event).decide(error, event))
