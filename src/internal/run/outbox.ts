/**
 * The way to other shards: what a commit has emitted there lies in the partition's outbox, and is delivered after it, in
 * order, by whoever owns the partition; what is delivered leaves with a later commit. Whatever is delivered twice is stored
 * once, so that nothing here needs to know whether an answer was lost or another owner was faster.
 */
import { type Context, Effect } from "effect"
import type { Broker, Commit, Durability } from "../../Broker.ts"
import type { EngineError } from "../../Errors.ts"
import { soon } from "../backoff.ts"
import type { Partition } from "./partition.ts"

type BrokerService = Context.Service.Shape<typeof Broker>

/** Entries that may wait to be delivered while events are still handed out. */
const most = 5_000

export class Outbox {
  /** Committed and not known to be delivered; what was found there when the partition was claimed is not counted. */
  private waiting = 0
  /** Nobody has looked into it since it was claimed. */
  private unknown = true
  private upTo: string | undefined
  private removed: string | undefined
  /** It is on its way. */
  busy = false
  private readonly shard: number
  private readonly shards: number
  private constructor(partition: number, shards: number) {
    this.shard = partition % shards
    this.shards = shards
  }

  static of(partition: number, shards: number): Outbox {
    return new Outbox(partition, shards)
  }

  /** Something may lie there. */
  get waits(): boolean {
    return this.unknown || this.waiting > 0
  }

  /** So much lies there that nothing more is to be emitted. */
  get full(): boolean {
    return this.waiting >= most
  }

  get after(): string | undefined {
    return this.upTo
  }

  /** For the commit that is being made. */
  toRemove(): string | undefined {
    if (this.removed === this.upTo) return undefined
    this.removed = this.upTo
    return this.upTo
  }

  committed({ emits, jobs }: Pick<Commit, "emits" | "jobs">): void {
    if (jobs !== undefined) this.waiting += jobs.length
    for (const { entries, partition } of emits) {
      if (partition % this.shards !== this.shard) this.waiting += entries.length
    }
  }

  /** How much waited when somebody began to look: what is committed meanwhile may have been missed. */
  get begun(): number {
    return this.waiting
  }

  /** All that lay there when `begun` was asked for is delivered. */
  delivered(begun: number): void {
    this.unknown = false
    this.waiting -= begun
  }

  moved(upTo: string): void {
    this.upTo = upTo
  }
}

/** Delivers what a partition's commits have left in its outbox, each partition for itself, in the background. */
export const deliverer = (
  options: {
    readonly broker: BrokerService
    readonly durability: Durability
    readonly onFailure: (error: EngineError) => void
  },
  run: (effect: Effect.Effect<void>) => void,
  onDelivered: (partition: Partition) => void
): ((partition: Partition) => void) => {
  const { broker, durability } = options

  const page = ({ outbox, partition, processor }: Partition) => {
    const request = { processor, partition, after: outbox!.after }
    return broker.deliver(request, durability).pipe(
      // It is stored; asked for again, it tells how far it came.
      Effect.catchTag("DurabilityNotReached", (error) =>
        Effect.andThen(
          Effect.annotateLogs(Effect.logWarning(`what was emitted is ${error.message}`), { partition }),
          Effect.catchTag(broker.deliver(request, "memory"), "DurabilityNotReached", Effect.die)
        )
      )
    )
  }

  const all = (partition: Partition): Effect.Effect<void, EngineError> =>
    Effect.suspend(() => {
      const outbox = partition.outbox!
      // Somebody else delivers what is left.
      if (partition.fenced || !outbox.waits) return Effect.void
      const begun = outbox.begun
      const pages: Effect.Effect<void, EngineError> = Effect.flatMap(page(partition), ({ more, upTo }) => {
        if (upTo !== undefined) outbox.moved(upTo)
        if (more && !partition.fenced) return pages
        outbox.delivered(begun)
        onDelivered(partition)
        return all(partition)
      })
      return pages
    })

  return (partition) => {
    const { outbox } = partition
    if (outbox === undefined || outbox.busy || !outbox.waits) return
    outbox.busy = true
    const sent = Effect.retry(
      Effect.suspend(() => all(partition)),
      {
        schedule: soon,
        while: (error) => !partition.fenced && (error.reason === "Unreachable" || error.reason === "Full")
      }
    )
    run(
      Effect.matchEffect(sent, {
        onSuccess: () =>
          Effect.sync(() => {
            outbox.busy = false
          }),
        onFailure: (error) =>
          Effect.sync(() => {
            outbox.busy = false
            if (!partition.fenced) options.onFailure(error)
          })
      })
    )
  }
}
