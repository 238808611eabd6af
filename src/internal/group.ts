/**
 * One processor in one worker: starts a partition when it is granted (claim, then run), stops it when it is to be given
 * away (stop handing out, let the handler finish, commit, close), and tells the worker what went wrong.
 */
import { Cause, Context, Deferred, Duration, Effect, Exit, Fiber, Scope } from "effect"
import type { Batch, Broker, Claim, Commit, CommitResult, Durability, Fence } from "../Broker.ts"
import { EngineError, EventsLost, LogTruncated, ProcessorHalted, WentBack } from "../Errors.ts"
import * as Metrics from "../Metrics.ts"
import type { Codec } from "../Serializer.ts"
import type { Settings } from "../Settings.ts"
import type { TableStore } from "../TableStore.ts"
import type { Any } from "../Topic.ts"
import * as Committer from "./committer.ts"
import type { Definition } from "./definition.ts"
import { compare, offset } from "./entryId.ts"
import * as Fetcher from "./fetcher.ts"
import type { Lease } from "./lease.ts"
import { Log } from "./log.ts"
import { CurrentMiddleware, through } from "./middleware.ts"
import { CurrentObserver } from "./observer.ts"
import { type Limit, Partition } from "./partition.ts"
import { Pressure } from "./pressure.ts"
import type { Received } from "./received.ts"
import { codecOf } from "./record.ts"
import { Rows } from "./rows.ts"
import { Books, type Counts, run } from "./runner.ts"
import type { Host } from "./unit.ts"

type Halted = ProcessorHalted<unknown>

export interface Options {
  readonly definition: Definition
  readonly broker: Context.Service.Shape<typeof Broker>
  readonly tables: Context.Service.Shape<typeof TableStore>
  readonly serializer: Codec
  readonly settings: Settings
  readonly durability: Durability
  readonly limit: Limit | undefined
  readonly lease: Lease
  readonly counts: Counts
  readonly incarnation: string
  /** What the handler needs. */
  readonly context: Context.Context<never>
  /** A partition halted, or the engine refuses for good: the worker ends. */
  readonly onFailure: (failure: Halted | EngineError) => void
  /** The engine refused this partition: it is to be granted anew. `inForce`: the epoch that it has. */
  readonly onLost: (partition: number, epoch: bigint, inForce: bigint | undefined) => void
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
  readonly epochs: ReadonlyMap<number, bigint>
  /** Claim and run; the epoch in force if the claim is refused. */
  readonly start: (partition: number, epoch: bigint) => Effect.Effect<bigint | undefined, EngineError>
  /** Let go in order: what runs may finish within the grace, what is done is committed. */
  readonly stop: (partition: number, grace: number) => Effect.Effect<void>
  /** It is somebody else's already: stop at once, commit nothing. */
  readonly drop: (partition: number) => Effect.Effect<void>
  readonly pause: (partition: number, paused: boolean) => void
  /** Nothing read ahead, in hand or uncommitted. */
  readonly quiet: () => boolean
  /** Nothing in hand or uncommitted. */
  readonly settled: () => boolean
  /** Report events that have been in hand for long. */
  readonly watch: Effect.Effect<void>
}

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

    const observer = Context.get(options.context, CurrentObserver)
    const middleware = Context.get(options.context, CurrentMiddleware)
    const metrics = Metrics.ofProcessor(definition.name, options.context)
    let commits = 0
    let lost = 0
    const onCommitted = (): void => {
      metrics.commits(++commits)
      metrics.processed(options.counts.processed)
      metrics.failed(options.counts.failed)
      metrics.ignored(options.counts.ignored)
      options.onProgress()
    }

    const inputs = new Set(definition.topics.map((topic) => topic.name))
    const annotate = Effect.annotateLogs({ processor: definition.name })

    const halted = (partition: Partition, cause: Cause.Cause<any>): void => {
      partition.fenced = true
      partition.stop()
      options.onFailure(
        new ProcessorHalted<unknown>({
          processor: definition.name,
          partition: partition.partition,
          offset: partition.position,
          cause
        })
      )
    }

    const onLost = (partition: Partition, log: Log, entries: number, batch: Batch): void => {
      const end = batch.entries[0]?.id ?? log.after
      lose(
        partition,
        new EventsLost({
          topic: log.topic.name,
          partition: partition.partition,
          first: `after ${offset(log.after, 0)}`,
          last: `before ${offset(end, 0)}`,
          entries
        }),
        () => log.lost(entries)
      )
    }

    /** Unread events are gone, or the log's end is: halt, or go on with what there is, reported. */
    const lose = (partition: Partition, error: EventsLost | LogTruncated, resume: () => void): void => {
      if (error instanceof EventsLost) metrics.lost((lost += error.entries))
      if (definition.onLost === "halt") return halted(partition, Cause.fail(error))
      resume()
      fork(annotate(Effect.logWarning(error.message)))
    }

    const onRefused = (
      partition: Partition,
      commit: Commit,
      result: Exclude<CommitResult, { _tag: "Done" | "DoneBefore" }>
    ): void => {
      if (result._tag === "Fenced") {
        return options.onLost(partition.partition, partition.fence.epoch, result.inForce)
      }
      wentBack(partition, commit.number, result.found)
    }

    /** The engine lost commits that it had acknowledged: halt, or go on from what is stored, reported. */
    const wentBack = (partition: Partition, expected: number, found: number): void => {
      const error = new WentBack({ processor: definition.name, partition: partition.partition, expected, found })
      if (definition.onLost === "halt") return halted(partition, Cause.fail(error))
      fork(annotate(Effect.logWarning(error.message)))
      restart(partition)
    }

    /** Drop all that we know of it, and have it granted anew. */
    const restart = (partition: Partition): void => {
      partition.fenced = true
      partition.stop()
      options.onLost(partition.partition, partition.fence.epoch, undefined)
    }

    const context = yield* Effect.context<never>()
    const fork = Effect.runForkWith(context)

    const committers = Array.from({ length: shards }, () =>
      Committer.make({
        broker,
        durability: options.durability,
        onCommitted,
        onRefused,
        onDefect: (partition, defect) => halted(partition, Cause.die(defect))
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
        onLost
      })
    )
    const failed = (error: unknown): void => {
      if (error instanceof EngineError) options.onFailure(error)
    }
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

    const hostOf = (partition: number, rows: Rows): Host => {
      let turn = 0
      const reachable = (topic: Any, target: number): void => {
        if (target % broker.shards !== partition % broker.shards) {
          throw new Error(
            `topic ${topic.name}, partition ${target} is in another shard than partition ${partition} of ${definition.name}: ` +
              `emit within the shard, or use Topic.publish`
          )
        }
      }
      return {
        rows,
        encode: (topic, value, emit) => {
          const codec = codecOf(topic, options.serializer)
          const event = codec.encode(
            value,
            through(middleware, topic, value, emit),
            () => (partition + turn++ * broker.shards) % topic.partitions
          )
          reachable(topic, event.partition)
          return { topic, codec, partition: event.partition, event, entry: undefined }
        },
        forward: (topic, event) => {
          const codec = codecOf(topic, options.serializer)
          const target =
            event.key === undefined ? partition % topic.partitions : topic.partitioner(event.key, topic.partitions)
          reachable(topic, target)
          return { topic, codec, partition: target, event: undefined, entry: (event as Received<unknown>).stored() }
        }
      }
    }

    const open = (number: number, fence: Fence, claimed: Extract<Claim, { _tag: "Claimed" }>): Partition => {
      const { topics } = definition
      const place = (key: string): number => topics[0].partitioner(key, topics[0].partitions)
      const rows = new Rows(
        definition.tables.map((table) => table.definition),
        options.serializer,
        { partition: number, partitionOf: place },
        {
          row: (table, key) =>
            Effect.map(options.tables.readMany(definition.name, table, number, [key]), ([row]) => row),
          page: (table) => options.tables.entries(definition.name, table, number, "")
        }
      )
      const shard = number % shards
      return new Partition({
        processor: definition.name,
        partition: number,
        fence,
        number: claimed.number,
        logs: topics.map((topic) => new Log(topic, codecOf(topic, options.serializer), new Books(), claimed)),
        rows,
        bounds,
        limit: options.limit,
        lease: options.lease,
        pressure: new Pressure(definition.name, inputs, broker),
        onDirty: committers[shard]!.add,
        onRoom: fetchers[shard]!.changed
      })
    }

    /** What was lost while nobody looked. */
    const inspect = (partition: Partition, claimed: Extract<Claim, { _tag: "Claimed" }>): void => {
      for (const log of partition.logs) {
        const info = claimed.logs.find((info) => info.topic === log.topic.name)
        if (info === undefined) continue
        const trimmed = info.added - info.length
        if (compare(info.last, log.entry) < 0) {
          lose(
            partition,
            new LogTruncated({
              topic: log.topic.name,
              partition: partition.partition,
              committed: log.position,
              end: info.last
            }),
            () => log.truncated(info)
          )
        } else if (trimmed > log.entriesRead) {
          lose(
            partition,
            new EventsLost({
              topic: log.topic.name,
              partition: partition.partition,
              first: `after ${log.position}`,
              last: `before ${offset(info.first, 0)}`,
              entries: trimmed - log.entriesRead
            }),
            () => log.lost(trimmed - log.entriesRead)
          )
        }
      }
    }

    /** Install our epochs again after a reconnect, and compare what the engine has with what we know. */
    const verify = (shard: number): Effect.Effect<void, EngineError> =>
      Effect.forEach(
        Array.from(running.values()).filter(({ partition }) => partition.partition % shards === shard),
        ({ partition }) =>
          Effect.map(
            broker.claim(definition.name, partition.partition, definition.topics, partition.fence),
            (claim) => {
              if (partition.fenced) return
              if (claim._tag === "Refused") {
                partition.fenced = true
                partition.stop()
                return options.onLost(partition.partition, partition.fence.epoch, claim.inForce)
              }
              // The answer to the commit in flight may have been lost with the connection.
              const applied = partition.inFlight && claim.number === partition.number + 1
              if (claim.number !== partition.number && !applied)
                return wentBack(partition, partition.number, claim.number)
              for (const log of partition.logs) {
                const info = claim.logs.find((info) => info.topic === log.topic.name)
                if (info === undefined || compare(info.last, log.after) >= 0) continue
                lose(
                  partition,
                  new LogTruncated({
                    topic: log.topic.name,
                    partition: partition.partition,
                    committed: offset(log.after, 0),
                    end: info.last
                  }),
                  () => restart(partition)
                )
              }
            }
          ),
        { concurrency: 16, discard: true }
      )

    const start: Group["start"] = (number, epoch) =>
      Effect.gen(function* () {
        const fence: Fence = { epoch, incarnation: options.incarnation }
        const claim = yield* broker.claim(definition.name, number, definition.topics, fence)
        if (claim._tag === "Refused") return claim.inForce
        const partition = open(number, fence, claim)
        const shard = number % shards
        const own = yield* Scope.make()
        const host = hostOf(number, partition.rows)
        const flush = committers[shard]!.flush(partition)
        const runs = run({
          definition,
          partition,
          host,
          context: options.context,
          counts: options.counts,
          flush,
          observer
        })
        // In the runner's own fiber: however long it takes, the heartbeats go on.
        const runner =
          definition.onClaim === undefined ? runs : Effect.andThen(Scope.provide(definition.onClaim(number), own), runs)
        const ready = yield* Deferred.make<void>()
        const fiber = yield* Effect.forkIn(Effect.andThen(Deferred.await(ready), runner), scope)
        fiber.addObserver((exit) => {
          if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return
          partition.stop()
          const failure = Cause.findErrorOption(exit.cause)
          if (failure._tag === "Some") options.onFailure(failure.value)
          else halted(partition, exit.cause)
        })
        running.set(number, { partition, fiber, scope: own })
        epochs.set(number, epoch)
        inspect(partition, claim)
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
            : annotate(
                Effect.logWarning(
                  "a handler cannot be interrupted; its partition is released, and its commit will be refused"
                ).pipe(Effect.annotateLogs({ partition: one.partition.partition }))
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
        yield* close(number, one)
      })

    const drop: Group["drop"] = (number) =>
      Effect.gen(function* () {
        const one = running.get(number)
        if (one === undefined) return
        one.partition.fenced = true
        one.partition.stop()
        yield* interrupt(one)
        yield* close(number, one)
      })

    const slowAfter = definition.slowAfter === undefined ? settings.slowAfter : Duration.toMillis(definition.slowAfter)
    const watch = Effect.gen(function* () {
      const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      for (const { partition } of running.values()) {
        const oldest = partition.oldest(now)
        if (oldest === undefined || now - oldest.at < slowAfter) continue
        yield* annotate(
          Effect.logWarning(
            definition.shape._tag === "Stream"
              ? "StalledEvents: an event was taken by the pipeline and never emitted; drop it with Event.filter, or emit it"
              : "a handler has been running for long; it is not interrupted (use Effect.timeout for a limit)"
          ).pipe(
            Effect.annotateLogs({
              partition: partition.partition,
              offset: oldest.offset,
              inHand: partition.taken,
              millis: now - oldest.at
            })
          )
        )
      }
    })

    return {
      definition,
      epochs,
      start,
      stop,
      drop,
      pause: (number, paused) => running.get(number)?.partition.pause(paused),
      quiet: () => Array.from(running.values()).every(({ partition }) => partition.quiet),
      settled: () => Array.from(running.values()).every(({ partition }) => partition.settled),
      watch
    }
  })
