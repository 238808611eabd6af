/**
 * Keeps a worker's lease and acts on the coordinator's statement: claims what it does not run, stops what is not its own
 * any more, gives up what is wanted elsewhere, and releases whatever it stopped. Everything follows from the whole
 * statement, so a lost answer or wake costs nothing but time.
 */
import { type Context, Duration, Effect, Latch, Random, type Scope, Semaphore, Stream } from "effect"
import type { Coordinator, Grant, Owned, Quarantine, Statement } from "../../Coordinator.ts"
import { EngineError, type MemberReplaced } from "../../Errors.ts"
import { backoff } from "../backoff.ts"
import type { Group } from "./group.ts"
import type { Lease } from "./lease.ts"
import * as Surplus from "./surplus.ts"

type CoordinatorService = Context.Service.Shape<typeof Coordinator>

/** A group as its partitions come and go: that of a processor, or of the leaders. */
export type Owner = Pick<Group, "partitions" | "epochs" | "start" | "stop" | "revoke" | "drop" | "pause">

export interface Options {
  readonly coordinator: CoordinatorService
  readonly member: string
  readonly incarnation: string
  readonly lease: Lease
  /** Milliseconds. */
  readonly leaseMillis: number
  readonly settle: number
  readonly grace: number
  readonly groups: ReadonlyMap<string, Owner>
  readonly onChange: (change: Change) => void
}

export type Change =
  | { readonly _tag: "Joined" | "Left"; readonly member: string }
  | {
      readonly _tag: "Claimed" | "Released"
      readonly processor: string
      readonly partition: number
      readonly epoch: bigint
    }

export interface Ownership {
  /** Completes when the first statement was acted on. */
  readonly joined: Effect.Effect<void>
  /** Fails when the worker cannot go on. */
  readonly run: Effect.Effect<never, EngineError | MemberReplaced>
  /** A partition was refused by its shard: have it granted anew. */
  readonly lost: (processor: string, partition: number, epoch: bigint, inForce: bigint | undefined) => void
  /** A policy puts a partition aside: what is done is committed, then the cluster is told, until it answers. */
  readonly quarantine: (processor: string, partition: number, epoch: bigint, entry: Quarantine) => void
  /** Let go of everything in order, then leave. */
  readonly leave: Effect.Effect<void>
  /** Statements after the first that gave it partitions, or took some. */
  readonly rebalances: () => number
}

const patient = backoff("100 millis", "5 seconds")

const silent = (partitions: number): EngineError =>
  new EngineError({
    operation: "claim",
    reason: "Unreachable",
    detail: `of ${partitions} partitions some were not claimed in time; trying again`
  })

export const make = (options: Options): Effect.Effect<Ownership, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { coordinator, groups, incarnation, leaseMillis, member, onChange } = options
    const scope = yield* Effect.scope
    const wake = Latch.makeUnsafe(false)
    const joined = Latch.makeUnsafe(false)
    let known = 0n
    let released: Array<Grant> = []
    let refused: Array<Grant> = []
    /** Partitions that are being stopped. */
    const stopping = new Set<string>()
    /** The epoch that each partition was last let go under. None up to it is taken up again: its last commit may be on its way. */
    const past = new Map<string, bigint>()
    let leaving = false
    /** Held while partitions are started, so that none is started behind the back of `leave`. */
    const starting = Semaphore.makeUnsafe(1)
    let rebalances = 0

    const id = (processor: string, partition: number): string => `${processor}/${partition}`

    const release = (grant: Grant): void => {
      released.push(grant)
      wake.openUnsafe()
    }

    const lost: Ownership["lost"] = (processor, partition, epoch, inForce) => {
      const group = groups.get(processor)
      // A late refusal of an ownership that ended: the partition may run here again, under another epoch.
      if (group === undefined || leaving || group.epochs.get(partition) !== epoch) return
      if (inForce !== undefined && inForce > epoch) refused.push({ processor, partition, epoch: inForce })
      seize(group, { processor, partition, epoch }, true)
    }

    /** Stop a partition in the background; the statement of a later sync decides what becomes of it. */
    const retire = (grant: Grant, how: Effect.Effect<void>, giveBack: boolean): Effect.Effect<void> =>
      Effect.suspend(() => {
        const key = id(grant.processor, grant.partition)
        if (stopping.has(key)) return Effect.void
        stopping.add(key)
        return Effect.ensuring(
          how,
          Effect.sync(() => {
            stopping.delete(key)
            past.set(key, grant.epoch)
            onChange({ _tag: "Released", ...grant })
            if (giveBack) release(grant)
            else wake.openUnsafe()
          })
        )
      })

    const context = yield* Effect.context<never>()
    const fork = (effect: Effect.Effect<unknown>): void => {
      Effect.runForkWith(context)(Effect.forkIn(effect, scope))
    }

    /** It is not ours any more. From this very moment on: an event that is started later could be anybody's. */
    const seize = (group: Owner, grant: Grant, giveBack: boolean): void => {
      group.revoke(grant.partition)
      fork(retire(grant, group.drop(grant.partition), giveBack))
    }

    /** The epochs under which partitions were put aside: a statement that is older than that starts none of them. */
    const aside = new Map<string, bigint>()
    /** Closed while the cluster is being told. */
    const told = new Set<Latch.Latch>()
    const quarantine: Ownership["quarantine"] = (processor, partition, epoch, entry) => {
      const group = groups.get(processor)
      const key = id(processor, partition)
      if (group === undefined || stopping.has(key)) return
      const grant = { processor, partition, epoch }
      const done = Latch.makeUnsafe(false)
      told.add(done)
      aside.set(key, epoch)
      const tell = Effect.suspend(() => coordinator.quarantine(grant, member, entry)).pipe(
        Effect.tapError((error) =>
          Effect.logWarning("a partition could not be put aside yet; it stays stopped here", error).pipe(
            Effect.annotateLogs({ processor, partition })
          )
        ),
        // Nothing is wrong with the partition's owner: it waits, and the partition with it.
        Effect.retry(patient),
        Effect.orDie,
        Effect.ensuring(
          Effect.sync(() => {
            told.delete(done)
            done.openUnsafe()
          })
        )
      )
      fork(retire(grant, Effect.andThen(group.stop(partition, options.grace), tell), false))
    }

    const start = (group: Owner, owned: Owned): Effect.Effect<void, EngineError> =>
      Effect.gen(function* () {
        if (leaving) return
        const { epoch, partition, paused, processor } = owned
        const inForce = yield* group.start(partition, epoch, paused)
        if (inForce !== undefined) {
          refused.push({ processor, partition, epoch: inForce })
          return release({ processor, partition, epoch })
        }
        onChange({ _tag: "Claimed", processor, partition, epoch })
      })

    const apply = (mine: ReadonlyArray<Owned>): Effect.Effect<void, EngineError> =>
      Effect.gen(function* () {
        if (leaving) return
        let moves = false
        const wanted = new Map(mine.map((owned) => [id(owned.processor, owned.partition), owned]))
        for (const [processor, group] of groups) {
          for (const [partition, epoch] of group.epochs) {
            const owned = wanted.get(id(processor, partition))
            if (owned?.epoch === epoch) group.pause(partition, owned.paused)
            else {
              // Taken away: whoever has it now is behind a higher epoch.
              moves = true
              seize(group, { processor, partition, epoch }, false)
            }
          }
        }
        const starts: Array<Effect.Effect<void, EngineError>> = []
        for (const owned of mine) {
          const group = groups.get(owned.processor)
          const key = id(owned.processor, owned.partition)
          if (group === undefined || stopping.has(key) || aside.get(key) === owned.epoch) continue
          aside.delete(key)
          const running = group.epochs.has(owned.partition)
          const { epoch, partition, processor } = owned
          if (running && owned.giveUp) {
            moves = true
            fork(retire({ processor, partition, epoch }, group.stop(partition, options.grace), true))
          } else if (!running && epoch <= (past.get(key) ?? -1n)) {
            // A late statement, or an engine that went back: as after a refusal, only a higher epoch will do.
            refused.push({ processor, partition, epoch: past.get(key)! })
            wake.openUnsafe()
          } else if (!running && owned.giveUp) release({ processor, partition, epoch })
          else if (!running) starts.push(start(group, owned))
        }
        if (joined.isOpen() && (moves || starts.length > 0)) rebalances++
        if (starts.length === 0) return
        // One shard that does not answer must not cost the lease of all: what is left is claimed after the next sync.
        yield* starting.withPermits(1)(
          Effect.forEach(starts, (start) => start, { concurrency: 32, discard: true }).pipe(
            Effect.timeoutOrElse({ duration: leaseMillis / 3, orElse: () => Effect.fail(silent(starts.length)) })
          )
        )
      })

    const surplus = Surplus.make(coordinator, groups.keys())
    let statement: ReadonlyArray<Owned> = []
    const once = Effect.gen(function* () {
      wake.closeUnsafe()
      const asked = options.lease.now()
      const sent = { released, refused }
      released = []
      refused = []
      const answer: Statement = yield* Effect.onError(
        coordinator.sync({
          member,
          incarnation,
          lease: leaseMillis,
          settle: options.settle,
          known,
          groups: new Map(Array.from(groups, ([name, group]) => [name, group.partitions])),
          released: sent.released,
          refused: sent.refused
        }),
        // The answer may be lost: a release sent twice does nothing the second time.
        () =>
          Effect.sync(() => {
            released = [...sent.released, ...released]
            refused = [...sent.refused, ...refused]
          })
      )
      // 10 % early, so that no clock needs to agree with the engine's to the millisecond.
      options.lease.renew(asked, leaseMillis * 0.9)
      known = answer.number
      if (answer.mine !== undefined) statement = answer.mine
      yield* apply(statement)
      fork(surplus(statement))
      if (joined.openUnsafe()) onChange({ _tag: "Joined", member })
      return answer.next
    })

    /** The lease may be over: what is in flight will be judged by its epoch, and all of it is asked for anew. */
    const expire = Effect.forEach(
      groups,
      ([processor, group]) =>
        Effect.sync(() => {
          for (const [partition, epoch] of group.epochs) {
            seize(group, { processor, partition, epoch }, true)
          }
        }),
      { discard: true }
    )

    let failures = 0
    /** A sync after leaving would join again, and be granted what nobody here runs. */
    let left = false
    const syncing = Semaphore.makeUnsafe(1)
    let answered = options.lease.now()
    let away = false
    const synced = Effect.gen(function* () {
      if (left) return yield* Effect.never
      if (joined.isOpen() && !options.lease.held) yield* expire
      const next = yield* once
      failures = 0
      const millis = options.lease.now() - answered
      answered += millis
      if (away) yield* Effect.logInfo(`the engine is back after ${Math.round(millis / 1_000)} s`)
      away = false
      return next
    })
    /** Once in each outage, and not for one that nobody feels. */
    const report = (error: EngineError): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (away || options.lease.now() - answered < leaseMillis / 2) return Effect.logDebug("sync failed", error)
        away = true
        return Effect.logWarning(
          `the engine is away: ${error.message}; nothing new is started when the lease is over, and all goes on when ` +
            `the engine is back`
        )
      })
    const cycle = Effect.gen(function* () {
      const next = yield* Effect.catchTag(syncing.withPermits(1)(synced), "EngineError", (error) =>
        error.reason === "Unsupported" || error.reason === "Refused"
          ? Effect.fail(error)
          : Effect.gen(function* () {
              yield* report(error)
              return Math.min(leaseMillis / 10, 50 * 2 ** failures++) * (0.5 + (yield* Random.next))
            })
      )
      yield* Effect.timeoutOption(wake.await, Duration.millis(next))
      // Wakes that come close together are one.
      yield* Effect.yieldNow
    })

    const wakes = coordinator.wakes(member).pipe(
      Stream.runForEach(() => Effect.sync(() => wake.openUnsafe())),
      Effect.catch(() => Effect.sleep("1 second")),
      Effect.forever
    )

    const leave = Effect.gen(function* () {
      leaving = true
      yield* Effect.timeoutOption(starting.withPermits(1)(Effect.void), leaseMillis)
      yield* Effect.forEach(
        Array.from(groups.values()),
        (group) =>
          Effect.forEach(Array.from(group.epochs.keys()), (partition) => group.stop(partition, options.grace), {
            concurrency: "unbounded",
            discard: true
          }),
        { concurrency: "unbounded", discard: true }
      )
      // Before leaving gives the grants back, under which partitions are put aside.
      const all = Effect.forEach(told, (latch) => latch.await, { discard: true })
      yield* Effect.timeoutOption(all, Math.min(leaseMillis, 5_000))
      left = true
      // One that is under way is answered first.
      yield* Effect.timeoutOption(syncing.withPermits(1)(Effect.void), "2 seconds")
      yield* coordinator.leave(member, incarnation).pipe(
        Effect.timeoutOption("2 seconds"),
        Effect.catch((error) => Effect.logDebug("leaving failed; the lease will end by itself", error))
      )
      onChange({ _tag: "Left", member })
    })

    return {
      joined: joined.await,
      run: Effect.andThen(Effect.forkIn(wakes, scope), Effect.forever(cycle)),
      lost,
      quarantine,
      leave,
      rebalances: () => rebalances
    }
  })
