/** Publishing many events: bounded in what is on its way, in number and in bytes, whatever the length of the input. */
import { Context, Effect } from "effect"
import type { Broker, Durability } from "../../Broker.ts"
import { EncodeError } from "../../Errors.ts"
import type { Serializer } from "../../Serializer.ts"
import type { Any, EmitOptions, Position, PublishError } from "../../Topic.ts"
import { offset, parseOffset } from "../entryId.ts"
import type { Placed } from "../record/placement.ts"
import type { Encoded } from "../record/record.ts"
import { maxBatchEvents } from "../record/serialized.ts"
import { traced } from "../telemetry/tracing.ts"
import { CurrentMiddleware, type Middleware, through } from "./middleware.ts"
import { encodeFailure, senderOf } from "./publisher.ts"
import { type Failure, Item, type Sender } from "./sender.ts"

/** Chunks that a bulk publish keeps on its way, and the events of one: about an entry's worth for each partition. */
const maxChunks = 4
const chunkOf = (topic: Any): number => Math.max(500, Math.min(2_000, maxBatchEvents * topic.partitions))

/** Bytes on their way, however large an event is; and how many events are encoded where nobody knows yet how large they are. */
const maxBytes = 8 * 1024 * 1024
const firstChunk = 10

export type AllOptions = EmitOptions & {
  readonly durability?: Durability | undefined
  readonly offsets?: Iterable<string> | undefined
}

/** Stands where the position of an event will be. */
const nowhere: Position = { topic: "", partition: 0, offset: "", repeated: false }

/** Some of a bulk's events, for one partition. */
class Part extends Item {
  readonly events: ReadonlyArray<Encoded>
  readonly size: number
  readonly bytes: number
  private readonly bulk: Bulk
  /** Where in the bulk's positions those of these events go. */
  private readonly at: ReadonlyArray<number>
  constructor(bulk: Bulk, events: ReadonlyArray<Encoded>, at: ReadonlyArray<number>, ids?: ReadonlyArray<string>) {
    super(ids, undefined)
    this.bulk = bulk
    this.events = events
    let size = 0
    let bytes = 0
    for (const event of events) {
      size += event.count
      bytes += event.bytes
    }
    this.size = size
    this.bytes = bytes
    this.at = at
  }
  place(topic: string, partition: number, id: string, index: number): void {
    const { positions } = this.bulk
    if (positions !== undefined) {
      positions[this.at[this.stored]!] = { topic, partition, offset: offset(id, index), repeated: false }
    }
  }
  settle(failure: Failure | undefined): void {
    this.bulk.settled(failure, this)
  }
}

/** What of a chunk goes to one partition. */
interface Chunk {
  readonly values: Array<unknown>
  readonly placed: Array<Placed>
  readonly at: Array<number>
  readonly ids: Array<string>
}

/** Many events on their way at once, bounded: `progress` is called when some are settled. */
class Bulk {
  outstanding = 0
  private bytes = 0
  stored = 0
  failure: Failure | undefined
  /** Events to encode at a time. */
  chunk = firstChunk
  private readonly most: number
  private readonly items = new Set<Item>()
  private readonly sender: Sender
  private readonly options: EmitOptions | undefined
  private readonly middleware: ReadonlyArray<Middleware>
  private readonly progress: () => void
  /** In the order of the values, if anybody wants them. */
  readonly positions: Array<Position> | undefined
  constructor(
    sender: Sender,
    options: EmitOptions | undefined,
    middleware: ReadonlyArray<Middleware>,
    progress: () => void,
    positions?: Array<Position>
  ) {
    this.positions = positions
    this.sender = sender
    this.most = chunkOf(sender.topic)
    this.fit()
    this.middleware = middleware
    this.options = options
    this.progress = progress
  }
  get full(): boolean {
    return this.outstanding >= maxChunks * this.most || this.bytes >= maxBytes
  }
  /** As many as the last ones tell to fit. */
  private fit(): void {
    const { usualBytes } = this.sender
    if (usualBytes === undefined) return
    this.chunk = Math.max(1, Math.min(this.most, Math.floor(maxBytes / maxChunks / (usualBytes + 1))))
  }
  /** Encode and submit a chunk. */
  submit(values: ReadonlyArray<unknown>, offsets?: ReadonlyArray<string>): void {
    const { middleware, options, positions, sender } = this
    const { codec, topic } = sender
    const lanes: Array<Chunk | undefined> = []
    for (let i = 0; i < values.length; i++) {
      const value = values[i]
      const placed = codec.place(value, through(middleware, topic, value, options), sender.next)
      const lane = (lanes[placed.partition] ??= { values: [], placed: [], at: [], ids: [] })
      lane.values.push(value)
      lane.placed.push(placed)
      // The places are filled out of order: without a hole, so that the array stays a dense one.
      if (positions !== undefined) lane.at.push(positions.push(nowhere) - 1)
      if (offsets !== undefined) lane.ids.push(offsets[i]!)
    }
    const items: Array<readonly [partition: number, item: Part]> = []
    lanes.forEach((lane, partition) => {
      if (lane === undefined) return
      // With an id of its own each event is an entry of its own.
      const ids = offsets === undefined ? undefined : lane.ids
      const events =
        ids === undefined
          ? codec.encodeAll(lane.values, lane.placed)
          : lane.values.map((value, i) => codec.encodeAll([value], [lane.placed[i]!])[0]!)
      items.push([partition, new Part(this, events, lane.at, ids)])
    })
    const before = this.bytes
    for (const [partition, item] of items) {
      this.items.add(item)
      this.outstanding += item.size
      this.bytes += item.bytes
      sender.submit(partition, item, false)
    }
    if (values.length > 0) sender.usualBytes = (this.bytes - before) / values.length
    this.fit()
  }
  settled(failure: Failure | undefined, item: Part): void {
    this.items.delete(item)
    this.outstanding -= item.size
    this.bytes -= item.bytes
    this.stored += item.stored
    this.failure ??= failure
    this.progress()
  }
  abandon(): void {
    for (const item of this.items) this.sender.abandon(item.events[0]!.partition, item)
  }
}

/** What a user gave as offsets, checked: one entry id per value. */
const entryIds = (topic: Any, offsets: Iterable<string>, values: number): ReadonlyArray<string> => {
  const ids = Array.from(offsets, (text) => {
    const parsed = parseOffset(text)
    if (parsed === undefined || parsed.index !== 0 || parsed.id === "0-0") {
      throw new EncodeError({
        target: topic.name,
        reason: "Key",
        detail: `offset ${JSON.stringify(text)}: use "<millis>-<seq>", two whole numbers, above 0-0`
      })
    }
    return parsed.id
  })
  if (ids.length !== values) {
    throw new EncodeError({
      target: topic.name,
      reason: "Key",
      detail: `${values} values and ${ids.length} offsets were given`
    })
  }
  return ids
}

export const publishAll = (
  topic: Any,
  values: Iterable<unknown>,
  options: AllOptions | undefined
): Effect.Effect<ReadonlyArray<Position>, Failure, Broker | Serializer> =>
  Effect.withFiber((fiber) => {
    const context = fiber.context as Context.Context<Broker | Serializer>
    const sender = senderOf(context, topic, options?.durability ?? "memory")
    return Effect.callback<ReadonlyArray<Position>, Failure>((resume) => {
      const positions: Array<Position> = []
      // Explicit offsets are judged per partition as a whole, so they go out in one piece.
      let source: Iterator<unknown>
      let ids: ReadonlyArray<string> | undefined
      let ended = false
      const finish = (): void => {
        if (bulk.outstanding > 0) return
        resume(
          bulk.failure === undefined
            ? Effect.succeed(positions)
            : bulk.failure instanceof EncodeError || "_tag" in bulk.failure
              ? Effect.fail(bulk.failure)
              : Effect.die(bulk.failure)
        )
      }
      const pump = (): void => {
        try {
          while (!ended && bulk.failure === undefined && !bulk.full) {
            const chunk: Array<unknown> = []
            const most = bulk.chunk
            while (chunk.length < most || ids !== undefined) {
              const next = source.next()
              if (next.done === true) {
                ended = true
                break
              }
              chunk.push(next.value)
            }
            bulk.submit(chunk, ids)
          }
        } catch (error) {
          ended = true
          if (!(error instanceof EncodeError)) {
            bulk.abandon()
            return resume(Effect.die(error))
          }
          bulk.failure ??= error
        }
        if (ended || bulk.failure !== undefined) finish()
      }
      const bulk = new Bulk(sender, traced(fiber, options), Context.get(context, CurrentMiddleware), pump, positions)
      try {
        if (options?.offsets !== undefined) {
          const all = Array.from(values)
          ids = entryIds(topic, options.offsets, all.length)
          source = all[Symbol.iterator]()
        } else source = values[Symbol.iterator]()
      } catch (error) {
        return resume(encodeFailure(error))
      }
      pump()
      return Effect.sync(() => bulk.abandon())
    })
  })

/** A bulk publish that is fed chunk by chunk: `offer` waits while too much is on its way, `end` for all of it. */
export const feed = (
  topic: Any,
  options: AllOptions | undefined
): Effect.Effect<
  {
    readonly offer: (values: ReadonlyArray<unknown>) => Effect.Effect<void, PublishError>
    readonly end: Effect.Effect<number, PublishError>
  },
  never,
  Broker | Serializer
> =>
  Effect.withFiber((fiber) => {
    const context = fiber.context as Context.Context<Broker | Serializer>
    const sender = senderOf(context, topic, options?.durability ?? "memory")
    let waiting: (() => void) | undefined
    const middleware = Context.get(context, CurrentMiddleware)
    const bulk = new Bulk(sender, traced(fiber, options), middleware, () => waiting?.())
    const until = (ready: () => boolean): Effect.Effect<void, PublishError> =>
      Effect.callback<void, PublishError>((resume) => {
        const look = (): void => {
          if (bulk.failure === undefined && !ready()) return
          waiting = undefined
          resume(bulk.failure === undefined ? Effect.void : Effect.fail(bulk.failure as PublishError))
        }
        waiting = look
        look()
        return Effect.sync(() => bulk.abandon())
      })
    const offer = (values: ReadonlyArray<unknown>): Effect.Effect<void, PublishError> =>
      Effect.suspend(() => {
        let at = 0
        // A piece at a time, however large the chunk is.
        const rest: Effect.Effect<void, PublishError> = Effect.suspend(() => {
          try {
            while (at < values.length && !bulk.full && bulk.failure === undefined) {
              const end = at + bulk.chunk
              bulk.submit(values.slice(at, end))
              at = end
            }
          } catch (error) {
            return encodeFailure(error)
          }
          if (bulk.failure !== undefined) return until(() => true)
          return bulk.full
            ? Effect.flatMap(
                until(() => !bulk.full),
                () => rest
              )
            : Effect.void
        })
        return rest
      })
    return Effect.succeed({
      offer,
      end: Effect.map(
        until(() => bulk.outstanding === 0),
        () => bulk.stored
      )
    })
  })
