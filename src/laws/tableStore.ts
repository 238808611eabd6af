/** The laws of the table store: rows as the last commit left them. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import type { Broker } from "../Broker.ts"
import { TableStore } from "../TableStore.ts"
import { claimed, commit, commitOf, fence, range, register, text, topicOf, unique } from "./broker/support.ts"
import { suite } from "./suite.ts"
import { modelLaws } from "./tableStore/model.ts"
import { timedLaws } from "./tableStore/timed.ts"

/** A registered processor with an owner of partitions 0 and 1. */
const owner = Effect.gen(function* () {
  const processor = unique("p")
  const topic = topicOf(2)
  yield* register(processor, [topic])
  for (const partition of [0, 1]) yield* claimed(processor, [topic], fence(1), partition)
  return processor
})

const scan = (processor: string, table: string, partition = 0) =>
  Effect.gen(function* () {
    const tables = yield* TableStore
    const rows = new Map<string, string>()
    let cursor: string | undefined = ""
    for (let page = 0; cursor !== undefined && page < 10_000; page++) {
      const found: { rows: ReadonlyArray<readonly [string, Uint8Array]>; next: string | undefined } =
        yield* tables.entries(processor, table, partition, cursor)
      for (const [key, value] of found.rows) rows.set(key, text(value)!)
      cursor = found.next
    }
    return rows
  })

export const tableStoreLaws = suite<Broker | TableStore>("table store", (laws) => {
  const { it } = laws
  timedLaws(laws)
  modelLaws(laws)

  it.effect("values are answered in the order of the keys, undefined where there is no row", () =>
    Effect.gen(function* () {
      const tables = yield* TableStore
      const processor = yield* owner
      const rows = ["a", "b", "c"].map((key) => ({ table: "t", key, value: key.toUpperCase() }))
      yield* commit(commitOf(processor, fence(1), 1, { rows }))
      const found = yield* tables.readMany(processor, "t", 0, ["c", "none", "a", "c"])
      assert.deepStrictEqual(found.map(text), ["C", undefined, "A", "C"])
      assert.deepStrictEqual(yield* tables.readMany(processor, "t", 0, []), [])
      assert.deepStrictEqual(yield* tables.readMany(unique("nobody"), "t", 0, ["a"]), [undefined])
    })
  )

  it.effect("values and keys keep their bytes", () =>
    Effect.gen(function* () {
      const tables = yield* TableStore
      const processor = yield* owner
      const bytes = Uint8Array.from({ length: 256 }, (_, index) => index)
      const values = new Map<string, string | Uint8Array>([
        ["bytes", bytes],
        ["empty", ""],
        ["žluť 🐎", "ťoučký 🐎"],
        ["with\0zero", "a\0b"],
        ["1", "1"]
      ])
      const rows = [...values].map(([key, value]) => ({ table: "t", key, value }))
      yield* commit(commitOf(processor, fence(1), 1, { rows }))
      const found = yield* tables.readMany(processor, "t", 0, [...values.keys()])
      const wanted = [...values.values()].map((value) => Buffer.from(value as string))
      assert.deepStrictEqual(
        found.map((value) => Buffer.from(value!)),
        wanted
      )
      const { rows: scanned } = yield* tables.entries(processor, "t", 0, "")
      assert.deepStrictEqual(new Set(scanned.map(([key]) => key)), new Set(values.keys()))
    })
  )

  it.effect("tables and partitions do not touch each other", () =>
    Effect.gen(function* () {
      const tables = yield* TableStore
      const processor = yield* owner
      const write = (partition: number, table: string, value: string) =>
        commitOf(processor, fence(1), 1, { partition, rows: [{ table, key: "k", value }] })
      yield* commit(write(0, "t", "t0"))
      yield* commit(write(1, "t", "t1"))
      yield* commit(commitOf(processor, fence(1), 2, { rows: [{ table: "u", key: "k", value: "u0" }] }))
      const found = yield* Effect.forEach(
        [
          ["t", 0],
          ["t", 1],
          ["u", 0],
          ["u", 1]
        ] as const,
        ([table, partition]) =>
          Effect.map(tables.readMany(processor, table, partition, ["k"]), (values) => text(values[0]))
      )
      assert.deepStrictEqual(found, ["t0", "t1", "u0", undefined])
    })
  )

  it.effect("thousands of keys are answered in their order", () =>
    Effect.gen(function* () {
      const tables = yield* TableStore
      const processor = yield* owner
      const keys = range(2_500, "key")
      yield* commit(
        commitOf(processor, fence(1), 1, { rows: keys.map((key) => ({ table: "t", key, value: `of ${key}` })) })
      )
      const found = yield* tables.readMany(processor, "t", 0, [...keys.toReversed(), "none"])
      assert.strictEqual(found.length, keys.length + 1)
      assert(keys.toReversed().every((key, i) => text(found[i]) === `of ${key}`))
      assert.isUndefined(found.at(-1))
    })
  )

  it.effect("a scan gives every row, page by page", () =>
    Effect.gen(function* () {
      const processor = yield* owner
      const keys = range(2_300, "key")
      yield* commit(
        commitOf(processor, fence(1), 1, { rows: keys.map((key) => ({ table: "t", key, value: `of ${key}` })) })
      )
      const rows = yield* scan(processor, "t")
      assert.strictEqual(rows.size, keys.length)
      assert(keys.every((key) => rows.get(key) === `of ${key}`))
      assert.strictEqual((yield* scan(processor, "t", 1)).size, 0)
      assert.strictEqual((yield* scan(processor, "none")).size, 0)
    })
  )

  it.effect("a scan gives large rows too, a few at a time", () =>
    Effect.gen(function* () {
      const tables = yield* TableStore
      const processor = yield* owner
      const keys = range(24, "large")
      const value = "x".repeat(500_000)
      for (let i = 0; i < keys.length; i += 2) {
        const rows = keys.slice(i, i + 2).map((key) => ({ table: "t", key, value, timeToLive: 60_000 }))
        yield* commit(commitOf(processor, fence(1), 1 + i / 2, { rows }))
      }
      for (const timed of [false, true]) {
        const seen = new Set<string>()
        let cursor: string | undefined = ""
        while (cursor !== undefined) {
          const page: Effect.Success<ReturnType<typeof tables.entries>> = yield* tables.entries(
            processor,
            "t",
            0,
            cursor,
            timed
          )
          for (const [key, bytes] of page.rows) {
            assert.strictEqual(bytes.byteLength, value.length)
            seen.add(key)
          }
          cursor = page.next
        }
        assert.deepStrictEqual(seen, new Set(keys))
      }
    })
  )

  it.effect("tables are listed by name", () =>
    Effect.gen(function* () {
      const tables = yield* TableStore
      const [processor, one, two] = [unique("p"), unique("z"), unique("y")]
      const all = [one, two].map((name) => ({ name, processor, partitions: 2, hashed: name === one, redacted: [] }))
      yield* tables.declare(all)
      const ours = (yield* tables.layouts()).filter((table) => table.processor === processor)
      assert.deepStrictEqual(ours, all.toReversed())
    })
  )

  it.effect("rows that never expire are read alike by what reads those that do", () =>
    Effect.gen(function* () {
      const tables = yield* TableStore
      const processor = yield* owner
      yield* commit(commitOf(processor, fence(1), 1, { rows: [{ table: "t", key: "a", value: "A" }] }))
      const [found, none] = yield* tables.readTimed(processor, "t", 0, ["a", "none"])
      assert.deepStrictEqual([text(found!.value), found!.left, none], ["A", undefined, undefined])
      const page = yield* tables.entries(processor, "t", 0, "", true)
      assert.deepStrictEqual(
        page.rows.map(([key, value]) => [key, text(value)]),
        [["a", "A"]]
      )
    })
  )

  it.effect("where a table lives is stored once, and a contradiction is a layout mismatch", () =>
    Effect.gen(function* () {
      const tables = yield* TableStore
      const table = { name: unique("table"), processor: unique("p"), partitions: 4, hashed: true, redacted: ["/a b"] }
      assert.strictEqual(yield* tables.layout(table.name), undefined)
      yield* tables.declare([table])
      yield* tables.declare([table])
      assert.deepStrictEqual(yield* tables.layout(table.name), table)
      for (const other of [
        { ...table, processor: "another" },
        { ...table, partitions: 8 }
      ]) {
        const error = yield* Effect.flip(tables.declare([other]))
        assert(error._tag === "Misconfigured" && error.reason === "LayoutMismatch")
        assert.include(error.message, table.name)
      }
      assert.deepStrictEqual(yield* tables.layout(table.name), table)
      // Of the rest, the last word counts.
      const { redacted, ...changed } = { ...table, hashed: false }
      yield* tables.declare([changed])
      assert.deepStrictEqual(yield* tables.layout(table.name), { ...changed, redacted: [] })
    })
  )
})
