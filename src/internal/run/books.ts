/** Keeps the books of streamed events: what a pipeline drops, and the units of work in it. */
import { Cause, Deferred, Effect, type Scope } from "effect"
import type { Quarantine } from "../../Coordinator.ts"
import type { Event, UnitOfWork } from "../../Event.ts"
import type { Received } from "../record/received.ts"
import { observed, sampled, spanOf } from "../telemetry/handling.ts"
import { attempt, Lane } from "./lane.ts"
import type { Book } from "./log.ts"
import type { Halted, Setup } from "./runner.ts"
import { wrapped } from "./wrapped.ts"

export class Books implements Book {
  /** Set by the log itself: they refer to each other. */
  log!: Book["log"]
  private setup: Setup | undefined
  private halted: Deferred.Deferred<never, Halted> | undefined
  attach(setup: Setup, halted: Deferred.Deferred<never, Halted>): void {
    this.setup = setup
    this.halted = halted
  }
  drop(event: Event<unknown>): void {
    if (this.setup === undefined) return
    this.setup.counts.processed++
    this.setup.partition.close([(event as Received<unknown>).read])
  }
  unit<A, E, R>(
    events: ReadonlyArray<Event<unknown>>,
    effect: Effect.Effect<A, E, R>
  ): Effect.Effect<A | undefined, E, Exclude<R, UnitOfWork | Scope.Scope>> {
    const { halted, setup } = this
    if (setup === undefined || halted === undefined) {
      throw new Error(
        "Event.mapEffect and mapBatch work on the events of Processor.stream, not on those of Topic.stream"
      )
    }
    const own = events as ReadonlyArray<Received<unknown>>
    return Effect.suspend(() => {
      const { partition } = setup
      // What was not started belongs to the next owner; it leaves the pipeline and is not acknowledged.
      if (partition.stopping || own.some((event) => partition.barred(event))) return Effect.succeed(undefined)
      // Each unit of a pipeline counts its own attempts.
      for (const event of own) event.attempt = event.read.attempt = 1
      const lane = new Lane(setup)
      let result: A | undefined
      const around = wrapped(setup, () =>
        sampled(
          setup,
          own.length,
          observed(
            setup,
            own,
            Effect.map(effect as Effect.Effect<A, E>, (value) => {
              result = value
            }),
            spanOf(setup, own)
          )
        )
      )
      const unit = Effect.provideContext(attempt(setup, lane, own, around.handle, around.from), lane.context)
      return Effect.matchCauseEffect(unit, {
        onSuccess: (ended) => {
          // Nothing is parked in a pipeline.
          if (typeof ended === "object") partition.bar(own, ended as Quarantine)
          else if (ended === "settled") partition.close(own.map((event) => event.read))
          return Effect.succeed(ended === "handled" ? result : undefined)
        },
        // It halts with its own offset; the pipeline only waits for the end.
        onFailure: (cause) => {
          const reason = Cause.findErrorOption(cause)
          return reason._tag === "Some"
            ? Effect.andThen(Deferred.fail(halted, reason.value), Effect.never)
            : Effect.failCause(cause as Cause.Cause<never>)
        }
      })
    }) as Effect.Effect<A | undefined, E, Exclude<R, UnitOfWork | Scope.Scope>>
  }
}
