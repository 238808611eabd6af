/**
 * Tells the store what is secret of jobs, for those who show them and have no definition: a worker of those that it
 * handles, whoever enqueues one before the first that has secrets.
 */
import { Effect } from "effect"
import type { EngineError } from "../../Errors.ts"
import type { JobFacts, JobStore } from "../../JobStore.ts"
import { patiently } from "../backoff.ts"
import { redactedIn } from "../record/redacted.ts"
import type { Spec } from "./spec.ts"

type Store = JobStore["Service"]

const factsOf = ({ name, payload, progress, success }: Spec): JobFacts => ({
  name,
  payload: redactedIn(payload),
  success: redactedIn(success),
  progress: redactedIn(progress)
})

const known = new WeakMap<Store, WeakSet<Spec>>()

const toldTo = (store: Store): WeakSet<Spec> => {
  let told = known.get(store)
  if (told === undefined) known.set(store, (told = new WeakSet()))
  return told
}

/** All of one queue. What is not secret any more is told too. */
export const tell = (store: Store, queue: string, specs: ReadonlyArray<Spec>): Effect.Effect<void, EngineError> =>
  store.declare(queue, specs.map(factsOf)).pipe(
    patiently,
    Effect.tap(() => Effect.sync(() => specs.forEach((spec) => void toldTo(store).add(spec))))
  )

/** What is to be done before a job of this kind is stored; undefined: nothing, as it is known, or nothing is secret. */
export const untold = (store: Store, spec: Spec): Effect.Effect<void, EngineError> | undefined => {
  const told = toldTo(store)
  if (told.has(spec)) return undefined
  const { payload, progress, success } = factsOf(spec)
  if (payload.length + success.length + progress.length > 0) return tell(store, spec.queue, [spec])
  told.add(spec)
  return undefined
}
