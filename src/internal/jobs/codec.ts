/**
 * How the values of jobs become bytes and back: by their schema, and the serializer of the job or of the program. Nothing
 * at all stands for a value whose form is undefined, such as that of `Schema.Void`.
 */
import { Effect, Schema } from "effect"
import { DecodeError, EncodeError } from "../../Errors.ts"
import { type Codec, open, seal, TooLarge } from "../../Serializer.ts"
import { reason } from "../record/placement.ts"
import "../record/record.ts"

export interface Sealed {
  readonly format: string | undefined
  readonly data: string | Uint8Array
}

export interface ValueCodec {
  /** Throws an `EncodeError`. */
  readonly encode: (value: unknown) => Sealed
  /** Throws a `DecodeError`; `id` is that of the job. */
  readonly decode: (format: string | undefined, data: Uint8Array, id: string) => unknown
}

/** What encoding or decoding throws is a failure; all else is a bug. */
export const attempt = <A, E = EncodeError>(f: () => A): Effect.Effect<A, E> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(f())
    } catch (error) {
      // The caller names the one that its function throws.
      return error instanceof EncodeError || error instanceof DecodeError
        ? Effect.fail(error as unknown as E)
        : Effect.die(error)
    }
  })

const noHeaders = {}

/** `target` names the value in messages; `maxBytes` holds in both directions. */
export const compile = (
  target: string,
  schema: Schema.ConstraintCodec<any, any>,
  codec: Codec,
  maxBytes: number
): ValueCodec => {
  const forms = { json: Schema.toCodecJson(schema), type: schema }
  const encodeSchema = Schema.encodeSync(forms[codec.encodes ?? "json"])
  const decoders = { json: Schema.decodeUnknownSync(forms.json), type: Schema.decodeUnknownSync(forms.type) }
  const refused = (what: EncodeError["reason"], detail: string) => new EncodeError({ target, reason: what, detail })
  const encode = (value: unknown): Sealed => {
    let form: unknown
    try {
      form = encodeSchema(value)
    } catch (error) {
      throw refused("Schema", reason(error))
    }
    if (form === undefined) return { format: undefined, data: "" }
    let sealed: ReturnType<typeof seal>
    let bytes: number
    try {
      const data = codec.encode(form, noHeaders)
      bytes = typeof data === "string" ? Buffer.byteLength(data) : data.byteLength
      sealed = seal(codec, data)
    } catch (error) {
      throw refused("Serializer", reason(error))
    }
    if (bytes > maxBytes) {
      throw refused("TooLarge", `it is ${bytes} bytes, the limit is ${maxBytes} (option maxBytes of the job)`)
    }
    return sealed
  }
  // Most jobs have no result, and that takes as long to encode as a small one.
  const isAlike = schema === Schema.Void && codec.transforms.length === 0
  let nothing: Sealed | undefined
  return {
    encode: (value) => (isAlike && value === undefined ? (nothing ??= encode(value)) : encode(value)),
    decode: (format, data, id) => {
      let what: DecodeError["reason"] = "Serializer"
      try {
        let form: unknown
        let by = codec
        if (data.length > 0) {
          const opened = open(codec, format, data, maxBytes)
          by = opened.codec
          form = by.decode(opened.data, noHeaders)
        }
        what = "Schema"
        return decoders[by.encodes ?? "json"](form)
      } catch (error) {
        const why = error instanceof TooLarge ? "TooLarge" : what
        throw new DecodeError({
          topic: target,
          partition: 0,
          offset: id,
          reason: why,
          detail: reason(error),
          bytes: new Uint8Array(data)
        })
      }
    }
  }
}
