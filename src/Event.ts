/**
 * One record of a partition, with all that is known about it. Handlers get it as their second argument; `Event.current`
 * gives it to code further down. `Event.filter`, `map`, `mapEffect` and `mapBatch` change streams of events and keep
 * the books: what they drop counts as done. (A plain `Stream.filter` does not: what it drops is never acknowledged.)
 */
import { Context, type DateTime, Effect, type Scope, Stream } from "effect"
import type { Pipeable } from "effect/Pipeable"
import type { NoInfer } from "effect/Types"
import type { UnitTooLarge } from "./Errors.ts"

export const TypeId = "~millrace/Event"

export interface Event<out A> extends Pipeable {
  readonly [TypeId]: Origin
  readonly value: A
  readonly topic: string
  readonly partition: number
  /** `<entry id>.<index>`: events that were stored together share an entry. */
  readonly offset: string
  readonly key: string | undefined
  /** The event time if one was given, else the time of storing. */
  readonly timestamp: DateTime.Utc
  readonly headers: Readonly<Record<string, string>>
  /** 1 on the first try. */
  readonly attempt: number
  /** The fencing token of the partition's owner: pass it to stores of your own. 0 outside a processor. */
  readonly epoch: bigint
  /** The same event with another value. */
  withValue<B>(value: B): Event<B>
}

/** Who keeps the books of an event: the partition it was read from. */
export interface Origin {
  /** It left the pipeline; it counts as done. */
  drop(event: Event<unknown>): void
  /** Run an effect as the unit of work of these events; `undefined` if a policy settled its failure. */
  unit<A, E, R>(
    events: ReadonlyArray<Event<unknown>>,
    effect: Effect.Effect<A, E, R>
  ): Effect.Effect<A | undefined, E, Exclude<R, UnitOfWork | Scope.Scope>>
}

/** The unit of work: exists in a handler, and in `Event.mapEffect` and `mapBatch` of a pipeline; nowhere else. */
export class UnitOfWork extends Context.Service<UnitOfWork, { readonly event: Event<unknown> }>()(
  "millrace/Event/UnitOfWork"
) {}

/** Code that stages something in a unit of work may stage too much. */
export type Excess<R> = [Extract<R, UnitOfWork>] extends [never] ? never : UnitTooLarge

/** The event being handled, for code that was not handed it. In a batch: the last one. */
export const current: Effect.Effect<Event<unknown>, never, UnitOfWork> = Effect.map(UnitOfWork, (unit) => unit.event)

/** Drop events from a pipeline; a dropped event counts as done. */
export const filter: {
  <A, B extends A>(
    refinement: (value: A) => value is B
  ): <E, R>(self: Stream.Stream<Event<A>, E, R>) => Stream.Stream<Event<B>, E, R>
  <A>(
    predicate: (value: NoInfer<A>) => boolean
  ): <E, R>(self: Stream.Stream<Event<A>, E, R>) => Stream.Stream<Event<A>, E, R>
} =
  <A>(predicate: (value: A) => boolean) =>
  <E, R>(self: Stream.Stream<Event<A>, E, R>) =>
    Stream.filter(self, (event) => {
      if (predicate(event.value)) return true
      event[TypeId].drop(event)
      return false
    })

/** Change the values of a pipeline; each stays the same event. */
export const map =
  <A, B>(f: (value: A) => B) =>
  <E, R>(self: Stream.Stream<Event<A>, E, R>) =>
    Stream.map(self, (event): Event<B> => event.withValue(f(event.value)))

/** The same with an effect, which is the unit of work of its event; policies see its failures. Order is kept. */
export const mapEffect =
  <A, B, E2, R2>(f: (value: A, event: Event<A>) => Effect.Effect<B, E2, R2>) =>
  <E, R>(
    self: Stream.Stream<Event<A>, E, R>
  ): Stream.Stream<Event<B>, E | E2 | Excess<R2>, R | Exclude<R2, UnitOfWork | Scope.Scope>> =>
    self.pipe(
      Stream.mapEffect((event) =>
        event[TypeId].unit(
          [event],
          // Once for each try.
          Effect.suspend(() => Effect.map(f(event.value, event), (value) => event.withValue(value)))
        )
      ),
      Stream.filter((event) => event !== undefined)
    )

/** The same for arrays, as `Stream.groupedWithin` makes them: one unit of work, one result for each event. */
export const mapBatch =
  <A, B, E2, R2>(
    f: (values: ReadonlyArray<A>, events: ReadonlyArray<Event<A>>) => Effect.Effect<ReadonlyArray<B>, E2, R2>
  ) =>
  <E, R>(
    self: Stream.Stream<ReadonlyArray<Event<A>>, E, R>
  ): Stream.Stream<ReadonlyArray<Event<B>>, E | E2 | Excess<R2>, R | Exclude<R2, UnitOfWork | Scope.Scope>> =>
    self.pipe(
      Stream.mapEffect((events) => {
        const first = events[0]
        if (first === undefined) return Effect.succeed([])
        return first[TypeId].unit(
          events,
          Effect.suspend(() =>
            Effect.map(
              f(
                events.map((event) => event.value),
                events
              ),
              (values) => {
                if (values.length !== events.length) {
                  throw new Error(`Event.mapBatch: ${events.length} events went in, ${values.length} values came out`)
                }
                return values.map((value, i) => events[i]!.withValue(value))
              }
            )
          )
        )
      }),
      Stream.filter((events) => events !== undefined && events.length > 0)
    ) as Stream.Stream<ReadonlyArray<Event<B>>, E | E2 | Excess<R2>, R | Exclude<R2, UnitOfWork | Scope.Scope>>
