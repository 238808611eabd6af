/**
 * What becomes of a partition when the engine lost something between two events: unread entries were trimmed
 * (`EventsLost`), the log ends early (`LogTruncated`), commits are gone (`WentBack`), or another owner is in force. The
 * processor's `onLost` decides: halt, or go on with what there is, reported.
 */
import { Cause } from "effect"
import type { Batch, Claim, Commit, CommitResult, LogInfo } from "../../Broker.ts"
import {
  type BetweenEvents,
  type EngineError,
  EventsLost,
  LogTruncated,
  ProcessorHalted,
  WentBack
} from "../../Errors.ts"
import { compare, lostUpTo, offset } from "../entryId.ts"
import type { Definition } from "./definition.ts"
import type { Log } from "./log.ts"
import type { Partition } from "./partition.ts"

type Claimed = Extract<Claim, { readonly _tag: "Claimed" }>
type Refusal = Exclude<CommitResult, { readonly _tag: "Done" | "DoneBefore" }>

export class Losses {
  private readonly definition: Definition
  private readonly onFailure: (failure: ProcessorHalted<unknown> | EngineError) => void
  /** The partition is to be granted anew. `inForce`: the epoch that its shard has. */
  private readonly onRestart: (partition: number, epoch: bigint, inForce: bigint | undefined) => void
  private readonly onEntriesLost: (entries: number) => void
  private readonly warn: (partition: Partition, message: string) => void
  constructor(options: {
    readonly definition: Definition
    readonly onFailure: (failure: ProcessorHalted<unknown> | EngineError) => void
    readonly onRestart: (partition: number, epoch: bigint, inForce: bigint | undefined) => void
    readonly onEntriesLost: (entries: number) => void
    readonly warn: (partition: Partition, message: string) => void
  }) {
    this.definition = options.definition
    this.onFailure = options.onFailure
    this.onRestart = options.onRestart
    this.onEntriesLost = options.onEntriesLost
    this.warn = options.warn
  }

  /** The worker ends with this partition's position and cause. */
  halt(partition: Partition, cause: Cause.Cause<any>): void {
    partition.revoke()
    const { processor, position } = partition
    this.onFailure(new ProcessorHalted<unknown>({ processor, partition: partition.partition, offset: position, cause }))
  }

  private decide(partition: Partition, error: BetweenEvents, resume: () => void): void {
    if (this.definition.onLost === "halt") return this.halt(partition, Cause.fail(error))
    resume()
    this.warn(partition, error.message)
  }

  private trimmed(partition: Partition, log: Log, entries: number, first: string, last: string): void {
    this.onEntriesLost(entries)
    const topic = log.topic.name
    const error = new EventsLost({ topic, partition: partition.partition, first, last, entries })
    this.decide(partition, error, () => {
      log.lost(entries)
      partition.touched()
    })
  }

  private truncated(partition: Partition, log: Log, end: string, resume: () => void): void {
    const committed = log.position
    const error = new LogTruncated({ topic: log.topic.name, partition: partition.partition, committed, end })
    this.decide(partition, error, resume)
  }

  private wentBack(partition: Partition, expected: number, found: number): void {
    const { processor } = partition
    const error = new WentBack({ processor, partition: partition.partition, expected, found })
    this.decide(partition, error, () => this.restart(partition, undefined))
  }

  /** Drop all that we know of it, and have it granted anew. */
  restart(partition: Partition, inForce: bigint | undefined): void {
    partition.revoke()
    this.onRestart(partition.partition, partition.fence.epoch, inForce)
  }

  /** A read found that entries were trimmed which it had not seen. */
  readonly read = (partition: Partition, log: Log, entries: number, batch: Batch): void => {
    this.trimmed(partition, log, entries, `after ${offset(log.after, 0)}`, lostUpTo(batch.entries[0]?.id))
  }

  readonly refused = (partition: Partition, commit: Pick<Commit, "number">, result: Refusal): void => {
    if (result._tag === "Fenced") this.restart(partition, result.inForce)
    else if (result._tag === "Truncated") {
      const log = partition.logs.find((log) => log.topic.name === result.topic)!
      this.truncated(partition, log, result.last, () => this.restart(partition, undefined))
    } else this.wentBack(partition, commit.number, result.found)
  }

  /** What was lost before this claim. */
  claimed(partition: Partition, claim: Claimed): void {
    for (const [log, info] of known(partition, claim)) {
      const trimmed = info.added - info.length
      if (compare(info.last, log.entry) < 0) {
        this.truncated(partition, log, info.last, () => log.truncated(info))
      } else if (trimmed > log.entriesRead) {
        const first = `after ${log.position}`
        this.trimmed(partition, log, trimmed - log.entriesRead, first, lostUpTo(info.first))
      }
    }
  }

  /** The same claim again after a reconnect: does the engine still have what we knew when we `asked`, the number then? */
  verified(partition: Partition, claim: Claim, asked: number): void {
    if (partition.fenced) return
    if (claim._tag === "Refused") return this.restart(partition, claim.inForce)
    // Commits may have been applied and answered since we asked, and the answer to the one in flight may be lost.
    const most = partition.inFlight ? partition.number + 1 : partition.number
    if (claim.number < asked || claim.number > most) return this.wentBack(partition, partition.number, claim.number)
    for (const [log, info] of known(partition, claim)) {
      if (compare(info.last, log.after) < 0) {
        this.truncated(partition, log, info.last, () => this.restart(partition, undefined))
      }
    }
  }
}

const known = (partition: Partition, claim: Claimed): ReadonlyArray<readonly [Log, LogInfo]> =>
  partition.logs.flatMap((log) => {
    const info = claim.logs.find((info) => info.topic === log.topic.name)
    return info === undefined ? [] : [[log, info] as const]
  })
