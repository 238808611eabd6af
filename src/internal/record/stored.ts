/**
 * Single values as bytes: rows of tables. Plain JSON stands as it is, so that any tool can read it; anything else says
 * how it was written: a zero byte (JSON never begins with one), the length of the format, the format, the data.
 */
import { Schema } from "effect"
import { type Codec, open, seal } from "../../Serializer.ts"

/** Bytes that one stored row may have after decompression. */
const limit = 64 * 1024 * 1024

const noHeaders = {}

export interface ValueCodec<A> {
  readonly encode: (value: A) => string | Uint8Array
  readonly decode: (bytes: Uint8Array) => A
}

/** Both throw: what a schema or a serializer refuses. */
export const valueCodec = <A>(schema: Schema.ConstraintCodec<A, any>, codec: Codec): ValueCodec<A> => {
  const forms = {
    json: Schema.toCodecJson(schema) as Schema.ConstraintCodec<A, unknown>,
    type: schema as Schema.ConstraintCodec<A, unknown>
  }
  const encode = Schema.encodeSync(forms[codec.encodes ?? "json"])
  const decoders = { json: Schema.decodeUnknownSync(forms.json), type: Schema.decodeUnknownSync(forms.type) }
  return {
    encode: (value) => {
      const { data, format } = seal(codec, codec.encode(encode(value), noHeaders))
      if (format === undefined) return data
      const name = Buffer.from(format)
      return Buffer.concat([Buffer.from([0, name.length]), name, typeof data === "string" ? Buffer.from(data) : data])
    },
    decode: (bytes) => {
      const marked = bytes[0] === 0
      const start = marked ? 2 + bytes[1]! : 0
      const format = marked ? Buffer.from(bytes.subarray(2, start)).toString() : undefined
      const opened = open(codec, format, bytes.subarray(start), limit)
      return decoders[opened.codec.encodes ?? "json"](opened.codec.decode(opened.data, noHeaders))
    }
  }
}
