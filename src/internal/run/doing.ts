/** What a partition is doing: for a person who asks, in a line, and for what a worker says about itself. */
import type { Partition } from "./partition.ts"

export interface Doing {
  readonly processor: string
  readonly partition: number
  readonly paused: boolean
  readonly inHand: number
  /** The oldest event in hand, and for how many milliseconds; null and 0 if there is none. */
  readonly offset: string | null
  readonly millis: number
  readonly ahead: number
  readonly uncommitted: number
}

export const stateOf = (partition: Partition, now: number): Doing => {
  const oldest = partition.oldest(now)
  return {
    processor: partition.processor,
    partition: partition.partition,
    paused: partition.paused,
    inHand: partition.taken,
    offset: oldest?.offset ?? null,
    millis: oldest === undefined ? 0 : now - oldest.at,
    ahead: partition.waiting,
    uncommitted: partition.uncommitted()
  }
}

export const doing = (partition: Partition, now: number): string => {
  const { ahead, inHand, millis, offset, paused, uncommitted } = stateOf(partition, now)
  const does =
    offset !== null
      ? `${inHand} in hand since ${Math.round(millis / 1_000)} s, ${offset}`
      : paused
        ? `paused at ${partition.position}`
        : `nothing in hand, at ${partition.position}`
  const held = partition.lease.held ? "" : ", waits for its lease"
  return `${partition.processor}/${partition.partition}: ${does}, ${ahead} read ahead, ${uncommitted} not committed${held}`
}
