/**
 * Publishing: concurrent callers are coalesced into few appends, without a linger time. Each partition is a lane with at
 * most one numbered append in flight, so order holds whatever fails; several calls for different lanes overlap. While
 * they are on their way, what is published meanwhile gathers and goes out with the next one.
 */
import { randomUUID } from "node:crypto"
import { Cause, Clock, type Context, Effect, Exit, Schedule } from "effect"
import type { Append, Appended, Broker, Durability } from "../../Broker.ts"
import { type DurabilityNotReached, EngineError, OffsetConflict, TopicFull } from "../../Errors.ts"
import type { Any, EmitOptions, PublishError } from "../../Topic.ts"
import { patiently, whenFailed } from "../backoff.ts"
import type { Encoded, TopicCodec } from "../record/record.ts"
import { maxBatchBytes } from "../record/serialized.ts"
import type { PublishMeter } from "../telemetry/publishMeter.ts"
import { type Middleware, through } from "./middleware.ts"

type BrokerService = Context.Service.Shape<typeof Broker>
export type Failure = PublishError | OffsetConflict

/** Calls in flight per topic, calls answered at once before others have a turn, events of one lane in one append. */
const maxCalls = 4
const maxBurst = 16
const maxLaneEvents = 500
/** Events of one call; more only where one partition has them. */
const minShare = 25
const maxShare = 2_000

/** What one caller wants stored in one partition, in order. */
export abstract class Item {
  /** So many of its events, from the first on, have their answer. */
  stored = 0
  abandoned = false
  abstract readonly events: ReadonlyArray<Encoded>
  /** Events in all: one of `events` may hold several. */
  abstract readonly size: number
  /** With ids or a producer it travels alone, whole. */
  readonly ids: ReadonlyArray<string> | undefined
  readonly producer: Append["producer"]
  constructor(ids: ReadonlyArray<string> | undefined, producer: Append["producer"]) {
    this.ids = ids
    this.producer = producer
  }
  /** Where an event of it is stored: the next one, or (`repeated`) the one of an earlier call of this producer. */
  abstract place(topic: string, partition: number, id: string, index: number, repeated: boolean): void
  /** All of it is stored, or the rest never will be. */
  abstract settle(failure: Failure | undefined): void
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
  readonly events: number
}

export class Sender {
  private readonly lanes: Array<Lane | undefined> = []
  private ready: Array<Lane> = []
  private inFlight = 0
  private scheduled = false
  private flushing = false
  /** The last call was answered before it returned. */
  private isPrompt = false
  /** Calls in a row that were answered at once, as the embedded engine does. */
  private burst = 0
  private declared = false
  /** Events that are not on their way yet, and those that are. */
  private waiting = 0
  private flying = 0
  private turn = 0
  /** Lanes number their appends under it, each for itself, so that the engine finds what they stored in one place. */
  private readonly publisher = randomUUID()
  /** Of an event that was published lately with others, encoded. */
  usualBytes: number | undefined
  readonly topic: Any
  readonly codec: TopicCodec
  private readonly broker: BrokerService
  private readonly durability: Durability
  private readonly meter: PublishMeter
  private readonly run: <A, E>(effect: Effect.Effect<A, E>) => void
  constructor(
    topic: Any,
    codec: TopicCodec,
    broker: BrokerService,
    durability: Durability,
    meter: PublishMeter,
    run: <A, E>(effect: Effect.Effect<A, E>) => void
  ) {
    this.meter = meter
    this.topic = topic
    this.codec = codec
    this.broker = broker
    this.durability = durability
    this.run = run
  }

  /** Round robin, for events without a key. */
  readonly next = (): number => this.turn++ % this.topic.partitions

  encode(value: unknown, options: EmitOptions | undefined, middleware: ReadonlyArray<Middleware>): Encoded {
    return this.codec.encode(value, through(middleware, this.topic, value, options), this.next)
  }

  /**
   * Goes out with all else that is published in this turn; or at once, if it is `alone` and nothing is on its way. An engine
   * that answers at once would store each event by itself, so it is not hurried.
   */
  submit(partition: number, item: Item, alone: boolean): void {
    const lane = (this.lanes[partition] ??= {
      partition,
      publisher: this.publisher,
      number: 1,
      queue: [],
      busy: false,
      queued: false,
      fullSince: undefined,
      warned: false
    })
    lane.queue.push(item)
    this.waiting += item.size
    this.offer(lane, alone && this.inFlight === 0 && !this.isPrompt)
  }

  /** A caller gave up; what is not on its way yet is not sent. */
  abandon(partition: number, item: Item): void {
    item.abandoned = true
    const lane = this.lanes[partition]
    if (lane === undefined) return
    const at = lane.queue.indexOf(item)
    if (at >= 0) {
      lane.queue.splice(at, 1)
      this.waiting -= item.size - item.stored
    }
  }

  private offer(lane: Lane, atOnce = false): void {
    if (lane.busy || lane.queued || lane.queue.length === 0) return
    lane.queued = true
    this.ready.push(lane)
    if (this.flushing) return
    if (atOnce) return this.flush()
    if (!this.scheduled && this.inFlight < maxCalls) {
      this.scheduled = true
      // After the fibers of this turn, so that all they publish travels together.
      queueMicrotask(this.flush)
    }
  }

  private readonly flush = (): void => {
    this.scheduled = false
    // An answer that comes at once comes in the middle of a flush, which goes on with what it brought: were it to begin
    // another one, the stack would grow with every append.
    if (this.flushing) return
    this.flushing = true
    try {
      while (this.inFlight < maxCalls && this.ready.length > 0) {
        if (this.burst >= maxBurst) return this.breathe()
        const flights = this.gather()
        if (flights.length === 0) continue
        this.burst++
        this.send(flights)
      }
    } finally {
      this.flushing = false
    }
  }

  /** Let others have their turn (timers, heartbeats), then go on. */
  private breathe(): void {
    this.burst = 0
    this.scheduled = true
    this.run(Effect.andThen(Effect.yieldNow, Effect.sync(this.flush)))
  }

  /** What goes out with the next call: lanes of one shard. */
  private gather(): ReadonlyArray<Flight> {
    // Half of all, so that one half is made ready while the engine stores the other.
    const share = Math.max(minShare, Math.min(maxShare, Math.ceil((this.waiting + this.flying) / 2)))
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
      events += flight.events
    }
    this.ready = later
    return flights
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
        count += item.size - item.stored
      }
      lane.queue.splice(0, items.length)
      this.pack(items, entries)
    }
    let events = 0
    for (const item of items) events += item.size - item.stored
    this.waiting -= events
    this.flying += events
    const append: Append = {
      topic: this.topic,
      partition: lane.partition,
      publisher: lane.publisher,
      number: lane.number,
      entries,
      producer: first.producer
    }
    return { lane, append, items, events }
  }

  private pack(items: ReadonlyArray<Item>, entries: Array<Append["entries"][number]>): void {
    const most = this.codec.maxEvents
    let batch: Array<Encoded> = []
    let count = 0
    let bytes = 0
    for (const item of items) {
      let passed = 0
      for (const event of item.events) {
        // What was stored before was stored in whole entries.
        if (passed < item.stored) {
          passed += event.count
          continue
        }
        if (batch.length > 0 && (count + event.count > most || bytes + event.bytes > maxBatchBytes)) {
          entries.push(this.codec.pack(batch))
          batch = []
          count = bytes = 0
        }
        batch.push(event)
        count += event.count
        bytes += event.bytes
      }
    }
    if (batch.length > 0) entries.push(this.codec.pack(batch))
  }

  private send(flights: ReadonlyArray<Flight>): void {
    const before = this.inFlight++
    const appends = flights.map((flight) => flight.append)
    const sent = this.meter.sends(flights)
    const append = Effect.suspend(() => this.broker.append(appends, this.durability))
    const call = this.declared
      ? whenFailed(append, (call) => this.untilAnswered(call))
      : this.untilAnswered(Effect.andThen(this.declare, append))
    this.run(
      Effect.onExit(call, (exit) => {
        sent(exit)
        this.landed(flights, exit)
        return Effect.void
      })
    )
    this.isPrompt = this.inFlight === before
  }

  private readonly declare: Effect.Effect<void, EngineError> = Effect.suspend(() =>
    this.broker.declare([this.topic])
  ).pipe(
    Effect.mapError((error) =>
      error._tag === "EngineError"
        ? error
        : new EngineError({ operation: "publish", reason: "Refused", detail: error.message })
    ),
    Effect.tap(() =>
      Effect.sync(() => {
        this.declared = true
      })
    )
  )

  /** Sent again unchanged until the engine answers: it knows the numbers. */
  private untilAnswered<A>(
    call: Effect.Effect<A, EngineError | DurabilityNotReached>
  ): Effect.Effect<A, EngineError | DurabilityNotReached> {
    return call.pipe(
      patiently,
      Effect.retry({
        while: (error) => error._tag === "EngineError" && error.reason === "Full" && !this.failsWhenFull,
        schedule: untilRoom
      })
    )
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
    const isInFlush = this.flushing
    if (!isInFlush) this.burst = 0
    // What callers publish as they are answered travels together.
    this.flushing = true
    for (const flight of flights) this.flying -= flight.events
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
    this.flushing = isInFlush
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
    const topic = this.topic.name
    const { items } = flight
    let next = 0
    let item = items[0]
    for (let e = 0; e < ids.length; e++) {
      const { count } = flight.append.entries[e]!
      if (!repeated) this.meter.published += count
      const id = ids[e]!
      for (let index = 0; index < count; index++) {
        while (item !== undefined && item.stored === item.size) item = items[++next]
        if (item === undefined) return
        item.place(topic, partition, id, index, repeated)
        if (++item.stored === item.size) item.settle(undefined)
      }
    }
  }

  private fail(flight: Flight, failure: Failure): void {
    for (const item of flight.items) {
      if (item.stored < item.size) item.settle(failure)
    }
  }

  private putBack(flight: Flight): void {
    const rest = flight.items.filter((item) => item.stored < item.size && !item.abandoned)
    for (const item of rest) this.waiting += item.size - item.stored
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
          ).pipe(Effect.annotateLogs({ topic: topic.name, partition: lane.partition }))
        }
        yield* Effect.timeoutOption(broker.awaitRoom(topic, lane.partition), "10 seconds")
      }).pipe(Effect.ensuring(Effect.sync(() => this.free(lane))))
    )
  }
}

/** A full server: its memory is asked for again. */
const untilRoom = Schedule.spaced("200 millis")
