/**
 * Of all partitions of a worker that are on probation, one has its first event in hand at a time: when that ends the
 * process, the engine counts it for no other partition. Those that are on none begin before, since one of them may hold
 * the event that ends the process.
 */
import { Effect } from "effect"
import type { Partition } from "./partition.ts"

/** A handler that takes longer holds nobody else up. */
const patienceMillis = 10_000

/** Those that are granted together begin together. */
const beginMillis = 100

const lookMillis = 5

export class Turns {
  private holder: Partition | undefined
  private readonly running: Array<() => Iterable<Partition>> = []

  /** A processor of this worker, by the partitions that it runs. */
  add(running: () => Iterable<Partition>): void {
    this.running.push(running)
  }

  /** Completes when it is this one's turn, which ends with its first commit, or when it is stopped. */
  take(partition: Partition): Effect.Effect<void> {
    const look = (waited: number): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (partition.stopping) return Effect.void
        const isFree = waited >= beginMillis && !this.isTaken && !this.isOtherUntried
        if (!isFree && waited < patienceMillis) {
          return Effect.flatMap(Effect.sleep(lookMillis), () => look(waited + lookMillis))
        }
        this.holder = partition
        return Effect.void
      })
    return look(0)
  }

  private get isTaken(): boolean {
    const { holder } = this
    return holder !== undefined && !holder.stopping && holder.caution !== undefined && !holder.caution.lifted
  }

  /** One that is on no probation has events to handle, and has committed none yet. */
  private get isOtherUntried(): boolean {
    for (const running of this.running) {
      for (const partition of running()) {
        if (partition.caution === undefined && !partition.stopping && partition.isUntried) return true
      }
    }
    return false
  }
}
