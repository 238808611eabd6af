/** When runs take too long: one fiber that sleeps until the earliest deadline, of which there is usually none for a long time. */
import { type Clock, Effect, Latch } from "effect"

interface Run {
  readonly deadline: number
}

export class Deadlines<R extends Run> {
  private earliest = Number.POSITIVE_INFINITY
  private readonly bell = Latch.makeUnsafe(false)
  private readonly clock: Clock.Clock
  private readonly runs: () => Iterable<R>
  private readonly onLate: (run: R) => void
  constructor(clock: Clock.Clock, runs: () => Iterable<R>, onLate: (run: R) => void) {
    this.clock = clock
    this.runs = runs
    this.onLate = onLate
  }

  /** One more run has begun. */
  add(deadline: number): void {
    if (deadline >= this.earliest) return
    this.earliest = deadline
    this.bell.openUnsafe()
  }

  private now(): number {
    return this.clock.currentTimeMillisUnsafe()
  }

  readonly watch: Effect.Effect<never> = Effect.gen({ self: this }, function* () {
    while (true) {
      this.bell.closeUnsafe()
      const wait = this.earliest - this.now()
      if (wait > 0) {
        yield* wait === Number.POSITIVE_INFINITY
          ? this.bell.await
          : Effect.timeoutOption(this.bell.await, Math.min(wait, 2 ** 30))
      }
      const now = this.now()
      if (now < this.earliest) continue
      this.earliest = Number.POSITIVE_INFINITY
      for (const run of this.runs()) {
        if (run.deadline <= now) this.onLate(run)
        else if (run.deadline < this.earliest) this.earliest = run.deadline
      }
    }
  })
}
