/**
 * What a partition keeps. The default, `consumed`, drops only what every registered processor has committed, so nothing
 * unread is ever lost; `maxLength` and `maxAge` trim unread events too, and report what was lost (`EventsLost`).
 * All limits count events of one partition; trimming takes whole entries and keeps at least as many as asked for.
 */
import { Duration } from "effect"
import { Misconfigured } from "./Errors.ts"

export type Retention =
  | {
      readonly _tag: "Consumed"
      /** Events not yet committed by all processors that a partition may hold. */
      readonly capacity: number
      /** Committed events that stay. */
      readonly keep: number
      /** What a publisher meets at capacity. */
      readonly onFull: "wait" | "fail"
    }
  | { readonly _tag: "MaxLength"; readonly events: number }
  | { readonly _tag: "MaxAge"; readonly millis: number }
  | { readonly _tag: "Forever" }

const count = (name: string, value: number, least: number): number => {
  if (!Number.isSafeInteger(value) || value < least) {
    throw new Misconfigured({
      reason: "InvalidOption",
      detail: `retention: ${name} must be a whole number of at least ${least}, not ${value}`
    })
  }
  return value
}

/** Drop what every registered processor has committed, except the last `keep` events; `capacity` bounds the rest. */
export const consumed = (options?: {
  readonly capacity?: number | undefined
  readonly keep?: number | undefined
  readonly onFull?: "wait" | "fail" | undefined
}): Retention => {
  const onFull = options?.onFull ?? "wait"
  if (onFull !== "wait" && onFull !== "fail") {
    throw new Misconfigured({ reason: "InvalidOption", detail: `retention: onFull is "wait" or "fail", not ${onFull}` })
  }
  return {
    _tag: "Consumed",
    capacity: count("capacity", options?.capacity ?? 100_000, 1),
    keep: count("keep", options?.keep ?? 0, 0),
    onFull
  }
}

/** Trim to `events`, also unread ones; what is dropped unread is counted and reported. */
export const maxLength = (events: number): Retention => ({ _tag: "MaxLength", events: count("maxLength", events, 1) })

/** Drop what is older, also unread; what is dropped unread is counted and reported. */
export const maxAge = (age: Duration.Input): Retention => ({
  _tag: "MaxAge",
  millis: count("maxAge in milliseconds", Duration.toMillis(Duration.fromInputUnsafe(age)), 1)
})

/** Drop nothing. */
export const forever: Retention = { _tag: "Forever" }
