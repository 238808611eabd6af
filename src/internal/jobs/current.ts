/** The running job, as a service: what a handler is told, and how it answers early. */
import { Context, Effect } from "effect"
import type { StagedJob } from "../run/unit.ts"
import type { Run } from "./spec.ts"

/** What a handler asks for instead of ending. */
export type Answer =
  | { readonly _tag: "Retry"; readonly delay: number; readonly counted: boolean }
  | { readonly _tag: "Back" }
  | { readonly _tag: "Bury"; readonly reason: string }

export interface Running {
  readonly run: Run
  answer: Answer | undefined
  /** Takes what the handler enqueues, for what settles the job; undefined where that is over. Throws an `EncodeError`. */
  readonly stage: ((staged: StagedJob) => void) | undefined
  /** Stored with the job, for whoever watches; while the engine is away it is dropped. */
  readonly progress: (value: unknown) => Effect.Effect<void>
}

export class Current extends Context.Service<Current, Running>()("millrace/Job/Current") {}

/** The handler goes no further: its finalizers run, and then this is what counts. */
export const answer = (make: Answer): Effect.Effect<never, never, Current> =>
  Effect.flatMap(Current, (running) => {
    running.answer = make
    return Effect.interrupt
  })
