/**
 * One unit of work: what handling an event (or a batch) stages. It is merged into what the next commit takes when the
 * handler succeeds, and undone when it fails. A runner reuses its units, so the happy path allocates nothing per event.
 */
import { Context, Effect } from "effect"
import type { NewEntry } from "../../Broker.ts"
import type { EncodeError } from "../../Errors.ts"
import { type Event, UnitOfWork } from "../../Event.ts"
import type { Definition, Key } from "../../Table.ts"
import type { Any, EmitOptions } from "../../Topic.ts"
import type { Encoded, TopicCodec } from "../record/record.ts"
import type { Row, Rows } from "./rows.ts"

/** An event for another topic: encoded to be packed with others, or an entry as it was stored. */
export interface Emitted {
  readonly topic: Any
  readonly codec: TopicCodec
  readonly partition: number
  readonly event: Encoded | undefined
  readonly entry: NewEntry | undefined
}

/** What a unit changed, for runners that finish events out of order. */
export interface Changes {
  readonly rows: ReadonlyArray<Row>
  readonly values: ReadonlyArray<unknown>
  readonly emits: ReadonlyArray<Emitted>
}

/** What a unit needs of the partition it runs in. */
export interface Host {
  readonly rows: Rows
  /** Throws an `EncodeError`, or an error that says why this topic cannot be reached. */
  readonly encode: (topic: Any, value: unknown, options: EmitOptions | undefined) => Emitted
  readonly forward: (topic: Any, event: Event<unknown>) => Emitted
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
  with<A>(definition: Definition, key: Key, f: (row: Row) => A): Effect.Effect<A> {
    const { rows } = this.host
    const table = rows.table(definition)
    const row = rows.cached(table, key)
    return row === undefined
      ? Effect.map(rows.load(table, key), (row) => f(this.checked(row)))
      : Effect.succeed(f(this.checked(row)))
  }

  private checked(row: Row): Row {
    if (this.ownKeyOnly && row.topicKey !== this.event.key) {
      throw new Error(
        `table ${row.table.definition.name}: with concurrency perKey a handler reaches only rows of its own event's key ` +
          `(${String(this.event.key)}), not ${row.key}`
      )
    }
    return row
  }

  write(row: Row, value: unknown): void {
    this.rows[this.writes] = row
    this.before[this.writes] = row.value
    this.writes++
    row.value = value
  }

  /** The handler succeeded: its changes, to be settled now or later. */
  take(): Changes {
    const rows = this.rows.slice(0, this.writes)
    const changes = { rows, values: rows.map((row) => row.value), emits: this.emits }
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

  private clear(): void {
    if (this.writes > keptWrites) {
      this.rows = []
      this.before = []
    }
    this.writes = 0
    if (this.emits.length > 0) this.emits = []
  }
}

const unitOf = (context: Context.Context<never>): Unit => Context.getUnsafe(context, UnitOfWork) as unknown as Unit

/** The staged form of `Topic.emit` and `Topic.forward`. */
export const stage = (make: (host: Host) => Emitted): Effect.Effect<void, EncodeError, UnitOfWork> =>
  Effect.withFiber((fiber) => {
    const unit = unitOf(fiber.context)
    try {
      unit.emits.push(make(unit.host))
      return Effect.void
    } catch (error) {
      return isEncodeError(error) ? Effect.fail(error) : Effect.die(error)
    }
  })

const isEncodeError = (error: unknown): error is EncodeError =>
  typeof error === "object" && error !== null && "_tag" in error && error._tag === "EncodeError"

/** Reads or changes one row in the unit of work of the running handler. */
export const onRow = <A>(definition: Definition, key: Key, f: (row: Row, unit: Unit) => A): Effect.Effect<A> =>
  Effect.withFiber((fiber) => {
    const unit = unitOf(fiber.context)
    return unit.with(definition, key, (row) => f(row, unit))
  })
