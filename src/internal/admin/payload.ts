/**
 * Stored values for people who have no schema of them: opened and deserialized by the program's serializer, then made
 * plain JSON. What cannot be read is a problem that is told, with the head of the bytes.
 */
import type { Schema } from "effect"
import { type Codec, open } from "../../Serializer.ts"
import { reason } from "../record/placement.ts"
import { hide, type Paths } from "../record/redacted.ts"
import type { Payload } from "./shapes/payload.ts"

/** A value in a list is shown up to so many bytes of JSON; one that is asked for by itself up to the second. */
export const inList = 16 * 1024
export const alone = 4 * 1024 * 1024

/** Bytes that a stored value may have after decompression. */
const limit = 64 * 1024 * 1024
/** Bytes of what cannot be read that are shown. */
const headBytes = 1_024

/** What serializers other than JSON give, as JSON; throws what has no such form. */
const plain = (value: unknown): string => {
  const text = JSON.stringify(value, (_, item: unknown) => {
    if (typeof item === "bigint") return String(item)
    return item instanceof Uint8Array ? Buffer.from(item).toString("base64") : item
  })
  return text ?? "null"
}

/** Where something is secret, its bytes are, and what a parser quotes of them. */
const unreadable = (format: string, bytes: Uint8Array, problem: string, secret: Paths): Payload => ({
  format,
  bytes: bytes.byteLength,
  value: null,
  problem,
  base64: secret.length > 0 ? null : Buffer.from(bytes.subarray(0, headBytes)).toString("base64")
})

const why = (error: unknown, secret: Paths): string =>
  secret.length > 0 ? "it cannot be read, and is not shown: it has redacted fields" : reason(error)

/** A deserialized value without what is `secret` of it; `bytes` is how it is stored. */
export const shown = (value: unknown, format: string, bytes: Uint8Array, most: number, secret: Paths): Payload => {
  try {
    const text = plain(value)
    if (text.length > most)
      return unreadable(format, bytes, `it is too long to be shown here: ${text.length} characters`, secret)
    const open = hide(JSON.parse(text), secret) as Schema.Json
    return { format, bytes: bytes.byteLength, value: open, problem: null, base64: null }
  } catch (error) {
    return unreadable(format, bytes, why(error, secret), secret)
  }
}

/** What is stored in a format (undefined: plain JSON); of no bytes at all the value is null. */
export const read = (
  serializer: Codec,
  format: string | undefined,
  bytes: Uint8Array,
  most: number,
  secret: Paths
): Payload => {
  const name = format ?? "json"
  if (bytes.byteLength === 0) return { format: name, bytes: 0, value: null, problem: null, base64: null }
  try {
    const opened = open(serializer, format, bytes, limit)
    return shown(opened.codec.decode(opened.data, {}), name, bytes, most, secret)
  } catch (error) {
    return unreadable(name, bytes, why(error, secret), secret)
  }
}
