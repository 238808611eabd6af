/** How much a partition, and a worker, may have in hand: events that were read and are not committed. */

export interface Bounds {
  readonly events: number
  readonly bytes: number
  readonly uncommitted: number
}

/** A bound on what a worker hands out in all, if it has one. */
export interface Limit {
  remaining: number
  /** Called when some of it is given back. */
  readonly waiting: Set<() => void>
}
