/**
 * One processor in one worker: starts a partition when it is granted (claim, then run), stops it when it is to be given
 * away (stop handing out, let the handler finish, commit, close), and tells the worker what went wrong.
 */
import { Cause, Clock, Context, Deferred, Duration, Effect, Exit, Fiber, Scope } from "effect"
import type { Broker, Claim, Commit, Durability, Fence } from "../../Broker.ts"
import type { Quarantine } from "../../Coordinator.ts"
import { EngineError } from "../../Errors.ts"
import type { Codec } from "../../Serializer.ts"
import type { Settings } from "../../Settings.ts"
import type { TableStore } from "../../TableStore.ts"
import { invalid } from "../names.ts"
import { CurrentMiddleware } from "../publish/middleware.ts"
import { annotated, placeOf } from "../telemetry/annotating.ts"
import { ProcessorMeter } from "../telemetry/processorMeter.ts"
import { watchedTables } from "../telemetry/watchedTables.ts"
import { aging } from "./aging.ts"
import * as Caution from "./caution.ts"
import * as Committer from "./committer.ts"
import { cannotPark, type Definition } from "./definition.ts"
import { type Doing, doing, stateOf } from "./doing.ts"
import { expiring } from "./expiry.ts"
import * as Fetcher from "./fetcher.ts"
import * as Host from "./host.ts"
import type { Lease } from "./lease.ts"
import type { Limit } from "./limit.ts"
import { Losses } from "./losses.ts"
import { watchingOf } from "./observer.ts"
import { deliverer, Outbox } from "./outbox.ts"
import { ownedRows } from "./owned.ts"
import { Parking } from "./parking.ts"
import { Partition } from "./partition.ts"
import { Pressure } from "./pressure.ts"
import { Repeats } from "./repeats.ts"
import { retriever } from "./returned.ts"
import { type Counts, type Halted, run, type Setup } from "./runner.ts"
import type { Turns } from "./turns.ts"
import { Oversized } from "./unit.ts"
import * as Windowing from "./windowing.ts"

export interface Options {
  readonly definition: Definition
  readonly broker: Context.Service.Shape<typeof Broker>
  readonly tables: Context.Service.Shape<typeof TableStore>
  readonly serializer: Codec
  readonly settings: Settings
  readonly durability: Durability
  readonly limit: Limit | undefined
  readonly lease: Lease
  readonly turns: Turns
  readonly counts: Counts
  readonly incarnation: string
  /** What the handler needs. */
  readonly context: Context.Context<never>
  /** A partition halted, or the engine refuses for good: the worker ends. */
  readonly onFailure: (failure: Halted | EngineError) => void
  /** The engine refused this partition: it is to be granted anew. `inForce`: the epoch that it has. */
  readonly onLost: (partition: number, epoch: bigint, inForce: bigint | undefined) => void
  /** A policy puts this partition aside: it is stopping, and to be taken out for the whole cluster. */
  readonly onQuarantine: (partition: number, epoch: bigint, entry: Quarantine) => void
  /** Something was committed. */
  readonly onProgress: () => void
}

interface Running {
  readonly partition: Partition
  readonly fiber: Fiber.Fiber<void, Halted>
  readonly scope: Scope.Closeable
}

export interface Group {
  readonly definition: Definition
  readonly partitions: number
  readonly epochs: ReadonlyMap<number, bigint>
  /** Claim and run; the epoch in force if the claim is refused. */
  readonly start: (partition: number, epoch: bigint, paused: boolean) => Effect.Effect<bigint | undefined, EngineError>
  /** Let go in order: what runs may finish within the grace, what is done is committed. */
  readonly stop: (partition: number, grace: number) => Effect.Effect<void>
  /** It is somebody else's already, or may be: nothing more is started or committed from this moment on. */
  readonly revoke: (partition: number) => void
  /** What comes after `revoke`: interrupt what runs, and close. */
  readonly drop: (partition: number) => Effect.Effect<void>
  readonly pause: (partition: number, paused: boolean) => void
  /** Nothing read ahead, in hand or uncommitted. */
  readonly quiet: () => boolean
  /** Nothing in hand or uncommitted. */
  readonly settled: () => boolean
  /** Milliseconds after which an event in hand is reported. */
  readonly slowAfter: number
  /** Report events that have been in hand for long. */
  readonly watch: Effect.Effect<void>
  /** What its partitions are doing, a line for each. */
  readonly report: (now: number) => ReadonlyArray<string>
  readonly doing: (now: number) => ReadonlyArray<Doing>
}

/** One report of a slow event in so many milliseconds. */
const reportMillis = 60_000

/** How often it is asked whether parked keys were released or skipped from outside, at least, in milliseconds. */
const lookMillis = 1_000

export const make = (options: Options): Effect.Effect<Group, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { broker, definition, settings } = options
    const scope = yield* Effect.scope
    const running = new Map<number, Running>()
    const epochs = new Map<number, bigint>()
    const shards = Math.min(broker.shards, definition.topics[0].partitions)
    const bounds = {
      events: definition.prefetch.events ?? settings.prefetch.events,
      bytes: definition.prefetch.bytes ?? settings.prefetch.bytes,
      uncommitted: definition.maxUncommitted ?? settings.maxUncommitted
    }

    const middleware = Context.get(options.context, CurrentMiddleware)
    const watching = watchingOf(options.context)
    const clock = yield* Clock.Clock
    const meter = new ProcessorMeter(definition.name, options.context, clock, options.counts, {
      owned: () => epochs.size,
      aside: () => Array.from(running.values()).reduce((sum, { partition }) => sum + partition.parking.events, 0)
    })
    yield* Effect.addFinalizer(() => Effect.sync(() => meter.end()))
    const tables = watchedTables(options.tables, options.context)
    const repeats = new Repeats()
    const onCommitted = (partition: Partition, commit: Commit): void => {
      deliver(partition)
      meter.committed(commit)
      options.onProgress()
    }

    options.turns.add(function* () {
      for (const { partition } of running.values()) yield partition
    })

    const inputs = new Set(definition.topics.map((topic) => topic.name))
    const at = (partition: number, offset?: string) => Effect.annotateLogs(placeOf(definition, partition, offset))

    const context = yield* Effect.context<never>()
    const fork = Effect.runForkWith(context)
    const losses = new Losses({
      definition,
      onFailure: options.onFailure,
      onRestart: options.onLost,
      onEntriesLost: meter.lose,
      warn: ({ partition, position }, message) => void fork(at(partition, position)(Effect.logWarning(message)))
    })

    /** Partitions whose rows were once too large together: each unit of work is measured there. */
    const measured = new Set<number>()
    const committers = Array.from({ length: shards }, () =>
      Committer.make({
        broker,
        durability: options.durability,
        onSend: meter.sends,
        onCommitted,
        onRefused: losses.refused,
        onDefect: (partition, defect) => {
          if (!(defect instanceof Oversized)) return losses.halt(partition, Cause.die(defect))
          // Which unit it was cannot be told any more: what is not committed is handled again, and measured.
          measured.add(partition.partition)
          losses.restart(partition, undefined)
        }
      })
    )
    const fetchers = yield* Effect.forEach(committers, (_, shard) =>
      Fetcher.make({
        broker,
        shard,
        *partitions() {
          for (const { partition } of running.values()) if (partition.partition % shards === shard) yield partition
        },
        prefetch: bounds.events,
        block: settings.readTimeout,
        verify: Effect.suspend(() => verify(shard)),
        onLost: losses.read
      })
    )
    const failed = (error: unknown): void => {
      if (error instanceof EngineError) options.onFailure(error)
    }
    const inScope = (effect: Effect.Effect<void>): void => void fork(Effect.forkIn(effect, scope))
    const deliver = deliverer(options, inScope, (partition) => {
      committers[partition.partition % shards]!.notify(partition)
      options.onProgress()
    })
    for (let shard = 0; shard < shards; shard++) {
      yield* Effect.forkIn(
        Effect.catch(fetchers[shard]!.run, (error) => Effect.sync(() => failed(error))),
        scope
      )
      yield* Effect.forkIn(
        Effect.catch(committers[shard]!.run, (error) => Effect.sync(() => failed(error))),
        scope
      )
    }

    const now = (): number => clock.currentTimeMillisUnsafe()

    const windowing = Windowing.make({ ...options, now, onLate: meter.tellLate, onDone: options.onProgress })

    const open = (number: number, fence: Fence, claimed: Extract<Claim, { _tag: "Claimed" }>): Partition => {
      const { serializer } = options
      const rows = ownedRows(definition, number, { tables, serializer, now, measures: measured.has(number) })
      const shard = number % shards
      const { logs, windows } = windowing.open(number, claimed)
      return new Partition({
        processor: definition.name,
        partition: number,
        fence,
        number: claimed.number,
        logs,
        windows,
        rows,
        bounds,
        limit: options.limit,
        lease: options.lease,
        pressure: new Pressure(definition.name, inputs, broker),
        parking: new Parking(claimed.lanes),
        outbox: Outbox.of(number, broker.shards),
        onDirty: committers[shard]!.add,
        onRoom: fetchers[shard]!.changed
      })
    }

    /** Whoever releases or skips a parked key takes an epoch for it: claimed again with ours, the partition is refused. */
    const look = Effect.suspend(() =>
      Effect.forEach(
        Array.from(running.values()).filter(({ partition }) => partition.parking.active && !partition.stopping),
        ({ partition }) =>
          Effect.map(
            broker.claim(definition.name, partition.partition, definition.topics, partition.fence),
            (claim) => {
              if (claim._tag === "Refused" && !partition.stopping) losses.restart(partition, claim.inForce)
            }
          ),
        { concurrency: 16, discard: true }
      )
    )
    const pause = Effect.sleep(Math.min(lookMillis, settings.lease / 3))
    // While the engine is away there is nothing to hear.
    yield* Effect.forkIn(Effect.forever(Effect.andThen(pause, Effect.ignore(look))), scope)

    yield* Effect.forkIn(
      aging(broker, definition, () => epochs.keys()),
      scope
    )

    /** What must be known of its past before it runs; false: it does not run. */
    const examine = (partition: Partition, claim: Extract<Claim, { _tag: "Claimed" }>) =>
      Effect.gen(function* () {
        const number = partition.partition
        const reason = claim.lanes.length > 0 ? cannotPark(definition) : undefined
        if (reason !== undefined) {
          const what = `${claim.lanes.length} keys of partition ${number} wait aside (Processor.parked), and ${reason}`
          losses.halt(partition, Cause.die(invalid(`processor ${definition.name}: ${what}`)))
          return false
        }
        const entry = yield* at(number)(Caution.examine(broker, partition, claim, now()))
        if (entry === undefined) return true
        options.counts.quarantined++
        options.onQuarantine(number, partition.fence.epoch, entry)
        return false
      })

    /** Install our epochs again after a reconnect, and compare what the engine has with what we know. */
    const verify = (shard: number): Effect.Effect<void, EngineError> =>
      Effect.forEach(
        Array.from(running.values()).filter(({ partition }) => partition.partition % shards === shard),
        ({ partition }) => {
          const asked = partition.number
          return Effect.map(
            broker.claim(definition.name, partition.partition, definition.topics, partition.fence),
            (claim) => losses.verified(partition, claim, asked)
          )
        },
        { concurrency: 16, discard: true }
      )

    const start: Group["start"] = (number, epoch, paused) =>
      Effect.gen(function* () {
        const fence: Fence = { epoch, incarnation: options.incarnation }
        const claim = yield* broker.claim(definition.name, number, definition.topics, fence)
        if (claim._tag === "Refused") return claim.inForce
        const partition = open(number, fence, claim)
        // Before anybody reads for it.
        partition.pause(paused)
        if (!(yield* examine(partition, claim))) return undefined
        const shard = number % shards
        const own = yield* Scope.make()
        const host = Host.make({
          processor: definition.name,
          topics: definition.topics,
          partition: number,
          shards: broker.shards,
          serializer: options.serializer,
          middleware,
          rows: partition.rows,
          windows: partition.windows
        })
        const flush = committers[shard]!.flush(partition)
        const setup: Setup = {
          definition,
          partition,
          host,
          context: annotated(options.context, placeOf(definition, number)),
          counts: options.counts,
          flush,
          meter,
          count: meter.settled,
          ...watching,
          repeats,
          quarantine: (entry) => {
            const { unfinished } = partition
            partition.stop()
            if (unfinished > 0) {
              const warning =
                `${unfinished} events before the failed one were taken by the pipeline and never emitted: ` +
                "they are not acknowledged, and Processor.skip passes them too"
              fork(at(number, partition.position)(Effect.logWarning(warning)))
            }
            options.onQuarantine(number, epoch, entry)
          },
          retrieve: retriever({ broker, processor: definition.name, partition: number, fence, logs: partition.logs }),
          restart: () => losses.restart(partition, undefined),
          mark: Effect.andThen(
            options.turns.take(partition),
            Caution.mark(broker, partition, (result) => losses.refused(partition, partition, result), failed)
          ),
          now
        }
        const runs = run(setup, windowing.ticking(partition))
        // In the runner's own fiber: however long it takes, the heartbeats go on.
        const runner =
          definition.onClaim === undefined ? runs : Effect.andThen(Scope.provide(definition.onClaim(number), own), runs)
        const ready = yield* Deferred.make<void>()
        const fiber = yield* Effect.forkIn(at(number)(Effect.andThen(Deferred.await(ready), runner)), scope)
        fiber.addObserver((exit) => {
          if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return
          partition.stop()
          const failure = Cause.findErrorOption(exit.cause)
          if (failure._tag === "Some") options.onFailure(failure.value)
          else losses.halt(partition, exit.cause)
        })
        running.set(number, { partition, fiber, scope: own })
        if (partition.rows.timed.length > 0) yield* Effect.forkIn(expiring(options.tables, partition), own)
        epochs.set(number, epoch)
        losses.claimed(partition, claim)
        // What an owner before has left there comes first.
        deliver(partition)
        yield* Deferred.succeed(ready, undefined)
        fetchers[shard]!.changed()
        return undefined
      })

    /** Interrupt what still runs; a handler that cannot be interrupted does not hold the release. */
    const interrupt = (one: Running): Effect.Effect<void> =>
      Effect.suspend(() => {
        one.fiber.interruptUnsafe()
        return Effect.flatMap(Effect.timeoutOption(Fiber.await(one.fiber), "1 second"), (exit) =>
          exit._tag === "Some"
            ? Effect.void
            : at(
                one.partition.partition,
                one.partition.position
              )(
                Effect.logWarning(
                  "a handler cannot be interrupted; its partition is released, and its commit will be refused"
                )
              )
        )
      })

    const close = (number: number, one: Running): Effect.Effect<void> =>
      Effect.andThen(
        Scope.close(one.scope, Exit.void),
        Effect.sync(() => {
          one.partition.giveBack()
          if (running.get(number) === one) {
            running.delete(number)
            epochs.delete(number)
          }
        })
      )

    const stop: Group["stop"] = (number, grace) =>
      Effect.gen(function* () {
        const one = running.get(number)
        if (one === undefined) return
        one.partition.stop()
        const ended = yield* Effect.timeoutOption(Fiber.await(one.fiber), Duration.millis(grace))
        if (ended._tag === "None") yield* interrupt(one)
        // The last commit and its answer, or the lease's end: then the fence answers for it.
        yield* Effect.timeoutOption(committers[number % shards]!.flush(one.partition), settings.lease)
        const { fence, fenced, first, number: next } = one.partition
        // A commit says that it did not die here; without one, only this does.
        if (next === first && !fenced) {
          const released = Effect.timeoutOption(broker.release(definition.name, number, fence), "1 second")
          yield* Effect.ignore(released)
        }
        yield* close(number, one)
      })

    const drop: Group["drop"] = (number) =>
      Effect.gen(function* () {
        const one = running.get(number)
        if (one === undefined) return
        yield* interrupt(one)
        yield* close(number, one)
      })

    const slowAfter = definition.slowAfter === undefined ? settings.slowAfter : Duration.toMillis(definition.slowAfter)
    const reported = new WeakMap<Partition, number>()
    const watch = Effect.gen(function* () {
      const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      for (const { partition } of running.values()) {
        const oldest = partition.oldest(now)
        if (oldest === undefined || now - oldest.at < slowAfter) {
          reported.delete(partition)
          continue
        }
        if (now - (reported.get(partition) ?? -Infinity) < reportMillis) continue
        reported.set(partition, now)
        meter.stalled++
        yield* at(
          partition.partition,
          oldest.offset
        )(
          Effect.logWarning(
            definition.shape._tag === "Stream"
              ? "StalledEvents: an event was taken by the pipeline and never emitted; drop it with Event.filter, or emit it"
              : "a handler has been running for long; it is not interrupted (use Effect.timeout for a limit)"
          ).pipe(Effect.annotateLogs({ inHand: partition.taken, millis: now - oldest.at }))
        )
      }
    })

    return {
      definition,
      partitions: definition.topics[0].partitions,
      epochs,
      start,
      stop,
      revoke: (number) => running.get(number)?.partition.revoke(),
      drop,
      pause: (number, paused) => running.get(number)?.partition.pause(paused),
      quiet: () => Array.from(running.values()).every(({ partition }) => partition.quiet),
      settled: () => Array.from(running.values()).every(({ partition }) => partition.settled),
      slowAfter,
      watch,
      report: (now) =>
        running.size === 0
          ? [`${definition.name}: no partitions`]
          : Array.from(running.values(), ({ partition }) => doing(partition, now)),
      doing: (now) => Array.from(running.values(), ({ partition }) => stateOf(partition, now))
    }
  })
