/**
 * The rows of a processor's tables in one partition, as its owner sees them: a cache over what is committed, with the
 * writes that are not committed yet. Nobody else writes them while the epoch is ours, so the cache is never stale; it is
 * thrown away whole when the epoch ends.
 */
import { Effect } from "effect"
import type { Commit } from "../../Broker.ts"
import { EncodeError, type EngineError } from "../../Errors.ts"
import type { Codec } from "../../Serializer.ts"
import type { Definition, Key } from "../../Table.ts"
import type { TableStore } from "../../TableStore.ts"
import { backoff } from "../backoff.ts"
import { type ValueCodec, valueCodec } from "../record/stored.ts"

/** What a key without a row holds. */
export const missing: unique symbol = Symbol("missing")

/** Rows kept per table and partition; clean ones beyond it are let go, those not used lately first. */
const capacity = 10_000

/** Waits while the engine is away. */
const patient = <A>(read: Effect.Effect<A, EngineError>): Effect.Effect<A> =>
  Effect.orDie(Effect.retry(read, { schedule: retry, while: (error) => error.reason !== "Unsupported" }))

export interface Row {
  readonly table: TableState
  readonly key: string
  /** The key of the topic that this row goes with; undefined for tables of scope "partition". */
  readonly topicKey: string | undefined
  /** As the newest unit of work left it. */
  value: unknown
  /** As the last unit that a commit may take left it. */
  settled: unknown
  dirty: boolean
  /** In a commit that was not answered yet: the engine may still have the value before it. */
  inFlight: boolean
  used: boolean
}

export class TableState {
  readonly definition: Definition
  readonly rows = new Map<Key, Row>()
  readonly codec: ValueCodec<unknown>
  /** All that is stored, if it was little: then a key that is not in it has no row, and nobody needs to ask. */
  whole: ReadonlyMap<string, Uint8Array> | undefined
  /** Whether that was looked for; and whether rows have left the cache since, which makes it old. */
  looked = false
  private evicted = false
  constructor(definition: Definition, codec: Codec) {
    this.definition = definition
    this.codec = valueCodec(definition.value, codec)
  }
  read(row: Row): unknown {
    return row.value === missing ? this.definition.initial() : row.value
  }
  /** Make room: a row that was used since the last look gets a second chance. */
  evict(): void {
    let looks = this.rows.size
    for (const [key, row] of this.rows) {
      if (this.rows.size < capacity || looks-- === 0) return
      if (row.dirty || row.inFlight || row.value !== row.settled) continue
      this.rows.delete(key)
      if (row.used) {
        row.used = false
        this.rows.set(key, row)
      } else {
        this.evicted = true
        this.whole = undefined
      }
    }
  }
  found({ next, rows }: Page): void {
    if (next === undefined && !this.evicted) this.whole = new Map(rows)
  }
}

type Page = Effect.Success<ReturnType<TableStore["Service"]["entries"]>>

/** How rows are read from the engine: one, or the first page of all. */
export interface Stored {
  readonly row: (table: string, key: string) => Effect.Effect<Uint8Array | undefined, EngineError>
  readonly page: (table: string) => Effect.Effect<Page, EngineError>
}

const encode = (row: Row, value: unknown): string | Uint8Array => {
  try {
    return row.table.codec.encode(value)
  } catch (error) {
    throw new EncodeError({
      target: `table ${row.table.definition.name}, key ${row.key}`,
      reason: "Schema",
      detail: error instanceof Error ? error.message : String(error)
    })
  }
}

const retry = backoff("50 millis", "2 seconds")

/** Before any row was encoded: large, so that the first commit is small. */
const firstGuess = 8 * 1024

/** Which topic key a table key goes with, and where it lives. */
export interface Placement {
  readonly partition: number
  readonly partitionOf: (topicKey: string) => number
}

export class Rows {
  private readonly tables = new Map<string, TableState>()
  /** Rows that the next commit writes. */
  private dirty: Array<Row> = []
  private inFlight: ReadonlyArray<Row> = []
  /** Bytes of an encoded row, about; unknown before the first commit. */
  private average: number | undefined
  /** Bytes of what was cut last. */
  cutBytes = 0
  /** Encoded sizes of the dirty rows, if rows are measured as they are written and not only as they are committed. */
  private readonly sizes: Map<Row, number> | undefined
  private measured = 0
  private readonly placement: Placement
  private readonly stored: Stored
  constructor(
    definitions: ReadonlyArray<Definition>,
    codec: Codec,
    placement: Placement,
    stored: Stored,
    measures = false
  ) {
    this.placement = placement
    this.stored = stored
    this.sizes = measures ? new Map() : undefined
    for (const definition of definitions) this.tables.set(definition.name, new TableState(definition, codec))
  }

  /** How many rows the next commit writes. */
  get pending(): number {
    return this.dirty.length
  }

  /** Sizes are exact, at the price of encoding each row one more time. */
  get measures(): boolean {
    return this.sizes !== undefined
  }

  /** Bytes of any row, about. */
  get rowBytes(): number {
    return this.average ?? firstGuess
  }

  /** Bytes that the next commit writes; about, unless rows are measured. */
  get pendingBytes(): number {
    return this.sizes === undefined ? this.dirty.length * this.rowBytes : this.measured
  }

  /** Bytes of a row with this value; about, unless rows are measured. */
  sizeOf(row: Row, value: unknown): number {
    if (this.sizes === undefined) return this.rowBytes
    if (value === missing) return row.key.length
    try {
      return row.key.length + byteLength(encode(row, value))
    } catch {
      // What a schema refuses is met by the commit.
      return 0
    }
  }

  table(definition: Definition): TableState {
    const table = this.tables.get(definition.name)
    if (table === undefined || table.definition !== definition) {
      throw new Error(`table ${definition.name} is not declared by this processor: name it in its option "tables"`)
    }
    return table
  }

  cached(table: TableState, key: Key): Row | undefined {
    const row = table.rows.get(key)
    if (row !== undefined) row.used = true
    else if (table.whole !== undefined) return this.admit(table, key, table.whole.get(String(key)))
    return row
  }

  /** Read a row from the engine; waits while the engine is away. */
  load(table: TableState, key: Key): Effect.Effect<Row> {
    return Effect.suspend(() => {
      const { name } = table.definition
      this.topicKeyOf(table, key)
      if (!table.looked) {
        table.looked = true
        return Effect.flatMap(patient(this.stored.page(name)), (page) => {
          table.found(page)
          const row = this.cached(table, key)
          return row === undefined ? this.load(table, key) : Effect.succeed(row)
        })
      }
      return Effect.map(patient(this.stored.row(name, String(key))), (bytes) => this.admit(table, key, bytes))
    })
  }

  private topicKeyOf({ definition }: TableState, key: Key): string | undefined {
    if (definition.scope === "partition") return undefined
    const topicKey = String(definition.partitionBy?.(key) ?? key)
    if (this.placement.partitionOf(topicKey) === this.placement.partition) return topicKey
    throw new Error(
      `table ${definition.name}: key ${String(key)} belongs to another partition than the event; ` +
        `re-key the topic with Processor.repartition, give the table a partitionBy, or use scope: "partition"`
    )
  }

  /** Into the cache, as it is stored. */
  private admit(table: TableState, key: Key, bytes: Uint8Array | undefined): Row {
    const known = table.rows.get(key)
    if (known !== undefined) return known
    const topicKey = this.topicKeyOf(table, key)
    let value: unknown = missing
    if (bytes !== undefined) {
      try {
        value = table.codec.decode(bytes)
      } catch (error) {
        const { name } = table.definition
        throw new Error(`table ${name}, key ${String(key)}: the stored value cannot be decoded: ${String(error)}`)
      }
    }
    if (table.rows.size >= capacity) table.evict()
    const row: Row = {
      table,
      key: String(key),
      topicKey,
      value,
      settled: value,
      dirty: false,
      inFlight: false,
      used: true
    }
    table.rows.set(key, row)
    return row
  }

  /** A unit that wrote this row may be committed now. */
  settle(row: Row, value: unknown): void {
    row.settled = value
    if (this.sizes !== undefined) {
      const size = this.sizeOf(row, value)
      this.measured += size - (this.sizes.get(row) ?? 0)
      this.sizes.set(row, size)
    }
    if (!row.dirty) {
      row.dirty = true
      this.dirty.push(row)
    }
  }

  /** The commit of what was cut last is answered. */
  landed(): void {
    for (const row of this.inFlight) row.inFlight = false
    this.inFlight = []
  }

  /** In a commit that was not answered yet. */
  get flying(): ReadonlyArray<Row> {
    return this.inFlight
  }

  /** Everything that may be committed, encoded; what a schema refuses throws. Its size is in `cutBytes`. */
  cut(): Commit["rows"] {
    const dirty = this.dirty
    this.dirty = []
    this.inFlight = dirty
    this.sizes?.clear()
    this.measured = 0
    let bytes = 0
    const rows = dirty.map((row) => {
      row.dirty = false
      row.inFlight = true
      const value = row.settled === missing ? undefined : encode(row, row.settled)
      bytes += row.key.length + (value === undefined ? 0 : byteLength(value))
      return { table: row.table.definition.name, key: row.key, value }
    })
    this.cutBytes = bytes
    if (rows.length > 0) {
      const average = bytes / rows.length
      this.average = this.average === undefined ? average : (this.average + average) / 2
    }
    return rows
  }
}

const byteLength = (value: string | Uint8Array): number =>
  typeof value === "string" ? Buffer.byteLength(value) : value.byteLength
