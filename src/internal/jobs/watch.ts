/** Waiting for the end of a job: a signal tells when to look, and a look now and then makes up for one that was lost. */
import { Effect, type Exit, Queue, type Scope, Stream } from "effect"
import { type DecodeError, type EngineError, JobFailed } from "../../Errors.ts"
import { type Item, JobStore } from "../../JobStore.ts"
import { Serializer } from "../../Serializer.ts"
import { attempt } from "./codec.ts"
import { endOf } from "./ledger.ts"
import type { Spec } from "./spec.ts"

/** Looks without a signal: soon after the subscription, which takes a moment, then ever more rarely. */
const firstLook = 100
const lastLook = 5_000

/** A look that waits for a signal about the job, or for so many milliseconds. */
const looks = (
  spec: Spec,
  id: string
): Effect.Effect<(millis: number) => Effect.Effect<void>, never, JobStore | Scope.Scope> =>
  Effect.gen(function* () {
    const store = yield* JobStore
    const heard = yield* Queue.sliding<void>(1)
    const listen = Stream.runForEach(store.signals(spec.queue), (signal) =>
      signal._tag === "Settled" || signal._tag === "Progress"
        ? signal.id === undefined || signal.id === id
          ? Queue.offer(heard, undefined)
          : Effect.void
        : Effect.void
    )
    // Without signals it is looked at all the same.
    yield* Effect.forkScoped(Effect.ignore(listen), { startImmediately: true })
    return (millis) => Effect.asVoid(Effect.timeoutOption(Queue.take(heard), millis))
  })

const forgotten = (spec: Spec, id: string) =>
  new JobFailed({ job: spec.name, id, reason: "Forgotten", detail: "there is no such job, or its result is not kept" })

export const awaitEnd = (spec: Spec, id: string): Effect.Effect<unknown, unknown, JobStore | Serializer> =>
  Effect.scoped(
    Effect.gen(function* () {
      const store = yield* JobStore
      const serializer = yield* Serializer
      const wait = yield* looks(spec, id)
      for (let millis = firstLook; ; millis = Math.min(lastLook, 2 * millis)) {
        const item = yield* store.get(spec.queue, id, true)
        if (item === undefined) return yield* forgotten(spec, id)
        const end = yield* attempt<Exit.Exit<unknown, unknown> | undefined, DecodeError>(() =>
          endOf(spec, serializer, item)
        )
        if (end !== undefined) return yield* end
        yield* wait(millis)
      }
    })
  )

const isOver = (item: Item): boolean => item.state === "done" || item.state === "dead" || item.state === "cancelled"

/** The job as it changes, until it is over or forgotten. */
export const changesOf = (spec: Spec, id: string): Stream.Stream<Item, EngineError, JobStore> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const store = yield* JobStore
      const wait = yield* looks(spec, id)
      let last: Item | undefined
      const same = (item: Item): boolean =>
        last !== undefined &&
        last.state === item.state &&
        last.progress === item.progress &&
        last.failures === item.failures &&
        last.history.length === item.history.length
      return Stream.unfold(firstLook, (millis) =>
        Effect.gen(function* () {
          if (last !== undefined && isOver(last)) return undefined
          for (let next = millis; ; next = Math.min(lastLook, 2 * next)) {
            const item = yield* store.get(spec.queue, id, true)
            if (item === undefined) return undefined
            if (!same(item)) {
              last = item
              return [item, firstLook] as const
            }
            yield* wait(next)
          }
        })
      )
    })
  )
