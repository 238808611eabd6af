/** Dead letters as they are shown: the event, if it can be decoded, what went wrong with it, and where it came from. */
import { DateTime, Effect, Option, Result, Stream } from "effect"
import type { Broker } from "../../Broker.ts"
import type { DecodeError, EngineError } from "../../Errors.ts"
import type { Event } from "../../Event.ts"
import type { Serializer } from "../../Serializer.ts"
import type { TableStore } from "../../TableStore.ts"
import type { Any, Topic } from "../../Topic.ts"
import type { Received } from "../record/received.ts"
import { deadHeaders } from "./headers.ts"
import { isLetter, pages, passed } from "./list.ts"

export interface DeadLetter<out A> {
  /** Where it lies, in the dead-letter topic: what `Topic.redrive` takes. */
  readonly partition: number
  readonly offset: string
  /** The event with its original key, time and value; its headers hold those of `Topic.deadHeaders` too. */
  readonly event: Result.Result<Event<A>, DecodeError>
  readonly error: {
    /** The tag of the error; the name of an `Error` without one. */
    readonly tag: string
    readonly message: string
    /** The whole cause, cut at 4,000 characters. */
    readonly stack: string
  }
  /** How often it was tried. */
  readonly attempts: number
  /** Who gave it up, and when. */
  readonly processor: string
  readonly failedAt: DateTime.Utc | undefined
  readonly source: { readonly topic: string; readonly partition: number; readonly offset: string }
}

export const letterOf = <A>(event: Received<A>): DeadLetter<A> => {
  const { failure, headers, offset, partition } = event
  const header = (name: keyof typeof deadHeaders): string => headers[deadHeaders[name]] ?? ""
  return {
    partition,
    offset,
    event: failure === undefined ? Result.succeed(event) : Result.fail(failure),
    error: { tag: header("errorTag"), message: header("errorMessage"), stack: header("errorStack") },
    attempts: Number(header("attempts")),
    processor: header("processor"),
    failedAt: Option.getOrUndefined(DateTime.make(header("failedAt"))),
    source: {
      topic: header("sourceTopic"),
      partition: Number(header("sourcePartition")),
      offset: header("sourceOffset")
    }
  }
}

/** The letters of `source` that were not put back, up to the present end; order holds within a partition. */
export const letters = <A, K>(
  source: Topic<A, K>,
  dead: Any
): Stream.Stream<DeadLetter<A>, EngineError, Broker | Serializer | TableStore> =>
  Stream.fromIterable(Array.from({ length: dead.partitions }, (_, partition) => partition)).pipe(
    Stream.flatMap((partition) =>
      Stream.scoped(
        Stream.unwrap(
          Effect.gen(function* () {
            const { offsets, upTo } = yield* passed(dead, partition)
            const page = yield* pages(dead, partition, upTo)
            return Stream.fromEffectRepeat(page).pipe(
              Stream.takeWhile((stored) => stored.length > 0),
              Stream.flatMap((stored) =>
                Stream.fromIterable(
                  stored
                    .flatMap(({ events }) => events as ReadonlyArray<Received<A>>)
                    .filter(isLetter)
                    .map(letterOf)
                    .filter((letter) => letter.source.topic === source.name && !offsets.has(letter.offset))
                )
              )
            )
          })
        )
      )
    )
  )
