/** What a job is, whatever its types: made by `Job.make`, read by whoever enqueues, runs or asks about it. */
import type { DateTime, Duration, Effect, Schedule, Schema, Scope } from "effect"
import type { Limit, Priority } from "../../JobStore.ts"
import type { Codec } from "../../Serializer.ts"

type Key = string | number | bigint

export interface Spec {
  readonly name: string
  readonly queue: string
  readonly payload: Schema.ConstraintCodec<any, any>
  readonly success: Schema.ConstraintCodec<any, any>
  readonly error: Schema.ConstraintCodec<any, any>
  readonly progress: Schema.ConstraintCodec<any, any>
  readonly serializer: Codec | undefined
  readonly maxBytes: number
  readonly priority: Priority
  readonly retries: number
  readonly backoff: Backoff
  /** Half of a delay is random up to this part of it. */
  readonly jitter: number
  readonly retryable: ((error: unknown) => boolean) | undefined
  /** Milliseconds; `ttl` undefined: it does not expire. */
  readonly timeout: number
  readonly ttl: number | undefined
  readonly resultTtl: number
  readonly key: ((payload: any) => Key) | undefined
  readonly group:
    | { readonly by: (payload: any) => Key; readonly concurrency: number; readonly limit: Limit | undefined }
    | undefined
}

/** The delay before a retry; the first one is number 1. */
export type Backoff = Schedule.Schedule<unknown, unknown> | ((retry: number) => Duration.Input)

/** What a handler is told about its run. */
export interface Run {
  readonly id: string
  /** 1 on the first run; one more after each failure. A lost lease, or a job that was given back, does not count. */
  readonly attempt: number
  readonly queue: string
  readonly enqueuedAt: DateTime.Utc
  readonly headers: Readonly<Record<string, string>>
  /** The jobs that it came after: ask for their results with `Job.result`. */
  readonly after: ReadonlyArray<string>
}

/** A handler bound to its job: what a part of this kind is defined by. */
export interface Handler {
  readonly name: string
  readonly spec: Spec
  // The worker gives handlers what they need before they run.
  readonly handle: (payload: any, run: any) => Effect.Effect<unknown, unknown>
  readonly concurrency: number | undefined
  readonly acknowledge: "after" | "before"
  /** What is made once per worker, before the first job. */
  readonly prepare:
    | (() => Effect.Effect<(payload: any, run: any) => Effect.Effect<unknown, unknown, any>, never, Scope.Scope>)
    | undefined
}
