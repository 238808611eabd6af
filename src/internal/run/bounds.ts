/** How much a partition, and a worker, may have in hand: events that were read and are not committed. */

export interface Bounds {
  readonly events: number
  readonly bytes: number
  readonly uncommitted: number
}
