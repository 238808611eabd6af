/**
 * One row of a table as its owner holds it, and the table that it belongs to. What a row holds is the value itself, or
 * one of three marks: `missing`, `Undecodable` (what is stored does not fit the schema any more), `Timed` (it expires).
 *
 * Gotcha: a unit of work that is undone puts back the very mark that it found, and a row is at rest when its newest mark
 * is the settled one. So marks are compared, and never copied.
 */
import { Duration, Schema } from "effect"
import { DecodeError, EncodeError } from "../../Errors.ts"
import type { Codec } from "../../Serializer.ts"
import type { Definition, Key } from "../../Table.ts"
import { type ValueCodec, valueCodec } from "../record/stored.ts"

/** What a key without a row holds. */
export const missing: unique symbol = Symbol("missing")

/** What is stored cannot be read: an error for whoever reads it; a write replaces it. */
export class Undecodable {
  readonly error: DecodeError
  constructor(error: DecodeError) {
    this.error = error
  }
}

/** Until when, on this process' clock, in milliseconds since 1970; set anew by the commit, from which its time counts. */
export class Timed {
  readonly value: unknown
  until: number
  constructor(value: unknown, until: number) {
    this.value = value
    this.until = until
  }
}

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
  /** Of its key and its stored value. */
  bytes: number
}

/** A row as the engine has it. */
export interface Fetched {
  readonly bytes: Uint8Array
  /** When it expires; undefined: never. */
  readonly until: number | undefined
}

/** What is fetched and never asked for, at most. */
const mostFetched = 4_096
const mostFetchedBytes = 1024 * 1024

/** Rows that are fetched along before it is known how large they are. */
const firstForeseen = 32

export class TableState {
  readonly definition: Definition
  /** By the text of their keys, under which they are stored: 5 and "5" are one row. */
  readonly rows = new Map<string, Row>()
  private readonly byNumber = new Map<Key, Row>()
  readonly codec: ValueCodec<unknown>
  readonly isKey: (key: unknown) => boolean
  /** Milliseconds. */
  readonly timeToLive: number | undefined
  readonly now: () => number
  /** Fetched with others, and not asked for yet. */
  private fetched = new Map<string, Fetched | undefined>()
  private fetchedBytes = 0
  /** All that was ever fetched, in rows and bytes. */
  private answers = 0
  private answeredBytes = 0
  /** What is neither cached nor fetched has no row: all that is stored was little, and is here. */
  complete = false
  /** Whether that was looked for. */
  looked: boolean
  /** Its keys were those of the events: then the keys of the next events will be asked for. */
  follows = false
  constructor(definition: Definition, codec: Codec, now: () => number) {
    this.definition = definition
    this.codec = valueCodec(definition.value, codec)
    this.isKey = Schema.is(definition.key)
    this.now = now
    this.timeToLive = definition.timeToLive === undefined ? undefined : Duration.toMillis(definition.timeToLive)
    // A page does not tell when its rows expire.
    this.looked = this.timeToLive !== undefined
  }

  find(key: Key): Row | undefined {
    if (typeof key === "string") return this.rows.get(key)
    const known = this.byNumber.get(key)
    if (known !== undefined) return known
    const row = this.rows.get(String(key))
    if (row !== undefined) this.byNumber.set(key, row)
    return row
  }

  drop({ key }: Row): void {
    this.rows.delete(key)
    if (this.byNumber.size === 0) return
    this.byNumber.delete(Number(key))
    if (/^-?\d+$/.test(key)) this.byNumber.delete(BigInt(key))
  }

  /** What a handler sees. Throws a `DecodeError`. */
  read({ value }: Row): unknown {
    if (value === missing) return this.definition.initial()
    if (typeof value === "object" && value !== null) {
      if (value instanceof Timed) return this.now() < value.until ? value.value : this.definition.initial()
      if (value instanceof Undecodable) throw value.error
    }
    return value
  }

  /** A value that a handler writes, as its row holds it. */
  hold(value: unknown): unknown {
    if (this.timeToLive === undefined || value === missing) return value
    return new Timed(value, this.now() + this.timeToLive)
  }

  /** It goes into a commit: its time begins. */
  begin(held: unknown): void {
    if (held instanceof Timed && this.timeToLive !== undefined) held.until = this.now() + this.timeToLive
  }

  /** As it is stored; undefined removes the row. Throws an `EncodeError`. */
  encode(key: string, held: unknown): string | Uint8Array | undefined {
    if (held === missing) return undefined
    // Nothing writes one back: only values that a handler gave are ever settled.
    if (held instanceof Undecodable) throw held.error
    try {
      return this.codec.encode(valueOf(held))
    } catch (error) {
      throw this.refused(key, "Schema", error instanceof Error ? error.message : String(error))
    }
  }

  refused(key: string, reason: "Schema" | "Key", detail: string): EncodeError {
    return new EncodeError({ target: `table ${this.definition.name}, key ${key}`, reason, detail })
  }

  /** What a row holds that is stored so. */
  decode(key: string, partition: number, stored: Fetched | undefined): unknown {
    if (stored === undefined) return missing
    let value: unknown
    try {
      value = this.codec.decode(stored.bytes)
    } catch (error) {
      return new Undecodable(undecodable(this.definition.name, partition, key, stored.bytes, error))
    }
    return stored.until === undefined ? value : new Timed(value, stored.until)
  }

  // ------------------------------------------------------------------------------------------------- fetched, not asked for

  keep(key: string, stored: Fetched | undefined): void {
    const bytes = stored?.bytes.byteLength ?? 0
    this.fetched.set(key, stored)
    this.fetchedBytes += bytes
    this.answers++
    this.answeredBytes += bytes
  }

  /** How many rows may be fetched before anybody asks for them, as large as rows of this table are. */
  get foreseeable(): number {
    return this.answers === 0 ? firstForeseen : Math.floor((mostFetchedBytes * this.answers) / (this.answeredBytes + 1))
  }

  /** Room for more: what nobody has asked for until now is let go. */
  makeRoom(count: number): void {
    if (this.fetched.size + count <= mostFetched && this.fetchedBytes <= mostFetchedBytes) return
    this.fetched = new Map()
    this.fetchedBytes = 0
    this.complete = false
  }

  /** Whether it is known what is stored under this key. */
  knows(key: string): boolean {
    return this.complete || this.fetched.has(key)
  }

  take(key: string): Fetched | undefined {
    const stored = this.fetched.get(key)
    this.forget(key)
    return stored
  }

  forget(key: string): void {
    const stored = this.fetched.get(key)
    if (stored !== undefined) this.fetchedBytes -= stored.bytes.byteLength
    this.fetched.delete(key)
  }
}

/** What is in the mark. */
export const valueOf = (held: unknown): unknown => (held instanceof Timed ? held.value : held)

/** A stored value (or its key) that does not fit the schema. */
export const undecodable = (
  table: string,
  partition: number,
  key: string,
  bytes: Uint8Array,
  error: unknown
): DecodeError =>
  new DecodeError({
    topic: `table ${table}`,
    partition,
    offset: key,
    reason: "Schema",
    detail: error instanceof Error ? error.message : String(error),
    bytes
  })
