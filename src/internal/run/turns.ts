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

export class Turns {
  private holder: Partition | undefined
  private readonly running: Array<() => Iterable<Partition>> = []
  private readonly waiting = new Set<() => void>()

  /** A processor of this worker, by the partitions that it runs. */
  add(running: () => Iterable<Partition>): void {
    this.running.push(running)
  }

  /** Something was committed, or came or went: somebody's turn may have come. */
  look(): void {
    for (const look of this.waiting) look()
  }

  /** Completes when it is this one's turn, which ends with its first commit, or when it is stopped. */
  take(partition: Partition): Effect.Effect<void> {
    const take = Effect.sync(() => {
      if (!partition.stopping) this.holder = partition
    })
    const free = Effect.callback<void>((resume) => {
      const look = (): void => {
        if (this.isTaken || this.isOtherUntried) return
        this.waiting.delete(look)
        // At once: nobody else who waits is to find it free.
        this.holder = partition
        resume(Effect.void)
      }
      this.waiting.add(look)
      look()
      return Effect.sync(() => this.waiting.delete(look))
    })
    const patient = Effect.raceFirst(free, Effect.andThen(Effect.sleep(patienceMillis), take))
    const turn = Effect.andThen(Effect.sleep(beginMillis), patient)
    return Effect.suspend(() => (partition.stopping ? Effect.void : Effect.raceFirst(turn, partition.stops.await)))
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
