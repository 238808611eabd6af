/**
 * Events as the runtime makes them, and what those of one entry share. Keys, headers, times and offsets are worked out
 * when somebody asks: most handlers never do.
 */
import { DateTime } from "effect"
import { pipeArguments } from "effect/Pipeable"
import type { Entry, NewEntry } from "../../Broker.ts"
import type { DecodeError } from "../../Errors.ts"
import { type Event, type Origin, TypeId } from "../../Event.ts"
import { millis, offset } from "../entryId.ts"

export const noHeaders: Readonly<Record<string, string>> = {}

/** The fields that carry one value of an entry; made once per topic, since there is a source for every entry. */
export type ValueOf = (entry: Entry, index: number) => ReadonlyArray<string | Uint8Array>

/** What the events of one entry share. Keys, headers and times are parsed when somebody asks. */
export class Source {
  private keys: ReadonlyArray<string | null> | undefined
  private headers: ReadonlyArray<Readonly<Record<string, string>> | null> | undefined
  private times: ReadonlyArray<number | null> | undefined
  readonly topic: string
  readonly partition: number
  readonly id: string
  readonly count: number
  readonly origin: Origin
  readonly epoch: bigint
  readonly flat: boolean
  private readonly entry: Entry
  private readonly k: Uint8Array | undefined
  private readonly h: Uint8Array | undefined
  private readonly t: Uint8Array | undefined
  private readonly valueOf: ValueOf
  private sought: Needles | undefined
  private mayHave = true
  constructor(
    topic: string,
    partition: number,
    entry: Entry,
    origin: Origin,
    epoch: bigint,
    k: Uint8Array | undefined,
    h: Uint8Array | undefined,
    t: Uint8Array | undefined,
    flat: boolean,
    valueOf: ValueOf
  ) {
    this.valueOf = valueOf
    this.flat = flat
    this.topic = topic
    this.partition = partition
    this.entry = entry
    this.id = entry.id
    // A field of a flat record may be named like a batch's count.
    this.count = flat ? 1 : entry.count
    this.origin = origin
    this.epoch = epoch
    this.k = k
    this.h = h
    this.t = t
  }
  /** One event's value as it is stored: the fields that carry it. */
  valueFields(index: number): ReadonlyArray<string | Uint8Array> {
    return this.valueOf(this.entry, index)
  }
  /** Every field but those that say something about the value: for an entry whose values cannot be told apart. */
  rawFields(): ReadonlyArray<string | Uint8Array> {
    const { fields } = this.entry
    const kept: Array<Uint8Array> = []
    for (let i = 0; i < fields.length; i += 2) {
      if (!describes(text(fields[i]!), this.flat)) kept.push(fields[i]!, fields[i + 1]!)
    }
    return kept
  }
  key(index: number): string | undefined {
    if (this.k === undefined) return undefined
    this.keys ??= this.count === 1 ? [text(this.k)] : parseArray(this.k)
    return this.keys[index] ?? undefined
  }
  /** No event of it has one of these keys. Asked for each event, found out once, and without parsing all the keys. */
  lacks(needles: Needles): boolean {
    if (this.sought !== needles) {
      this.sought = needles
      this.mayHave = this.count === 1 || mayHave(this.k, needles)
    }
    return !this.mayHave
  }
  header(index: number): Readonly<Record<string, string>> {
    if (this.h === undefined) return noHeaders
    this.headers ??= this.count === 1 ? parseArray(this.h, true) : parseArray(this.h)
    return this.headers[index] ?? noHeaders
  }
  time(index: number): number {
    if (this.t !== undefined) {
      this.times ??= this.count === 1 ? parseArray(this.t, true) : parseArray(this.t)
      const time = this.times[index]
      if (typeof time === "number") return time
    }
    return millis(this.id)
  }
}

/** Keys as they stand in a batch. */
export type Needles = ReadonlyArray<Buffer>

/** More are parsed sooner than looked for. */
const mostNeedles = 8

/** Undefined if a batch may write one of these keys in several ways, or there are too many. */
export const needlesOf = (keys: ReadonlySet<string>): Needles | undefined => {
  if (keys.size > mostNeedles) return undefined
  const needles: Array<Buffer> = []
  for (const key of keys) {
    const json = JSON.stringify(key)
    // What is not UTF-8 becomes a replacement character only when it is parsed.
    if (json.includes("\\") || json.includes("\ufffd")) return undefined
    needles.push(Buffer.from(json))
  }
  return needles
}

const backslash = 0x5c

const mayHave = (keys: Uint8Array | undefined, needles: Needles): boolean => {
  if (keys === undefined) return false
  const hay = Buffer.from(keys.buffer, keys.byteOffset, keys.byteLength)
  // A foreign client may escape what needs no escape.
  return hay.includes(backslash) || needles.some((needle) => hay.includes(needle))
}

const describes = (name: string, flat: boolean): boolean =>
  flat ? name === "~k" || name === "~h" || name === "~t" : name === "n" || name === "k" || name === "h" || name === "t"

export const text = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString()

// What a foreign client wrote into k, h or t may be anything: it must not end a stream.
const parseArray = <A>(bytes: Uint8Array, single = false): ReadonlyArray<A> => {
  try {
    const value: unknown = JSON.parse(text(bytes))
    return single ? [value as A] : Array.isArray(value) ? value : []
  } catch {
    return []
  }
}

/** An event as the runtime makes it. `failure`: it could not be decoded. */
export class Received<A> implements Event<A> {
  attempt = 1
  /** Bookkeeping of what is not settled (see `Unsettled`). */
  done = false
  readonly value: A
  readonly source: Source
  readonly index: number
  readonly failure: DecodeError | undefined
  /** For an event that a pipeline changed: the one that was read. */
  readonly read: Received<unknown>
  constructor(value: A, source: Source, index: number, failure?: DecodeError, read?: Received<unknown>) {
    this.value = value
    this.source = source
    this.index = index
    this.failure = failure
    this.read = read ?? this
  }
  get [TypeId](): Origin {
    return this.source.origin
  }
  get topic(): string {
    return this.source.topic
  }
  get partition(): number {
    return this.source.partition
  }
  get offset(): string {
    return this.read === this ? offset(this.source.id, this.index) : this.read.offset
  }
  get key(): string | undefined {
    return this.source.key(this.index)
  }
  get headers(): Readonly<Record<string, string>> {
    return this.source.header(this.index)
  }
  get timestamp(): DateTime.Utc {
    return DateTime.makeUnsafe(this.source.time(this.index))
  }
  get epoch(): bigint {
    return this.source.epoch
  }
  /** With it, the event that was read is done. */
  get isLast(): boolean {
    return true
  }
  finish(): void {
    this.done = true
  }
  withValue<B>(value: B): Received<B> {
    const event = new Received(value, this.source, this.index, undefined, this.read)
    event.attempt = this.attempt
    return event
  }
  /** The event as an entry of its own, its value as it was stored. */
  stored(headers = this.headers): NewEntry {
    return this.entryOf(this.source.valueFields(this.index), headers)
  }
  /**
   * The same for one that perhaps nobody can decode: its own bytes if they can be told from those of its neighbours, else
   * those of the whole entry, and then `inBatch` names the header that says which of how many events it is.
   */
  kept(headers: Readonly<Record<string, string>>, inBatch: string): NewEntry {
    const { failure, index, source } = this
    if (failure === undefined || failure.reason === "Schema" || source.count === 1) {
      const fields = source.valueFields(index)
      return this.entryOf(fields.length > 0 ? fields : source.rawFields(), headers)
    }
    return this.entryOf(source.rawFields(), { ...headers, [inBatch]: `${index}/${source.count}` })
  }
  private entryOf(value: ReadonlyArray<string | Uint8Array>, headers: Readonly<Record<string, string>>): NewEntry {
    const { key, source } = this
    const flat = source.flat ? "~" : ""
    const fields = [...value]
    if (key !== undefined) fields.push(`${flat}k`, key)
    if (headers !== noHeaders) fields.push(`${flat}h`, JSON.stringify(headers))
    fields.push(`${flat}t`, String(source.time(this.index)))
    return { count: 1, fields }
  }
  pipe() {
    return pipeArguments(this, arguments)
  }
  toJSON(): unknown {
    const { attempt, key, offset, partition, topic, value } = this
    return { topic, partition, offset, key, attempt, value }
  }
}
