/**
 * A log that also keeps how far it is in event time, for processors with windows. The others have plain logs and pay
 * nothing for it.
 */
import type { Claim } from "../../Broker.ts"
import type { Any } from "../../Topic.ts"
import type { Received } from "../record/received.ts"
import type { TopicCodec } from "../record/record.ts"
import { type Book, Log } from "./log.ts"

/** An event's time may be ahead of the engine's clock by so much; what is more counts as that. */
const aheadMillis = 60_000

/** The engine's clock as this process knows it. */
export class EngineClock {
  private readonly local: () => number
  private ahead = 0
  constructor(local: () => number) {
    this.local = local
  }
  /** What the engine said just now. */
  set(now: number): void {
    this.ahead = now - this.local()
  }
  /** Whole milliseconds since 1970. */
  now(): number {
    return Math.floor(this.local() + this.ahead)
  }
}

export class TimedLog extends Log {
  /** The highest time of an event that is done. */
  time: number
  /** What the last commit that was cut has of it. */
  private cutTime: number
  private readonly clock: EngineClock
  /** No time up to here is too far ahead: the clock has been there. */
  private allowed = Number.NEGATIVE_INFINITY
  constructor(
    topic: Any,
    codec: TopicCodec,
    origin: Book,
    claimed: Extract<Claim, { readonly _tag: "Claimed" }>,
    clock: EngineClock
  ) {
    super(topic, codec, origin, claimed)
    this.clock = clock
    const known = claimed.times.find(({ source }) => source === topic.name)
    this.time = this.cutTime = known?.time ?? Number.NEGATIVE_INFINITY
  }

  override done(event: Received<unknown>): void {
    super.done(event)
    const time = event.source.time(event.index)
    if (time > this.time) this.time = this.capped(time)
  }

  /** A time that an event says, as it counts. */
  capped(time: number): number {
    if (time <= this.allowed) return time
    this.allowed = this.clock.now() + aheadMillis
    return Math.min(time, this.allowed)
  }

  /** Without events it goes with the clock. */
  follow(now: number): void {
    if (now > this.time) this.time = now
  }

  /** What the next commit is to store, if anything. */
  cut(): number | undefined {
    if (this.time === this.cutTime) return undefined
    this.cutTime = this.time
    return this.time
  }

  get isDirty(): boolean {
    return this.time !== this.cutTime
  }
}
