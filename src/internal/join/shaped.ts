/** A processor's code over the values of a join, as code over the events that go into it. */
import { Effect, Stream } from "effect"
import type { Event } from "../../Event.ts"
import { Received } from "../record/received.ts"
import type { Shape } from "../run/definition.ts"
import type { Values } from "./values.ts"

type Events = Stream.Stream<Event<any>>

export const shaped = (shape: Shape, values: Values): Shape => {
  switch (shape._tag) {
    case "Each": {
      const { handler } = shape
      return {
        ...shape,
        handler: (_: unknown, event: Received<unknown>) =>
          Effect.flatMap(values(event), (all) => {
            if (all.length === 0) return Effect.void
            if (all.length === 1) return handler(all[0], event.withValue(all[0]))
            return Effect.forEach(all, (value) => handler(value, event.withValue(value)), { discard: true })
          })
      }
    }
    case "Batch": {
      const { handler } = shape
      return {
        ...shape,
        handler: (_: unknown, events: ReadonlyArray<Received<unknown>>) =>
          Effect.suspend(() => {
            const all: Array<unknown> = []
            const from: Array<Received<unknown>> = []
            // One after the other: an event may belong to an earlier one of its batch.
            const gathered = Effect.forEach(
              events,
              (event) =>
                Effect.map(values(event), (found) => {
                  for (const value of found) {
                    all.push(value)
                    from.push(event.withValue(value))
                  }
                }),
              { discard: true }
            )
            return Effect.flatMap(gathered, () => (all.length === 0 ? Effect.void : handler(all, from)))
          })
      }
    }
    case "Stream": {
      const { pipeline } = shape
      return { ...shape, pipeline: (events) => pipeline(spread(events, values)) }
    }
  }
}

/** One of several values of an event: the event is done when all of them are. */
class Share extends Received<unknown> {
  private readonly left: { count: number }
  private readonly ends: boolean
  constructor(event: Received<unknown>, left: { count: number }, isLast: boolean) {
    super(event.value, event.source, event.index, undefined, event)
    this.left = left
    this.ends = isLast
  }

  override get isLast(): boolean {
    return this.ends
  }

  override withValue<B>(value: B): Received<B> {
    return new Received(value, this.source, this.index, undefined, this)
  }

  override finish(): void {
    if (--this.left.count === 0) this.read.finish()
  }
}

/** An event for each value; what stands for none is done. */
const spread = (events: Events, values: Values): Events =>
  events.pipe(
    Stream.mapEffect((event: Event<any>) => {
      const one = event as Received<unknown>
      const found = Effect.suspend(() => values(one))
      return Effect.map(
        event["~millrace/Event"].unit([event], found) as Effect.Effect<ReadonlyArray<unknown> | undefined>,
        (all) => {
          // Its failure was settled, or it is left to the next owner.
          if (all === undefined) return []
          if (all.length === 0) event["~millrace/Event"].drop(event)
          if (all.length <= 1) return all.map((value) => event.withValue(value))
          const left = { count: all.length }
          return all.map((value, i) => new Share(one, left, i === all.length - 1).withValue(value))
        }
      )
    }),
    Stream.flattenIterable
  )
