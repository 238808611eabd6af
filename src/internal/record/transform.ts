/**
 * What compression and encryption have in common: bytes of a whole entry to bytes, under a name that is stored with the
 * entry, and back. Gotcha: `undo` works on data that anyone may have written, so it must never give more than `limit`.
 */
import type { Misconfigured } from "../../Errors.ts"
import { invalid, isName } from "../names.ts"

/** Bytes to bytes: compression, encryption. */
export interface Transform {
  /** The name in the entry's format, parameters after a colon: `gzip`, `aes:key-1`. */
  readonly name: string
  /**
   * `undefined` leaves the bytes as they are, and the name out of the format. `before` is the format that these bytes
   * have: `json`, `json+gzip`.
   */
  readonly apply: (bytes: Uint8Array, before: string) => Uint8Array | undefined
  /**
   * Undoes a transform of this name, whatever its parameters (`name` is the stored one), and gives bytes of the format
   * `before`. Throws `TooLarge` instead of giving more than `limit` bytes, any other error if it cannot.
   */
  readonly undo: (bytes: Uint8Array, name: string, limit: number, before: string) => Uint8Array
}

/** An entry that is, or would become, larger than the limit. The caller makes it `DecodeError` of reason `TooLarge`. */
export class TooLarge extends Error {
  override readonly name = "TooLarge"
  /** `size` is undefined where it was not found out: a decompression that was stopped. */
  constructor(size: number | undefined, limit: number) {
    super(
      size === undefined
        ? `it unpacks to more than ${limit} bytes, the limit`
        : `it has ${size} bytes, the limit is ${limit}`
    )
  }
}

/** The part of a transform's name that says how to undo it. */
export const kind = (name: string): string => {
  const colon = name.indexOf(":")
  return colon === -1 ? name : name.slice(0, colon)
}

/** Names that become part of a format: no `+` and no `:`, which separate its parts. */
export const checkPart = (what: string, name: string): string => {
  if (isName(name)) return name
  throw refused(`${what} is ${JSON.stringify(name)}: use letters, digits, ".", "_" and "-", a letter or digit first`)
}

export const refused = (detail: string): Misconfigured => invalid(`serializer: ${detail}`)
