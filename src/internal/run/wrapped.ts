/**
 * A handler with what stands around it. Up to the outermost `Processor.around` everything runs inside the handler's own
 * effect, since a middleware is to see what retries and policies inside it left over; what comes after it meets failures
 * from outside (`failing.ts`), at no cost for events that go well.
 */
import { Cause, Effect } from "effect"
import type { Received } from "../record/received.ts"
import type { Wrap } from "./definition.ts"
import { infrastructure, triesOf, tryAgain } from "./failing.ts"
import { postpone } from "./postponing.ts"
import type { Setup } from "./runner.ts"
import { settle } from "./settling.ts"
import { mayRetry, type Tries } from "./tries.ts"
import { type Unit, unitOf } from "./unit.ts"

type Events = ReadonlyArray<Received<unknown>>
type Handle = (events: Events) => Effect.Effect<unknown, unknown>

/** The handler up to the outermost `around`, and the first wrap after it. */
export const wrapped = (setup: Setup, handle: Handle): { readonly handle: Handle; readonly from: number } => {
  const { shape, wraps } = setup.definition
  const from = wraps.findLastIndex((wrap) => wrap._tag === "Around") + 1
  if (from === 0) return { handle, from }
  const splits = shape._tag === "Batch" && shape.onFailure === "split"
  return {
    from,
    handle: (events) => {
      let effect: Effect.Effect<unknown, unknown> = Effect.suspend(() => handle(events))
      // What fails as a batch is tried event by event first.
      const bare = splits && events.length > 1
      for (let i = 0; i < from; i++) {
        const wrap = wraps[i]!
        if (wrap._tag === "Around") effect = wrap.f(Effect.asVoid(effect), events as never)
        else if (!bare) effect = guarded(setup, effect, events, wrap, i)
      }
      return effect
    }
  }
}

/** One retry or policy around part of a handler: it undoes what that part staged, and no more. */
const guarded = (
  setup: Setup,
  part: Effect.Effect<unknown, unknown>,
  events: Events,
  wrap: Exclude<Wrap, { readonly _tag: "Around" }>,
  at: number
): Effect.Effect<unknown, unknown> =>
  Effect.withFiber((fiber) => {
    const unit = unitOf(fiber.context)
    const mark = unit.mark
    // Each try closes what it opened; what a middleware opened stays.
    const one = wrap._tag === "Retry" ? Effect.scoped(part) : part
    const again: Effect.Effect<unknown, unknown> = Effect.catchCause(one, (cause) => {
      if (Cause.hasInterruptsOnly(cause) || infrastructure(cause)) return Effect.failCause(cause)
      return wrap._tag === "Retry" ? retried(cause) : caught(cause)
    })
    const retried = (cause: Cause.Cause<unknown>): Effect.Effect<unknown, unknown> => {
      if (wrap._tag !== "Retry" || !mayRetry(events)) return Effect.failCause(cause)
      return Effect.flatMap(triesOf(unit, events[events.length - 1]!).next(wrap, at, cause), (delay) => {
        if (delay === undefined) return Effect.failCause(cause)
        setup.counts.failed++
        unit.undoTo(mark)
        return Effect.flatMap(tryAgain(setup, events, cause, delay), (outcome) =>
          outcome === "again" ? again : abandoned(unit, events, "stopped")
        )
      })
    }
    const caught = (cause: Cause.Cause<unknown>): Effect.Effect<unknown, unknown> => {
      const settlement = wrap._tag === "Catch" ? wrap.settle(cause, events[events.length - 1]!) : undefined
      if (settlement === undefined) return Effect.failCause(cause)
      if (settlement._tag === "Park") {
        return Effect.flatMap(postpone(setup, events, settlement, at, cause), (parked) => {
          if (parked === undefined) return Effect.failCause(cause)
          setup.counts.failed++
          return abandoned(unit, events, parked)
        })
      }
      setup.counts.failed++
      unit.undoTo(mark)
      return Effect.flatMap(settle(setup, unit, events, settlement, cause), (outcome) => {
        if (outcome !== "settled") return abandoned(unit, events, outcome)
        triesOf(unit, events[events.length - 1]!).settled = true
        return Effect.void
      })
    }
    return again
  })

/** The unit ends here, for a reason that is no failure: middleware sees an interruption. */
const abandoned = (unit: Unit, events: Events, verdict: NonNullable<Tries["verdict"]>): Effect.Effect<never> => {
  triesOf(unit, events[events.length - 1]!).verdict = verdict
  return Effect.interrupt
}
