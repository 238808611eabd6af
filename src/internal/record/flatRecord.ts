/** Writes and reads the entries of flat topics: the record's own fields, one event an entry. */
import type { Entry } from "../../Broker.ts"
import { DecodeError, EncodeError } from "../../Errors.ts"
import type { Any } from "../../Topic.ts"
import { offset } from "../entryId.ts"
import * as Flat from "./flat.ts"
import { frame } from "./frame.ts"
import { type Placed, place, reason } from "./placement.ts"
import { Received, Source, type ValueOf } from "./received.ts"
import type { Encoded, TopicCodec } from "./record.ts"

export const compileFlat = (topic: Any): TopicCodec => {
  const flat = Flat.compile(topic.schema, topic.name)

  const encodeOne = (value: unknown, { headers, key, partition, timestamp }: Placed): Encoded => {
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
    return { data, bytes, count: 1, each: undefined, partition, key, headers, timestamp }
  }
  const at: TopicCodec["place"] = (value, options, next) => place(topic, value, options, next)
  const encode: TopicCodec["encode"] = (value, options, next) => encodeOne(value, at(value, options, next))
  const encodeAll: TopicCodec["encodeAll"] = (values, placed) => values.map((value, i) => encodeOne(value, placed[i]!))

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

  return { place: at, encode, encodeAll, pack, unpack, maxEvents: 1 }
}
