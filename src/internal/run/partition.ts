/**
 * What a worker knows of one partition that it owns: what was read ahead, what was handed out, what is done, what the
 * next commit takes. Plain bookkeeping without effects; the runner, the fetcher and the committer drive it.
 */
import { Effect, Latch } from "effect"
import type { Commit, Entry, Fence, Position } from "../../Broker.ts"
import type { Quarantine } from "../../Coordinator.ts"
import type { Received } from "../record/received.ts"
import type { Caution } from "./caution.ts"
import { othersOf, pack } from "./emits.ts"
import { Landings } from "./landings.ts"
import type { Lease } from "./lease.ts"
import type { Limit } from "./limit.ts"
import type { Book, Log } from "./log.ts"
import type { Outbox } from "./outbox.ts"
import type { Parking } from "./parking.ts"
import type { Pressure } from "./pressure.ts"
import { Returned } from "./returned.ts"
import type { Rows } from "./rows.ts"
import { Supply } from "./supply.ts"
import { type Changes, type Emitted, maxBytes, maxWrites, Oversized, type Unit } from "./unit.ts"
import { Unsettled } from "./unsettled.ts"
import type { Windows } from "./windows.ts"

/** How much it may have in hand: events that were read and are not committed. */
interface Bounds {
  readonly events: number
  readonly bytes: number
  readonly uncommitted: number
}

/** Events handed out at a time. */
const chunkEvents = 128

export class Partition {
  readonly partition: number
  readonly fence: Fence
  readonly logs: ReadonlyArray<Log>
  readonly rows: Rows
  readonly processor: string
  private readonly bounds: Bounds
  private readonly limit: Limit | undefined
  readonly lease: Lease
  readonly supply: Supply
  /** Events handed out and not done. */
  taken = 0
  private readonly unsettled = new Unsettled({
    fits: (changes) => this.fitsAll(changes),
    merge: (changes) => this.merge(changes),
    done: (event) => this.done(event)
  })
  private emits: Array<Emitted> = []
  private emitBytes = 0
  /** Rows and emits, and bytes, of the commit that was cut last. */
  cutWrites = 0
  cutBytes = 0
  /** The number that the next commit carries, and the first one of this ownership. */
  number: number
  readonly first: number
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
  /** What waits aside. */
  readonly parking: Parking
  /** Where a table has windows. */
  readonly windows: Windows | undefined
  /** What goes to other shards; undefined where there are none. */
  readonly outbox: Outbox | undefined
  /** Its owners have died: what is handed out goes alone. */
  caution: Caution | undefined
  /** Told of each commit, and of those that change what is parked. */
  readonly landings = new Landings()
  readonly moves = new Landings()
  /** Opens when it is stopped. */
  readonly stops = Latch.makeUnsafe(false)
  /** Opens when there is a barrier. */
  readonly bars = Latch.makeUnsafe(false)
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
    readonly parking: Parking
    readonly windows?: Windows | undefined
    readonly outbox?: Outbox | undefined
    readonly onDirty: (partition: Partition) => void
    readonly onRoom: () => void
  }) {
    this.processor = options.processor
    this.partition = options.partition
    this.fence = options.fence
    this.number = this.first = options.number
    this.logs = options.logs
    this.rows = options.rows
    this.rows.inHand = (most) => this.unsettled.open(most)
    this.bounds = options.bounds
    this.limit = options.limit
    this.lease = options.lease
    this.pressure = options.pressure
    this.parking = options.parking
    this.windows = options.windows
    this.supply = new Supply({
      logs: options.logs,
      partition: options.partition,
      epoch: options.fence.epoch,
      merges: options.windows?.joins === true,
      onPassed: () => this.touched()
    })
    this.outbox = options.outbox
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
    if (this.supply.isCurious) return this.bounds.bytes
    const events = this.waiting
    const { bytes } = this.supply
    this.starved =
      events + this.taken + this.uncommitted() >= this.bounds.uncommitted ||
      events * 2 > this.bounds.events ||
      bytes * 2 > this.bounds.bytes
    return this.starved ? 0 : this.bounds.bytes - bytes
  }

  /** Events that may be read now, if there is room at all. */
  get roomEvents(): number {
    return this.supply.isCurious ? this.bounds.events : this.bounds.events - this.waiting
  }

  positions(): ReadonlyArray<Position> {
    return this.supply.positions()
  }

  deliver(log: Log, entries: ReadonlyArray<Entry>): void {
    log.after = entries[entries.length - 1]!.id
    log.entriesRead += entries.length
    if (this.supply.add(log, entries)) this.rouse()
  }

  /** A read that this partition was part of is over, and delivered. */
  looked(): void {
    if (this.supply.looked()) this.rouse()
  }

  // --------------------------------------------------------------------------------------------------------- handing out

  /** The next events, in order; none if nothing is there or nothing may be handed out now. */
  take(): Array<Received<unknown>> {
    if (this.caution !== undefined && !this.begins(this.caution)) return this.hand([])
    const events = this.hand(this.supply.take(Math.min(chunkEvents, this.bounds.events), this.caution !== undefined))
    if (this.supply.isCurious) this.onRoom()
    return events
  }

  /** On probation it begins with the event that it is suspected for, which may not have been read yet. */
  begins({ lifted, suspect }: Caution): boolean {
    if (lifted || suspect === undefined) return true
    const isThere = this.supply.prefer(suspect.topic)
    if (!isThere) this.arrival.closeUnsafe()
    return isThere
  }

  /** Events that were not read goes out before those that were. */
  give(events: ReadonlyArray<Received<unknown>>): void {
    this.supply.prepend(events)
    if (events.length > 0) this.rouse()
  }

  /**
   * It is time to look at what a join holds, and nothing else comes first: what was looked up before, or, since a commit
   * says that its owner did not die at the first event, that one.
   */
  get lets(): boolean {
    return this.windows?.lets === true && this.supply.isPlain && this.caution === undefined && !this.isUntried
  }

  private hand(events: Array<Received<unknown>>): Array<Received<unknown>> {
    if (this.caution !== undefined && events.length > 0) {
      this.supply.prepend(events.splice(1))
      if (--this.caution.remaining === 0) this.trust()
    }
    if (this.limit !== undefined && events.length > 0) {
      const allowed = this.limit.take(events.length)
      if (allowed < events.length) {
        this.supply.prepend(events.splice(allowed))
        this.limit.wait(this.rouse)
      }
    }
    this.taken += events.length
    this.rows.handed = events
    if (events.length === 0 || this.waiting === 0) this.arrival.closeUnsafe()
    if (this.starved) this.onRoom()
    return events
  }

  /** Nothing goes alone any more. */
  trust(): void {
    this.caution = undefined
    this.landings.land()
  }

  /** Whoever waits for events looks again. */
  readonly rouse = (): void => {
    if (!this.paused) this.arrival.openUnsafe()
  }

  /** It is given away: what was handed out and never done does not count for the limit. */
  giveBack(): void {
    if (this.limit === undefined) return
    this.limit.forget(this.rouse)
    const { taken } = this
    this.taken = 0
    this.limit.giveBack(taken)
  }

  /** Handed out and never started: as if it had not been read. For a partition that is given away. */
  get waiting(): number {
    return this.supply.events
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
    this.unsettled.add(events)
  }

  /** Changes of a unit of work that count when its events are done. */
  stage(events: ReadonlyArray<Received<unknown>>, changes: Changes): void {
    const first = events[0]!
    if (this.parking.active && first instanceof Returned) first.changes.push(changes)
    else this.unsettled.stage(events, changes)
  }

  /** Close events; whatever is done without a hole before it may be committed. */
  close(events: ReadonlyArray<Received<unknown>>): void {
    this.unsettled.close(events)
  }

  /** Close everything that was handed out up to and including this event. */
  closeUpTo(event: Received<unknown>): void {
    this.unsettled.closeUpTo(event)
  }

  private merge(change: Changes): void {
    change.rows.forEach((row, i) => this.rows.settle(row, change.values[i]))
    this.emit(change.emits, change.aside === undefined ? change.bytes : 0)
    if (change.aside !== undefined) this.parking.stage(change.aside)
  }

  /** Somebody else waits for the next commit: it has entries or replies for them. */
  get tells(): boolean {
    return this.emits.length > 0
  }

  /** Emits of a unit that finished in order. */
  emit(emits: ReadonlyArray<Emitted>, bytes: number): void {
    for (const emitted of emits) this.emits.push(emitted)
    this.emitBytes += bytes
  }

  /** These may go into the commit that is being filled. */
  private fits(writes: number, bytes: number): boolean {
    const { staged } = this
    return staged === 0 || (staged + writes <= maxWrites && this.stagedBytes + bytes <= maxBytes)
  }

  private fitsAll(changes: ReadonlyArray<Changes>): boolean {
    let writes = 0
    let bytes = 0
    for (const change of changes) {
      writes += change.rows.length + change.emits.length + (change.aside === undefined ? 0 : 1)
      bytes += change.bytes
      change.rows.forEach((row, i) => {
        bytes += this.rows.sizeOf(row, change.values[i])
      })
    }
    return this.fits(writes, bytes)
  }

  /** A unit that finished in order may go into the commit that is being filled. */
  takes(unit: Unit): boolean {
    return unit.size === 0 || (!unit.tooLarge && this.fits(unit.size, unit.weight))
  }

  // --------------------------------------------------------------------------------------------------------- set aside

  /** So many bytes of an event that is set aside may go into the commit that is being filled. */
  takesAside(bytes: number): boolean {
    return this.fits(1, bytes)
  }

  /** What an event that came back has changed may go into the commit that is being filled, behind all that is done. */
  takesBack({ changes }: Returned): boolean {
    return changes.length === 0 || (!this.unsettled.waits && this.fitsAll(changes))
  }

  /** It is done, and leaves its lane with this very commit. */
  takeBack({ changes, id, waiting }: Returned, now: number): void {
    for (const change of changes) this.merge(change)
    this.parking.succeeded(waiting.lane, id, now)
    this.touched()
  }

  /** Completes with the first commit that is answered after this call, or when it is stopped. */
  landing(): Effect.Effect<void> {
    return Effect.raceFirst(this.landings.next(), this.stops.await)
  }

  // --------------------------------------------------------------------------------------------------------- put aside

  /** A policy puts the partition aside at these events: what comes before them is finished, and nothing more started. */
  bar(events: ReadonlyArray<Received<unknown>>, entry: Quarantine): void {
    this.unsettled.bar(events, entry)
    this.arrival.openUnsafe()
    this.bars.openUnsafe()
  }

  /** Not to be started or acknowledged any more. */
  barred(event: Received<unknown>): boolean {
    return this.unsettled.barred(event)
  }

  /** Why it is to be put aside, once what comes before is finished. */
  get aside(): Quarantine | undefined {
    return this.unsettled.aside
  }

  /** Events before the barrier that a pipeline has taken and not given back. */
  get unfinished(): number {
    return this.unsettled.unfinished
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
    return this.logs.reduce((sum, log) => sum + log.events - log.committed, 0)
  }

  /** Rows, emits and changes of what is parked that wait for the next commit. */
  get staged(): number {
    const staged = this.rows.pending + this.emits.length
    return this.parking.active ? staged + this.parking.writes : staged
  }

  private get stagedBytes(): number {
    const bytes = this.emitBytes + this.rows.pendingBytes
    return this.parking.active ? bytes + this.parking.bytes : bytes
  }

  /** Enough waits for a commit, or to be delivered: nothing new is started before it. */
  get full(): boolean {
    return this.staged * 2 >= maxWrites || this.stagedBytes * 2 >= maxBytes || this.outbox?.full === true
  }

  /** What the next commit holds, or undefined if nothing moved. The same object is sent until it is answered. */
  cut(): Commit | undefined {
    const moved = this.logs.filter((log) => log.moved)
    if (moved.length === 0 && this.staged === 0 && !this.parking.dirty && this.windows?.isDirty !== true)
      return undefined
    this.cutWrites = this.staged
    const parkedBytes = this.parking.bytes
    const rows = this.rows.cut()
    this.cutBytes = this.rows.cutBytes + this.emitBytes + parkedBytes
    if (this.cutBytes > maxBytes && rows.length > 0 && !this.rows.measures) throw new Oversized()
    const commit: Commit = {
      ...this.fence,
      processor: this.processor,
      partition: this.partition,
      number: this.number,
      offsets: moved.map((log) => log.reached),
      rows,
      emits: pack(this.rows.withChanges(this.emits)),
      ...othersOf(this.emits),
      delivered: this.outbox?.toRemove(),
      parking: this.parking.active ? this.parking.cut() : undefined,
      windows: this.windows?.cut(this.rows.flying)
    }
    this.emits = []
    this.emitBytes = 0
    this.pressure.note(commit.emits)
    for (const log of moved) log.moved = false
    return commit
  }

  /** The engine has this commit. */
  committed(commit: Commit): void {
    this.number = commit.number + 1
    this.rows.landed()
    this.outbox?.committed(commit)
    for (const { events, topic } of commit.offsets) {
      for (const log of this.logs) if (log.topic.name === topic) log.committed = events
    }
    // What is done and did not fit.
    this.unsettled.advance()
    if (this.caution?.lift() === true && this.waiting > 0) this.rouse()
    if (this.windows?.isDue === true && !this.paused) this.arrival.openUnsafe()
    if (commit.parking !== undefined) {
      this.parking.committed()
      this.moves.land()
      this.rouse()
    }
    this.landings.land()
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

  /** Nothing was committed since it was claimed, and something could be. */
  get isUntried(): boolean {
    return this.number === this.first && this.logs.some((log) => log.isBehind)
  }

  /** Everything done is committed, and delivered. */
  get clean(): boolean {
    return (
      !this.queued &&
      !this.inFlight &&
      this.staged === 0 &&
      this.logs.every((log) => !log.moved) &&
      !this.unsettled.waits &&
      !this.parking.dirty &&
      this.windows?.isDirty !== true &&
      this.outbox?.waits !== true
    )
  }

  /** Nothing read ahead, nothing in hand, nothing uncommitted. */
  get quiet(): boolean {
    return this.waiting === 0 && this.settled
  }

  /** Nothing in hand, nothing uncommitted, no window to be closed now. */
  get settled(): boolean {
    return (
      this.taken === 0 &&
      this.parking.busy === 0 &&
      this.clean &&
      !(this.open && (this.windows?.closes === true || this.lets))
    )
  }

  /** The oldest event in hand, and since when nothing has moved, as far as the caller looked. */
  oldest(now: number): { readonly offset: string; readonly at: number } | undefined {
    if (this.taken === 0 || this.paused) {
      this.still = undefined
      return undefined
    }
    const position = this.logs.map((log) => log.position).join()
    if (this.still?.position !== position) this.still = { position, at: now }
    const first = this.unsettled.oldest
    return { offset: first === undefined ? `after ${this.position}` : first.offset, at: this.still.at }
  }

  /** Where it stands, for reports. */
  get position(): string {
    return this.logs[0]!.position
  }
}
