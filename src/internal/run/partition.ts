/**
 * What a worker knows of one partition that it owns: what was read ahead, what was handed out, what is done, what the
 * next commit takes. Plain bookkeeping without effects; the runner, the fetcher and the committer drive it.
 */
import { Effect, Latch } from "effect"
import type { Commit, Entry, Fence, Position } from "../../Broker.ts"
import type { Received } from "../record/received.ts"
import { pack } from "./emits.ts"
import type { Lease } from "./lease.ts"
import type { Book, Log } from "./log.ts"
import type { Pressure } from "./pressure.ts"
import type { Rows } from "./rows.ts"
import type { Changes, Emitted } from "./unit.ts"

/** Events handed out at a time. */
const chunkEvents = 128

export interface Bounds {
  readonly events: number
  readonly bytes: number
  readonly uncommitted: number
}

/** A bound on what a worker hands out in all, if it has one. */
export interface Limit {
  remaining: number
  /** Called when some of it is given back. */
  readonly waiting: Set<() => void>
}

export class Partition {
  readonly partition: number
  readonly fence: Fence
  readonly logs: ReadonlyArray<Log>
  readonly rows: Rows
  readonly processor: string
  private readonly bounds: Bounds
  private readonly limit: Limit | undefined
  readonly lease: Lease
  private buffer: Array<{ readonly log: Log; readonly entry: Entry }> = []
  private head = 0
  private decoded: Array<Received<unknown>> = []
  private bufferedEvents = 0
  private bufferedBytes = 0
  /** Events handed out and not done. */
  taken = 0
  /** Finished out of order: what was handed out, oldest first, from `windowHead` on. */
  private window: Array<Received<unknown>> = []
  private windowHead = 0
  private readonly changes = new Map<Received<unknown>, Array<Changes>>()
  private emits: Array<Emitted> = []
  /** The number that the next commit carries. */
  number: number
  /** Nothing is handed out any more. */
  stopping = false
  paused = false
  /** The engine refused us: nothing may be committed. */
  fenced = false
  /** In the committer's hands. */
  queued = false
  /** Opens when there may be something to take, and when that will never be. */
  readonly arrival = Latch.makeUnsafe(false)
  readonly pressure: Pressure
  /** Opens when it is stopped. */
  readonly stops = Latch.makeUnsafe(false)
  /** In a commit that was not answered yet. */
  inFlight = false
  private readonly onDirty: (partition: Partition) => void
  private readonly onRoom: () => void
  private starved = false
  private still: { readonly position: string; readonly at: number } | undefined
  constructor(options: {
    readonly processor: string
    readonly partition: number
    readonly fence: Fence
    readonly number: number
    readonly logs: ReadonlyArray<Log>
    readonly rows: Rows
    readonly bounds: Bounds
    readonly limit: Limit | undefined
    readonly lease: Lease
    readonly pressure: Pressure
    readonly onDirty: (partition: Partition) => void
    readonly onRoom: () => void
  }) {
    this.processor = options.processor
    this.partition = options.partition
    this.fence = options.fence
    this.number = options.number
    this.logs = options.logs
    this.rows = options.rows
    this.bounds = options.bounds
    this.limit = options.limit
    this.lease = options.lease
    this.pressure = options.pressure
    this.onDirty = options.onDirty
    this.onRoom = options.onRoom
  }

  /** Events may be handed to handlers now. */
  get open(): boolean {
    return !this.stopping && !this.paused && this.lease.held
  }

  /** Waits until that may have changed. */
  get reopening(): Effect.Effect<void> {
    const again = this.paused ? this.arrival.await : this.lease.renewal.await
    return this.stopping ? Effect.void : Effect.raceFirst(again, this.stops.await)
  }

  // ------------------------------------------------------------------------------------------------------- reading ahead

  /** Bytes that may be read now; 0: leave this partition out. Half of the bound must be free, so that reads are large. */
  room(): number {
    if (this.stopping || this.paused) return 0
    const events = this.bufferedEvents + this.decoded.length
    if (events + this.taken + this.uncommitted() >= this.bounds.uncommitted) return this.starve()
    if (events * 2 > this.bounds.events || this.bufferedBytes * 2 > this.bounds.bytes) return this.starve()
    this.starved = false
    return this.bounds.bytes - this.bufferedBytes
  }

  /** Events that may be read now, if there is room at all. */
  get roomEvents(): number {
    return this.bounds.events - this.waiting
  }

  private starve(): number {
    this.starved = true
    return 0
  }

  positions(): ReadonlyArray<Position> {
    return this.logs.map((log) => ({
      topic: log.topic,
      partition: this.partition,
      after: log.after,
      entriesRead: log.entriesRead
    }))
  }

  deliver(log: Log, entries: ReadonlyArray<Entry>): void {
    for (const entry of entries) {
      this.buffer.push({ log, entry })
      this.bufferedEvents += entry.count
      this.bufferedBytes += size(entry)
    }
    log.after = entries[entries.length - 1]!.id
    log.entriesRead += entries.length
    if (!this.paused) this.arrival.openUnsafe()
  }

  // --------------------------------------------------------------------------------------------------------- handing out

  /** The next events, in order; none if nothing is there or nothing may be handed out now. */
  take(): Array<Received<unknown>> {
    const events = this.decoded
    this.decoded = []
    const most = Math.min(chunkEvents, this.bounds.events)
    while (events.length < most && this.head < this.buffer.length) {
      const { entry, log } = this.buffer[this.head++]!
      this.bufferedEvents -= entry.count
      this.bufferedBytes -= size(entry)
      const first = log.first(entry)
      if (first >= entry.count) {
        log.passed(entry)
        this.touched()
        continue
      }
      const unpacked = log.codec.unpack(entry, this.partition, first, log.origin, this.fence.epoch)
      if (events.length === 0 && this.head === this.buffer.length) {
        this.compact()
        return this.hand(unpacked)
      }
      for (const event of unpacked) events.push(event)
    }
    this.compact()
    return this.hand(events)
  }

  private hand(events: Array<Received<unknown>>): Array<Received<unknown>> {
    if (this.limit !== undefined && events.length > 0) {
      const allowed = Math.min(events.length, this.limit.remaining)
      this.limit.remaining -= allowed
      this.decoded = events.splice(allowed)
      if (this.decoded.length > 0) this.limit.waiting.add(this.retry)
    }
    this.taken += events.length
    if (events.length === 0 || (this.head === this.buffer.length && this.decoded.length === 0))
      this.arrival.closeUnsafe()
    if (this.starved) this.onRoom()
    return events
  }

  private readonly retry = (): void => {
    if (!this.paused) this.arrival.openUnsafe()
  }

  /** It is given away: what was handed out and never done does not count for the limit. */
  giveBack(): void {
    if (this.limit === undefined) return
    this.limit.waiting.delete(this.retry)
    if (this.taken === 0) return
    this.limit.remaining += this.taken
    this.taken = 0
    const waiting = Array.from(this.limit.waiting)
    this.limit.waiting.clear()
    for (const retry of waiting) retry()
  }

  private compact(): void {
    if (this.head === this.buffer.length) this.buffer = []
    else if (this.head > 64) this.buffer = this.buffer.slice(this.head)
    else return
    this.head = 0
  }

  /** Handed out and never started: as if it had not been read. For a partition that is given away. */
  get waiting(): number {
    return this.bufferedEvents + this.decoded.length
  }

  // ---------------------------------------------------------------------------------------------------------------- done

  /** For runners that finish in order: the next event is done. */
  done(event: Received<unknown>): void {
    ;(event.source.origin as Book).log.done(event)
    this.taken--
    if (!this.queued) this.touched()
  }

  /** For runners that do not: remember what was handed out, in its order. */
  register(events: ReadonlyArray<Received<unknown>>): void {
    for (const event of events) this.window.push(event)
  }

  /** Changes of a unit of work that count when its event is done. */
  stage(event: Received<unknown>, changes: Changes): void {
    if (changes.rows.length === 0 && changes.emits.length === 0) return
    const known = this.changes.get(event)
    if (known === undefined) this.changes.set(event, [changes])
    else known.push(changes)
  }

  /** Close events of the window; whatever is done without a hole before it may be committed. */
  close(events: ReadonlyArray<Received<unknown>>): void {
    for (const event of events) event.done = true
    while (this.windowHead < this.window.length && this.window[this.windowHead]!.done) {
      const event = this.window[this.windowHead]!
      this.windowHead++
      const changes = this.changes.get(event)
      if (changes !== undefined) {
        this.changes.delete(event)
        for (const change of changes) this.merge(change)
      }
      this.done(event)
    }
    if (this.windowHead > 1_000 && this.windowHead * 2 > this.window.length) {
      this.window = this.window.slice(this.windowHead)
      this.windowHead = 0
    }
  }

  /** Close everything that was handed out up to and including this event. */
  closeUpTo(event: Received<unknown>): void {
    const at = this.window.indexOf(event, this.windowHead)
    if (at >= 0) this.close(this.window.slice(this.windowHead, at + 1))
  }

  private merge(change: Changes): void {
    change.rows.forEach((row, i) => this.rows.settle(row, change.values[i]))
    for (const emitted of change.emits) this.emits.push(emitted)
  }

  /** Emits of a unit that finished in order. */
  emit(emits: ReadonlyArray<Emitted>): void {
    for (const emitted of emits) this.emits.push(emitted)
  }

  /** Rows or emits wait for a commit; asked for by whoever staged them without moving the offset. */
  touched(): void {
    if (this.queued || this.fenced) return
    this.queued = true
    this.onDirty(this)
  }

  // ----------------------------------------------------------------------------------------------------------- committing

  /** Done events that no answered commit has. */
  uncommitted(): number {
    let sum = 0
    for (const log of this.logs) sum += log.events - log.committed
    return sum
  }

  /** Rows and emits that wait for the next commit. */
  get staged(): number {
    return this.rows.pending + this.emits.length
  }

  /** What the next commit holds, or undefined if nothing moved. The same object is sent until it is answered. */
  cut(): Commit | undefined {
    const moved = this.logs.filter((log) => log.moved)
    if (moved.length === 0 && this.staged === 0) return undefined
    const commit: Commit = {
      ...this.fence,
      processor: this.processor,
      partition: this.partition,
      number: this.number,
      offsets: moved.map((log) => ({
        topic: log.topic.name,
        layout: log.topic,
        offset: log.position,
        entry: log.entry,
        entries: log.entries,
        events: log.events
      })),
      rows: this.rows.cut(),
      emits: pack(this.emits)
    }
    this.emits = []
    this.pressure.note(commit.emits)
    for (const log of moved) log.moved = false
    return commit
  }

  /** The engine has this commit. */
  committed(commit: Commit): void {
    this.number = commit.number + 1
    this.rows.landed()
    for (const offset of commit.offsets) {
      const log = this.logs.find((log) => log.topic.name === offset.topic)
      if (log !== undefined) log.committed = offset.events
    }
    if (this.starved) this.onRoom()
  }

  /** Stop handing out; what was not started is dropped. */
  stop(): void {
    this.stopping = true
    this.arrival.openUnsafe()
    this.stops.openUnsafe()
  }

  /** It is not ours any more, or may not be: nothing is started or committed from this moment on. */
  revoke(): void {
    this.fenced = true
    this.stop()
  }

  /** Keep everything, hand out nothing, or go on. */
  pause(paused: boolean): void {
    if (this.paused === paused) return
    this.paused = paused
    if (this.stopping) return
    if (paused) this.arrival.closeUnsafe()
    else {
      this.arrival.openUnsafe()
      this.onRoom()
    }
  }

  /** Everything done is committed. */
  get clean(): boolean {
    return !this.queued && !this.inFlight && this.staged === 0 && this.logs.every((log) => !log.moved)
  }

  /** Nothing read ahead, nothing in hand, nothing uncommitted. */
  get quiet(): boolean {
    return this.waiting === 0 && this.settled
  }

  /** Nothing in hand, nothing uncommitted. */
  get settled(): boolean {
    return this.taken === 0 && this.clean
  }

  /** The oldest event in hand, and since when nothing has moved, as far as the caller looked. */
  oldest(now: number): { readonly offset: string; readonly at: number } | undefined {
    if (this.taken === 0 || this.paused) {
      this.still = undefined
      return undefined
    }
    const position = this.logs.map((log) => log.position).join()
    if (this.still?.position !== position) this.still = { position, at: now }
    const first = this.window[this.windowHead]
    return { offset: first === undefined ? `after ${this.position}` : first.offset, at: this.still.at }
  }

  /** What it is doing, for a person who asks. */
  doing(now: number): string {
    const oldest = this.oldest(now)
    const state =
      oldest !== undefined
        ? `${this.taken} in hand since ${Math.round((now - oldest.at) / 1_000)} s, ${oldest.offset}`
        : this.paused
          ? `paused at ${this.position}`
          : `nothing in hand, at ${this.position}`
    const held = this.lease.held ? "" : ", waits for its lease"
    return `${this.processor}/${this.partition}: ${state}, ${this.waiting} read ahead, ${this.uncommitted()} not committed${held}`
  }

  /** Where it stands, for reports. */
  get position(): string {
    return this.logs[0]!.position
  }
}

const size = (entry: Entry): number => {
  let bytes = 64
  for (const field of entry.fields) bytes += field.byteLength
  return bytes
}
