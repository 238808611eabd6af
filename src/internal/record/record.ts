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
import "effect/schema/SchemaJITCompiler/enable"
import type { Entry, NewEntry } from "../../Broker.ts"
import type { Origin } from "../../Event.ts"
import type { Codec } from "../../Serializer.ts"
import type { Any, EmitOptions } from "../../Topic.ts"
import { compileFlat } from "./flatRecord.ts"
import type { Placed } from "./placement.ts"
import type { Received } from "./received.ts"
import { compileSerialized } from "./serialized.ts"

/** An event on its way into a partition, or several in one piece: checked, encoded, not yet packed. */
export interface Encoded extends Placed {
  readonly data: string | Uint8Array | ReadonlyArray<string | Uint8Array>
  readonly bytes: number
  readonly count: number
  /** The keys, headers and times of several; then those of the piece itself say nothing. */
  readonly each: ReadonlyArray<Placed> | undefined
}

/** How one topic's values are written and read, compiled once. */
export interface TopicCodec {
  /** Where an event goes. Throws an `EncodeError`. */
  readonly place: (value: unknown, options: EmitOptions | undefined, partition: () => number) => Placed
  /** Throws an `EncodeError`. */
  readonly encode: (value: unknown, options: EmitOptions | undefined, partition: () => number) => Encoded
  /** Events of one partition, placed already; in few pieces where the format can, which costs less. Throws as `encode`. */
  readonly encodeAll: (values: ReadonlyArray<unknown>, placed: ReadonlyArray<Placed>) => ReadonlyArray<Encoded>
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
  /** Flat topics keep one event per entry, and no entry holds more than the topic may. */
  readonly maxEvents: number
}

/** Compile a topic's codec; `serializer` is the one of the layer, used if the topic names none. */
const compile = (topic: Any, serializer: Codec): TopicCodec =>
  topic.flat ? compileFlat(topic) : compileSerialized(topic, topic.serializer ?? serializer)

const codecs = new WeakMap<Any, WeakMap<Codec, TopicCodec>>()

/** The compiled codec of a topic under the serializer of the program. */
export const codecOf = (topic: Any, serializer: Codec): TopicCodec => {
  let byCodec = codecs.get(topic)
  if (byCodec === undefined) codecs.set(topic, (byCodec = new WeakMap()))
  let codec = byCodec.get(serializer)
  if (codec === undefined) byCodec.set(serializer, (codec = compile(topic, serializer)))
  return codec
}
