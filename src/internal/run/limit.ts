/** A bound on what a worker hands out in all: events and jobs, over all its parts. */
export class Limit {
  remaining: number
  /** Asked for and not here yet: what does not come is given back. */
  private reserved = 0
  private readonly waiting = new Set<() => void>()
  constructor(count: number) {
    this.remaining = count
  }

  /** All of it is handed out, and nothing more is on its way. */
  get isReached(): boolean {
    return this.remaining === 0 && this.reserved === 0
  }

  /** How many of these may be handed out. */
  take(count: number): number {
    const allowed = Math.min(count, this.remaining)
    this.remaining -= allowed
    return allowed
  }

  giveBack(count: number): void {
    if (count === 0) return
    this.remaining += count
    const waiting = Array.from(this.waiting)
    this.waiting.clear()
    for (const retry of waiting) retry()
  }

  reserve(count: number): void {
    this.reserved += this.take(count)
  }

  /** So many were reserved, and so many of them came. */
  arrived(reserved: number, came: number): void {
    this.reserved -= reserved
    this.giveBack(reserved - came)
  }

  /** Called once, when some of it is given back. */
  wait(retry: () => void): void {
    this.waiting.add(retry)
  }

  forget(retry: () => void): void {
    this.waiting.delete(retry)
  }
}
