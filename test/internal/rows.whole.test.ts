/** A small table is read whole at its first use: keys that it does not have cost no question. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Rows } from "../../src/internal/run/rows.ts"
import * as Serializer from "../../src/Serializer.ts"
import * as Table from "../../src/Table.ts"

const fetched = (bytes: Uint8Array | undefined) => bytes && { bytes, until: undefined }

const { definition } = Table.make("t", {
  key: Schema.Int,
  value: Schema.Finite,
  initial: () => 0,
  scope: "partition"
})

const make = (stored: Map<string, Uint8Array>, next: string | undefined) => {
  const asked = { pages: 0, rows: 0 }
  const rows = new Rows(
    [definition],
    Serializer.json,
    { partition: 0, partitionOf: () => 0 },
    {
      rows: (_, keys) =>
        Effect.sync(() => {
          asked.rows += keys.length
          return keys.map((key) => fetched(stored.get(key)))
        }),
      page: () =>
        Effect.sync(() => {
          asked.pages++
          return { rows: [...stored], next }
        })
    }
  )
  const table = rows.table(definition)
  const row = (key: number) =>
    Effect.suspend(() => {
      const known = rows.cached(table, key)
      return known === undefined ? rows.load(table, key) : Effect.succeed(known)
    })
  return { asked, row, rows, table }
}

describe("rows of a small table", () => {
  it.effect("are asked for once, those that are missing too", () =>
    Effect.gen(function* () {
      const { asked, row, table } = make(new Map([["7", Buffer.from("70")]]), undefined)
      assert.strictEqual(table.read(yield* row(1)), 0)
      assert.strictEqual(table.read(yield* row(7)), 70)
      for (let key = 100; key < 1_000; key++) assert.strictEqual(table.read(yield* row(key)), 0)
      assert.deepStrictEqual(asked, { pages: 1, rows: 0 })
    })
  )

  it.effect("a page of a larger one tells nothing of the keys that are not in it", () =>
    Effect.gen(function* () {
      const { asked, row, table } = make(new Map([["7", Buffer.from("70")]]), "more")
      assert.strictEqual(table.read(yield* row(1)), 0)
      assert.strictEqual(table.read(yield* row(7)), 70)
      assert.deepStrictEqual(asked, { pages: 1, rows: 2 })
    })
  )

  it.effect("a row that left the cache is asked for, not taken from what was stored at first", () =>
    Effect.gen(function* () {
      const stored = new Map<string, Uint8Array>([["7", Buffer.from("70")]])
      const { asked, row, rows, table } = make(stored, undefined)
      const changed = yield* row(7)
      changed.value = 71
      rows.settle(changed, 71)
      for (const { key, value } of rows.cut()) stored.set(key, Buffer.from(value!))
      rows.landed()
      for (let key = 1_000; key < 40_000; key++) yield* row(key)
      asked.rows = 0
      assert.strictEqual(table.read(yield* row(7)), 71)
      assert.deepStrictEqual(asked, { pages: 1, rows: 1 })
    })
  )
})
