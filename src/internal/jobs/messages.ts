/** What a worker and its threads say to each other; values are in their schema's JSON form. */
import { Schema } from "effect"
import type { StagedJob } from "../run/unit.ts"
import type { Trace } from "../telemetry/tracing.ts"
import type { Answer } from "./current.ts"
import type { Spec } from "./spec.ts"

/** Tells a thread that it was started for this job, and by whom. */
export interface Invitation {
  readonly millraceJob: string
}

export type ToThread =
  | {
      readonly _tag: "Run"
      readonly payload: unknown
      readonly id: string
      readonly attempt: number
      readonly queue: string
      /** Milliseconds since 1970. */
      readonly enqueuedAt: number
      readonly headers: Readonly<Record<string, string>>
      readonly after: ReadonlyArray<string>
      /** The span of the run, if it has one. */
      readonly trace: Trace | undefined
    }
  | { readonly _tag: "Stop" }

export type FromThread =
  | { readonly _tag: "Ready" }
  | { readonly _tag: "Progress"; readonly value: unknown }
  /** Its handler has enqueued it: it belongs to what settles the job. */
  | { readonly _tag: "Staged"; readonly job: StagedJob }
  | { readonly _tag: "Success"; readonly value: unknown }
  | { readonly _tag: "Failure"; readonly error: unknown }
  | { readonly _tag: "Answer"; readonly answer: Answer }
  /** It died, or was interrupted, or failed with what its job does not declare. */
  | { readonly _tag: "Defect"; readonly message: string }

/** Both directions of each part of a job, as the messages have them. */
export const formsOf = (spec: Spec) => {
  const form = (schema: Schema.ConstraintCodec<any, any>) => {
    const json = Schema.toCodecJson(schema)
    return { encode: Schema.encodeSync(json), decode: Schema.decodeUnknownSync(json) }
  }
  return {
    payload: form(spec.payload),
    success: form(spec.success),
    error: form(spec.error),
    progress: form(spec.progress)
  }
}
