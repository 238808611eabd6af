/** A job's definition, checked: from the options of `Job.make` to what all others read. */
import { Duration, Option, Schema } from "effect"
import type { Options } from "../../Job.ts"
import { checkCount, checkName, invalid } from "../names.ts"
import type { Spec } from "./spec.ts"

const day = 24 * 60 * 60_000

/** `max(10 s, min(5 s * 2^n, 1 day))`. */
export const defaultBackoff = (retry: number): Duration.Duration =>
  Duration.millis(Math.max(10_000, Math.min(5_000 * 2 ** retry, day)))

const millisOf = (at: string, input: Duration.Input, least: number): number => {
  const millis = Option.map(Duration.fromInput(input), Duration.toMillis)
  if (Option.isNone(millis) || !Number.isFinite(millis.value) || millis.value < least) {
    throw invalid(`${at} must be a duration of at least ${least} ms, not ${JSON.stringify(input)}`)
  }
  return millis.value
}

const priorities: ReadonlyArray<string> = ["high", "medium", "low"]

/** Throws `Misconfigured`. */
export const specOf = (name: string, options: Options<any, any, any, any>): Spec => {
  const at = `job ${checkName("job", name)}`
  const { group, jitter = 0, key, priority = "medium", queue = "default", ttl } = options
  if (!priorities.includes(priority)) throw invalid(`${at}: priority is "high", "medium" or "low", not "${priority}"`)
  if (!(jitter >= 0 && jitter <= 1)) throw invalid(`${at}: jitter must be a number from 0 to 1, not ${jitter}`)
  const limit = group?.limit
  return {
    name,
    queue: checkName("queue", queue),
    payload: options.payload,
    success: options.success ?? Schema.Void,
    error: options.error ?? Schema.Never,
    progress: options.progress ?? Schema.Never,
    serializer: options.serializer,
    maxBytes: checkCount(`${at}: maxBytes`, options.maxBytes ?? 1024 * 1024),
    priority,
    retries: checkCount(`${at}: retries`, options.retries ?? 0, 0),
    backoff: options.backoff ?? defaultBackoff,
    jitter,
    retryable: options.retryable,
    timeout: millisOf(`${at}: timeout`, options.timeout ?? "10 minutes", 1),
    ttl: ttl === undefined ? undefined : millisOf(`${at}: ttl`, ttl, 1),
    resultTtl: millisOf(`${at}: resultTtl`, options.resultTtl ?? day, 0),
    key,
    group: group && {
      by: group.by,
      concurrency: checkCount(`${at}: group.concurrency`, group.concurrency ?? 1),
      limit: limit && {
        count: checkCount(`${at}: group.limit.count`, limit.count),
        per: millisOf(`${at}: group.limit.per`, limit.per, 1)
      }
    }
  }
}
