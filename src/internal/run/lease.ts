/**
 * A worker's own view of its lease, by the monotonic clock, counted from the moment before the sync that renewed it was
 * sent. When it may be over nothing more is handed out, whatever stalled the process; the fence judges what is in flight.
 */
import { type Clock, Latch } from "effect"

export class Lease {
  private deadline = Infinity
  private checked = false
  private valid = true
  /** Closed while the lease may be over. */
  readonly renewal = Latch.makeUnsafe(true)
  private readonly clock: Clock.Clock
  constructor(clock: Clock.Clock) {
    this.clock = clock
  }

  /** Milliseconds, of no meaning but their differences. */
  now(): number {
    return Number(this.clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  }

  /** It holds until `millis` after `from`. */
  renew(from: number, millis: number): void {
    this.deadline = from + millis
    this.checked = false
    this.renewal.openUnsafe()
  }

  /** Looks at the clock once per turn of the event loop, since it is asked per event. */
  get held(): boolean {
    if (this.checked) return this.valid
    this.valid = this.now() < this.deadline
    if (!this.valid) this.renewal.closeUnsafe()
    this.checked = true
    queueMicrotask(this.turn)
    return this.valid
  }

  private readonly turn = (): void => {
    this.checked = false
  }
}
