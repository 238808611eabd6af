/** The wire format: what is packed comes back equal, under every serializer; what others wrote never throws. */
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Schema } from "effect"
import type { Entry, NewEntry } from "../../src/Broker.ts"
import type { Origin } from "../../src/Event.ts"
import { codecOf, type Encoded } from "../../src/internal/record/record.ts"
import * as Retention from "../../src/Retention.ts"
import * as Serializer from "../../src/Serializer.ts"
import * as Topic from "../../src/Topic.ts"
import { Choices } from "../../src/testing/choices.ts"

const origin: Origin = { drop: () => {}, unit: () => assert.fail("nobody runs units here") }

/** As an engine gives it back. */
const stored = (entry: NewEntry, id = "7-0"): Entry => ({
  id,
  count: entry.count,
  fields: entry.fields.map((field) => (typeof field === "string" ? Buffer.from(field) : field))
})

const Value = Schema.Struct({
  text: Schema.String,
  at: Schema.Date,
  big: Schema.BigInt,
  list: Schema.Array(Schema.Finite),
  maybe: Schema.NullOr(Schema.String)
})
type Value = typeof Value.Type

const random = new Choices(7)
const valueOf = (): Value => ({
  text: random.pick(["", "a", 'ü\u0000\n"\\', "x".repeat(random.below(300))]),
  at: new Date(random.below(2 ** 40)),
  big: BigInt(random.below(2 ** 52)) ** 3n,
  list: Array.from({ length: random.below(5) }, () => random.below(1_000) / 8),
  maybe: random.chance(0.5) ? null : "yes"
})

const serializers: Record<string, Serializer.Codec> = {
  json: Serializer.json,
  msgpack: Serializer.msgpack,
  "json, compressed": Serializer.compressed(Serializer.json, { with: "gzip", above: 64 })
}

describe("entries", () => {
  for (const [name, codec] of Object.entries(serializers)) {
    it(`come back equal, alone and in batches: ${name}`, () => {
      const topic = Topic.make("t", { schema: Value, partitions: 1, serializer: codec })
      const { encode, pack, unpack } = codecOf(topic, Serializer.json)
      for (const count of [1, 2, 3, 50, 100]) {
        const values = Array.from({ length: count }, valueOf)
        const options = values.map(
          (_, i): Topic.EmitOptions => ({
            ...(random.chance(0.5) ? { key: `k${i}` } : {}),
            ...(random.chance(0.3) ? { headers: { i: String(i), ü: "" } } : {}),
            ...(random.chance(0.3) ? { timestamp: DateTime.makeUnsafe(i + 1) } : {})
          })
        )
        const encoded: Array<Encoded> = values.map((value, i) => encode(value, options[i], () => 0))
        const entry = stored(pack(encoded))
        assert.strictEqual(entry.count, count)
        const from = random.below(count)
        const events = unpack(entry, 0, from, origin, 3n)
        assert.strictEqual(events.length, count - from)
        events.forEach((event, n) => {
          const i = from + n
          assert.isUndefined(event.failure)
          assert.deepStrictEqual(event.value, values[i])
          assert.strictEqual(event.key, options[i]!.key)
          assert.deepStrictEqual(event.headers, options[i]!.headers ?? {})
          const time = options[i]!.timestamp === undefined ? 7 : i + 1
          assert.strictEqual(DateTime.toEpochMillis(event.timestamp), time)
          assert.deepStrictEqual([event.offset, event.epoch, event.partition], [`7-0.${i}`, 3n, 0])
          // Forwarded, it is an entry of its own with all of this.
          const [again] = unpack(stored(event.stored()), 0, 0, origin, 3n)
          assert.deepStrictEqual([again!.value, again!.key, again!.headers], [event.value, event.key, event.headers])
          assert.deepStrictEqual(again!.timestamp, event.timestamp)
        })
      }
    })
  }

  it("many at once are the same events as one by one, in fewer pieces where the format can", () => {
    for (const [name, codec] of Object.entries(serializers)) {
      const topic = Topic.make("t", { schema: Value, partitions: 1, serializer: codec, partitionBy: "text" })
      const { encode, encodeAll, maxEvents, pack, place, unpack } = codecOf(topic, Serializer.json)
      const values = Array.from({ length: 250 }, valueOf)
      const options: Topic.EmitOptions = { headers: { all: "of them" }, timestamp: DateTime.makeUnsafe(5) }
      const pieces = encodeAll(
        values,
        values.map((value) => place(value, options, () => 0))
      )
      assert.strictEqual(
        pieces.reduce((sum, piece) => sum + piece.count, 0),
        250
      )
      assert.isTrue(pieces.every((piece) => piece.count <= maxEvents))
      assert.strictEqual(pieces.length < 10, name.startsWith("json"), name)
      const all = pieces.flatMap((piece) => unpack(stored(pack([piece])), 0, 0, origin, 1n))
      const alone = values.map((value) => unpack(stored(pack([encode(value, options, () => 0)])), 0, 0, origin, 1n)[0]!)
      all.forEach((event, i) => {
        assert.deepStrictEqual(event.value, alone[i]!.value)
        assert.deepStrictEqual([event.key, event.headers], [alone[i]!.key, alone[i]!.headers])
        assert.deepStrictEqual(event.timestamp, alone[i]!.timestamp)
      })
      // Pieces and single events share an entry.
      const few = encodeAll(
        values.slice(0, 3),
        values.slice(0, 3).map((value) => place(value, { key: "k" }, () => 0))
      )
      const mixed = unpack(stored(pack([encode(values[9]!, undefined, () => 0), ...few])), 0, 0, origin, 1n)
      assert.deepStrictEqual(
        mixed.map((event) => event.value),
        [values[9], values[0], values[1], values[2]]
      )
      assert.deepStrictEqual(
        mixed.map((event) => event.key),
        [values[9]!.text, "k", "k", "k"]
      )
    }
  })

  it("among many, the one that is refused is refused as if it were alone", () => {
    const topic = Topic.make("t", { schema: Schema.Unknown, partitions: 1, maxBytes: 100 })
    const { encode, encodeAll, place } = codecOf(topic, Serializer.json)
    const circle: Array<unknown> = []
    circle.push(circle)
    for (const bad of [circle, undefined, () => 1, 1n, "x".repeat(99)]) {
      const values = [1, { a: 2 }, bad, "x".repeat(98)]
      const refusal = (run: () => unknown): string => {
        try {
          run()
        } catch (error) {
          return String(error)
        }
        return "none"
      }
      const alone = refusal(() => encode(bad, undefined, () => 0))
      assert.match(alone, /a value for t was refused/)
      const placed = values.map((value) => place(value, undefined, () => 0))
      assert.strictEqual(
        refusal(() => encodeAll(values, placed)),
        alone
      )
    }
  })

  it("no piece is larger than an entry may be, nor holds more than the topic may", () => {
    const small = Topic.make("t", { schema: Schema.Int, partitions: 1, retention: Retention.consumed({ capacity: 7 }) })
    const large = Topic.make("t", { schema: Schema.String, partitions: 1 })
    const sizes = [10, 60_000, 10, 10, 70_000, 300, 300, 300, 40_000, 40_000, 10].map((size) => "x".repeat(size))
    const numbers = Array.from({ length: 30 }, (_, i) => i)
    const of = (topic: Topic.Any, values: ReadonlyArray<unknown>) => {
      const { encodeAll, place } = codecOf(topic, Serializer.json)
      return encodeAll(
        values,
        values.map((value) => place(value, undefined, () => 0))
      )
    }
    assert.isTrue(of(small, numbers).every((piece) => piece.count <= 7))
    const pieces = of(large, sizes)
    assert.isTrue(pieces.every((piece) => piece.count === 1 || piece.bytes <= 64 * 1024))
    assert.strictEqual(
      pieces.reduce((sum, piece) => sum + piece.count, 0),
      sizes.length
    )
  })

  it("a reader with another default reads what was written", () => {
    const schema = Schema.Struct({ n: Schema.Int })
    const write = codecOf(Topic.make("t", { schema, serializer: Serializer.msgpack }), Serializer.json)
    const read = codecOf(Topic.make("t", { schema }), Serializer.json)
    const encoded = [1, 2].map((n) => write.encode({ n }, undefined, () => 0))
    for (const events of [encoded, encoded.slice(1)]) {
      const found = read.unpack(stored(write.pack(events)), 0, 0, origin, 0n)
      assert.deepStrictEqual(found.at(-1)?.value, { n: 2 })
    }
  })

  it("whatever stands in the fields, each event is there and says what is wrong with it", () => {
    const { unpack } = codecOf(Topic.make("t", { schema: Schema.Struct({ n: Schema.Int }) }), Serializer.json)
    const pieces = [
      "",
      "{",
      "[]",
      "null",
      '{"n":1}',
      '[{"n":1},{"n":2}]',
      '[{"n":1}]',
      "\u0000\u0001",
      "json+gzip",
      "nope",
      "[1,2]",
      "3"
    ]
    const names = ["v", "n", "f", "k", "h", "t", "x", "", "vv"]
    let failures = 0
    for (let round = 0; round < 3_000; round++) {
      const fields: Array<Uint8Array> = []
      for (let i = random.below(5); i >= 0; i--) {
        fields.push(Buffer.from(random.pick(names)), Buffer.from(random.pick(pieces)))
      }
      const count = 1 + random.below(3)
      const events = unpack({ id: "1-1", count, fields }, 0, 0, origin, 0n)
      assert.strictEqual(events.length, count)
      for (const event of events) {
        // Nothing of it throws.
        void [event.key, event.headers, event.timestamp, JSON.stringify(event.offset)]
        if (event.failure === undefined) assert.isTrue(Number.isInteger((event.value as { n: number }).n))
        else {
          failures++
          assert.include(event.failure.message, `t/0@${event.offset} cannot be decoded`)
        }
      }
    }
    assert.isAbove(failures, 1_000)
  })

  it("one bad value in a batch spoils none of the others", () => {
    const { unpack } = codecOf(Topic.make("t", { schema: Schema.Int }), Serializer.json)
    const fields = ["n", "4", "v", `[1,"two",3,4.5]`].map((field) => Buffer.from(field))
    const events = unpack({ id: "1-1", count: 4, fields }, 0, 0, origin, 0n)
    assert.deepStrictEqual(
      events.map((event) => event.failure?.reason ?? event.value),
      [1, "Schema", 3, "Schema"]
    )
    assert.strictEqual(new TextDecoder().decode(events[1]!.failure!.bytes), `"two"`)
  })
})
