/**
 * What becomes of an event whose handling failed. Attach a policy with `Processor.catchTag`, `catch` or `catchDefect`:
 * that takes the error out of the processor's type. A failure that meets no policy halts the worker.
 */

import type { NoInfer } from "effect/Types"
import type { Event } from "./Event.ts"

const TypeId = "~millrace/Policy"

/** How an event is settled after its failure. */
export type Settlement = { readonly _tag: "Ignore" }

export interface Policy<in E = unknown, out R = never> {
  readonly [TypeId]: { readonly _E: (_: E) => void; readonly _R: (_: never) => R }
  /** @internal */
  readonly decide: (error: E, event: Event<unknown>) => Settlement
}

const variance = { _E: (_: unknown): void => {}, _R: (_: never): never => _ }

const make = <E = unknown>(decide: (error: E, event: Event<unknown>) => Settlement): Policy<E> => ({
  [TypeId]: variance,
  decide
})

/** Acknowledge it, drop its staged writes, go on. Counted, and logged at debug level. */
export const ignore: Policy = make(() => ({ _tag: "Ignore" }))

/** Decide by looking at the error. */
export const choose = <E, R = never>(f: (error: E, event: Event<unknown>) => Policy<NoInfer<E>, R>): Policy<E, R> =>
  make<E>((error, event) => f(error, event).decide(error, event))
