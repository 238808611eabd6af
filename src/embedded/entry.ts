/**
 * Entry ids as two numbers, and the fields of an entry as one blob: each field is its length (LEB128) and its bytes.
 *
 * Gotcha: the blob of `pack` lies in a buffer that the next call writes again; SQLite copies it when it is bound.
 */
import { EngineError } from "../Errors.ts"

/** The halves of an id; a bigint only where a number would not be exact. */
export interface EntryId {
  readonly ms: number | bigint
  readonly seq: number | bigint
}

const largest = 2n ** 63n - 1n

const half = (text: string, id: string): number | bigint => {
  const value = Number(text)
  if (Number.isSafeInteger(value) && value >= 0) return value
  if (!/^\d+$/.test(text)) {
    throw new EngineError({ operation: "id", reason: "Refused", detail: `"${id}" is not an entry id (<millis>-<seq>)` })
  }
  const exact = BigInt(text)
  if (exact > largest) {
    throw new EngineError({
      operation: "id",
      reason: "Refused",
      detail: `"${id}" is above what this engine can store; keep both halves of an explicit id below 2^63`
    })
  }
  return exact
}

export const parseId = (id: string): EntryId => {
  const dash = id.indexOf("-")
  return { ms: half(dash < 0 ? "" : id.slice(0, dash) || "?", id), seq: half(id.slice(dash + 1) || "?", id) }
}

/** A place in a log: it may lie above every id that can be stored here, as the last one below a millisecond does. */
export const parsePlace = (id: string): EntryId => {
  const dash = id.indexOf("-")
  const seq = id.slice(dash + 1)
  const isBeyond = /^\d{19,20}$/.test(seq) && BigInt(seq) > largest
  return isBeyond ? { ms: parseId(`${id.slice(0, dash)}-0`).ms, seq: largest } : parseId(id)
}

export const formatId = (id: EntryId): string => `${id.ms}-${id.seq}`

// The operators compare numbers with bigints exactly.
export const isAbove = (a: EntryId, b: EntryId): boolean => a.ms > b.ms || (a.ms === b.ms && a.seq > b.seq)

/** The id of an entry added now: never going back, whatever the clock does. */
export const nextId = (last: EntryId, now: number): EntryId => {
  if (now > last.ms) return { ms: now, seq: 0 }
  const next = typeof last.seq === "number" && last.seq < Number.MAX_SAFE_INTEGER ? last.seq + 1 : BigInt(last.seq) + 1n
  if (next > largest) {
    throw new EngineError({
      operation: "append",
      reason: "Refused",
      detail: `no id is left above ${formatId(last)}: an explicit id was too large; go on with a new topic`
    })
  }
  return { ms: last.ms, seq: next }
}

/** An event's offset: its entry's id and the index in it. */
export const parseOffset = (offset: string): { readonly id: EntryId; readonly index: number } => {
  const dot = offset.indexOf(".")
  const index = dot < 0 ? 0 : Number(offset.slice(dot + 1))
  const id = parsePlace(dot < 0 ? offset : offset.slice(0, dot))
  if (!Number.isSafeInteger(index) || index < 0) {
    throw new EngineError({
      operation: "offset",
      reason: "Refused",
      detail: `"${offset}" is not an offset (<millis>-<seq>.<index>)`
    })
  }
  return { id, index }
}

/** Beyond this a buffer is made for one entry and dropped. */
const keptBytes = 1024 * 1024
let scratch = Buffer.allocUnsafe(64 * 1024)

const reserve = (bytes: number): Buffer => {
  if (bytes <= scratch.length) return scratch
  const larger = Buffer.allocUnsafe(bytes)
  if (bytes <= keptBytes) scratch = larger
  return larger
}

const writeLength = (into: Buffer, at: number, length: number): number => {
  while (length > 127) {
    into[at++] = (length & 127) | 128
    length >>>= 7
  }
  into[at++] = length
  return at
}

export const pack = (fields: ReadonlyArray<string | Uint8Array>): Uint8Array => {
  let bytes = 0
  for (const field of fields) bytes += 5 + (typeof field === "string" ? field.length * 3 : field.length)
  const into = reserve(bytes)
  let at = 0
  for (const field of fields) {
    if (typeof field === "string") {
      const length = Buffer.byteLength(field)
      at = writeLength(into, at, length)
      into.write(field, at, "utf8")
      at += length
    } else {
      at = writeLength(into, at, field.length)
      into.set(field, at)
      at += field.length
    }
  }
  return into.subarray(0, at)
}

/** The fields as views on the blob. */
export const unpack = (blob: Uint8Array): ReadonlyArray<Uint8Array> => {
  const fields: Array<Uint8Array> = []
  let at = 0
  while (at < blob.length) {
    let length = blob[at++]!
    if (length > 127) {
      length &= 127
      let shift = 7
      let byte: number
      do {
        byte = blob[at++]!
        length |= (byte & 127) << shift
        shift += 7
      } while (byte > 127)
    }
    fields.push(blob.subarray(at, (at += length)))
  }
  return fields
}
