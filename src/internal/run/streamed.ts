/** The events of a partition as a stream, for batches, middleware and free-form pipelines, and the books of what comes out. */
import { Cause, Deferred, Effect, Exit, Stream } from "effect"
import type { NonEmptyReadonlyArray } from "effect/Array"
import type { Quarantine } from "../../Coordinator.ts"
import { ProcessorHalted } from "../../Errors.ts"
import type { Event } from "../../Event.ts"
import type { Received } from "../record/received.ts"
import { setAside } from "./aside.ts"
import type { Books } from "./books.ts"
import { halt } from "./failing.ts"
import { attempt, Lane, next } from "./lane.ts"
import type { Halted, Setup } from "./runner.ts"

/** The partition's events as a stream through the middleware, into `consume`; halts that arise inside end it. */
export const streamed = (
  setup: Setup,
  consume: (events: Stream.Stream<Received<unknown>, unknown>) => Effect.Effect<void, unknown>
): Effect.Effect<void, Halted> =>
  Effect.suspend(() => {
    const { definition, partition } = setup
    const halted = Deferred.makeUnsafe<never, Halted>()
    for (const log of partition.logs) (log.origin as Books).attach(setup, halted)
    setup.letting?.books.attach(setup, halted)
    const lane = new Lane(setup)
    let last: Received<unknown> | undefined
    /** An event that cannot be decoded and has no policy: the stream ends before it, and then it halts. */
    let undecodable: Halted | undefined
    const pull: Effect.Effect<NonEmptyReadonlyArray<Received<unknown>>, Cause.Done> = Effect.suspend(() =>
      undecodable === undefined ? Effect.flatMap(next(setup), given) : Cause.done()
    )
    const given = (events: Array<Received<unknown>> | undefined): typeof pull => {
      if (events === undefined) return Cause.done()
      partition.register(events)
      last = events[events.length - 1]!
      if (events.every((event) => event.failure === undefined)) return Effect.succeed(events as never)
      return Effect.flatMap(settleUndecodable(setup, lane, events), ({ good, halt }) => {
        undecodable = halt
        return good.length > 0 ? Effect.succeed(good as never) : pull
      })
    }
    let events: Stream.Stream<Received<unknown>, unknown> = Stream.fromPull(Effect.succeed(pull))
    // The first in the pipe is the closest to the handler, so the last comes first.
    for (let i = definition.middleware.length - 1; i >= 0; i--)
      events = definition.middleware[i]!(events) as typeof events
    const position = (): string => last?.offset ?? partition.position
    const consumed = Effect.catchCause(consume(events), (cause) => {
      const known = Cause.findErrorOption(cause)
      return Effect.fail(
        known._tag === "Some" && known.value instanceof ProcessorHalted ? known.value : halt(setup, position(), cause)
      )
    })
    const ended = Effect.suspend(() => {
      if (partition.stopping) return Effect.void
      // The pipeline has finished what comes before the event that puts the partition aside.
      if (partition.aside !== undefined) return Effect.sync(() => setup.quarantine(partition.aside!))
      const reason = new Error("the pipeline ended by itself; a processor's stream must not end")
      return Effect.fail(undecodable ?? halt(setup, position(), Cause.die(reason)))
    })
    // A pipeline that waits for something else holds up its end, not the other partitions' worker.
    const patience = Effect.andThen(partition.bars.await, Effect.sleep("10 seconds"))
    const finished = Effect.andThen(Effect.raceFirst(consumed, patience), ended)
    return Effect.raceFirst(finished, Deferred.await(halted)) as Effect.Effect<void, Halted>
  }).pipe(Effect.provideContext(setup.context))

/** Events that cannot be decoded meet their policy; the good ones go on, up to one that halts. */
const settleUndecodable = (
  setup: Setup,
  lane: Lane,
  events: ReadonlyArray<Received<unknown>>
): Effect.Effect<{ readonly good: ReadonlyArray<Received<unknown>>; readonly halt: Halted | undefined }> =>
  Effect.gen(function* () {
    const good: Array<Received<unknown>> = []
    for (const event of events) {
      if (event.failure === undefined) {
        good.push(event)
        continue
      }
      // Its turn comes behind the others of its key.
      if (setup.partition.parking.holds(event) && (yield* setAside(setup, event))) continue
      const outcome = yield* Effect.exit(attempt(setup, lane, [event], () => Effect.fail(event.failure), 0))
      if (Exit.isSuccess(outcome)) {
        // What cannot be decoded is never parked.
        if (typeof outcome.value === "object") setup.partition.bar([event], outcome.value as Quarantine)
        // Nothing after it is started.
        if (typeof outcome.value === "object" || outcome.value === "stopped") return { good, halt: undefined }
        setup.partition.close([event])
      } else {
        const reason = Cause.findErrorOption(outcome.cause)
        return { good, halt: reason._tag === "Some" ? reason.value : halt(setup, event.offset, outcome.cause) }
      }
    }
    return { good, halt: undefined }
  })

/** What a pipeline emits is done: alone, or in an array. */
export const emitted = (
  setup: Setup,
  pipeline: Stream.Stream<Event<unknown> | ReadonlyArray<Event<unknown>>, unknown>,
  acknowledge: "emitted" | "upTo"
): Effect.Effect<void, unknown> =>
  Stream.runForEachArray(pipeline, (chunk) =>
    Effect.sync(() => {
      const { partition } = setup
      for (const item of chunk) {
        const events = (Array.isArray(item) ? item : [item]) as ReadonlyArray<Received<unknown>>
        if (acknowledge === "upTo") for (const event of events) partition.closeUpTo(event.read)
        else partition.close(events.map((event) => event.read))
        setup.counts.processed += events.length
      }
    })
  )
