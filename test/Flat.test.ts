/** Flat records: what stands in the entry, what comes back, and which schemas have no such form. */
import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { Misconfigured } from "../src/Errors.ts"
import { compile, type Flat } from "../src/internal/record/flat.ts"

class Reading extends Schema.Class<Reading>("Reading")({
  sensor: Schema.String,
  count: Schema.Int,
  value: Schema.Number,
  valid: Schema.Boolean,
  note: Schema.optionalKey(Schema.String),
  image: Schema.Uint8Array
}) {}

const readings = compile(Reading, "readings")
const bytes = (part: string | Uint8Array): Uint8Array => new Uint8Array(Buffer.from(part as Uint8Array))
const stored = (...parts: ReadonlyArray<string | Uint8Array>): ReadonlyArray<Uint8Array> => parts.map(bytes)
const roundTrip = (flat: Flat, value: unknown): unknown => flat.decode(stored(...flat.encode(value)))
const message = (f: () => unknown): string => {
  try {
    f()
  } catch (error) {
    assert.instanceOf(error, Error)
    return error.message
  }
  return assert.fail("it did not throw")
}

describe("flat records", () => {
  const reading = new Reading({ sensor: "größe", count: -42, value: 1.5e-7, valid: true, image: Uint8Array.of(0, 255) })

  it("store each field in text that any tool can read, and bytes as they are", () => {
    assert.deepStrictEqual(readings.encode(reading), [
      "sensor",
      "größe",
      "count",
      "-42",
      "value",
      "1.5e-7",
      "valid",
      "true",
      "image",
      Uint8Array.of(0, 255)
    ])
  })

  it("come back as instances of the class", () => {
    const back = roundTrip(readings, reading)
    assert.instanceOf(back, Reading)
    assert.deepStrictEqual(back, reading)
  })

  it.prop("any record comes back", [Reading], ([value]) => {
    if (!value.sensor.isWellFormed() || value.note?.isWellFormed() === false) return
    const back = roundTrip(readings, value) as Reading
    // The sign of zero is not kept.
    assert.deepStrictEqual(
      { ...back, value: back.value + 0 },
      { ...value, value: value.value + 0, count: value.count + 0 }
    )
  })

  const numbers = compile(Schema.Struct({ a: Schema.Number }), "numbers")
  it.prop("any number comes back", [Schema.Number], ([a]) => {
    assert.deepStrictEqual(roundTrip(numbers, { a }), { a: a + 0 })
  })

  it.each([
    [Number.NaN, "NaN"],
    [Number.POSITIVE_INFINITY, "Infinity"],
    [Number.NEGATIVE_INFINITY, "-Infinity"],
    [0, "0"],
    [2 ** 53, "9007199254740992"],
    [-999_999_999_999_999, "-999999999999999"],
    [1e21, "1e+21"],
    [Number.MAX_VALUE, "1.7976931348623157e+308"],
    [Number.MIN_VALUE, "5e-324"]
  ])("the number %d is stored as %s", (a, text) => {
    assert.deepStrictEqual(numbers.encode({ a }), ["a", text])
    assert.deepStrictEqual(numbers.decode(stored("a", text)), { a })
  })

  it.each([
    ["007", 7],
    ["+1", 1],
    ["-0", -0],
    [".5", 0.5],
    ["5.", 5],
    ["1E3", 1000],
    ["00000000000000000001", 1]
  ])("the foreign number %j is %d", (text, a) => assert.deepStrictEqual(numbers.decode(stored("a", text)), { a }))

  it.each(["", " 1", "1 ", "0x10", "1e", "-", "--1", "one", "1n", "1_000", "infinity"])("%j is no number", (text) => {
    assert.strictEqual(
      message(() => numbers.decode(stored("a", text))),
      `field "a" is ${JSON.stringify(text)}, not a number`
    )
  })

  it("take the fields in any order, skip those they do not know, and let the last of two win", () => {
    const fields = stored(
      "image",
      "i",
      "future",
      "x",
      "valid",
      "false",
      "sensor",
      "first",
      "~k",
      "key",
      "count",
      "1",
      "value",
      "2",
      "sensor",
      "last"
    )
    assert.deepStrictEqual(
      readings.decode(fields),
      new Reading({ sensor: "last", count: 1, value: 2, valid: false, image: bytes("i") })
    )
  })

  it("keep absent and empty apart", () => {
    const flat = compile(Schema.Struct({ a: Schema.String, b: Schema.optionalKey(Schema.String) }), "t")
    assert.deepStrictEqual(roundTrip(flat, { a: "" }), { a: "" })
    assert.deepStrictEqual(roundTrip(flat, { a: "", b: "" }), { a: "", b: "" })
    assert.strictEqual(roundTrip(flat, { a: "\ufeffx" }) instanceof Object, true)
    assert.deepStrictEqual(roundTrip(flat, { a: "\ufeffx" }), { a: "\ufeffx" })
  })

  it("give copies of bytes", () => {
    const flat = compile(Schema.Struct({ a: Schema.Uint8Array }), "t")
    const fields = stored("a", Uint8Array.of(1))
    const value = flat.decode(fields)
    fields[1]![0] = 9
    assert.deepStrictEqual(value, { a: Uint8Array.of(1) })
  })

  it("store what the schema encodes to: dates as text, defaults, other names", () => {
    const flat = compile(
      Schema.Struct({ at: Schema.DateFromString, count: Schema.NumberFromString }).pipe(
        Schema.encodeKeys({ count: "c" })
      ),
      "t"
    )
    const value = { at: new Date("2026-01-02T03:04:05.006Z"), count: 7 }
    assert.deepStrictEqual(flat.encode(value), ["at", "2026-01-02T03:04:05.006Z", "c", "7"])
    assert.deepStrictEqual(roundTrip(flat, value), value)
  })

  it("run the checks of the schema both ways, and list every problem", () => {
    const flat = compile(
      Schema.Struct({ count: Schema.Int, name: Schema.NonEmptyString, value: Schema.Finite, valid: Schema.Boolean }),
      "t"
    )
    const said = message(() => flat.decode(stored("count", "1.5", "name", "", "value", "NaN")))
    for (const path of ["count", "name", "value", "valid"]) assert.include(said, `["${path}"]`)
    const refused = message(() => flat.encode({ count: 1.5, name: "", value: 1 }))
    for (const path of ["count", "name", "valid"]) assert.include(refused, `["${path}"]`)
  })

  it("refuse text that is none", () => {
    assert.strictEqual(
      message(() => readings.decode(stored("sensor", Uint8Array.of(0xff)))),
      `field "sensor" is not valid UTF-8`
    )
    assert.strictEqual(
      message(() => readings.decode(stored("valid", "TRUE"))),
      `field "valid" is "TRUE", not true or false`
    )
    assert.strictEqual(
      message(() => readings.encode(new Reading({ ...reading, sensor: "\ud800" }))),
      `field "sensor" holds half of a surrogate pair, which UTF-8 cannot hold`
    )
  })
})

describe("schemas without a flat form", () => {
  const field = (schema: Schema.ConstraintCodec<unknown, unknown>) =>
    Schema.Struct({ a: Schema.String, b: schema as Schema.Codec<unknown> })
  const holds = (described: string) =>
    `cannot hold the field "b", which is ${described}: it takes int, float, boolean, string and Uint8Array, required or optionalKey`
  it.each<readonly [Schema.ConstraintCodec<unknown, unknown>, string]>([
    [Schema.String, "needs a Schema.Struct or Schema.Class with named fields"],
    [Schema.Record(Schema.String, Schema.Int), "needs a Schema.Struct or Schema.Class with named fields"],
    [Schema.Union([Reading, Reading]), "needs a Schema.Struct or Schema.Class with named fields"],
    [Schema.suspend(() => Reading), "needs a Schema.Struct or Schema.Class with named fields"],
    [Schema.Struct({}), "needs at least one field that is not optional"],
    [Schema.Struct({ a: Schema.optionalKey(Schema.Int) }), "needs at least one field that is not optional"],
    [field(Schema.Struct({ c: Schema.Int })), holds("a nested record")],
    [field(Reading), holds("a nested record")],
    [field(Schema.Array(Schema.Int)), holds("an array")],
    [field(Schema.Union([Schema.Int, Schema.String])), holds("a union")],
    [field(Schema.NullOr(Schema.String)), holds("a union")],
    [field(Schema.optional(Schema.String)), holds("a union")],
    [field(Schema.Literals(["x", "y"])), holds("a union")],
    [field(Schema.Literal("x")), holds("of type Literal")],
    [field(Schema.Date), holds("of type Date")],
    [field(Schema.DateTimeUtc), holds("of type DateTimeUtc")],
    [field(Schema.BigInt), holds("of type BigInt")],
    [field(Schema.Null), holds("of type Null")],
    [field(Schema.Unknown), holds("of type Unknown")],
    [field(Schema.Option(Schema.String)), holds("of type Option")],
    [field(Schema.Redacted(Schema.String)), holds("of type Redacted")],
    [
      Schema.Struct({ n: Schema.Int }),
      `cannot hold the field "n": "n" and names that begin with "~" are reserved; rename it`
    ],
    [
      Schema.Struct({ a: Schema.Int, "~k": Schema.Int }),
      `cannot hold the field "~k": "n" and names that begin with "~" are reserved; rename it`
    ],
    [
      Schema.Struct({ a: Schema.Int, n: Schema.Int }).pipe(Schema.encodeKeys({ a: "~a", n: "m" })),
      `cannot hold the field "~a": "n" and names that begin with "~" are reserved; rename it`
    ],
    [Schema.Struct({ [Symbol.for("s")]: Schema.Int }), "cannot hold the field Symbol(s): only text names a field"]
  ])("%#: %s", (schema, detail) => {
    try {
      compile(schema, "orders")
    } catch (error) {
      assert.instanceOf(error, Misconfigured)
      assert.strictEqual(error.reason, "InvalidOption")
      assert.strictEqual(
        error.detail,
        `topic orders: encoding "flat" ${detail}. Change the schema, or leave encoding: "flat" out`
      )
      return
    }
    assert.fail("it was accepted")
  })
})
