/**
 * Flat records: each field of the record is a field of the entry, in a text that any Redis tool can read. What is stored
 * is what the schema encodes to: `5`, `1.5e-7`, `NaN`, `true`, UTF-8 text, bytes as they are; an absent optional field is
 * left out. Gotcha: there is no place for null, nested values or alternatives, so such schemas are refused at definition.
 */
import { Schema, SchemaAST } from "effect"
import type { Misconfigured } from "../../Errors.ts"
import { invalid } from "../names.ts"

export interface Flat {
  /** Name, value, name, value ... Throws what the schema says, all problems at once. */
  readonly encode: (value: unknown) => Array<string | Uint8Array>
  /** From alternating names and values; unknown names are skipped. Throws like `encode`. */
  readonly decode: (fields: ReadonlyArray<Uint8Array>) => unknown
}

type Kind = "number" | "boolean" | "string" | "bytes"

const encoder = new TextEncoder()
const yes = encoder.encode("true")
const no = encoder.encode("false")

interface Field {
  readonly name: string
  readonly bytes: Uint8Array
  readonly kind: Kind
}

/** Throws `Misconfigured` for a schema that has no flat form. */
export const compile = (schema: Schema.ConstraintCodec<unknown, unknown>, topic: string): Flat => {
  const fields = fieldsOf(schema.ast, topic)
  const toEncoded = Schema.encodeUnknownSync(schema)
  const fromEncoded = Schema.decodeUnknownSync(schema)
  return {
    encode: (value) => {
      let record: Readonly<Record<string, unknown>>
      try {
        record = toEncoded(value) as Readonly<Record<string, unknown>>
      } catch {
        // Said again with every problem: looking for all of them costs time only here.
        record = toEncoded(value, { errors: "all" }) as Readonly<Record<string, unknown>>
      }
      const entry: Array<string | Uint8Array> = []
      for (const field of fields) {
        const item = record[field.name]
        if (item !== undefined) entry.push(field.name, write(field, item))
      }
      return entry
    },
    decode: (entry) => {
      const record: Record<string, unknown> = {}
      let next = 0
      for (let i = 0; i + 1 < entry.length; i += 2) {
        const found = find(fields, entry[i]!, next)
        if (found === undefined) continue
        record[fields[found]!.name] = read(fields[found]!, entry[i + 1]!)
        next = found + 1
      }
      try {
        return fromEncoded(record)
      } catch {
        return fromEncoded(record, { errors: "all" })
      }
    }
  }
}

/** Our own entries have the fields in order: the expected one is nearly always it, or the one after. */
const find = (fields: ReadonlyArray<Field>, name: Uint8Array, expected: number): number | undefined => {
  for (let i = 0; i < fields.length; i++) {
    const at = (expected + i) % fields.length
    if (same(name, fields[at]!.bytes)) return at
  }
  return undefined
}

const same = (a: Uint8Array, b: Uint8Array): boolean => {
  const length = a.length
  if (length !== b.length) return false
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return false
  return true
}

const write = (field: Field, item: unknown): string | Uint8Array => {
  if (field.kind === "bytes") return item as Uint8Array
  if (field.kind === "string" && !(item as string).isWellFormed()) {
    throw new Error(`field "${field.name}" holds half of a surrogate pair, which UTF-8 cannot hold`)
  }
  return String(item)
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const read = (field: Field, bytes: Uint8Array): unknown => {
  switch (field.kind) {
    case "number":
      return digits(bytes) ?? number(field, latin1(bytes))
    case "boolean":
      if (same(bytes, yes)) return true
      if (same(bytes, no)) return false
      throw new Error(`field "${field.name}" is ${quote(latin1(bytes))}, not true or false`)
    case "string":
      try {
        return decoder.decode(bytes)
      } catch {
        throw new Error(`field "${field.name}" is not valid UTF-8`)
      }
    case "bytes":
      // A copy: what comes in is a view of a whole reply, which would stay in memory as long as the value does.
      return new Uint8Array(bytes)
  }
}

/** Most numbers are short and whole: they need no string. */
const digits = (bytes: Uint8Array): number | undefined => {
  const negative = bytes[0] === 0x2d
  const from = negative ? 1 : 0
  if (bytes.length === from || bytes.length > 15) return undefined
  let value = 0
  for (let i = from; i < bytes.length; i++) {
    const digit = bytes[i]! - 0x30
    if (digit < 0 || digit > 9) return undefined
    value = value * 10 + digit
  }
  return negative ? -value : value
}

// Stricter than Number(), which takes "", " 1 " and "0x10" too.
const numberPattern = /^(?:[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|NaN|[+-]?Infinity)$/

const number = (field: Field, text: string): number => {
  if (!numberPattern.test(text)) throw new Error(`field "${field.name}" is ${quote(text)}, not a number`)
  return Number(text)
}

const latin1 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1")

const quote = (text: string): string => JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}...` : text)

const fieldsOf = (ast: SchemaAST.AST, topic: string): ReadonlyArray<Field> => {
  const encoded = SchemaAST.toEncoded(ast)
  if (!SchemaAST.isObjects(encoded) || encoded.indexSignatures.length > 0) {
    throw refused(topic, "needs a Schema.Struct or Schema.Class with named fields")
  }
  const fields = encoded.propertySignatures.map(({ name, type }): Field => {
    if (typeof name !== "string") throw refused(topic, `cannot hold the field ${String(name)}: only text names a field`)
    // `n` marks a batch; `~k`, `~h` and `~t` are key, headers and timestamp, and more of them may come.
    if (name === "n" || name.startsWith("~")) {
      throw refused(topic, `cannot hold the field "${name}": "n" and names that begin with "~" are reserved; rename it`)
    }
    const kind = kindOf(type)
    if (kind !== undefined) return { name, bytes: encoder.encode(name), kind }
    throw refused(
      topic,
      `cannot hold the field "${name}", which is ${described(type)}: it takes int, float, boolean, string and ` +
        `Uint8Array, required or optionalKey`
    )
  })
  // A stream entry without fields does not exist.
  if (encoded.propertySignatures.every(({ type }) => SchemaAST.isOptional(type))) {
    throw refused(topic, "needs at least one field that is not optional")
  }
  return fields
}

const refused = (topic: string, detail: string): Misconfigured =>
  invalid(`topic ${topic}: encoding "flat" ${detail}. Change the schema, or leave encoding: "flat" out`)

const kindOf = (type: SchemaAST.AST): Kind | undefined => {
  if (SchemaAST.isNumber(type)) return "number"
  if (SchemaAST.isBoolean(type)) return "boolean"
  if (SchemaAST.isString(type)) return "string"
  return declared(type) === "effect/schema/Uint8Array" ? "bytes" : undefined
}

/** The id that Effect gives its own declared types. */
const declared = (type: SchemaAST.AST): string | undefined => {
  const representation = SchemaAST.isDeclaration(type) ? type.annotations?.representation : undefined
  return typeof representation === "object" && representation !== null && "id" in representation
    ? String(representation.id)
    : undefined
}

const described = (type: SchemaAST.AST): string => {
  switch (type._tag) {
    case "Objects":
      return "a nested record"
    case "Arrays":
      return "an array"
    case "Union":
      return "a union"
    case "Declaration":
      return `of type ${declared(type)?.split("/").at(-1) ?? "unknown"}`
    default:
      return `of type ${type._tag}`
  }
}
