/** What becomes of a failed unit of work: tried again while the engine is away, settled by a policy, or a halt. */
import { Cause, Context, Effect } from "effect"
import { type BetweenEvents, ProcessorHalted } from "../../Errors.ts"
import { type Event, UnitOfWork } from "../../Event.ts"
import type { Settlement } from "../../Policy.ts"
import type { Received } from "../record/received.ts"
import type { Wrap } from "./definition.ts"
import type { Halted, Setup } from "./runner.ts"
import type { Unit } from "./unit.ts"

const isEngineError = (error: unknown): boolean =>
  typeof error === "object" && error !== null && "_tag" in error && error._tag === "EngineError"

const infrastructure = (cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.some((reason) => Cause.isFailReason(reason) && isEngineError(reason.error))

/** The first of these policies that takes the failure. */
const settlementOf = (
  wraps: ReadonlyArray<Wrap>,
  from: number,
  cause: Cause.Cause<unknown>,
  event: Event<unknown>
): Settlement | undefined => {
  for (let i = from; i < wraps.length; i++) {
    const wrap = wraps[i]!
    const settlement = wrap._tag === "Catch" ? wrap.settle(cause, event) : undefined
    if (settlement !== undefined) return settlement
  }
  return undefined
}

export const halt = (setup: Setup, offset: string, cause: Cause.Cause<unknown>): Halted =>
  new ProcessorHalted<unknown>({
    processor: setup.definition.name,
    partition: setup.partition.partition,
    offset,
    cause: cause as Cause.Cause<BetweenEvents>
  })

/** Acknowledge without effects: the reason stays visible. */
const ignored = (setup: Setup, event: Event<unknown>, cause: Cause.Cause<unknown>): Effect.Effect<void> => {
  setup.counts.ignored++
  setup.observer?.settled(setup.definition.name, event, { _tag: "Ignore" }, cause)
  return Effect.logDebug("ignored a failed event", cause).pipe(
    Effect.annotateLogs({ processor: setup.definition.name, partition: event.partition, offset: event.offset })
  )
}

/** After a failure: true if a policy settled it, false to try the same events again, or the processor halts. */
export const failed = (
  setup: Setup,
  event: Event<unknown>,
  cause: Cause.Cause<unknown>,
  from: number
): Effect.Effect<boolean, Halted> => {
  // The engine is away or busy: no failure of the event, and no policy sees it.
  if (infrastructure(cause)) {
    return Effect.logWarning("an event waits for the engine", cause).pipe(
      Effect.annotateLogs({ processor: setup.definition.name, partition: event.partition, offset: event.offset }),
      Effect.andThen(Effect.sleep("1 second")),
      Effect.as(false)
    )
  }
  setup.counts.failed++
  const settlement = settlementOf(setup.definition.wraps, from, cause, event)
  if (settlement === undefined) return Effect.fail(halt(setup, event.offset, cause))
  return Effect.as(ignored(setup, event, cause), true)
}

/** The handler with what stands around it, up to the outermost `around`; the policies after it meet failures outside. */
export const wrapped = (
  setup: Setup,
  handle: (events: ReadonlyArray<Received<unknown>>) => Effect.Effect<unknown, unknown>
): { readonly handle: typeof handle; readonly from: number } => {
  const { wraps } = setup.definition
  const from = wraps.findLastIndex((wrap) => wrap._tag === "Around") + 1
  if (from === 0) return { handle, from }
  return {
    from,
    handle: (events) => {
      const last = events[events.length - 1]!
      let effect = Effect.suspend(() => handle(events))
      for (const wrap of wraps.slice(0, from)) {
        effect =
          wrap._tag === "Around"
            ? wrap.f(Effect.asVoid(effect), events as never)
            : Effect.catchCause(effect, (cause) => {
                const settlement =
                  Cause.hasInterruptsOnly(cause) || infrastructure(cause) ? undefined : wrap.settle(cause, last)
                if (settlement === undefined) return Effect.failCause(cause)
                setup.counts.failed++
                return Effect.andThen(undoHandler, ignored(setup, last, cause))
              })
      }
      return effect
    }
  }
}

/** What a handler staged before a policy settled its failure. */
const undoHandler: Effect.Effect<void> = Effect.withFiber((fiber) => {
  ;(Context.getUnsafe(fiber.context, UnitOfWork) as unknown as Unit).undo()
  return Effect.void
})
