/**
 * One middleware around the handler of any part: a processor's or agent's, a job's, a schedule's. What it is around of is told
 * to it; what it gives is what the handler gave, unless it dies in its place.
 */
import { Effect } from "effect"
import type { Event } from "../../Event.ts"
import type { Any } from "../../Part.ts"
import type { Run } from "../jobs/spec.ts"
import { isSchedule } from "../schedule/definition.ts"
import { isProcessing, type Wrap } from "./definition.ts"

/** What a handler is called for. */
export type Work =
  /** One event, or a batch. */
  | { readonly _tag: "Events"; readonly part: string; readonly events: ReadonlyArray<Event<unknown>> }
  | { readonly _tag: "Job"; readonly part: string; readonly payload: unknown; readonly run: Run }
  | { readonly _tag: "Tick"; readonly part: string }

// The worker gives it what it needs, as it does the handler.
export type Around = <A, E>(handle: Effect.Effect<A, E>, work: Work) => Effect.Effect<A, E>

type Handle = (payload: unknown, run: Run) => Effect.Effect<unknown, unknown>

export const around = (part: Any, f: Around): Any => {
  const { job, name } = part
  if (job !== undefined) {
    const { prepare } = job
    const within =
      (handle: Handle): Handle =>
      (payload, run) =>
        f(handle(payload, run), { _tag: "Job", part: name, payload, run })
    const prepared = prepare && (() => Effect.map(prepare(), (handle) => within(handle as Handle)))
    return part.with({ job: { ...job, handle: within(job.handle), prepare: prepared } })
  }
  if (isSchedule(part)) {
    return part.with({ effect: f(part.definition.effect, { _tag: "Tick", part: name }) })
  }
  // A pipeline has no handler.
  if (!isProcessing(part) || part.definition.shape._tag === "Stream") return part
  const wrap = {
    _tag: "Around",
    f: (handle, events) => f(handle, { _tag: "Events", part: name, events })
  } as const satisfies Wrap
  return part.with({ wraps: [...part.definition.wraps, wrap] })
}
