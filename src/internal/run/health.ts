/**
 * Whether the worker of this program lives and is ready, for whoever asks over HTTP. A program without a worker has none of
 * the reasons not to be. Reasons name parts and never what a handler said, which may hold anything.
 */
import { Context, Deferred, Effect, Exit } from "effect"
import { ProcessorHalted } from "../../Errors.ts"

export interface Health {
  /** Why it does not live: a part died. */
  readonly died: Effect.Effect<string | undefined>
  /** Why it takes no work, though it lives: it starts, or shuts down. */
  readonly busy: Effect.Effect<string | undefined>
  /** Completes when it begins to shut down. */
  readonly stopping: Effect.Effect<void>
}

const nothing = Effect.succeed(undefined)

export const CurrentHealth = Context.Reference<Health>("millrace/Health", {
  defaultValue: () => ({ died: nothing, busy: nothing, stopping: Effect.never })
})

export interface Watched extends Health {
  /** It begins to shut down. */
  readonly stop: () => void
}

export const watch = <E extends { readonly _tag: string }>(
  ready: Deferred.Deferred<void>,
  end: Deferred.Deferred<void, E>
): Watched => {
  const stopped = Deferred.makeUnsafe<void>()
  const ended = Effect.flatMap(Deferred.poll(end), (exit) => (exit._tag === "None" ? nothing : Effect.exit(exit.value)))
  const died = Effect.map(ended, (exit) => (exit === undefined || Exit.isSuccess(exit) ? undefined : reasonOf(exit)))
  return {
    died,
    busy: Effect.gen(function* () {
      if (Deferred.isDoneUnsafe(stopped) || (yield* Deferred.isDone(end))) return "the worker is shutting down"
      return (yield* Deferred.isDone(ready)) ? undefined : "the worker is starting: its groups are not joined yet"
    }),
    stopping: Effect.raceFirst(Deferred.await(stopped), Effect.ignore(Deferred.await(end))),
    stop: () => Deferred.doneUnsafe(stopped, Exit.void)
  }
}

const reasonOf = <E extends { readonly _tag: string }>(exit: Exit.Failure<void, E>): string => {
  const error = Exit.findErrorOption(exit)
  if (error._tag === "None") return "the worker died"
  if (!(error.value instanceof ProcessorHalted)) return `the worker ended: ${error.value._tag}`
  const { offset, partition, processor } = error.value
  return `processor ${processor} halted at partition ${partition}, offset ${offset}`
}
