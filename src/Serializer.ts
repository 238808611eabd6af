/**
 * How values become bytes. JSON by schema is the default; a topic may name another, and a layer sets the one of every
 * topic that names none. Each entry says how it was written, so a reader with another default still reads it: what is
 * built in is known to all; your own formats and keys must be given to every reader.
 *
 * Nest from the inside: `encrypted(compressed(json, { with: "zstd" }), keys)` compresses first.
 */
import { Context, Layer } from "effect"
import { Packr } from "msgpackr"
import { compression, decompressions } from "./internal/record/compression.ts"
import { type EncryptionKey, encryption, missingKey } from "./internal/record/encryption.ts"
import { checkPart, kind, refused, TooLarge, type Transform } from "./internal/record/transform.ts"

export { type EncryptionKey, TooLarge, type Transform }

/** Values to bytes (or text) and back. What the functions throw becomes an `EncodeError` or a `DecodeError`. */
export interface Codec {
  /** Stored with each entry as field `f` (left out for `json`). Transforms that were applied follow it: `json+gzip`. */
  readonly format: string
  /**
   * Which form of a value this codec is given, and gives back: `"json"`, the default, is the schema's JSON form
   * (`Schema.toCodecJson`: dates and bigints as text, bytes as base64); `"type"` is what the schema itself encodes to,
   * for formats that hold more than JSON can. The form that counts when reading is that of the codec `open` returned.
   */
  readonly encodes?: "json" | "type" | undefined
  readonly encode: (value: unknown, headers: Readonly<Record<string, string>>) => string | Uint8Array
  readonly decode: (bytes: Uint8Array, headers: Readonly<Record<string, string>>) => unknown
  /** Several encoded values as one array of this format; without it, a batch frames its values by length. */
  readonly join?: ((values: ReadonlyArray<string | Uint8Array>) => string | Uint8Array) | undefined
  /** Applied to the bytes of a whole entry, in order; undone in reverse order. */
  readonly transforms: ReadonlyArray<Transform>
}

/** The serializer of every topic that names none. */
export class Serializer extends Context.Service<Serializer, Codec>()("millrace/Serializer") {}

/** Any codec as the layer. */
export const layer = (codec: Codec): Layer.Layer<Serializer> => Layer.succeed(Serializer, codec)

const decoder = new TextDecoder("utf-8", { fatal: true })
// Text that begins with U+FEFF must come back with it.
const exactDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/**
 * Text of UTF-8. The strict decoder takes twice as long, so it is asked only where the quick one may have put U+FFFD for
 * broken bytes, or kept a byte order mark.
 */
const textOf = (bytes: Uint8Array): string => {
  const text = (
    bytes instanceof Buffer ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  ).toString()
  return text.includes("\uFFFD") || text.charCodeAt(0) === 0xfeff ? decoder.decode(bytes) : text
}

/** JSON, in the schema's JSON form. */
export const json: Codec = {
  format: "json",
  encodes: "json",
  encode: (value) => {
    const text = JSON.stringify(value)
    if (text === undefined) throw new Error(`JSON has no ${typeof value}: let the schema encode it`)
    return text
  },
  decode: (bytes) => JSON.parse(textOf(bytes)),
  join: (values) => `[${values.join(",")}]`,
  transforms: []
}

/** Plain UTF-8, for schemas whose JSON form is a string. */
export const text: Codec = {
  format: "text",
  encodes: "json",
  encode: (value) => {
    if (typeof value !== "string") throw new Error(`the text serializer takes a string, not ${describe(value)}`)
    return wellFormed(value)
  },
  decode: (bytes) => exactDecoder.decode(bytes),
  transforms: []
}

/** Bytes as they are, for schemas that encode to a `Uint8Array`. */
export const raw: Codec = {
  format: "raw",
  encodes: "type",
  encode: (value) => {
    if (!(value instanceof Uint8Array)) throw new Error(`the raw serializer takes a Uint8Array, not ${describe(value)}`)
    return value
  },
  // A copy: what comes in is a view of a whole reply, which would stay in memory as long as the value does.
  decode: (bytes) => new Uint8Array(bytes),
  transforms: []
}

// "auto" (a number where it is exact, else a bigint) is missing in msgpackr's types.
const packr = new Packr({
  useRecords: false,
  mapsAsObjects: true,
  variableMapSize: true,
  structuredClone: false,
  copyBuffers: true,
  int64AsType: "auto"
} as unknown as ConstructorParameters<typeof Packr>[0])

/** MessagePack, in the schema's JSON form. `{ ...msgpack, encodes: "type" }` keeps `Uint8Array`s as bytes, not as base64. */
export const msgpack: Codec = {
  format: "msgpack",
  encodes: "json",
  encode: (value) => {
    const bytes = packr.pack(value)
    // msgpackr writes half a surrogate pair as broken UTF-8 (ED ..) or as U+FFFD (EF BF BD), without a word.
    if (bytes.includes(0xed) || bytes.includes(0xef)) checkStrings(value)
    return bytes
  },
  // A view of its own: msgpackr leaves a property on the array it reads.
  decode: (bytes) => packr.unpack(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)),
  join: (values) => Buffer.concat([arrayHeader(values.length), ...values.map(toBytes)]),
  transforms: []
}

/** JSON for every topic that names none. */
export const layerJson: Layer.Layer<Serializer> = layer(json)

const builtIn: ReadonlyMap<string, Codec> = new Map([json, text, raw, msgpack].map((codec) => [codec.format, codec]))

/**
 * A format of your own: two functions. `format` is stored with each entry; readers without this codec refuse it by that
 * name, so give one if you may ever have two.
 */
export const make = (options: {
  readonly format?: string | undefined
  readonly encodes?: Codec["encodes"]
  readonly encode: Codec["encode"]
  readonly decode: Codec["decode"]
  readonly join?: Codec["join"]
}): Codec => {
  const format = checkPart("make: the format", options.format ?? "own")
  if (builtIn.has(format)) {
    throw refused(`make: the format "${format}" is built in, and read as such everywhere: choose another name`)
  }
  const { encodes = "json", encode, decode, join } = options
  return { format, encodes, encode, decode, join, transforms: [] }
}

/** Entries of more than `above` bytes (default 1 KiB) are compressed, if that makes them smaller. */
export const compressed = (
  self: Codec,
  options: {
    readonly with: "gzip" | "brotli" | "zstd"
    readonly above?: number | undefined
  }
): Codec => {
  if (self.transforms.some((transform) => kind(transform.name) === "aes")) {
    throw refused("compressed: encrypted bytes do not shrink: compress first, encrypted(compressed(...), keys)")
  }
  return withTransform(self, compression(options.with, options.above ?? 1024))
}

/**
 * AES-256-GCM; the first key encrypts, all decrypt. To rotate: add the new key at the end everywhere, then move it to the
 * front, and take the old one out when no entry of it is left. Entries that were written plain stay readable.
 */
export const encrypted = (self: Codec, keys: readonly [EncryptionKey, ...ReadonlyArray<EncryptionKey>]): Codec =>
  withTransform(self, encryption(keys))

const withTransform = (self: Codec, transform: Transform): Codec => {
  const of = kind(transform.name)
  if (self.transforms.some((other) => kind(other.name) === of)) {
    throw refused(
      of === "aes" ? "encrypted twice: give all keys to one" : `compressed with ${of} twice: once is enough`
    )
  }
  return { ...self, transforms: [...self.transforms, transform] }
}

/** The bytes of an entry as they are stored, and its format (`undefined`: plain JSON). */
export const seal = (
  codec: Codec,
  data: string | Uint8Array
): {
  readonly format: string | undefined
  readonly data: string | Uint8Array
} => {
  let format = codec.format
  let sealed = data
  for (const transform of codec.transforms) {
    const bytes = toBytes(sealed)
    const next = transform.apply(bytes, format)
    sealed = next ?? bytes
    if (next !== undefined) format = `${format}+${transform.name}`
  }
  return { format: format === "json" ? undefined : format, data: sealed }
}

/**
 * The reverse, for entries that any writer may have written: the codec to decode with, and the bytes for it. Throws
 * `TooLarge` above `limit` bytes, and errors that say which format or key this reader lacks.
 */
export const open = (
  reader: Codec,
  format: string | undefined,
  data: Uint8Array,
  limit: number
): {
  readonly codec: Codec
  readonly data: Uint8Array
} => {
  const { codec, steps } = planOf(reader, format ?? "json")
  for (const step of steps) data = step.undo(data, step.name, limit, step.before)
  if (data.length > limit) throw new TooLarge(data.length, limit)
  return { codec, data }
}

/** How one reader reads one format: the transforms to undo, the last applied first. */
interface Plan {
  readonly codec: Codec
  readonly steps: ReadonlyArray<{ readonly undo: Transform["undo"]; readonly name: string; readonly before: string }>
}

const plans = new WeakMap<Codec, Map<string, Plan>>()

const planOf = (reader: Codec, format: string): Plan => {
  let known = plans.get(reader)
  if (known === undefined) plans.set(reader, (known = new Map()))
  let plan = known.get(format)
  if (plan === undefined) {
    plan = makePlan(reader, format)
    // Formats come from the log, where anyone may have written; a few dozen are plenty.
    if (known.size >= 100) known.clear()
    known.set(format, plan)
  }
  return plan
}

const makePlan = (reader: Codec, format: string): Plan => {
  const [base = "", ...names] = format.split("+")
  const codec = base === reader.format ? reader : builtIn.get(base)
  if (codec === undefined) {
    throw new Error(`it is written as ${quote(base)}, which this reader does not know: give the topic that serializer`)
  }
  let before = base
  const steps = names.map((name) => {
    const step = { undo: undoOf(reader, name), name, before }
    before = `${before}+${name}`
    return step
  })
  return { codec, steps: steps.reverse() }
}

const undoOf = (reader: Codec, name: string): Transform["undo"] => {
  const of = kind(name)
  const undo = reader.transforms.find((transform) => kind(transform.name) === of)?.undo ?? decompressions.get(of)
  if (undo !== undefined) return undo
  if (of === "aes") throw new Error(missingKey(name))
  throw new Error(`it went through ${quote(name)}, which this reader does not know: give the topic that serializer`)
}

const toBytes = (data: string | Uint8Array): Uint8Array => (typeof data === "string" ? Buffer.from(data) : data)

const arrayHeader = (length: number): Buffer => {
  if (length < 16) return Buffer.from([0x90 | length])
  const header = Buffer.alloc(length < 0x10000 ? 3 : 5)
  header[0] = length < 0x10000 ? 0xdc : 0xdd
  header.writeUIntBE(length, 1, header.length - 1)
  return header
}

const wellFormed = (value: string): string => {
  if (!value.isWellFormed()) throw new Error("a string holds half of a surrogate pair, which UTF-8 cannot hold")
  return value
}

const checkStrings = (value: unknown): void => {
  if (typeof value === "string") wellFormed(value)
  else if (Array.isArray(value)) value.forEach(checkStrings)
  else if (typeof value === "object" && value !== null && !ArrayBuffer.isView(value)) {
    for (const [key, item] of Object.entries(value)) {
      wellFormed(key)
      checkStrings(item)
    }
  }
}

const describe = (value: unknown): string =>
  value === null ? "null" : typeof value === "object" ? "an object" : typeof value

/** Stored text in a message: printable, and not longer than it is worth. */
const quote = (value: string): string => JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}...` : value)
