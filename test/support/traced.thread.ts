/** A module that runs in worker threads, for the tests: tells the span that it is in, and enqueues. */
import { Effect, Option, Schema } from "effect"
import * as Engine from "../../src/Engine.ts"
import * as Job from "../../src/Job.ts"

const Span = Schema.Struct({
  name: Schema.String,
  traceId: Schema.String,
  parent: Schema.String,
  spanId: Schema.String
})

export const outer = Job.make("outer", { payload: Schema.Int, success: Schema.NullOr(Span) })
export const inner = Job.make("inner", { payload: Schema.Int })

export default Job.thread(
  outer,
  (n) =>
    Effect.gen(function* () {
      yield* Effect.orDie(Job.enqueue(inner, n))
      const span = yield* Effect.option(Effect.currentSpan)
      return Option.getOrNull(
        Option.map(span, ({ name, parent, spanId, traceId }) => ({
          name,
          traceId,
          spanId,
          parent: Option.match(parent, { onNone: () => "", onSome: ({ spanId }) => spanId })
        }))
      )
    }),
  Engine.layerMemory
)
