/** Enqueueing many: bounded in what is on its way, whatever the length of the input. */
import { Effect, Stream } from "effect"
import type { DurabilityNotReached, EncodeError, EngineError } from "../../Errors.ts"
import type { EnqueueOptions, Safe } from "../../Job.ts"
import { JobStore } from "../../JobStore.ts"
import { Serializer } from "../../Serializer.ts"
import { traced } from "../telemetry/tracing.ts"
import { attempt } from "./codec.ts"
import { enqueuerOf } from "./enqueuer.ts"
import { prepare } from "./prepare.ts"
import type { Spec } from "./spec.ts"
import { stagerIn } from "./staging.ts"
import { untold } from "./telling.ts"

interface Stored {
  readonly id: string
  readonly repeated: boolean | undefined
}

/** Jobs to encode and send at a time, and such pieces on their way. */
const chunk = 1_000
const ahead = 4

type Options = EnqueueOptions & Safe

const sender = (spec: Spec, options: Options | undefined) =>
  Effect.gen(function* () {
    const store = yield* JobStore
    const serializer = yield* Serializer
    const enqueuer = enqueuerOf(store, spec.queue, options?.durability)
    const stage = stagerIn(yield* Effect.context<never>())
    yield* untold(store, spec) ?? Effect.void
    const given = yield* Effect.withFiber((fiber) => Effect.succeed(traced(fiber, options)))
    return (
      payloads: ReadonlyArray<unknown>
    ): Effect.Effect<ReadonlyArray<Stored>, EncodeError | EngineError | DurabilityNotReached> => {
      const prepared = attempt(() => payloads.map((payload) => prepare(spec, payload, given, store, serializer)))
      if (stage === undefined) return Effect.flatMap(prepared, enqueuer.enqueue)
      return Effect.flatMap(prepared, (jobs) =>
        attempt(() => {
          for (const job of jobs) stage({ queue: spec.queue, job })
          return jobs.map(({ id }) => ({ id, repeated: undefined }))
        })
      )
    }
  })

export const enqueueAll = (spec: Spec, payloads: Iterable<unknown>, options: Options | undefined) =>
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
  options: Options | undefined
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
