/** The wire format: what is packed comes back equal, under every serializer; what others wrote never throws. */
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Schema } from "effect"
import type { Entry, NewEntry } from "../../src/Broker.ts"
import type { Origin } from "../../src/Event.ts"
import { codecOf, type Encoded } from "../../src/internal/record/record.ts"
import * as Serializer from "../../src/Serializer.ts"
import * as Topic from "../../src/Topic.ts"
import { seeded } from "../support/seeded.ts"

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

const random = seeded(7)
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
