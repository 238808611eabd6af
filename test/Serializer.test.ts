/** Formats, compression, encryption: what one writes another reads, and what it cannot read it says. */

import { inspect } from "node:util"
import { gzipSync } from "node:zlib"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted, Schema } from "effect"
import { Misconfigured } from "../src/Errors.ts"
import * as Serializer from "../src/Serializer.ts"

const { compressed, encrypted, json, msgpack, open, raw, seal, text, TooLarge } = Serializer

const limit = 1024 * 1024
const bytesOf = (data: string | Uint8Array): Uint8Array => new Uint8Array(Buffer.from(data as Uint8Array))
const key = (id: string, fill: number) => ({ id, key: Redacted.make(new Uint8Array(32).fill(fill)) })
const long = { text: "all work and no play ".repeat(500) }

/** Through the store: written by one, read by the other. */
const write = (writer: Serializer.Codec, value: unknown) => {
  const sealed = seal(writer, writer.encode(value, {}))
  return { format: sealed.format, data: bytesOf(sealed.data) }
}
const readBy = (reader: Serializer.Codec, entry: ReturnType<typeof write>, most = limit): unknown => {
  const opened = open(reader, entry.format, entry.data, most)
  return opened.codec.decode(opened.data, {})
}
const message = (f: () => unknown): string => {
  try {
    f()
  } catch (error) {
    assert.instanceOf(error, Error)
    return error.message
  }
  return assert.fail("it did not throw")
}
const refusal = (f: () => unknown): string => {
  try {
    f()
  } catch (error) {
    assert.instanceOf(error, Misconfigured)
    assert.strictEqual(error.reason, "InvalidOption")
    return error.detail
  }
  return assert.fail("it did not throw")
}

const Json = Schema.Json

describe("round trips", () => {
  const wellFormed = (value: unknown): boolean => JSON.stringify(value).includes("\\ud") === false
  const writers: ReadonlyArray<readonly [string, Serializer.Codec]> = [
    ["json", json],
    ["json+gzip", compressed(json, { with: "gzip", above: 0 })],
    ["json+brotli", compressed(json, { with: "brotli", above: 0 })],
    ["json+zstd", compressed(json, { with: "zstd", above: 0 })],
    ["json+aes", encrypted(json, [key("a", 1)])],
    ["json+gzip+aes", encrypted(compressed(json, { with: "gzip", above: 0 }), [key("a", 1)])]
  ]
  for (const [name, codec] of writers) {
    it.prop(`${name}: any JSON value comes back`, [Json], ([value]) => {
      assert.deepStrictEqual(readBy(codec, write(codec, value)), JSON.parse(JSON.stringify(value)))
    })
  }

  it.prop("msgpack: any JSON value comes back, or is refused for half a surrogate pair", [Json], ([value]) => {
    const expected: unknown = JSON.parse(JSON.stringify(value))
    if (!wellFormed(expected))
      return assert.include(
        message(() => write(msgpack, expected)),
        "surrogate"
      )
    if (JSON.stringify(expected).includes("__proto__")) return
    assert.deepStrictEqual(readBy(msgpack, write(msgpack, expected)), expected)
  })

  it.prop("text: any text comes back, or is refused for half a surrogate pair", [Schema.String], ([value]) => {
    if (!value.isWellFormed())
      return assert.include(
        message(() => write(text, value)),
        "surrogate"
      )
    assert.strictEqual(readBy(text, write(text, value)), value)
  })

  it.prop("raw: any bytes come back", [Schema.Uint8Array], ([value]) => {
    assert.deepStrictEqual(readBy(raw, write(raw, value)), value)
  })

  it("text keeps a byte order mark", () => {
    assert.strictEqual(readBy(text, write(text, "\ufeffx")), "\ufeffx")
  })

  it("the raw value is a copy", () => {
    const data = Uint8Array.of(1, 2, 3)
    const value = raw.decode(data, {})
    data[0] = 9
    assert.deepStrictEqual(value, Uint8Array.of(1, 2, 3))
  })

  it("plain JSON has no format and stays text", () => {
    assert.deepStrictEqual(seal(json, "[1]"), { format: undefined, data: "[1]" })
  })

  it("a batch of JSON is one array, also from text and bytes", () => {
    assert.strictEqual(json.join!(["1", `{"a":2}`]), `[1,{"a":2}]`)
  })
})

describe("msgpack", () => {
  it.each([0, 1, 15, 16, 65_535, 65_536])("a batch of %i is one array", (count) => {
    const values = Array.from({ length: count }, (_, index) => index)
    assert.deepStrictEqual(
      msgpack.decode(bytesOf(msgpack.join!(values.map((value) => msgpack.encode(value, {})))), {}),
      values
    )
  })

  it("numbers come back as numbers, whole ones of 64 bits too where they are exact", () => {
    for (const value of [
      0,
      -1,
      255,
      2 ** 31,
      -(2 ** 31),
      2 ** 32,
      2 ** 53,
      -(2 ** 53),
      1.5,
      1e300,
      Number.NaN,
      Infinity
    ]) {
      assert.deepStrictEqual(readBy(msgpack, write(msgpack, value)), value)
    }
    const foreign = (value: bigint) => {
      const data = Buffer.alloc(9, 0xd3)
      data.writeBigInt64BE(value, 1)
      return msgpack.decode(data, {})
    }
    assert.strictEqual(foreign(1_700_000_000_000n), 1_700_000_000_000)
    assert.strictEqual(foreign(-5n), -5)
    assert.strictEqual(foreign(2n ** 60n), 2n ** 60n)
  })

  it("bytes pass, as plain Uint8Arrays", () => {
    const value = readBy(msgpack, write(msgpack, { data: Uint8Array.of(1, 2, 3) }))
    assert.deepStrictEqual(value, { data: Uint8Array.of(1, 2, 3) })
  })

  it("a key __proto__ touches no prototype", () => {
    // { "__proto__": { "polluted": true } }, by a foreign writer
    const data = Buffer.concat([
      Buffer.from([0x81, 0xa9]),
      Buffer.from("__proto__"),
      Buffer.from([0x81, 0xa8]),
      Buffer.from("polluted"),
      Buffer.from([0xc3])
    ])
    const value = msgpack.decode(data, {}) as { readonly polluted?: unknown }
    assert.isUndefined(value.polluted)
    assert.strictEqual(Object.getPrototypeOf(value), Object.prototype)
  })

  it("leaves the stored bytes alone, and refuses what is cut off or goes on", () => {
    const data = Buffer.from(msgpack.encode([1, 2, 3], {}))
    assert.deepStrictEqual(Object.keys(data), Object.keys(Buffer.from(data)))
    msgpack.decode(data, {})
    assert.notProperty(data, "dataView")
    assert.include(
      message(() => msgpack.decode(data.subarray(0, 2), {})),
      "end of MessagePack"
    )
    assert.include(
      message(() => msgpack.decode(Buffer.concat([data, data]), {})),
      "end of buffer not reached"
    )
    assert.throws(() => msgpack.decode(new Uint8Array(), {}))
  })
})

describe("values that a serializer does not take", () => {
  it.each([
    [json, undefined, "JSON has no undefined: let the schema encode it"],
    [json, () => 1, "JSON has no function: let the schema encode it"],
    [text, 5, "the text serializer takes a string, not number"],
    [text, null, "the text serializer takes a string, not null"],
    [text, "\ud800", "a string holds half of a surrogate pair, which UTF-8 cannot hold"],
    [msgpack, { a: ["\udc00"] }, "a string holds half of a surrogate pair, which UTF-8 cannot hold"],
    [msgpack, { "\udc00": 1 }, "a string holds half of a surrogate pair, which UTF-8 cannot hold"],
    [msgpack, `${"x".repeat(100)}\ud800`, "a string holds half of a surrogate pair, which UTF-8 cannot hold"],
    [raw, "text", "the raw serializer takes a Uint8Array, not string"],
    [raw, { a: 1 }, "the raw serializer takes a Uint8Array, not an object"]
  ])("%o refuses %o", (codec, value, expected) => {
    assert.strictEqual(
      message(() => codec.encode(value, {})),
      expected
    )
  })

  it("bytes that are no UTF-8 are refused, not repaired", () => {
    const broken = Uint8Array.of(0x22, 0xff, 0x22)
    assert.throws(() => json.decode(broken, {}))
    assert.throws(() => text.decode(broken, {}))
  })
})

describe("compressed", () => {
  for (const algorithm of ["gzip", "brotli", "zstd"] as const) {
    it(`${algorithm}: makes long entries smaller and names itself`, () => {
      const codec = compressed(json, { with: algorithm })
      const entry = write(codec, long)
      assert.strictEqual(entry.format, `json+${algorithm}`)
      assert.isBelow(entry.data.length, 500)
      assert.deepStrictEqual(readBy(codec, entry), long)
    })

    it(`${algorithm}: an entry that unpacks to more than the limit is TooLarge, one at the limit is not`, () => {
      const entry = write(compressed(text, { with: algorithm }), "x".repeat(100_000))
      assert.throws(() => readBy(json, entry, 99_999), TooLarge, "it unpacks to more than 99999 bytes, the limit")
      assert.strictEqual((readBy(json, entry, 100_000) as string).length, 100_000)
      assert.throws(() => readBy(json, entry, 0), TooLarge)
    })

    it(`${algorithm}: damaged data is an error that says so`, () => {
      const entry = write(compressed(json, { with: algorithm }), long)
      for (const data of [entry.data.subarray(0, 20), Uint8Array.of(1, 2, 3, 4, 5, 6)]) {
        const said = message(() => readBy(json, { ...entry, data }))
        assert.match(said, new RegExp(`^its ${algorithm} data is damaged: .+`))
      }
    })
  }

  it("leaves entries of up to the threshold as they are: 1 KiB, or the given one", () => {
    const byDefault = compressed(text, { with: "gzip" })
    assert.strictEqual(write(byDefault, "x".repeat(1024)).format, "text")
    assert.strictEqual(write(byDefault, "x".repeat(1025)).format, "text+gzip")
    const always = compressed(text, { with: "gzip", above: 0 })
    assert.strictEqual(write(always, "x".repeat(100)).format, "text+gzip")
    assert.deepStrictEqual(seal(compressed(json, { with: "gzip" }), "[1]").format, undefined)
  })

  it("leaves entries that do not shrink as they are", () => {
    const noise = new Uint8Array(5000)
    let state = 1
    for (let i = 0; i < noise.length; i++) noise[i] = (state = Math.imul(state, 48_271) ^ (state >>> 15)) >>> 24
    const entry = write(compressed(raw, { with: "zstd" }), noise)
    assert.strictEqual(entry.format, "raw")
    assert.deepStrictEqual(entry.data, noise)
  })

  it("a bomb costs no more than the limit", () => {
    const bomb = { format: "json+gzip", data: bytesOf(gzipSync(Buffer.alloc(50_000_000))) }
    assert.isBelow(bomb.data.length, 60_000)
    assert.throws(() => readBy(json, bomb), TooLarge)
  })

  it("every reader reads it, whatever its own serializer is", () => {
    for (const algorithm of ["gzip", "brotli", "zstd"] as const) {
      const entry = write(compressed(msgpack, { with: algorithm }), long)
      for (const reader of [json, text, raw, msgpack, encrypted(json, [key("a", 1)])]) {
        assert.deepStrictEqual(readBy(reader, entry), long)
      }
    }
  })
})

describe("encrypted", () => {
  const codec = encrypted(json, [key("k1", 1)])

  it("stores no plain text, and each entry differently", () => {
    const first = write(codec, long)
    const second = write(codec, long)
    assert.strictEqual(first.format, "json+aes:k1")
    assert.notInclude(Buffer.from(first.data).toString("latin1"), "work")
    assert.notDeepEqual(first.data, second.data)
    assert.strictEqual(first.data.length, JSON.stringify(long).length + 28)
    assert.deepStrictEqual(readBy(codec, first), long)
  })

  it("rotates: the first key writes, all of them read", () => {
    const before = write(codec, "old")
    const rotated = encrypted(json, [key("k2", 2), key("k1", 1)])
    const after = write(rotated, "new")
    assert.strictEqual(after.format, "json+aes:k2")
    assert.strictEqual(readBy(rotated, before), "old")
    assert.strictEqual(readBy(rotated, after), "new")
  })

  it("a reader without the key names it", () => {
    const entry = write(encrypted(json, [key("k2", 2)]), "secret")
    const expected = `it is encrypted with key "k2", which this reader does not have: add it to the keys of Serializer.encrypted`
    assert.strictEqual(
      message(() => readBy(codec, entry)),
      expected
    )
    assert.strictEqual(
      message(() => readBy(json, entry)),
      expected
    )
  })

  it("a wrong key of the right name, a changed byte, a changed format, a cut: refused", () => {
    const entry = write(codec, "secret")
    const refused = `it cannot be decrypted: key "k1" here is not the one that wrote it, or the entry was changed since`
    assert.strictEqual(
      message(() => readBy(encrypted(json, [key("k1", 9)]), entry)),
      refused
    )
    for (let i = 0; i < entry.data.length; i++) {
      const data = entry.data.slice()
      data[i]! ^= 1
      assert.strictEqual(
        message(() => readBy(codec, { ...entry, data })),
        refused
      )
    }
    assert.strictEqual(
      message(() => readBy(codec, { ...entry, format: "text+aes:k1" })),
      refused
    )
    assert.strictEqual(
      message(() => readBy(codec, { ...entry, data: entry.data.subarray(0, 30) })),
      refused
    )
    assert.strictEqual(
      message(() => readBy(codec, { ...entry, data: entry.data.subarray(0, 20) })),
      `it says that it is encrypted with key "k1", and is too short for that`
    )
  })

  it("compresses first", () => {
    const both = encrypted(compressed(json, { with: "gzip" }), [key("k1", 1)])
    const entry = write(both, long)
    assert.strictEqual(entry.format, "json+gzip+aes:k1")
    assert.isBelow(entry.data.length, 500)
    assert.deepStrictEqual(readBy(both, entry), long)
    assert.strictEqual(write(both, "short").format, "json+aes:k1")
    assert.throws(() => readBy(both, entry, 1000), TooLarge)
  })

  it("reads what was written plain", () => {
    assert.deepStrictEqual(readBy(codec, write(json, long)), long)
  })

  it("is TooLarge above the limit", () => {
    const entry = write(codec, "x".repeat(100))
    assert.throws(() => readBy(codec, entry, 101), TooLarge, "it has 102 bytes, the limit is 101")
  })

  it("copies the key and shows it nowhere", () => {
    const secret = Buffer.from("0123456789abcdef0123456789ABCDEF")
    const own = encrypted(json, [{ id: "k", key: Redacted.make(new Uint8Array(secret)) }])
    const shown = inspect(own, { depth: 10, showHidden: true }) + JSON.stringify(own)
    for (const form of ["latin1", "hex", "base64"] as const) assert.notInclude(shown, secret.toString(form))
    assert.notInclude(shown, "48, 49, 50")
  })
})

describe("readers and formats", () => {
  const upper = Serializer.make({
    format: "upper",
    encode: (value) => String(value).toUpperCase(),
    decode: (bytes) => Buffer.from(bytes).toString().toLowerCase()
  })

  it("any reader reads plain JSON and all that is built in, and is told the form", () => {
    for (const reader of [
      json,
      text,
      raw,
      msgpack,
      upper,
      encrypted(compressed(msgpack, { with: "zstd" }), [key("a", 1)])
    ]) {
      assert.deepStrictEqual(readBy(reader, write(json, [1])), [1])
      assert.deepStrictEqual(readBy(reader, { ...write(json, [1]), format: "json" }), [1])
      assert.strictEqual(readBy(reader, write(text, "a")), "a")
      assert.deepStrictEqual(readBy(reader, write(msgpack, { a: 1 })), { a: 1 })
      assert.deepStrictEqual(readBy(reader, write(raw, Uint8Array.of(1))), Uint8Array.of(1))
      assert.strictEqual(open(reader, undefined, Uint8Array.of(49), limit).codec.encodes, "json")
      assert.strictEqual(open(reader, "raw", Uint8Array.of(49), limit).codec.encodes, "type")
    }
  })

  it("own formats are read by who has them", () => {
    const entry = write(compressed(upper, { with: "gzip", above: 0 }), "a".repeat(100))
    assert.strictEqual(entry.format, "upper+gzip")
    assert.strictEqual(readBy(upper, entry), "a".repeat(100))
    assert.strictEqual(
      message(() => readBy(json, entry)),
      `it is written as "upper", which this reader does not know: give the topic that serializer`
    )
  })

  it("own transforms too, in any order of nesting", () => {
    const reverse: Serializer.Transform = {
      name: "reverse:1",
      apply: (bytes) => new Uint8Array(bytes).reverse(),
      undo: (bytes) => new Uint8Array(bytes).reverse()
    }
    const own = encrypted({ ...json, transforms: [reverse] }, [key("a", 1)])
    const entry = write(own, [1, 2])
    assert.strictEqual(entry.format, "json+reverse:1+aes:a")
    assert.deepStrictEqual(readBy(own, entry), [1, 2])
    assert.strictEqual(
      message(() => readBy(encrypted(json, [key("a", 1)]), entry)),
      `it went through "reverse:1", which this reader does not know: give the topic that serializer`
    )
  })

  it("formats that make no sense are refused, and quoted no longer than needed", () => {
    const data = Uint8Array.of(49)
    for (const format of ["", "+", "json+", "+gzip", "JSON", "constructor", "json+constructor", "\n".repeat(500)]) {
      const said = message(() => readBy(json, { format, data }))
      assert.include(said, "which this reader does not know")
      assert.isBelow(said.length, 250)
    }
  })

  it("many strange formats do not fill the memory of a reader, nor its way with good ones", () => {
    const reader = compressed(json, { with: "gzip" })
    const data = bytesOf(JSON.stringify([1]))
    for (let i = 0; i < 1000; i++) message(() => readBy(reader, { format: `json+aes:k${i}`, data }))
    assert.deepStrictEqual(readBy(reader, { format: undefined, data }), [1])
  })

  it("an entry above the limit is TooLarge in any format", () => {
    assert.throws(() => readBy(json, write(json, "abc"), 4), TooLarge, "it has 5 bytes, the limit is 4")
  })

  it("headers reach the codec", () => {
    const switching = Serializer.make({
      encode: (value, headers) => (headers.as === "json" ? JSON.stringify(value) : String(value)),
      decode: (bytes, headers) =>
        headers.as === "json" ? JSON.parse(String(Buffer.from(bytes))) : String(Buffer.from(bytes))
    })
    assert.strictEqual(switching.format, "own")
    assert.strictEqual(switching.decode(bytesOf(switching.encode(5, { as: "json" })), { as: "json" }), 5)
    assert.strictEqual(switching.decode(bytesOf(switching.encode(5, {})), {}), "5")
  })

  it.effect("a layer sets the one that is used by default", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* Serializer.Serializer).format, "msgpack")
    }).pipe(Effect.provide(Serializer.layer(msgpack)))
  )

  it.effect("layerJson is JSON", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* Serializer.Serializer, json)
    }).pipe(Effect.provide(Serializer.layerJson))
  )
})

describe("refused at definition", () => {
  const short = { id: "k", key: Redacted.make(new TextEncoder().encode("hunter2hunter2!!")) }
  const allowed = `use letters, digits, ".", "_" and "-", a letter or digit first`
  // Wrong on purpose, as from JavaScript.
  const wrong = (value: unknown): never => value as never
  const codec = { encode: String, decode: String }
  it.each<readonly [string, () => unknown]>([
    [`compressed: "with" is "lz4": use one of gzip, brotli, zstd`, () => compressed(json, { with: wrong("lz4") })],
    [
      `compressed: "with" is "toString": use one of gzip, brotli, zstd`,
      () => compressed(json, { with: wrong("toString") })
    ],
    [
      `compressed: "above" is -1: give a whole number of bytes, 0 or more`,
      () => compressed(json, { with: "gzip", above: -1 })
    ],
    [
      `compressed: "above" is 1.5: give a whole number of bytes, 0 or more`,
      () => compressed(json, { with: "gzip", above: 1.5 })
    ],
    [
      `compressed with gzip twice: once is enough`,
      () => compressed(compressed(json, { with: "gzip" }), { with: "gzip" })
    ],
    [
      `compressed: encrypted bytes do not shrink: compress first, encrypted(compressed(...), keys)`,
      () => compressed(encrypted(json, [key("a", 1)]), { with: "gzip" })
    ],
    [`encrypted: there is no key: give at least one`, () => encrypted(json, wrong([]))],
    [`encrypted: key "k" has 16 bytes: AES-256 takes exactly 32`, () => encrypted(json, [short])],
    [
      `encrypted: key "k2" has 0 bytes: AES-256 takes exactly 32`,
      () => encrypted(json, [key("k", 1), { id: "k2", key: Redacted.make(new Uint8Array()) }])
    ],
    [
      `encrypted: key "k" is no Redacted Uint8Array: wrap its 32 bytes in Redacted.make`,
      () => encrypted(json, [{ id: "k", key: wrong(new Uint8Array(32)) }])
    ],
    [
      `encrypted: two keys have the id "k": give each key an id of its own`,
      () => encrypted(json, [key("k", 1), key("k", 2)])
    ],
    [`encrypted: a key id is "a+b": ${allowed}`, () => encrypted(json, [key("a+b", 1)])],
    [`encrypted: a key id is "a:b": ${allowed}`, () => encrypted(json, [key("a:b", 1)])],
    [`encrypted: a key id is "": ${allowed}`, () => encrypted(json, [key("", 1)])],
    [`encrypted twice: give all keys to one`, () => encrypted(encrypted(json, [key("a", 1)]), [key("b", 1)])],
    [`make: the format is "a+b": ${allowed}`, () => Serializer.make({ ...codec, format: "a+b" })],
    [`make: the format is "-a": ${allowed}`, () => Serializer.make({ ...codec, format: "-a" })],
    [
      `make: the format "json" is built in, and read as such everywhere: choose another name`,
      () => Serializer.make({ ...codec, format: "json" })
    ]
  ])("%s", (detail, define) => {
    const said = refusal(define)
    assert.strictEqual(said, `serializer: ${detail}`)
    assert.notInclude(said, "hunter2")
  })
})
