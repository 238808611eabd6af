/**
 * Publishing: concurrent callers are coalesced into few appends, without a linger time. Each partition is a lane with at
 * most one numbered append in flight, so order holds whatever fails; several calls for different lanes overlap. While
 * they are on their way, what is published meanwhile gathers and goes out with the next one.
 */

import { randomUUID } from "node:crypto"
import { Cause, Clock, Context, Effect, Exit, Schedule, Tracer } from "effect"
import { type Append, type Appended, Broker, type Durability } from "../Broker.ts"
import { type DurabilityNotReached, EncodeError, EngineError, OffsetConflict, TopicFull } from "../Errors.ts"
import { type Codec, Serializer } from "../Serializer.ts"
import type { Any, EmitOptions, Position, PublishError, PublishOptions } from "../Topic.ts"
import { offset, parseOffset } from "./entryId.ts"
import { CurrentMiddleware, type Middleware, through } from "./middleware.ts"
import { checkName } from "./names.ts"
import { compile, type Encoded, type TopicCodec } from "./record.ts"
import { maxBatchBytes } from "./serialized.ts"

type BrokerService = Context.Service.Shape<typeof Broker>
type Failure = PublishError | OffsetConflict

/** Calls in flight per topic, events of one lane in one append, and events that a bulk publish keeps on their way. */
const maxCalls = 4
const maxLaneEvents = 500
const maxOutstanding = 4_000
const chunkEvents = 500

/** How long a lost connection is waited for before publishers fail. */
const patience = "30 seconds"

/** What one caller wants stored in one partition, in order. */
class Item {
  /** So many of its events, from the first on, have their answer. */
  stored = 0
  abandoned = false
  readonly events: ReadonlyArray<Encoded>
  readonly settle: (failure: Failure | undefined, item: Item) => void
  /** Where the positions go, if anybody wants them: each to its place in `at`, or in order. */
  readonly positions: Array<Position> | undefined
  readonly at: ReadonlyArray<number> | undefined
  /** With ids or a producer it travels alone, whole. */
  readonly ids: ReadonlyArray<string> | undefined
  readonly producer: Append["producer"]
  constructor(
    events: ReadonlyArray<Encoded>,
    settle: (failure: Failure | undefined, item: Item) => void,
    positions: Array<Position> | undefined,
    at: ReadonlyArray<number> | undefined,
    ids: ReadonlyArray<string> | undefined,
    producer: Append["producer"]
  ) {
    this.events = events
    this.settle = settle
    this.positions = positions
    this.at = at
    this.ids = ids
    this.producer = producer
  }
}

interface Lane {
  readonly partition: number
  publisher: string
  number: number
  queue: Array<Item>
  /** An append of it is on its way, or waits for room. */
  busy: boolean
  queued: boolean
  fullSince: number | undefined
  warned: boolean
}

/** One append and whose events it carries. */
interface Flight {
  readonly lane: Lane
  readonly append: Append
  readonly items: ReadonlyArray<Item>
}

export class Sender {
  private readonly lanes: Array<Lane | undefined> = []
  private ready: Array<Lane> = []
  private inFlight = 0
  private scheduled = false
  private declared = false
  private waiting = 0
  private turn = 0
  private readonly topic: Any
  private readonly codec: TopicCodec
  private readonly broker: BrokerService
  private readonly durability: Durability
  private readonly run: <A, E>(effect: Effect.Effect<A, E>) => void
  constructor(
    topic: Any,
    codec: TopicCodec,
    broker: BrokerService,
    durability: Durability,
    run: <A, E>(effect: Effect.Effect<A, E>) => void
  ) {
    this.topic = topic
    this.codec = codec
    this.broker = broker
    this.durability = durability
    this.run = run
  }

  /** Round robin, for events without a key. */
  private readonly next = (): number => this.turn++ % this.topic.partitions

  encode(value: unknown, options: EmitOptions | undefined, middleware: ReadonlyArray<Middleware>): Encoded {
    return this.codec.encode(value, through(middleware, this.topic, value, options), this.next)
  }

  submit(partition: number, item: Item): void {
    const lane = (this.lanes[partition] ??= {
      partition,
      publisher: randomUUID(),
      number: 1,
      queue: [],
      busy: false,
      queued: false,
      fullSince: undefined,
      warned: false
    })
    lane.queue.push(item)
    this.waiting += item.events.length
    this.offer(lane)
  }

  /** A caller gave up; what is not on its way yet is not sent. */
  abandon(partition: number, item: Item): void {
    item.abandoned = true
    const lane = this.lanes[partition]
    if (lane === undefined || item.stored > 0) return
    const at = lane.queue.indexOf(item)
    if (at >= 0) {
      lane.queue.splice(at, 1)
      this.waiting -= item.events.length
    }
  }

  private offer(lane: Lane): void {
    if (lane.busy || lane.queued || lane.queue.length === 0) return
    lane.queued = true
    this.ready.push(lane)
    if (!this.scheduled && this.inFlight < maxCalls) {
      this.scheduled = true
      // After the fibers of this turn, so that all they publish travels together.
      queueMicrotask(this.flush)
    }
  }

  private readonly flush = (): void => {
    this.scheduled = false
    while (this.inFlight < maxCalls && this.ready.length > 0) {
      const share = Math.max(200, Math.min(2_000, Math.ceil(this.waiting / maxCalls)))
      const flights: Array<Flight> = []
      const later: Array<Lane> = []
      let events = 0
      let shard = -1
      for (const lane of this.ready) {
        const its = lane.partition % this.broker.shards
        if (shard === -1) shard = its
        if (events >= share || its !== shard) {
          later.push(lane)
          continue
        }
        lane.queued = false
        const flight = this.take(lane)
        if (flight === undefined) continue
        flights.push(flight)
        for (const entry of flight.append.entries) events += entry.count
      }
      this.ready = later
      if (flights.length > 0) this.send(flights)
    }
  }

  /** The next append of a lane: one exclusive item, or as many plain events as may travel together. */
  private take(lane: Lane): Flight | undefined {
    const first = lane.queue[0]
    if (first === undefined) return undefined
    lane.busy = true
    const items: Array<Item> = []
    const entries: Array<Append["entries"][number]> = []
    if (first.ids !== undefined || first.producer !== undefined) {
      lane.queue.shift()
      items.push(first)
      first.events.forEach((event, i) => entries.push(this.codec.pack([event], first.ids?.[i])))
    } else {
      let count = 0
      while (lane.queue.length > items.length && count < maxLaneEvents) {
        const item = lane.queue[items.length]!
        if (item.ids !== undefined || item.producer !== undefined) break
        items.push(item)
        count += item.events.length - item.stored
      }
      lane.queue.splice(0, items.length)
      this.pack(items, entries)
    }
    for (const item of items) this.waiting -= item.events.length - item.stored
    const append: Append = {
      topic: this.topic,
      partition: lane.partition,
      publisher: lane.publisher,
      number: lane.number,
      entries,
      producer: first.producer
    }
    return { lane, append, items }
  }

  private pack(items: ReadonlyArray<Item>, entries: Array<Append["entries"][number]>): void {
    const retention = this.topic.retention
    const most = Math.min(this.codec.maxEvents, retention._tag === "Consumed" ? retention.capacity : Infinity)
    let batch: Array<Encoded> = []
    let bytes = 0
    for (const item of items) {
      for (let i = item.stored; i < item.events.length; i++) {
        const event = item.events[i]!
        if (batch.length > 0 && (batch.length >= most || bytes + event.bytes > maxBatchBytes)) {
          entries.push(this.codec.pack(batch))
          batch = []
          bytes = 0
        }
        batch.push(event)
        bytes += event.bytes
      }
    }
    if (batch.length > 0) entries.push(this.codec.pack(batch))
  }

  private send(flights: ReadonlyArray<Flight>): void {
    this.inFlight++
    const declare = this.declared
      ? Effect.void
      : Effect.mapError(this.broker.declare([this.topic]), (error) =>
          error._tag === "EngineError"
            ? error
            : new EngineError({ operation: "publish", reason: "Refused", detail: error.message })
        )
    // Sent again unchanged until the engine answers: it knows the numbers.
    const call = Effect.andThen(
      declare,
      Effect.suspend(() => {
        this.declared = true
        return this.broker.append(
          flights.map((flight) => flight.append),
          this.durability
        )
      })
    ).pipe(
      Effect.retry({
        while: (error) => error._tag === "EngineError" && error.reason === "Unreachable",
        schedule: backoff
      }),
      Effect.retry({
        while: (error) => error._tag === "EngineError" && error.reason === "Full" && !this.failsWhenFull,
        schedule: Schedule.spaced("200 millis")
      })
    )
    this.run(Effect.onExit(call, (exit) => Effect.sync(() => this.landed(flights, exit))))
  }

  private get failsWhenFull(): boolean {
    const retention = this.topic.retention
    return retention._tag === "Consumed" && retention.onFull === "fail"
  }

  private landed(
    flights: ReadonlyArray<Flight>,
    exit: Exit.Exit<ReadonlyArray<Appended>, EngineError | DurabilityNotReached>
  ): void {
    this.inFlight--
    flights.forEach((flight, i) => {
      if (Exit.isSuccess(exit)) return this.answered(flight, exit.value[i]!)
      const failure = Cause.findErrorOption(exit.cause)
      this.fail(
        flight,
        failure._tag === "Some"
          ? failure.value
          : new EngineError({ operation: "publish", reason: "Unreachable", detail: Cause.pretty(exit.cause) })
      )
      // The outcome is unknown, and the number is spent: under another id nothing can be taken for a repeat.
      this.renew(flight.lane)
      this.free(flight.lane)
    })
    this.flush()
  }

  private answered(flight: Flight, answer: Appended): void {
    const { lane } = flight
    switch (answer._tag) {
      case "Stored": {
        lane.number++
        lane.fullSince = undefined
        lane.warned = false
        this.stored(flight, answer.ids, answer.repeated)
        return this.free(lane)
      }
      case "Conflict": {
        this.fail(flight, new OffsetConflict({ topic: this.topic.name, partition: lane.partition, last: answer.last }))
        return this.free(lane)
      }
      case "Gap": {
        this.renew(lane)
        this.putBack(flight)
        return this.free(lane)
      }
      case "Full": {
        if (answer.ids.length > 0) lane.number++
        this.stored(flight, answer.ids, false)
        const { heldBy } = answer
        if (this.failsWhenFull) {
          const holder = heldBy === undefined ? {} : { heldBy }
          this.fail(flight, new TopicFull({ topic: this.topic.name, partition: lane.partition, ...holder }))
          return this.free(lane)
        }
        this.putBack(flight)
        return this.waitForRoom(lane, heldBy)
      }
    }
  }

  /** Give the events of these entries their positions, and answer the items that are complete. */
  private stored(flight: Flight, ids: ReadonlyArray<string>, repeated: boolean): void {
    const { partition } = flight.lane
    const { items } = flight
    let next = 0
    let item = items[0]
    for (let e = 0; e < ids.length; e++) {
      const { count } = flight.append.entries[e]!
      const id = ids[e]!
      for (let index = 0; index < count; index++) {
        while (item !== undefined && item.stored === item.events.length) item = items[++next]
        if (item === undefined) return
        const { positions } = item
        if (positions !== undefined) {
          positions[item.at === undefined ? item.stored : item.at[item.stored]!] = {
            topic: this.topic.name,
            partition,
            offset: id === "" ? "" : offset(id, index),
            repeated: repeated && item.producer !== undefined
          }
        }
        if (++item.stored === item.events.length) item.settle(undefined, item)
      }
    }
  }

  private fail(flight: Flight, failure: Failure): void {
    for (const item of flight.items) {
      if (item.stored < item.events.length) item.settle(failure, item)
    }
  }

  private putBack(flight: Flight): void {
    const rest = flight.items.filter((item) => item.stored < item.events.length && !item.abandoned)
    for (const item of rest) this.waiting += item.events.length - item.stored
    flight.lane.queue = [...rest, ...flight.lane.queue]
  }

  private renew(lane: Lane): void {
    lane.publisher = randomUUID()
    lane.number = 1
  }

  private free(lane: Lane): void {
    lane.busy = false
    this.offer(lane)
  }

  /** The lane stays busy meanwhile; a caller that is interrupted takes its item away. */
  private waitForRoom(lane: Lane, heldBy: string | undefined): void {
    const { broker, topic } = this
    this.run(
      Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        lane.fullSince ??= now
        if (!lane.warned && now - lane.fullSince >= 10_000) {
          lane.warned = true
          yield* Effect.logWarning(
            new TopicFull({
              topic: topic.name,
              partition: lane.partition,
              ...(heldBy === undefined ? {} : { heldBy })
            }).message
          )
        }
        yield* Effect.timeoutOption(broker.awaitRoom(topic, lane.partition), "10 seconds")
      }).pipe(Effect.ensuring(Effect.sync(() => this.free(lane))))
    )
  }
}

const backoff = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("2 seconds")]).pipe(
  Schedule.jittered,
  Schedule.upTo({ duration: patience })
)

/** The senders of one engine, and the one that was asked for last. */
interface Senders {
  readonly byKey: Map<string, Sender>
  last:
    | { readonly topic: Any; readonly serializer: Codec; readonly durability: Durability; readonly sender: Sender }
    | undefined
}

// Senders live as long as their engine: one per topic and durability, shared by all fibers of the program.
const senders = new WeakMap<BrokerService, Senders>()
const codecs = new WeakMap<Any, WeakMap<Codec, TopicCodec>>()

/** The compiled codec of a topic under the serializer of the program. */
export const codecOf = (topic: Any, serializer: Codec): TopicCodec => {
  let byCodec = codecs.get(topic)
  if (byCodec === undefined) codecs.set(topic, (byCodec = new WeakMap()))
  let codec = byCodec.get(serializer)
  if (codec === undefined) byCodec.set(serializer, (codec = compile(topic, serializer)))
  return codec
}

let serial = 0
const identities = new WeakMap<object, number>()
const identity = (value: object): number => {
  let id = identities.get(value)
  if (id === undefined) identities.set(value, (id = ++serial))
  return id
}

const senderOf = (context: Context.Context<Broker | Serializer>, topic: Any, durability: Durability): Sender => {
  const broker = Context.get(context, Broker)
  const serializer = Context.get(context, Serializer)
  let known = senders.get(broker)
  if (known === undefined) senders.set(broker, (known = { byKey: new Map(), last: undefined }))
  const { last } = known
  if (last?.topic === topic && last.serializer === serializer && last.durability === durability) return last.sender
  const safety = typeof durability === "string" ? durability : durability.replicas
  const key = `${identity(topic)}/${identity(serializer)}/${safety}`
  let sender = known.byKey.get(key)
  if (sender === undefined) {
    // Not the caller's own scope, span or interruption: others' events travel with its own.
    const base = Context.omit(Tracer.ParentSpan)(context) as Context.Context<never>
    const fork = Effect.runForkWith(base)
    sender = new Sender(topic, codecOf(topic, serializer), broker, durability, (effect) => {
      fork(effect)
    })
    known.byKey.set(key, sender)
  }
  known.last = { topic, serializer, durability, sender }
  return sender
}

const encodeFailure = (error: unknown): Effect.Effect<never, EncodeError> =>
  error instanceof EncodeError ? Effect.fail(error) : Effect.die(error)

export const publish = (
  topic: Any,
  value: unknown,
  options: PublishOptions | undefined
): Effect.Effect<Position, PublishError, Broker | Serializer> =>
  Effect.withFiber((fiber) => {
    const context = fiber.context as Context.Context<Broker | Serializer>
    const sender = senderOf(context, topic, options?.durability ?? "memory")
    let event: Encoded
    try {
      event = sender.encode(value, options, Context.get(context, CurrentMiddleware))
    } catch (error) {
      return encodeFailure(error)
    }
    const producer =
      options?.producer === undefined
        ? undefined
        : { id: checkName("producer", options.producer), sequence: options.sequence }
    return Effect.callback<Position, PublishError>((resume) => {
      const positions: Array<Position> = []
      const item = new Item(
        [event],
        (failure) =>
          resume(failure === undefined ? Effect.succeed(positions[0]!) : Effect.fail(failure as PublishError)),
        positions,
        undefined,
        undefined,
        producer
      )
      sender.submit(event.partition, item)
      return Effect.sync(() => sender.abandon(event.partition, item))
    })
  })

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
        try {
          for (let i = 0; i < values.length; i += chunkEvents) bulk.submit(values.slice(i, i + chunkEvents))
        } catch (error) {
          return encodeFailure(error)
        }
        return bulk.full ? until(() => !bulk.full) : bulk.failure === undefined ? Effect.void : until(() => true)
      })
    return Effect.succeed({
      offer,
      end: Effect.map(
        until(() => bulk.outstanding === 0),
        () => bulk.stored
      )
    })
  })
