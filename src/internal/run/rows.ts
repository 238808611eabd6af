/**
 * The rows of a processor's tables in one partition, as its owner sees them: a bounded cache over what is committed, with
 * the writes that are not committed yet. Nobody else writes them while the epoch is ours, so the cache is never stale; it
 * is thrown away whole when the epoch ends.
 */
import { Effect } from "effect"
import type { Commit } from "../../Broker.ts"
import type { Event } from "../../Event.ts"
import type { Codec } from "../../Serializer.ts"
import type { Definition, Key } from "../../Table.ts"
import { keyOf } from "../table/keys.ts"
import { Cache, type CacheBounds, rowOf, standardBounds } from "./cache.ts"
import { ChangeLog, type Logs } from "./changes.ts"
import { Misses, type Stored } from "./misses.ts"
import { type Fetched, missing, type Row, TableState, valueOf } from "./row.ts"
import type { Emitted } from "./unit.ts"

/** Before any row was encoded: large, so that the first commit is small. */
const firstGuess = 8 * 1024

/** Events in hand whose keys are looked at when a row is missing. */
const mostUpcoming = 1_000

/** Which topic key a table key goes with, and where it lives. */
export interface Placement {
  readonly partition: number
  readonly partitionOf: (topicKey: string) => number
}

export interface Options {
  /** Rows are measured as they are written, and not only as they are committed. */
  readonly measures?: boolean | undefined
  readonly bounds?: CacheBounds | undefined
  /** Milliseconds since 1970. */
  readonly now?: (() => number) | undefined
  /** Where the changes of a table go, for those that keep them. */
  readonly logs?: Logs | undefined
}

export class Rows {
  private readonly tables = new Map<string, TableState>()
  /** The one that was asked for last: mostly the next one, too. */
  private latest: TableState | undefined
  private readonly cache: Cache
  private readonly misses: Misses
  private readonly log: ChangeLog | undefined
  /** Rows that the next commit writes. */
  private dirty: Array<Row> = []
  private inFlight: ReadonlyArray<Row> = []
  /** Bytes of an encoded row, about; unknown before the first commit. */
  private average: number | undefined
  /** Bytes of what was cut last. */
  cutBytes = 0
  /** Encoded sizes of the dirty rows, where rows are measured. */
  private readonly sizes: Map<Row, number> | undefined
  private measured = 0
  private readonly placement: Placement
  /** Those whose rows expire. */
  readonly timed: ReadonlyArray<TableState>
  /** The events that were handed out last, and those of them that are not done where they may finish in any order. */
  handed: ReadonlyArray<Event<unknown>> = []
  inHand: (most: number) => ReadonlyArray<Event<unknown>> = () => []
  /** Told of rows that were cut for a commit, of tables whose rows expire. */
  onTimed: ((rows: ReadonlyArray<Row>) => void) | undefined
  constructor(
    definitions: ReadonlyArray<Definition>,
    codec: Codec,
    placement: Placement,
    stored: Stored,
    { bounds = standardBounds, logs, measures = false, now = () => 0 }: Options = {}
  ) {
    this.placement = placement
    this.misses = new Misses(stored, () => this.upcoming())
    this.cache = new Cache(bounds, (row) => {
      row.table.drop(row)
      this.misses.leave(row.table, row.key)
    })
    this.sizes = measures ? new Map() : undefined
    for (const definition of definitions) this.tables.set(definition.name, new TableState(definition, codec, now))
    this.timed = Array.from(this.tables.values()).filter((table) => table.timeToLive !== undefined)
    const hasLogs = definitions.some((definition) => definition.changes !== undefined)
    this.log = hasLogs && logs !== undefined ? new ChangeLog(logs, codec, placement.partition) : undefined
  }

  /** Keys of the events in hand: the rows of them that a table lacks are read with the first of them. */
  private upcoming(): ReadonlyArray<string> {
    const events = this.inHand(mostUpcoming)
    return (events.length > 0 ? events : this.handed).flatMap(({ key }) => key ?? [])
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
    try {
      return (row.key.length + byteLength(row.table.encode(row.key, value))) * this.copies(row)
    } catch {
      // What a schema refuses is met by the commit.
      return 0
    }
  }

  /** A change that is logged is written twice. */
  private copies(row: Row): number {
    return this.log !== undefined && row.table.definition.changes !== undefined ? 2 : 1
  }

  table(definition: Definition): TableState {
    if (this.latest?.definition === definition) return this.latest
    const table = this.tables.get(definition.name)
    if (table === undefined || table.definition !== definition) {
      throw new Error(`table ${definition.name} is not declared by this processor: name it in its option "tables"`)
    }
    this.latest = table
    return table
  }

  cached(table: TableState, key: Key): Row | undefined {
    const row = table.find(key)
    if (row === undefined) {
      const text = String(key)
      return table.knows(text) ? this.admit(table, key, table.take(text)) : undefined
    }
    row.used = true
    return row
  }

  /** Read a row from the engine, for an event with this key; waits while the engine is away. */
  load(table: TableState, key: Key, eventKey?: string): Effect.Effect<Row> {
    return Effect.suspend(() => {
      // What must not be reached is not asked for.
      this.topicKeyOf(table, key)
      const text = String(key)
      if (text === eventKey) table.follows = true
      return Effect.flatMap(this.misses.fetch(table, text), () => {
        const row = this.cached(table, key)
        return row === undefined ? this.load(table, key) : Effect.succeed(row)
      })
    })
  }

  private topicKeyOf(table: TableState, key: Key): string | undefined {
    const { definition } = table
    if (!table.isKey(key)) throw table.refused(String(key), "Key", "it does not fit the table's schema for keys")
    if (definition.scope === "partition") return undefined
    const topicKey = String(definition.partitionBy?.(key) ?? key)
    const { partition, partitionOf } = this.placement
    const home = partitionOf(topicKey)
    if (home === partition) return topicKey
    throw new Error(
      `table ${definition.name}: key ${String(key)} belongs to partition ${home}, and the event is in partition ` +
        `${partition}; re-key the topic with Processor.repartition, give the table a partitionBy, or use scope: "partition"`
    )
  }

  /** Into the cache, as it is stored. */
  private admit(table: TableState, key: Key, stored: Fetched | undefined): Row {
    const topicKey = this.topicKeyOf(table, key)
    const text = String(key)
    const value = table.decode(text, this.placement.partition, stored)
    const row = rowOf({ table, key: text, topicKey }, value, stored?.bytes.byteLength ?? 0)
    table.rows.set(text, row)
    this.cache.add(row)
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

  /** The engine says that this row has expired; false: a unit of work that is not committed yet has written it. */
  expire(table: TableState, key: string): boolean {
    const row = table.rows.get(key) ?? this.expired(table, key)
    if (row.dirty || row.inFlight || row.value !== row.settled) return false
    row.value = missing
    this.settle(row, missing)
    return true
  }

  private expired(table: TableState, key: string): Row {
    table.forget(key)
    try {
      return this.admit(table, keyOf(table.definition)(key), undefined)
    } catch {
      // No handler can reach it.
      return rowOf({ table, key, topicKey: undefined }, missing, 0)
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
      row.table.begin(row.settled)
      const value = row.table.encode(row.key, row.settled)
      const size = row.key.length + byteLength(value)
      this.cache.resized(row, size)
      bytes += size
      const { definition, timeToLive } = row.table
      return timeToLive === undefined
        ? { table: definition.name, key: row.key, value }
        : { table: definition.name, key: row.key, value, timeToLive }
    })
    if (this.log !== undefined) for (const row of dirty) bytes += this.log.add(row, valueOf(row.settled))
    this.cutBytes = bytes
    if (rows.length > 0) {
      const average = bytes / rows.length
      this.average = this.average === undefined ? average : (this.average + average) / 2
      if (this.onTimed !== undefined) this.onTimed(dirty)
    }
    return rows
  }

  /** These, and the changes of what was cut for the topics that keep them. */
  withChanges(emits: ReadonlyArray<Emitted>): ReadonlyArray<Emitted> {
    return this.log === undefined ? emits : [...emits, ...this.log.cut()]
  }
}

const byteLength = (value: string | Uint8Array | undefined): number =>
  value === undefined ? 0 : typeof value === "string" ? Buffer.byteLength(value) : value.byteLength
