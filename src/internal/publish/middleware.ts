/** What stands around every publish and emit of a program (`Topic.middleware`). */
import { Context } from "effect"
import { EncodeError } from "../../Errors.ts"
import type { Any, EmitOptions } from "../../Topic.ts"

/** Gives the options to store with; throws to refuse the event. */
export type Middleware = (request: {
  readonly topic: string
  readonly value: unknown
  readonly options: EmitOptions
}) => EmitOptions

export const CurrentMiddleware = Context.Reference<ReadonlyArray<Middleware>>("millrace/Topic/Middleware", {
  defaultValue: () => []
})

/** Through all of them, the outermost first; throws an `EncodeError`. */
export const through = (
  all: ReadonlyArray<Middleware>,
  topic: Any,
  value: unknown,
  options: EmitOptions | undefined
): EmitOptions | undefined => {
  if (all.length === 0) return options
  try {
    return all.reduce<EmitOptions>((options, f) => f({ topic: topic.name, value, options }), options ?? {})
  } catch (error) {
    if (error instanceof EncodeError) throw error
    const detail = `the middleware refused it: ${error instanceof Error ? error.message : String(error)}`
    throw new EncodeError({ target: topic.name, reason: "Refused", detail })
  }
}
