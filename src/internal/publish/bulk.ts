/** Publishing many events: bounded in what is on its way, whatever the length of the input. */
import { Context, Effect } from "effect"
import type { Broker, Durability } from "../../Broker.ts"
import { EncodeError } from "../../Errors.ts"
import type { Serializer } from "../../Serializer.ts"
import type { Any, EmitOptions, Position, PublishError } from "../../Topic.ts"
import { parseOffset } from "../entryId.ts"
import type { Encoded } from "../record/record.ts"
import { CurrentMiddleware, type Middleware } from "./middleware.ts"
import { encodeFailure, senderOf } from "./publisher.ts"
import { type Failure, Item, type Sender } from "./sender.ts"

/** Events that a bulk publish keeps on their way, and encodes at a time. */
const maxOutstanding = 4_000
const chunkEvents = 500

export type AllOptions = EmitOptions & {
  readonly durability?: Durability | undefined
  readonly offsets?: Iterable<string> | undefined
}

/** Stands where the position of an event will be. */
const nowhere: Position = { topic: "", partition: 0, offset: "", repeated: false }

/** Many events on their way at once, bounded: `progress` is called when some are settled. */
class Bulk {
  outstanding = 0
  stored = 0
  failure: Failure | undefined
  private readonly items = new Set<Item>()
  private readonly sender: Sender
  private readonly options: EmitOptions | undefined
  private readonly middleware: ReadonlyArray<Middleware>
  private readonly progress: () => void
  /** In the order of the values, if anybody wants them. */
  private readonly positions: Array<Position> | undefined
  constructor(
    sender: Sender,
    options: EmitOptions | undefined,
    middleware: ReadonlyArray<Middleware>,
    progress: () => void,
    positions?: Array<Position>
  ) {
    this.positions = positions
    this.sender = sender
    this.middleware = middleware
    this.options = options
    this.progress = progress
  }
  get full(): boolean {
    return this.outstanding >= maxOutstanding
  }
  /** Encode and submit a chunk. */
  submit(values: ReadonlyArray<unknown>, offsets?: ReadonlyArray<string>): void {
    const lanes = new Map<number, { events: Array<Encoded>; ids: Array<string>; at: Array<number> }>()
    for (let i = 0; i < values.length; i++) {
      const event = this.sender.encode(values[i], this.options, this.middleware)
      let lane = lanes.get(event.partition)
      if (lane === undefined) lanes.set(event.partition, (lane = { events: [], ids: [], at: [] }))
      lane.events.push(event)
      // The places are filled out of order: without a hole, so that the array stays a dense one.
      if (this.positions !== undefined) lane.at.push(this.positions.push(nowhere) - 1)
      if (offsets !== undefined) lane.ids.push(offsets[i]!)
    }
    for (const [partition, lane] of lanes) {
      const ids = offsets === undefined ? undefined : lane.ids
      const item = new Item(lane.events, this.settled, this.positions, lane.at, ids, undefined)
      this.items.add(item)
      this.outstanding += item.events.length
      this.sender.submit(partition, item)
    }
  }
  private readonly settled = (failure: Failure | undefined, item: Item): void => {
    this.items.delete(item)
    this.outstanding -= item.events.length
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
            while (chunk.length < chunkEvents || ids !== undefined) {
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
      const bulk = new Bulk(sender, options, Context.get(context, CurrentMiddleware), pump, positions)
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
    const bulk = new Bulk(sender, options, Context.get(context, CurrentMiddleware), () => waiting?.())
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
              bulk.submit(values.slice(at, at + chunkEvents))
              at += chunkEvents
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
