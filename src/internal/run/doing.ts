/** What a partition is doing, in a line for a person who asks. */
import type { Partition } from "./partition.ts"

export const doing = (partition: Partition, now: number): string => {
  const oldest = partition.oldest(now)
  const state =
    oldest !== undefined
      ? `${partition.taken} in hand since ${Math.round((now - oldest.at) / 1_000)} s, ${oldest.offset}`
      : partition.paused
        ? `paused at ${partition.position}`
        : `nothing in hand, at ${partition.position}`
  const held = partition.lease.held ? "" : ", waits for its lease"
  const ahead = `${partition.waiting} read ahead, ${partition.uncommitted()} not committed`
  return `${partition.processor}/${partition.partition}: ${state}, ${ahead}${held}`
}
