/**
 * One unit of work: what handling an event (or a batch) stages. It is merged into what the next commit takes when the
 * handler succeeds, and undone when it fails. A runner reuses its units, so the happy path allocates nothing per event.
 */
import { Context, Effect, type Fiber } from "effect"
import type { NewEntry } from "../../Broker.ts"
import { DecodeError, type EncodeError, UnitTooLarge } from "../../Errors.ts"
import { type Event, UnitOfWork } from "../../Event.ts"
import type { NewJob } from "../../JobStore.ts"
import type { DeadTarget } from "../../Policy.ts"
import type { Definition, Key } from "../../Table.ts"
import type { Any, EmitOptions } from "../../Topic.ts"
import type { Received } from "../record/received.ts"
import type { Encoded, TopicCodec } from "../record/record.ts"
import type { Row } from "./row.ts"
import type { Rows } from "./rows.ts"
import type { Tries } from "./tries.ts"
import type { Windows } from "./windows.ts"

/** An event for another topic, or a reply: encoded to be packed with others, or an entry as it was stored. */
export interface Emitted {
  readonly topic: Any
  readonly codec: TopicCodec
  readonly partition: number
  readonly event: Encoded | undefined
  readonly entry: NewEntry | undefined
  /** It is a reply, to the inbox of this asker. */
  readonly asker?: string | undefined
  /** It is a job, and no event at all: topic and codec say nothing then, and the entry how large it is. */
  readonly job?: StagedJob | undefined
}

export interface StagedJob {
  readonly queue: string
  readonly job: NewJob
}

/** What one commit carries: rows and emits, and bytes. A unit of work that is larger fails. */
export const maxWrites = 5_000
export const maxBytes = 1024 * 1024

/** Rows that turned out larger than a commit may be, only when they were encoded for it: too late for their event. */
export class Oversized extends Error {}

/** What a unit changed, for runners that finish events out of order. */
export interface Changes {
  readonly rows: ReadonlyArray<Row>
  readonly values: ReadonlyArray<unknown>
  readonly emits: ReadonlyArray<Emitted>
  /** Of the emits. */
  readonly bytes: number
  /** An event that is set aside, as soon as the offset moves past it; its bytes count too. */
  readonly aside?: Received<unknown> | undefined
}

/** How much a unit had staged at some moment. */
export interface Mark {
  readonly writes: number
  readonly emits: number
  readonly bytes: number
}

/** What a unit needs of the partition it runs in. */
export interface Host {
  readonly processor: string
  readonly partition: number
  readonly rows: Rows
  /** Where a table has windows. */
  readonly windows?: Windows | undefined
  /** Throws an `EncodeError`, or an error that says why this topic cannot be reached. */
  readonly encode: (topic: Any, value: unknown, options: EmitOptions | undefined) => Emitted
  readonly forward: (topic: Any, event: Event<unknown>) => Emitted
  /** A value of a topic that stands for replies, for an inbox; the fields are added to it. */
  readonly reply: (topic: Any, value: unknown, asker: string, fields: ReadonlyArray<string>) => Emitted
  readonly deadLetter: (
    event: Received<unknown>,
    target: DeadTarget,
    headers: Readonly<Record<string, string>>
  ) => Emitted
}

/** Bytes that an emit adds to a commit. */
export const sizeOf = ({ entry, event }: Emitted): number => {
  if (event !== undefined) return event.bytes + sizeOfHeaders(event.headers)
  let bytes = 0
  for (const field of entry!.fields) bytes += typeof field === "string" ? Buffer.byteLength(field) : field.byteLength
  return bytes
}

const sizeOfHeaders = (headers: Readonly<Record<string, string>> | undefined): number => {
  let bytes = 0
  if (headers !== undefined) for (const name in headers) bytes += name.length + headers[name]!.length
  return bytes
}

/** A unit that wrote more gives its arrays back. */
const keptWrites = 64

export class Unit {
  event!: Event<unknown>
  emits: Array<Emitted> = []
  /** The first `writes` of these count: the arrays are kept for the next event. */
  private rows: Array<Row> = []
  private before: Array<unknown> = []
  private writes = 0
  /** Of the emits. */
  bytes = 0
  /** What was tried after failures of this event so far; of an earlier event if it is not this one's. */
  tries: Tries | undefined
  readonly host: Host
  /** Rows must belong to the event's own key (`concurrency: { perKey }`): another key's handler may be writing them. */
  private readonly ownKeyOnly: boolean
  constructor(host: Host, ownKeyOnly: boolean) {
    this.host = host
    this.ownKeyOnly = ownKeyOnly
  }

  /** Rows and emits that it staged. */
  get size(): number {
    return this.writes + this.emits.length
  }

  /** Runs `f` on the row of a key, at once if it is cached. */
  with<A>(definition: Definition, key: Key, f: (row: Row, unit: Unit) => A): Effect.Effect<A, DecodeError> {
    const { rows } = this.host
    const table = rows.table(definition)
    const row = rows.cached(table, key)
    return row === undefined
      ? Effect.flatMap(rows.load(table, key, this.event.key), (row) => this.on(row, f))
      : this.on(row, f)
  }

  private on<A>(row: Row, f: (row: Row, unit: Unit) => A): Effect.Effect<A, DecodeError> {
    if (this.ownKeyOnly) this.check(row)
    try {
      return Effect.succeed(f(row, this))
    } catch (error) {
      if (error instanceof DecodeError) return Effect.fail(error)
      throw error
    }
  }

  /** Another key's handler may be writing it at this moment; so may that of any event without a key. */
  private check({ key, table, topicKey }: Row): void {
    if (topicKey !== undefined && topicKey === this.event.key) return
    throw new Error(
      `table ${table.definition.name}: with concurrency perKey a handler reaches only rows of its own event's key ` +
        `(${String(this.event.key)}), not ${key}`
    )
  }

  emit(emitted: Emitted): void {
    this.emits.push(emitted)
    this.bytes += sizeOf(emitted)
  }

  /**
   * Whether no commit can carry it. A single emit is bounded by its topic. Sizes of rows are known before their commit only
   * where rows are measured.
   */
  get tooLarge(): boolean {
    const { host, writes } = this
    if (this.size <= maxWrites && this.bytes <= maxBytes && (writes === 0 || !host.rows.measures)) return false
    const measured = this.measure()
    if (writes === 0 && this.emits.length === 1) return false
    return measured.writes > maxWrites || measured.bytes > maxBytes
  }

  /** Bytes that it adds to a commit; about, unless rows are measured. */
  get weight(): number {
    const { rows } = this.host
    if (this.writes === 0) return this.bytes
    return rows.measures ? this.measure().bytes : this.bytes + this.writes * rows.rowBytes
  }

  /** Each row once, however often it was written. */
  private measure(): { readonly writes: number; readonly bytes: number } {
    const rows = new Set<Row>()
    for (let i = 0; i < this.writes; i++) rows.add(this.rows[i]!)
    let { bytes } = this
    for (const row of rows) bytes += this.host.rows.sizeOf(row, row.value)
    return { writes: rows.size + this.emits.length, bytes }
  }

  excess(processor: string): UnitTooLarge {
    const { offset, partition } = this.event
    return new UnitTooLarge({ processor, partition, offset, ...this.measure() })
  }

  write(row: Row, value: unknown): void {
    this.rows[this.writes] = row
    this.before[this.writes] = row.value
    this.writes++
    row.value = row.table.hold(value)
  }

  /** The handler succeeded: its changes, to be settled now or later. */
  take(): Changes {
    const rows = this.rows.slice(0, this.writes)
    const changes = { rows, values: rows.map((row) => row.value), emits: this.emits, bytes: this.bytes }
    // They are merged later: what the unit is used for next must not be among them.
    this.emits = []
    this.clear()
    return changes
  }

  /** The handler succeeded and everything before it is done: a commit may take its rows. */
  settle(): void {
    const { rows } = this.host
    for (let i = 0; i < this.writes; i++) {
      const row = this.rows[i]!
      rows.settle(row, row.value)
    }
    if (this.size > 0) this.clear()
  }

  /** The handler failed: as if it had never run. */
  undo(): void {
    for (let i = this.writes - 1; i >= 0; i--) this.rows[i]!.value = this.before[i]
    this.clear()
  }

  get mark(): Mark {
    return { writes: this.writes, emits: this.emits.length, bytes: this.bytes }
  }

  /** Part of it failed: as if nothing had happened since. */
  undoTo(mark: Mark): void {
    for (let i = this.writes - 1; i >= mark.writes; i--) this.rows[i]!.value = this.before[i]
    this.writes = mark.writes
    this.emits.length = mark.emits
    this.bytes = mark.bytes
  }

  private clear(): void {
    if (this.writes > keptWrites) {
      this.rows = []
      this.before = []
    }
    this.writes = 0
    this.bytes = 0
    if (this.emits.length > 0) this.emits = []
  }
}

export const unitOf = (context: Context.Context<never>): Unit =>
  Context.getUnsafe(context, UnitOfWork) as unknown as Unit

/** The staged form of `Topic.emit` and `Topic.forward`. */
export const stage = (
  make: (host: Host, fiber: Fiber.Fiber<unknown, unknown>) => Emitted
): Effect.Effect<void, EncodeError, UnitOfWork> =>
  Effect.withFiber((fiber) => {
    const unit = unitOf(fiber.context)
    try {
      unit.emit(make(unit.host, fiber))
      return Effect.void
    } catch (error) {
      return isEncodeError(error) ? Effect.fail(error) : Effect.die(error)
    }
  })

/** The unit of work of whoever runs here, if it runs in one. */
export const unitIn = (context: Context.Context<never>): Unit | undefined => {
  const unit = Context.getOrUndefined(context, UnitOfWork)
  return unit as unknown as Unit | undefined
}

/** Enqueued by the commit, or not at all. */
export const stageJob = (unit: Unit, staged: StagedJob): void => {
  const { headers, payload } = staged.job
  const entry = { count: 1, fields: [headers, payload] }
  // No topic has a part in it: see `Emitted`.
  unit.emit({
    topic: undefined as never,
    codec: undefined as never,
    partition: 0,
    event: undefined,
    entry,
    job: staged
  })
}

const isEncodeError = (error: unknown): error is EncodeError =>
  typeof error === "object" && error !== null && "_tag" in error && error._tag === "EncodeError"

/** Reads or changes one row in the unit of work of the running handler. */
export const onRow = <A>(
  definition: Definition,
  key: Key,
  f: (row: Row, unit: Unit) => A
): Effect.Effect<A, DecodeError> => Effect.withFiber((fiber) => unitOf(fiber.context).with(definition, key, f))
