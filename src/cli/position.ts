/** Where reading or handling is to begin, as it is written on the command line. */
import { DateTime, Effect, Option } from "effect"
import { parseOffset } from "../internal/entryId.ts"
import type { From } from "../Topic.ts"
import { WrongUse } from "./failures.ts"

export const positionOf = (text: string): Effect.Effect<From, WrongUse> => {
  if (text === "earliest" || text === "latest") return Effect.succeed(text)
  if (parseOffset(text) !== undefined) return Effect.succeed({ offset: text })
  // A bare number would be taken for a year, or for milliseconds; neither is what a typing error means.
  const time = /^\d{4}-\d\d-\d\d/.test(text) ? DateTime.make(text) : Option.none()
  if (Option.isSome(time)) return Effect.succeed({ time: DateTime.toUtc(time.value) })
  return Effect.fail(
    new WrongUse({
      message: `${JSON.stringify(text)} is no position: give earliest, latest, an offset <millis>-<seq>.<index>, or a time such as 2026-05-01T12:00:00Z`
    })
  )
}
