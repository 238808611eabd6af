/** The part that runs a job in a worker: a part like any other, that reads no topics. */
import type { Effect, Scope } from "effect"
import { pipeArguments } from "effect/Pipeable"
import type { EngineError } from "../../Errors.ts"
import type { Part } from "../../Part.ts"
import { checkCount, invalid } from "../names.ts"
import type { Common } from "../run/definition.ts"
import type { Current } from "./current.ts"
import type { Handler, Spec } from "./spec.ts"

const Proto = {
  "~millrace/Part": { _E: (_: never) => _, _R: (_: never) => _ },
  pipe() {
    return pipeArguments(this, arguments)
  }
}

const fromHandler = (job: Handler, layers: Common["layers"]): Part<any, any> =>
  Object.assign(Object.create(Proto), {
    name: job.name,
    definition: { name: job.name, layers },
    job,
    with: (changes: Partial<Common> & { readonly job?: Handler }) =>
      fromHandler(changes.job ?? job, changes.layers ?? layers)
  })

export const make = <E, R>(
  spec: Spec,
  handle: (payload: any, run: any) => Effect.Effect<unknown, E | EngineError, R>,
  options: { readonly concurrency?: number | undefined; readonly acknowledge?: "after" | "before" | undefined },
  prepare?: Handler["prepare"]
): Part<never, Exclude<R, Current | Scope.Scope>> => {
  const { acknowledge = "after", concurrency } = options
  if (acknowledge !== "after" && acknowledge !== "before") {
    throw invalid(`handler of job ${spec.name}: acknowledge is "after" or "before", not ${JSON.stringify(acknowledge)}`)
  }
  if (concurrency !== undefined) checkCount(`handler of job ${spec.name}: concurrency`, concurrency, 1, 10_000)
  const job: Handler = { name: spec.name, spec, handle: handle as never, concurrency, acknowledge, prepare }
  // What the handler needs is all that this part does.
  return fromHandler(job, []) as Part<never, any>
}
