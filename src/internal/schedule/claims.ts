/**
 * Where ticks are claimed. A worker's own are its own affair; the leader's are claimed in the engine, under the epoch by
 * which it leads. Claims wait for an engine that is away, as everything of the leader does.
 */
import { Clock, type Context, Effect, Random, Result } from "effect"
import type { Coordinator } from "../../Coordinator.ts"
import type { EngineError } from "../../Errors.ts"
import type { Claims } from "./scheduler.ts"

/** Whole milliseconds: ticks are numbers that engines store and ids are made of, and a test's clock may stand between. */
const now = Effect.map(Clock.currentTimeMillis, Math.floor)

/** Of this worker, from now on. */
export const own: Claims = {
  shared: false,
  take: Effect.map(now, (now) => ({ last: now, open: [], began: now })),
  claim: () => Effect.succeed("Claimed"),
  finish: () => Effect.void
}

/** Of a task: its one tick is the moment at which it begins. */
export const ownTask: Claims = {
  ...own,
  take: Effect.map(now, (now) => ({ last: now - 1, open: [], began: now }))
}

/** How long it waits before it asks again, at first and at most. */
const firstMillis = 50
const mostMillis = 2_000

/** A claim that failed may have been made: each may be sent again. */
export const ofLeader = (options: {
  readonly coordinator: Context.Service.Shape<typeof Coordinator>
  readonly schedule: string
  readonly epoch: bigint
  /** It ticks from its begin on; it does not wait for a tick of its own. */
  readonly isTask: boolean
  /** Another leads. */
  readonly onFenced: () => void
  /** The engine refuses for good. */
  readonly onFailure: (error: EngineError) => void
}): Claims => {
  const { coordinator, epoch, isTask, onFailure, onFenced, schedule } = options
  const isFinal = ({ reason }: EngineError): boolean => reason === "Refused" || reason === "Unsupported"
  const patiently = <A>(ask: Effect.Effect<A, EngineError>): Effect.Effect<A> =>
    Effect.gen(function* () {
      for (let millis = firstMillis; ; millis = Math.min(2 * millis, mostMillis)) {
        const answer = yield* Effect.result(ask)
        if (Result.isSuccess(answer)) return answer.success
        if (isFinal(answer.failure)) {
          onFailure(answer.failure)
          return yield* Effect.interruptible(Effect.never)
        }
        yield* Effect.interruptible(Effect.sleep(millis * (0.5 + (yield* Random.next))))
      }
    })
  return {
    shared: true,
    take: Effect.flatMap(now, (now) =>
      Effect.tap(patiently(coordinator.takeTicks(schedule, epoch, isTask ? 0 : now)), (taken) => {
        if (taken === undefined) onFenced()
        return Effect.void
      })
    ),
    claim: (tick, done) =>
      Effect.tap(patiently(coordinator.claimTick(schedule, tick, epoch, done)), (claim) => {
        if (claim === "Fenced") onFenced()
        return Effect.void
      }),
    finish: (tick) => patiently(coordinator.finishTick(schedule, tick, epoch))
  }
}
