/**
 * The recurring jobs of a queue, as one of its workers sees to them: it sleeps until the first slot is due, and fires what is.
 * There is no leader: all workers of the queue do so, and the store lets one of them have each slot.
 *
 * Gotcha: slots are moments of the engine's clock. Here they are only waited for; what is due, the engine says.
 */
import { type Clock, Effect, Latch } from "effect"
import type { EngineError } from "../../Errors.ts"
import type { Firing as Fire, JobStore, Recurrence, Slots } from "../../JobStore.ts"
import { soon } from "../backoff.ts"
import { firingOf } from "./recurrence.ts"

/** Milliseconds; a timer takes no more. */
const longest = 2 ** 30
/** Until another look where one cannot be fired here. */
const stuck = 1_000

export class Firing {
  private known: number | undefined
  /** Whatever was heard before. */
  private asked = false
  private readonly unread = new Set<string>()
  /** When to look, on the own clock. */
  private at = Number.POSITIVE_INFINITY
  private readonly bell = Latch.makeUnsafe(false)
  private readonly queue: string
  private readonly store: JobStore["Service"]
  private readonly clock: Clock.Clock
  constructor(queue: string, store: JobStore["Service"], clock: Clock.Clock) {
    this.queue = queue
    this.store = store
    this.clock = clock
  }

  private now(): number {
    return this.clock.currentTimeMillisUnsafe()
  }

  /** What an answer of the engine said of the next slot. */
  told({ next, now }: Slots): void {
    if (next === this.known) return
    this.known = next
    this.wake(next === undefined ? Number.POSITIVE_INFINITY : this.now() + Math.max(0, next - now))
  }

  /** Another slot may be the next one. */
  look(): void {
    this.asked = true
    this.bell.openUnsafe()
  }

  private wake(at: number): void {
    const sooner = at < this.at
    this.at = at
    if (sooner) this.bell.openUnsafe()
  }

  private fireable(one: Recurrence, now: number): Effect.Effect<ReadonlyArray<Fire>> {
    return Effect.suspend(() => {
      try {
        return Effect.succeed([firingOf(one, now)])
      } catch (error) {
        // Set by a newer release: its own workers fire it.
        if (this.unread.has(one.timing)) return Effect.succeed([])
        this.unread.add(one.timing)
        const told = Effect.logWarning(`the slots of ${one.name} cannot be read here: ${one.timing}`, error)
        return Effect.as(Effect.annotateLogs(told, { queue: this.queue }), [])
      }
    })
  }

  private readonly once: Effect.Effect<void, EngineError> = Effect.gen({ self: this }, function* () {
    this.asked = false
    this.known = undefined
    this.at = Number.POSITIVE_INFINITY
    const { found, ...slots } = yield* this.store.recurrences(this.queue, "due")
    const due = (yield* Effect.forEach(found, (one) => this.fireable(one, slots.now))).flat()
    this.told(due.length === 0 ? slots : yield* this.store.fire(this.queue, due))
    if (due.length < found.length) this.at = Math.max(this.at, this.now() + stuck)
  })

  readonly run: Effect.Effect<never> = Effect.gen({ self: this }, function* () {
    while (true) {
      this.bell.closeUnsafe()
      const wait = Math.min(longest, this.at - this.now())
      if (wait <= 0 || this.asked) {
        // The same again changes nothing: a slot that was fired is not waited for any more.
        yield* Effect.retry(this.once, soon)
      } else if (this.at === Number.POSITIVE_INFINITY) yield* this.bell.await
      else yield* Effect.timeoutOption(this.bell.await, wait)
    }
  }).pipe(
    Effect.tapError((error) => Effect.logError("recurring jobs cannot be looked at; trying again", error)),
    Effect.retry(soon),
    Effect.orDie
  )
}
