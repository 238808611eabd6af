/**
 * The wire format: how events become the fields of an entry, and back. An entry is a record batch.
 *
 * | field | one event | a batch of n |
 * | ----- | --------- | ------------ |
 * | `n`   | left out | the count; always the first field |
 * | `v`   | the encoded value | the codec's array of values, or the values framed by length (u32, big endian) |
 * | `f`   | the format, left out for plain JSON | the same |
 * | `k`   | the key, if any | JSON array of keys and nulls |
 * | `h`   | JSON object of headers, if any | JSON array of objects and nulls |
 * | `t`   | event time in ms, if one was given | JSON array of numbers and nulls |
 *
 * Flat topics store the record's own fields, one event per entry, and `~k`, `~h`, `~t` beside them.
 */
import { DateTime, Schema } from "effect"
import { pipeArguments } from "effect/Pipeable"
import "effect/schema/SchemaJITCompiler/enable"
import type { Entry, NewEntry } from "../Broker.ts"
import { DecodeError, EncodeError } from "../Errors.ts"
import { type Event, type Origin, TypeId } from "../Event.ts"
import { type Codec, open, seal, TooLarge } from "../Serializer.ts"
import type { Any, EmitOptions } from "../Topic.ts"
import { millis, offset } from "./entryId.ts"
import * as Flat from "./flat.ts"

/** A batch holds at most so many events and bytes, before transforms. */
export const maxBatchEvents = 100
export const maxBatchBytes = 64 * 1024

/** An event on its way into a partition: checked, encoded, not yet packed. */
export interface Encoded {
  readonly data: string | Uint8Array | ReadonlyArray<string | Uint8Array>
  readonly bytes: number
  readonly partition: number
  readonly key: string | undefined
  readonly headers: Readonly<Record<string, string>> | undefined
  readonly timestamp: number | undefined
}

const noHeaders: Readonly<Record<string, string>> = {}

/** The fields that carry one value of an entry; made once per topic, since there is a source for every entry. */
type ValueOf = (entry: Entry, index: number) => ReadonlyArray<string | Uint8Array>

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
  key(index: number): string | undefined {
    if (this.k === undefined) return undefined
    this.keys ??= this.count === 1 ? [text(this.k)] : parseArray(this.k)
    return this.keys[index] ?? undefined
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

const text = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString()

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
  /** Bookkeeping of the partition's window (see `window.ts`). */
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
    return offset(this.source.id, this.index)
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
  withValue<B>(value: B): Received<B> {
    const event = new Received(value, this.source, this.index, undefined, this.read)
    event.attempt = this.attempt
    return event
  }
  /** The event as an entry of its own, its value as it was stored. */
  stored(): NewEntry {
    const { headers, key, source } = this
    const flat = source.flat ? "~" : ""
    const fields = [...source.valueFields(this.index)]
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

/** How one topic's values are written and read, compiled once. */
export interface TopicCodec {
  /** Throws an `EncodeError`. */
  readonly encode: (value: unknown, options: EmitOptions | undefined, partition: () => number) => Encoded
  /** One entry of several events, in order; they must fit into one batch. */
  readonly pack: (events: ReadonlyArray<Encoded>, id?: string) => NewEntry
  /** The events of an entry from index `from` on; those that cannot be decoded carry their failure. */
  readonly unpack: (
    entry: Entry,
    partition: number,
    from: number,
    origin: Origin,
    epoch: bigint
  ) => Array<Received<unknown>>
  /** Flat topics keep one event per entry. */
  readonly maxEvents: number
}

export const problems = (schema: Schema.ConstraintCodec<unknown>, value: unknown): string => {
  try {
    Schema.decodeUnknownSync(schema)(value, { errors: "all" })
    return "no problem found on a second look"
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

const reason = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** Key, partition and time of a value; what a user's function throws is an `EncodeError`. */
const keyOf = (topic: Any, value: unknown, options: EmitOptions | undefined): string | undefined => {
  if (options?.key !== undefined) return String(options.key)
  if (topic.partitionBy === undefined) return undefined
  try {
    const key = topic.partitionBy(value)
    return key === undefined ? undefined : String(key)
  } catch (error) {
    throw new EncodeError({ target: topic.name, reason: "Key", detail: `partitionBy threw: ${reason(error)}` })
  }
}

const timeOf = (topic: Any, value: unknown, options: EmitOptions | undefined): number | undefined => {
  if (options?.timestamp !== undefined) return DateTime.toEpochMillis(options.timestamp)
  if (topic.timestamp === undefined) return undefined
  try {
    const time = topic.timestamp(value)
    const at = time instanceof Date ? time.getTime() : DateTime.toEpochMillis(time)
    if (!Number.isSafeInteger(at)) throw new Error(`timestamp gave ${String(time)}`)
    return at
  } catch (error) {
    throw new EncodeError({ target: topic.name, reason: "Key", detail: `timestamp threw: ${reason(error)}` })
  }
}

const partitionOf = (topic: Any, key: string | undefined, options: EmitOptions | undefined, next: () => number) => {
  const partition = options?.partition ?? (key === undefined ? next() : topic.partitioner(key, topic.partitions))
  if (!Number.isInteger(partition) || partition < 0 || partition >= topic.partitions) {
    throw new EncodeError({
      target: topic.name,
      reason: "Key",
      detail: `partition ${partition} does not exist: the topic has partitions 0 to ${topic.partitions - 1}`
    })
  }
  return partition
}

/** Compile a topic's codec; `serializer` is the one of the layer, used if the topic names none. */
export const compile = (topic: Any, serializer: Codec): TopicCodec =>
  topic.flat ? compileFlat(topic) : compileSerialized(topic, topic.serializer ?? serializer)

const compileSerialized = (topic: Any, codec: Codec): TopicCodec => {
  // An entry may have been written by a codec that takes the other form of a value.
  const form = codec.encodes ?? "json"
  const forms: Record<"json" | "type", Schema.ConstraintCodec<unknown>> = {
    json: Schema.toCodecJson(topic.schema),
    type: topic.schema
  }
  const schema = forms[form]
  const other = forms[form === "json" ? "type" : "json"]
  let decodeOther: ((value: unknown) => unknown) | undefined
  const encodeSchema = Schema.encodeSync(schema)
  const decodeSchema = Schema.decodeUnknownSync(schema)
  // One call for a whole batch: half the price of one for each event.
  const decodeAll = Schema.decodeUnknownSync(Schema.Array(schema))
  const isJson = codec.format === "json"
  // A batch as one array of the format is decoded in one go; else its values stand framed by length.
  const limit = topic.maxBytes + 2 * maxBatchBytes

  const encode: TopicCodec["encode"] = (value, options, next) => {
    const key = keyOf(topic, value, options)
    const headers = options?.headers
    let json: unknown
    try {
      json = encodeSchema(value)
    } catch {
      throw new EncodeError({ target: topic.name, reason: "Schema", detail: encodeProblems(schema, value) })
    }
    let data: string | Uint8Array
    try {
      data = codec.encode(json, headers ?? noHeaders)
      // JSON.stringify gives undefined for undefined, functions and symbols.
      if (data === undefined) throw new Error("the value has no serialized form")
    } catch (error) {
      throw new EncodeError({ target: topic.name, reason: "Serializer", detail: reason(error) })
    }
    const bytes = typeof data === "string" ? Buffer.byteLength(data) : data.byteLength
    if (bytes > topic.maxBytes) {
      throw new EncodeError({
        target: topic.name,
        reason: "TooLarge",
        detail: `the payload is ${bytes} bytes, the limit is ${topic.maxBytes} (option maxBytes of the topic)`
      })
    }
    return {
      data,
      bytes,
      partition: partitionOf(topic, key, options, next),
      key,
      headers,
      timestamp: timeOf(topic, value, options)
    }
  }

  const pack: TopicCodec["pack"] = (events, id) => {
    const fields: Array<string | Uint8Array> = []
    const first = events[0]!
    if (events.length === 1) {
      pushSealed(fields, codec, first.data as string | Uint8Array)
      if (first.key !== undefined) fields.push("k", first.key)
      if (first.headers !== undefined) fields.push("h", JSON.stringify(first.headers))
      if (first.timestamp !== undefined) fields.push("t", String(first.timestamp))
      return { id, count: 1, fields }
    }
    fields.push("n", String(events.length))
    const values = events.map((event) => event.data as string | Uint8Array)
    pushSealed(fields, codec, codec.join === undefined ? frame(values) : codec.join(values))
    if (events.some((event) => event.key !== undefined)) {
      fields.push("k", JSON.stringify(events.map((event) => event.key ?? null)))
    }
    if (events.some((event) => event.headers !== undefined)) {
      fields.push("h", JSON.stringify(events.map((event) => event.headers ?? null)))
    }
    if (events.some((event) => event.timestamp !== undefined)) {
      fields.push("t", JSON.stringify(events.map((event) => event.timestamp ?? null)))
    }
    return { id, count: events.length, fields }
  }

  const valueOf: ValueOf = ({ count, fields }, index) => {
    let v: Uint8Array | undefined
    let format: string | undefined
    for (let i = 0; i < fields.length; i += 2) {
      const name = fields[i]!
      if (name.length !== 1) continue
      if (name[0] === 0x76) v = fields[i + 1]!
      else if (name[0] === 0x66) format = text(fields[i + 1]!)
    }
    if (v === undefined) return []
    if (count === 1) return format === undefined ? ["v", v] : ["v", v, "f", format]
    const opened = open(codec, format, v, limit)
    const own: Array<string | Uint8Array> = []
    pushSealed(
      own,
      opened.codec,
      opened.codec.join === undefined
        ? unframe(opened.data)[index]!
        : opened.codec.encode((opened.codec.decode(opened.data, noHeaders) as ReadonlyArray<unknown>)[index], noHeaders)
    )
    return own
  }

  const unpack: TopicCodec["unpack"] = (entry, partition, from, origin, epoch) => {
    let v: Uint8Array | undefined
    let f: Uint8Array | undefined
    let k: Uint8Array | undefined
    let h: Uint8Array | undefined
    let t: Uint8Array | undefined
    const fields = entry.fields
    for (let i = 0; i < fields.length; i += 2) {
      const name = fields[i]!
      if (name.length !== 1) continue
      switch (name[0]) {
        case 0x76:
          v = fields[i + 1]!
          break
        case 0x66:
          f = fields[i + 1]!
          break
        case 0x6b:
          k = fields[i + 1]!
          break
        case 0x68:
          h = fields[i + 1]!
          break
        case 0x74:
          t = fields[i + 1]!
          break
      }
    }
    const count = entry.count
    const source = new Source(topic.name, partition, entry, origin, epoch, k, h, t, false, valueOf)
    // Nearly every entry is plain and good. What throws here is looked at again below, which says what is wrong.
    if (f === undefined && isJson && v !== undefined && v.byteLength <= limit) {
      try {
        if (count === 1) return [new Received(decodeSchema(codec.decode(v, source.header(0))), source, 0)]
        const values = decodeAll(codec.decode(v, noHeaders))
        if (values.length === count) {
          const events = new Array<Received<unknown>>(count - from)
          for (let i = from; i < count; i++) events[i - from] = new Received(values[i], source, i)
          return events
        }
      } catch {}
    }
    const events: Array<Received<unknown>> = []
    const fail = (index: number, why: DecodeError["reason"], detail: string, bytes = v ?? new Uint8Array()) =>
      new Received(
        undefined,
        source,
        index,
        new DecodeError({ topic: topic.name, partition, offset: offset(entry.id, index), reason: why, detail, bytes })
      )
    const failAll = (why: DecodeError["reason"], detail: string) => {
      for (let i = from; i < count; i++) events.push(fail(i, why, detail))
      return events
    }
    if (v === undefined) return failAll("Serializer", `the entry has no field "v"`)
    let raws: ReadonlyArray<unknown>
    let used = codec
    let frames: ReadonlyArray<Uint8Array> | undefined
    try {
      if (v.byteLength > limit) throw new TooLarge(v.byteLength, limit)
      const opened = open(codec, f === undefined ? undefined : text(f), v, limit)
      used = opened.codec
      if (count === 1) raws = [used.decode(opened.data, source.header(0))]
      else if (used.join !== undefined) raws = used.decode(opened.data, noHeaders) as ReadonlyArray<unknown>
      else {
        frames = unframe(opened.data)
        raws = frames
      }
      if (!Array.isArray(raws) || raws.length !== count) {
        throw new Error(`the entry says ${count} events and holds ${Array.isArray(raws) ? raws.length : "no array"}`)
      }
    } catch (error) {
      return failAll(error instanceof TooLarge ? "TooLarge" : "Serializer", reason(error))
    }
    const decode = (used.encodes ?? "json") === form ? decodeSchema : (decodeOther ??= Schema.decodeUnknownSync(other))
    for (let i = from; i < count; i++) {
      let raw = raws[i]
      if (frames !== undefined) {
        try {
          raw = used.decode(frames[i]!, source.header(i))
        } catch (error) {
          events.push(fail(i, "Serializer", reason(error), frames[i]))
          continue
        }
      }
      try {
        events.push(new Received(decode(raw), source, i))
      } catch {
        // The second, slower look lists every problem, not only the first.
        const bytes = count === 1 ? v : (frames?.[i] ?? Buffer.from(JSON.stringify(raw) ?? ""))
        events.push(fail(i, "Schema", problems(schema, raw), bytes))
      }
    }
    return events
  }

  return { encode, pack, unpack, maxEvents: maxBatchEvents }
}

const encodeProblems = (schema: Schema.ConstraintCodec<unknown>, value: unknown): string => {
  try {
    Schema.encodeUnknownSync(schema)(value, { errors: "all" })
    return "no problem found on a second look"
  } catch (error) {
    return reason(error)
  }
}

const pushSealed = (fields: Array<string | Uint8Array>, codec: Codec, data: string | Uint8Array): void => {
  const sealed = seal(codec, data)
  fields.push("v", sealed.data)
  if (sealed.format !== undefined) fields.push("f", sealed.format)
}

const frame = (values: ReadonlyArray<string | Uint8Array>): Uint8Array => {
  const parts: Array<Buffer> = []
  for (const value of values) {
    const body =
      typeof value === "string" ? Buffer.from(value) : Buffer.from(value.buffer, value.byteOffset, value.byteLength)
    const head = Buffer.alloc(4)
    head.writeUInt32BE(body.byteLength)
    parts.push(head, body)
  }
  return Buffer.concat(parts)
}

const unframe = (data: Uint8Array): ReadonlyArray<Uint8Array> => {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength)
  const values: Array<Uint8Array> = []
  let at = 0
  while (at < data.byteLength) {
    if (at + 4 > data.byteLength) throw new Error("the batch ends inside a length")
    const length = view.getUint32(at)
    at += 4
    if (at + length > data.byteLength) throw new Error("the batch ends inside a value")
    values.push(data.subarray(at, at + length))
    at += length
  }
  return values
}

const compileFlat = (topic: Any): TopicCodec => {
  const flat = Flat.compile(topic.schema, topic.name)

  const encode: TopicCodec["encode"] = (value, options, next) => {
    const key = keyOf(topic, value, options)
    let data: ReadonlyArray<string | Uint8Array>
    try {
      data = flat.encode(value)
    } catch (error) {
      throw new EncodeError({ target: topic.name, reason: "Schema", detail: reason(error) })
    }
    let bytes = 0
    for (const part of data) bytes += typeof part === "string" ? Buffer.byteLength(part) : part.byteLength
    if (bytes > topic.maxBytes) {
      throw new EncodeError({
        target: topic.name,
        reason: "TooLarge",
        detail: `the fields are ${bytes} bytes, the limit is ${topic.maxBytes} (option maxBytes of the topic)`
      })
    }
    return {
      data,
      bytes,
      key,
      headers: options?.headers,
      partition: partitionOf(topic, key, options, next),
      timestamp: timeOf(topic, value, options)
    }
  }

  const pack: TopicCodec["pack"] = (events, id) => {
    const event = events[0]!
    const fields = [...(event.data as ReadonlyArray<string | Uint8Array>)]
    if (event.key !== undefined) fields.push("~k", event.key)
    if (event.headers !== undefined) fields.push("~h", JSON.stringify(event.headers))
    if (event.timestamp !== undefined) fields.push("~t", String(event.timestamp))
    return { id, count: 1, fields }
  }

  /** Our own fields, and those of the record. */
  const parts = (entry: Entry) => {
    const found: { k?: Uint8Array; h?: Uint8Array; t?: Uint8Array } = {}
    const own: Array<Uint8Array> = []
    for (let i = 0; i < entry.fields.length; i += 2) {
      const name = entry.fields[i]!
      if (name.length === 2 && name[0] === 0x7e) {
        if (name[1] === 0x6b) found.k = entry.fields[i + 1]!
        else if (name[1] === 0x68) found.h = entry.fields[i + 1]!
        else if (name[1] === 0x74) found.t = entry.fields[i + 1]!
      } else own.push(name, entry.fields[i + 1]!)
    }
    return { found, own }
  }
  const valueOf: ValueOf = (entry) => parts(entry).own

  const unpack: TopicCodec["unpack"] = (entry, partition, from, origin, epoch) => {
    if (from > 0) return []
    const { found, own } = parts(entry)
    const { h, k, t } = found
    const source = new Source(topic.name, partition, entry, origin, epoch, k, h, t, true, valueOf)
    const size = own.reduce((sum, part) => sum + part.byteLength, 0)
    const fail = (why: DecodeError["reason"], detail: string) => [
      new Received(
        undefined,
        source,
        0,
        new DecodeError({
          topic: topic.name,
          partition,
          offset: offset(entry.id, 0),
          reason: why,
          detail,
          bytes: frame(own)
        })
      )
    ]
    if (size > topic.maxBytes) return fail("TooLarge", `the fields are ${size} bytes, the limit is ${topic.maxBytes}`)
    try {
      return [new Received(flat.decode(own), source, 0)]
    } catch (error) {
      return fail("Schema", reason(error))
    }
  }

  return { encode, pack, unpack, maxEvents: 1 }
}
