/** Enqueueing many: bounded in what is on its way, whatever the length of the input. */
import { Effect, Stream } from "effect"
import type { EncodeError, EngineError } from "../../Errors.ts"
import type { EnqueueOptions } from "../../Job.ts"
import { JobStore } from "../../JobStore.ts"
import { Serializer } from "../../Serializer.ts"
import { stageJob, unitIn } from "../run/unit.ts"
import { traced } from "../telemetry/tracing.ts"
import { attempt } from "./codec.ts"
import { enqueuerOf } from "./enqueuer.ts"
import { prepare } from "./prepare.ts"
import type { Spec } from "./spec.ts"

interface Stored {
  readonly id: string
  readonly repeated: boolean | undefined
}

/** Jobs to encode and send at a time, and such pieces on their way. */
const chunk = 500
const ahead = 4

const sender = (spec: Spec, options: EnqueueOptions | undefined) =>
  Effect.gen(function* () {
    const store = yield* JobStore
    const serializer = yield* Serializer
    const enqueuer = enqueuerOf(store, spec.queue)
    const unit = unitIn(yield* Effect.context<never>())
    const given = yield* Effect.withFiber((fiber) => Effect.succeed(traced(fiber, options)))
    return (payloads: ReadonlyArray<unknown>): Effect.Effect<ReadonlyArray<Stored>, EncodeError | EngineError> =>
      Effect.flatMap(
        attempt(() => payloads.map((payload) => prepare(spec, payload, given, store, serializer))),
        (jobs): Effect.Effect<ReadonlyArray<Stored>, EngineError> => {
          if (unit === undefined) return enqueuer.enqueue(jobs)
          for (const job of jobs) stageJob(unit, { queue: spec.queue, job })
          return Effect.succeed(jobs.map(({ id }) => ({ id, repeated: undefined })))
        }
      )
  })

export const enqueueAll = (spec: Spec, payloads: Iterable<unknown>, options: EnqueueOptions | undefined) =>
  Effect.gen(function* () {
    const send = yield* sender(spec, options)
    const stored = yield* Stream.fromIterable(payloads).pipe(
      Stream.rechunk(chunk),
      Stream.chunks,
      Stream.mapEffect(send, { concurrency: ahead }),
      Stream.runCollect
    )
    return stored.flat()
  })

export const enqueueStream = (
  spec: Spec,
  payloads: Stream.Stream<unknown, any, any>,
  options: EnqueueOptions | undefined
): Effect.Effect<number, any, any> =>
  Effect.gen(function* () {
    const send = yield* sender(spec, options)
    return yield* payloads.pipe(
      Stream.groupedWithin(chunk, "10 millis"),
      Stream.mapEffect(send, { concurrency: ahead }),
      Stream.runFold(
        () => 0,
        (sum, stored) => sum + stored.length
      )
    )
  })
