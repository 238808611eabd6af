/**
 * Reads ahead for all partitions of one processor in one shard: one blocking read over those that have room. Positions
 * run ahead of the handlers, bounded by each partition's own room, so a slow partition never holds up another.
 */
import { type Context, Effect, Latch } from "effect"
import type { Batch, Broker, Entry, Position, Reader } from "../../Broker.ts"
import type { EngineError } from "../../Errors.ts"
import { maxBatchEvents } from "../record/serialized.ts"
import { turn } from "./committer.ts"
import type { Log } from "./log.ts"
import type { Partition } from "./partition.ts"

type BrokerService = Context.Service.Shape<typeof Broker>

export interface Fetcher {
  /** Partitions came, went, or have room again. */
  readonly changed: () => void
  /** Fails when the engine refuses to be read from, and will go on refusing. */
  readonly run: Effect.Effect<never, EngineError>
}

/** The partitions of one read, by number. */
type Covered = Map<number, Partition>

/** The first entries, up to so many events; the rest is read again when there is room. */
const atMost = (entries: ReadonlyArray<Entry>, most: number): ReadonlyArray<Entry> => {
  let events = 0
  const end = entries.findIndex((entry, i) => (events += entry.count) > most && i > 0)
  return end < 0 ? entries : entries.slice(0, end)
}

export const make = (options: {
  readonly broker: BrokerService
  readonly shard: number
  readonly partitions: () => Iterable<Partition>
  /** Events read ahead per partition, and how long a read waits, in milliseconds. */
  readonly prefetch: number
  readonly block: number
  /** After a reconnect, before anything is read again. */
  readonly verify: Effect.Effect<void, EngineError>
  /** Trimmed entries that this reader had not seen. */
  readonly onLost: (partition: Partition, log: Log, entries: number, batch: Batch) => void
}): Effect.Effect<Fetcher> =>
  Effect.map(Effect.context<never>(), (context) => {
    const demand = Latch.makeUnsafe(false)
    const fork = Effect.runForkWith(context)
    /** The read in flight, and what it covers. */
    let reading: { readonly reader: Reader; readonly covered: Covered; woken: boolean } | undefined
    let averageBytes = 8 * 1024
    /** Of an entry; the first read expects full batches, so that it cannot take much more than it may. */
    let averageEvents = maxBatchEvents
    let known = false

    const uncovered = (): boolean => {
      for (const partition of options.partitions()) {
        const isCovered = reading!.covered.get(partition.partition) === partition && !partition.supply.isCurious
        if (!isCovered && partition.room() > 0) return true
      }
      return false
    }

    const changed = (): void => {
      demand.openUnsafe()
      if (reading === undefined || reading.woken) return
      const current = reading
      current.woken = true
      // A read that has something to give comes back by itself meanwhile.
      fork(
        Effect.yieldNow.pipe(
          Effect.andThen(Effect.yieldNow),
          Effect.andThen(
            Effect.suspend(() => {
              if (reading !== current) return Effect.void
              current.woken = uncovered()
              return current.woken ? current.reader.wake : Effect.void
            })
          )
        )
      )
    }

    const deliver = (batch: Batch, covered: Covered): void => {
      const partition = covered.get(batch.partition)
      const log = partition?.logs.find(({ topic }) => topic.name === batch.topic)
      if (partition === undefined || log === undefined || partition.stopping) return
      if (batch.trimmed !== undefined && batch.trimmed > log.entriesRead) {
        options.onLost(partition, log, batch.trimmed - log.entriesRead, batch)
        if (partition.stopping) return
      }
      if (batch.entries.length === 0) return
      let bytes = 0
      let events = 0
      for (const entry of batch.entries) {
        events += entry.count
        for (const field of entry.fields) bytes += field.byteLength
      }
      const count = batch.entries.length
      const weight = known ? 0.2 : 1
      known = true
      averageBytes = averageBytes * (1 - weight) + (bytes / count + 64) * weight
      averageEvents = averageEvents * (1 - weight) + (events / count) * weight
      partition.deliver(
        log,
        events > 2 * options.prefetch ? atMost(batch.entries, 2 * options.prefetch) : batch.entries
      )
    }

    const once = (reader: Reader): Effect.Effect<void, EngineError> =>
      Effect.suspend(() => {
        const positions: Array<Position> = []
        const covered: Covered = new Map()
        let room = Infinity
        let roomEvents = Infinity
        let { block } = options
        for (const partition of options.partitions()) {
          const free = partition.room()
          if (free === 0) continue
          covered.set(partition.partition, partition)
          room = Math.min(room, free)
          roomEvents = Math.min(roomEvents, partition.roomEvents)
          if (partition.supply.isCurious) block = 0
          for (const position of partition.positions()) positions.push(position)
        }
        if (positions.length === 0) {
          demand.closeUnsafe()
          return demand.await
        }
        const count = Math.max(
          1,
          Math.min(1_000, Math.floor(room / averageBytes), Math.ceil(roomEvents / averageEvents))
        )
        reading = { reader, covered, woken: false }
        return reader.read(positions, { count, block }).pipe(
          Effect.onExit(() => {
            reading = undefined
            return Effect.void
          }),
          Effect.flatMap((batches) => {
            for (const batch of batches) deliver(batch, covered)
            let tells = false
            for (const partition of covered.values()) {
              partition.looked()
              tells ||= partition.tells
            }
            return tells ? turn : Effect.void
          })
        )
      })

    // A reader that lost its connection is made again; the engine is asked less and less often while it is away. It may
    // have come back in an older state, so what we know is compared before anything is read.
    let failures = 0
    const read = (reader: Reader): Effect.Effect<never, EngineError> =>
      Effect.andThen(
        failures > 0 ? options.verify : Effect.void,
        Effect.forever(
          Effect.map(once(reader), () => {
            failures = 0
          }),
          // The next read goes out before the commit of what came, unless others wait for that: what comes meanwhile finds
          // somebody waiting.
          { disableYield: true }
        )
      )
    const run: Effect.Effect<never, EngineError> = Effect.forever(
      Effect.catch(Effect.scoped(Effect.flatMap(options.broker.reader(options.shard), read)), (error: EngineError) =>
        error.reason === "Refused" || error.reason === "Unsupported"
          ? Effect.fail(error)
          : Effect.logDebug("reading failed; trying again", error).pipe(
              Effect.andThen(Effect.suspend(() => Effect.sleep(Math.min(500, 50 * 2 ** failures++))))
            )
      )
    )
    return { changed, run }
  })
