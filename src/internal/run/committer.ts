/**
 * Commits what the partitions of one processor and shard have done: one commit in flight, and whatever is done meanwhile
 * goes into the next. No interval, and no wait when idle. A commit is sent again unchanged until it is answered.
 */
import { type Context, Effect, type Exit, Latch } from "effect"
import type { Broker, Commit, CommitResult, Durability, Layout } from "../../Broker.ts"
import type { DurabilityNotReached, EngineError, Misconfigured } from "../../Errors.ts"
import { soon, whenFailed } from "../backoff.ts"
import type { Partition } from "./partition.ts"
import { maxBytes, maxWrites } from "./unit.ts"

type BrokerService = Context.Service.Shape<typeof Broker>

type Taken = readonly [partition: Partition, commit: Commit]

/** It will answer again: nothing is wrong with what was asked. */
const away = (error: EngineError | Misconfigured): boolean =>
  error._tag === "EngineError" && (error.reason === "Unreachable" || error.reason === "Full")

export interface Committer {
  /** This partition has something to commit. */
  readonly add: (partition: Partition) => void
  /** Completes when all that is done now is committed and delivered, or never will be. */
  readonly flush: (partition: Partition) => Effect.Effect<void>
  /** It may be settled now. */
  readonly notify: (partition: Partition) => void
  readonly run: Effect.Effect<never, unknown>
}

/**
 * What finishes with the same read or answer travels together, and goes out before anything else is written. While a
 * commit is on its way the next one gathers, so nothing is gained by a longer wait.
 */
export const turn = Effect.callback<void>((resume) => queueMicrotask(() => resume(Effect.void)))

export const make = (options: {
  readonly broker: BrokerService
  readonly durability: Durability
  /** A call begins; what this gives is called with how it ended. */
  readonly onSend: (commits: ReadonlyArray<Commit>) => (exit: Exit.Exit<unknown, unknown>) => void
  readonly onCommitted: (partition: Partition, commit: Commit) => void
  readonly onRefused: (
    partition: Partition,
    commit: Commit,
    result: Exclude<CommitResult, { _tag: "Done" | "DoneBefore" }>
  ) => void
  /** A row that cannot be encoded: nothing of this partition is committed any more. */
  readonly onDefect: (partition: Partition, defect: unknown) => void
}): Committer => {
  let dirty: Array<Partition> = []
  /** Cut, and too large to travel with the others. */
  let held: Taken | undefined
  const work = Latch.makeUnsafe(false)
  const waiting = new Map<Partition, Array<() => void>>()
  const declared = new Set<Layout>()

  const add = (partition: Partition): void => {
    dirty.push(partition)
    work.openUnsafe()
  }

  const settled = (partition: Partition): boolean => partition.fenced || partition.clean

  const flush = (partition: Partition): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (settled(partition)) return Effect.void
      return Effect.callback<void>((resume) => {
        const known = waiting.get(partition) ?? []
        waiting.set(partition, known)
        known.push(() => resume(Effect.void))
      })
    })

  const notify = (partition: Partition): void => {
    if (waiting.size === 0 || !settled(partition)) return
    const callbacks = waiting.get(partition)
    waiting.delete(partition)
    for (const callback of callbacks ?? []) callback()
  }

  /** The commits of the partitions in line, as many as one call may carry. */
  const cut = (): Array<Taken> => {
    const taken: Array<Taken> = []
    let writes = 0
    let bytes = 0
    if (held !== undefined) {
      taken.push(held)
      writes = held[0].cutWrites
      bytes = held[0].cutBytes
      held = undefined
    }
    let i = 0
    while (i < dirty.length && held === undefined) {
      const partition = dirty[i]!
      if (taken.length > 0 && writes + partition.staged > maxWrites) break
      i++
      writes += partition.staged
      partition.queued = false
      if (partition.fenced) {
        notify(partition)
        continue
      }
      try {
        const commit = partition.cut()
        if (commit !== undefined) {
          partition.inFlight = true
          bytes += partition.cutBytes
          if (taken.length > 0 && bytes > maxBytes) held = [partition, commit]
          else taken.push([partition, commit])
        } else notify(partition)
      } catch (defect) {
        options.onDefect(partition, defect)
        notify(partition)
      }
    }
    dirty = dirty.slice(i)
    return taken
  }

  const patiently = (
    commits: ReadonlyArray<Commit>,
    call: Effect.Effect<ReadonlyArray<CommitResult>, EngineError | DurabilityNotReached>
  ): Effect.Effect<ReadonlyArray<CommitResult>, EngineError> =>
    call.pipe(
      // It is stored, and the same numbers again tell how each partition fared.
      Effect.catchTag("DurabilityNotReached", (error) =>
        Effect.andThen(
          Effect.logWarning(`a commit is ${error.message}`),
          options.broker.commit(commits, "memory") as Effect.Effect<ReadonlyArray<CommitResult>, EngineError>
        )
      ),
      Effect.retry({ schedule: soon, while: away })
    )

  const send = (commits: ReadonlyArray<Commit>): Effect.Effect<ReadonlyArray<CommitResult>, EngineError> => {
    const sent = options.onSend(commits)
    const call = options.broker.commit(commits, options.durability)
    return Effect.onExit(
      whenFailed(call, (call) => patiently(commits, call)),
      (exit) => {
        sent(exit)
        return Effect.void
      }
    )
  }

  const commit = (taken: ReadonlyArray<Taken>): Effect.Effect<void, EngineError> => {
    if (taken.length === 0) return Effect.void
    return Effect.map(send(taken.map(([, commit]) => commit)), (results) => {
      taken.forEach(([partition, commit], i) => {
        const result = results[i]!
        partition.inFlight = false
        if (result._tag === "Done" || result._tag === "DoneBefore") {
          partition.committed(commit)
          options.onCommitted(partition, commit)
        } else options.onRefused(partition, commit, result)
        notify(partition)
      })
    })
  }

  /** Topics that are emitted to for the first time: a stored one with another layout halts, before anything is written. */
  const declare = (taken: ReadonlyArray<Taken>): Effect.Effect<ReadonlyArray<Taken>, EngineError> => {
    const fresh = new Set<Layout>()
    for (const [, { emits }] of taken) for (const { topic } of emits) if (!declared.has(topic)) fresh.add(topic)
    if (fresh.size === 0) return Effect.succeed(taken)
    return Effect.map(
      Effect.forEach(fresh, (topic) =>
        Effect.matchEffect(Effect.retry(options.broker.declare([topic]), { schedule: soon, while: away }), {
          onSuccess: () => Effect.succeed(void declared.add(topic)),
          onFailure: (error) => (error._tag === "EngineError" ? Effect.fail(error) : Effect.succeed({ topic, error }))
        })
      ),
      (answers) => {
        const refused = answers.filter((answer) => answer !== undefined)
        return taken.filter(([partition, { emits }]) => {
          const reason = refused.find(({ topic }) => emits.some((emit) => emit.topic === topic))
          if (reason === undefined) return true
          partition.inFlight = false
          options.onDefect(partition, reason.error)
          notify(partition)
          return false
        })
      }
    )
  }

  const begun = Effect.andThen(work.await, turn)
  const once: Effect.Effect<void, EngineError> = Effect.suspend(() => {
    if (dirty.length === 0 && held === undefined) {
      work.closeUnsafe()
      return begun
    }
    const taken = cut()
    return taken.length === 0 ? Effect.void : Effect.flatMap(declare(taken), commit)
  })

  return { add, flush, notify, run: Effect.forever(once, { disableYield: true }) }
}
