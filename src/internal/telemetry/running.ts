/** What stands around the handler of a job when somebody asks for it: a span, and hooks. */
import type { Context } from "effect"
import type { Handler, Run } from "../jobs/spec.ts"
import { sensed, senseOf } from "./sensing.ts"
import { inSpan, tracingOf } from "./tracing.ts"

type Handle = Handler["handle"]

/** The same function, if nobody asks. */
export const instrumented = ({ name: job }: Handler, handle: Handle, context: Context.Context<never>): Handle => {
  const tracing = tracingOf(context)
  const sense = senseOf(context, "job")
  const spanned: Handle =
    tracing === undefined
      ? handle
      : (payload, run: Run) => {
          const { attempt, headers, id, queue } = run
          const options = tracing.one(headers)
          if (options === undefined) return handle(payload, run)
          return inSpan(handle(payload, run), options, `run ${job}`, {
            "messaging.system": "millrace",
            "messaging.operation.type": "process",
            "messaging.destination.name": queue,
            "messaging.message.id": id,
            "millrace.job": job,
            "millrace.attempt": attempt
          })
        }
  if (sense === undefined) return spanned
  return (payload, run: Run) =>
    sensed(sense, () => ({ queue: run.queue, job, id: run.id, attempt: run.attempt }), spanned(payload, run))
}
