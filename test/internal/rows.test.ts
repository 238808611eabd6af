/** The owner's cache: rows come and go, and what was written is never read as it was before. */
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

describe("rows", () => {
  it.effect("a row in a commit that is not answered yet stays, however many others come", () =>
    Effect.gen(function* () {
      const stored = new Map<string, Uint8Array>([["-1", Buffer.from("1")]])
      let asked = 0
      const rows = new Rows(
        [definition],
        Serializer.json,
        { partition: 0, partitionOf: () => 0 },
        {
          rows: (_, keys) =>
            Effect.sync(() => {
              asked += keys.length
              return keys.map((key) => fetched(stored.get(key)))
            }),
          // Too large to be read whole.
          page: () => Effect.succeed({ rows: [], next: "more" })
        }
      )
      const table = rows.table(definition)
      const row = (key: number) =>
        Effect.suspend(() => {
          const known = rows.cached(table, key)
          return known === undefined ? rows.load(table, key) : Effect.succeed(known)
        })
      const write = (key: number, value: number) =>
        Effect.map(row(key), (row) => {
          row.value = value
          rows.settle(row, value)
        })
      for (let key = 0; key < 5_000; key++) yield* write(key, key + 1)
      const cut = rows.cut()
      assert.strictEqual(cut.length, 5_000)
      // The engine does not have them yet, and twice as many as the cache holds are wanted.
      for (let key = 5_000; key < 25_000; key++) yield* row(key)
      asked = 0
      for (let key = 0; key < 5_000; key++) assert.strictEqual(table.read(yield* row(key)), key + 1)
      assert.strictEqual(asked, 0)
      rows.landed()
      for (const { key, value } of cut) stored.set(key, Buffer.from(value!))
      for (let key = 25_000; key < 60_000; key++) yield* row(key)
      assert.isAtMost(table.rows.size, 10_001)
      asked = 0
      for (let key = 0; key < 5_000; key++) assert.strictEqual(table.read(yield* row(key)), key + 1)
      assert.isAbove(asked, 0)
    })
  )
})
