/** The hash is part of the stored layout: these vectors must never change. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema, Stream } from "effect"
import { hash, murmur3 } from "../src/Partitioner.ts"
import * as Processor from "../src/Processor.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, drain, numbers } from "./support/engines.ts"

/** MurmurHash3 x86_32, seed 0, written again from the reference: over bytes, with a bigint product. */
const reference = (bytes: Uint8Array): number => {
  const mask = 0xffffffffn
  const rotate = (value: bigint, by: bigint): bigint => ((value << by) | (value >> (32n - by))) & mask
  const scramble = (k: bigint): bigint => (rotate((k * 0xcc9e2d51n) & mask, 15n) * 0x1b873593n) & mask
  let h = 0n
  const blocks = bytes.length >> 2
  for (let i = 0; i < blocks; i++) {
    let k = 0n
    for (let j = 3; j >= 0; j--) k = (k << 8n) | BigInt(bytes[i * 4 + j]!)
    h = (rotate(h ^ scramble(k), 13n) * 5n + 0xe6546b64n) & mask
  }
  let tail = 0n
  for (let j = bytes.length - 1; j >= blocks * 4; j--) tail = (tail << 8n) | BigInt(bytes[j]!)
  h ^= scramble(tail)
  h ^= BigInt(bytes.length)
  h = ((h ^ (h >> 16n)) * 0x85ebca6bn) & mask
  h = ((h ^ (h >> 13n)) * 0xc2b2ae35n) & mask
  return Number(h ^ (h >> 16n))
}

const utf8 = new TextEncoder()

describe("murmur3", () => {
  it.each([
    ["", 0],
    ["a", 0x3c2569b2],
    ["hello", 0x248bfa47],
    ["hello, world", 0x149bbb7f],
    ["The quick brown fox jumps over the lazy dog", 0x2e4ff723]
  ])("of %j is the published value", (key, expected) => {
    assert.strictEqual(murmur3(key), expected)
    assert.strictEqual(reference(utf8.encode(key)), expected)
  })

  it("of ASCII keys of every length is that of their bytes", () => {
    for (let length = 0; length <= 40; length++) {
      const key = Array.from({ length }, (_, i) => String.fromCharCode((i * 37 + length) % 128)).join("")
      assert.strictEqual(murmur3(key), reference(utf8.encode(key)), JSON.stringify(key))
    }
  })

  it("of keys with a non-ASCII character at any position is that of their UTF-8 bytes", () => {
    for (const character of ["é", "\u0080", "ß", "漢", "\uffff", "😀"]) {
      for (let length = 0; length <= 16; length++) {
        for (let at = 0; at <= length; at++) {
          const key = "x".repeat(at) + character + "y".repeat(length - at)
          assert.strictEqual(murmur3(key), reference(utf8.encode(key)), JSON.stringify(key))
        }
      }
    }
  })

  it.prop("of any string is that of its UTF-8 bytes", [Schema.String], ([key]) => {
    assert.strictEqual(murmur3(key), reference(utf8.encode(key)))
  })
})

describe("hash", () => {
  it.each([
    ["", 16, 0],
    ["hello", 16, 7],
    ["hello", 1000, 351],
    ["größe", 16, 15],
    ["größe", 1000, 591],
    ["注文-42", 16, 6],
    ["😀", 1000, 546],
    // Keys that are numbers or bigints are hashed in their text form.
    [String(42), 16, 6],
    [String(-7.5), 64, 61],
    [String(2n ** 64n), 1000, 56]
  ])("puts %j of %i partitions into %i", (key, partitions, expected) => {
    assert.strictEqual(hash(key, partitions), expected)
  })

  const keyed: ReadonlyArray<readonly [string, (index: number) => string]> = [
    ["numbers", String],
    ["names with a number", (index) => `customer-${index}`],
    ["non-ASCII names", (index) => `größe-${index}`]
  ]
  for (const [kind, keyOf] of keyed) {
    it.each([16, 64, 1000])(`spreads 100,000 keys (${kind}) evenly over %i partitions`, (partitions) => {
      const keys = 100_000
      const counts = new Array<number>(partitions).fill(0)
      for (let index = 0; index < keys; index++) counts[hash(keyOf(index), partitions)]!++
      const expected = keys / partitions
      const chiSquare = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0)
      // Mean df, deviation sqrt(2 df): five deviations off would be one in millions.
      const freedom = partitions - 1
      assert.isBelow(chiSquare, freedom + 5 * Math.sqrt(2 * freedom))
    })
  }
})

describe("a partitioner of one's own", () => {
  /** By the number that a key is: nothing like the hash. */
  const byNumber = (key: string, partitions: number): number => (partitions - 1 - Number(key)) % partitions
  const make = (name: string) =>
    Topic.make(name, { schema: Schema.Int, partitionBy: (n) => n, partitions: 5, partitioner: byNumber })
  const places = <A>(topic: Topic.Topic<A, any>) =>
    Effect.map(Stream.runCollect(Topic.stream(topic, { until: "now" })), (events) =>
      events.map(({ key, partition }) => [key, partition]).toSorted()
    )

  behaviour("places what is published and emitted, and the rows that belong to it", () =>
    Effect.gen(function* () {
      const [source, target] = [make("source"), make("target")]
      const squares = Table.make("squares", { key: Schema.Int, value: Schema.Int, initial: () => 0 })
      const expected = numbers(5).map((n) => [String(n), 4 - n])
      assert.notDeepEqual(
        expected.map(([key]) => hash(String(key), 5)),
        expected.map(([, partition]) => partition)
      )
      const { partition } = yield* Topic.publish(source, 0)
      assert.strictEqual(partition, 4)
      const positions = yield* Topic.publishAll(source, numbers(4, 1))
      assert.deepStrictEqual(
        positions.map(({ partition }) => partition),
        [3, 2, 1, 0]
      )
      yield* drain([
        Processor.make("p", { topic: source, tables: [squares] }, (n) =>
          Effect.andThen(Topic.emit(target, n), Table.set(squares, n, n * n))
        )
      ])
      assert.deepStrictEqual(yield* places(target), expected)
      assert.deepStrictEqual(yield* Table.lookupMany(squares, numbers(5)), [0, 1, 4, 9, 16])
      for (const n of numbers(5)) {
        const rows = yield* Stream.runCollect(Table.entries(squares, { partition: 4 - n }))
        assert.deepStrictEqual(rows, [[n, n * n]])
      }
    })
  )

  behaviour("that gives no partition of the topic is refused, and nothing is stored", () =>
    Effect.gen(function* () {
      for (const wrong of [5, -1, 0.5, Number.NaN]) {
        const topic = Topic.make("wrong", { schema: Schema.Int, partitions: 5, partitioner: () => wrong })
        const error = yield* Effect.flip(Topic.publish(topic, 1, { key: "k" }))
        assert.deepInclude(error, { _tag: "EncodeError", reason: "Key" })
        assert.isEmpty(yield* places(topic))
      }
    })
  )
})
