/** Writes and reads the entries of topics with a serializer: batches of values as one encoded array. */
import { Schema } from "effect"
import { DecodeError, EncodeError } from "../../Errors.ts"
import { type Codec, open, json as plainJson, seal, TooLarge } from "../../Serializer.ts"
import type { Any } from "../../Topic.ts"
import { offset } from "../entryId.ts"
import { frame, unframe } from "./frame.ts"
import { type Placed, place, reason } from "./placement.ts"
import { noHeaders, Received, Source, text, type ValueOf } from "./received.ts"
import type { Encoded, TopicCodec } from "./record.ts"

/** A batch holds at most so many events and bytes, before transforms. */
export const maxBatchEvents = 100
export const maxBatchBytes = 64 * 1024

export const compileSerialized = (topic: Any, codec: Codec): TopicCodec => {
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
  const { retention } = topic
  // An entry that is larger than the whole capacity would never find room.
  const maxEvents = retention._tag === "Consumed" ? Math.min(maxBatchEvents, retention.capacity) : maxBatchEvents
  // A batch as one array of the format is decoded in one go; else its values stand framed by length.
  const limit = topic.maxBytes + 2 * maxBatchBytes

  const encodeOne = (value: unknown, { headers, key, partition, timestamp }: Placed): Encoded => {
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
    return { data, bytes, count: 1, each: undefined, partition, key, headers, timestamp }
  }
  const at: TopicCodec["place"] = (value, options, next) => place(topic, value, options, next)
  const encode: TopicCodec["encode"] = (value, options, next) => encodeOne(value, at(value, options, next))

  /** One JSON text for several; undefined where only a look at each can tell what is wrong, or what is too large. */
  const encodePiece = (values: ReadonlyArray<unknown>, placed: ReadonlyArray<Placed>): Encoded | undefined => {
    const list = new Array<unknown>(values.length)
    let data: string
    try {
      for (let i = 0; i < values.length; i++) {
        const json = encodeSchema(values[i])
        // JSON would write these as null.
        if (json === undefined || typeof json === "function" || typeof json === "symbol") return undefined
        list[i] = json
      }
      data = JSON.stringify(list).slice(1, -1)
    } catch {
      return undefined
    }
    const bytes = Buffer.byteLength(data)
    usual = bytes / values.length
    if (bytes > topic.maxBytes || bytes > maxBatchBytes) return undefined
    const { partition } = placed[0]!
    const nothing = { key: undefined, headers: undefined, timestamp: undefined }
    return { data, bytes, count: values.length, each: placed, partition, ...nothing }
  }
  // How large values are, so that few pieces are made in vain.
  let usual = 0
  const encodeAll: TopicCodec["encodeAll"] = (values, placed) => {
    const pieces: Array<Encoded> = []
    let at = 0
    while (at < values.length) {
      const fitting = Math.min(maxEvents, Math.floor(maxBatchBytes / (usual + 1)))
      const size = codec.encode === plainJson.encode ? Math.min(fitting, values.length - at) : 1
      const end = at + Math.max(1, size)
      const piece = size > 1 ? encodePiece(values.slice(at, end), placed.slice(at, end)) : undefined
      if (piece === undefined) {
        for (; at < end; at++) {
          const one = encodeOne(values[at], placed[at]!)
          usual = one.bytes
          pieces.push(one)
        }
      } else pieces.push(piece)
      at = end
    }
    return pieces
  }

  const pack: TopicCodec["pack"] = (events, id) => {
    const fields: Array<string | Uint8Array> = []
    const first = events[0]!
    if (events.length === 1 && first.count === 1) {
      pushSealed(fields, codec, first.data as string | Uint8Array)
      if (first.key !== undefined) fields.push("k", first.key)
      if (first.headers !== undefined) fields.push("h", JSON.stringify(first.headers))
      if (first.timestamp !== undefined) fields.push("t", String(first.timestamp))
      return { id, count: 1, fields }
    }
    const all = events.length === 1 ? first.each! : events.flatMap((event) => event.each ?? event)
    const values = events.map((event) => event.data as string | Uint8Array)
    fields.push("n", String(all.length))
    pushSealed(fields, codec, codec.join === undefined ? frame(values) : codec.join(values))
    if (all.some((event) => event.key !== undefined)) fields.push("k", JSON.stringify(all.map(keyOrNull)))
    if (all.some((event) => event.headers !== undefined)) fields.push("h", JSON.stringify(all.map(headersOrNull)))
    if (all.some((event) => event.timestamp !== undefined)) fields.push("t", JSON.stringify(all.map(timeOrNull)))
    return { id, count: all.length, fields }
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
        if (count === 1 && from === 0) return [new Received(decodeSchema(codec.decode(v, source.header(0))), source, 0)]
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

  return { place: at, encode, encodeAll, pack, unpack, maxEvents }
}

const encodeProblems = (schema: Schema.ConstraintCodec<unknown>, value: unknown): string => {
  try {
    Schema.encodeUnknownSync(schema)(value, { errors: "all" })
    return "no problem found on a second look"
  } catch (error) {
    return reason(error)
  }
}

const problems = (schema: Schema.ConstraintCodec<unknown>, value: unknown): string => {
  try {
    Schema.decodeUnknownSync(schema)(value, { errors: "all" })
    return "no problem found on a second look"
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

const keyOrNull = ({ key }: Placed) => key ?? null
const headersOrNull = ({ headers }: Placed) => headers ?? null
const timeOrNull = ({ timestamp }: Placed) => timestamp ?? null

const pushSealed = (fields: Array<string | Uint8Array>, codec: Codec, data: string | Uint8Array): void => {
  const sealed = seal(codec, data)
  fields.push("v", sealed.data)
  if (sealed.format !== undefined) fields.push("f", sealed.format)
}
