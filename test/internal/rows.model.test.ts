/**
 * The owner's cache against a plain model, with an engine whose answers are late: handlers of several keys read and write
 * at the same time, commits are on their way, rows leave a cache that is far too small, and neighbours are fetched along.
 * Whatever happens, a row reads as it was written last.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import type { Event } from "../../src/Event.ts"
import type { Stored } from "../../src/internal/run/misses.ts"
import { Rows } from "../../src/internal/run/rows.ts"
import * as Serializer from "../../src/Serializer.ts"
import * as Table from "../../src/Table.ts"
import { Choices } from "../../src/testing/choices.ts"

const { definition } = Table.make("t", { key: Schema.String, value: Schema.Finite, initial: () => 0 })

const lanes = 5
const keysOf = (lane: number): ReadonlyArray<string> => Array.from({ length: 6 }, (_, i) => `${lane}/${i}`)
const all = Array.from({ length: lanes }, (_, lane) => keysOf(lane)).flat()

/** So many turns of other fibers. */
const turns = (random: Choices, most: number) => Effect.repeat(Effect.yieldNow, { times: random.below(most) })

const run = (seed: number, pages: boolean) =>
  Effect.gen(function* () {
    const random = new Choices(seed)
    const stored = new Map<string, Uint8Array>()
    let asked = 0
    const engine: Stored = {
      // What it answers was so at some moment between question and answer.
      rows: (_, keys) =>
        Effect.gen(function* () {
          asked++
          yield* turns(random, 4)
          const found = keys.map((key) => stored.get(key))
          yield* turns(random, 6)
          return found.map((bytes) => bytes && { bytes, until: undefined })
        }),
      page: () =>
        Effect.gen(function* () {
          const rows = [...stored]
          yield* turns(random, 6)
          return { rows, next: pages ? undefined : "more" }
        })
    }
    const bounds = { rows: 4, bytes: 1_000 }
    const rows = new Rows([definition], Serializer.json, { partition: 0, partitionOf: () => 0 }, engine, { bounds })
    const table = rows.table(definition)
    const model = new Map<string, number>()
    let busy = lanes
    const lane = (number: number) =>
      Effect.gen(function* () {
        for (let step = 0; step < 60; step++) {
          const key = random.pick(keysOf(number))
          rows.handed = all.filter(() => random.chance(0.3)).map((key) => ({ key }) as Event<unknown>)
          const row = rows.cached(table, key) ?? (yield* rows.load(table, key, key))
          assert.strictEqual(table.read(row), model.get(key) ?? 0, `seed ${seed}, ${key}`)
          if (random.chance(0.6)) {
            const value = step * lanes + number + 1
            row.value = value
            // The event is done a little later.
            yield* turns(random, 3)
            rows.settle(row, value)
            model.set(key, value)
          }
          yield* turns(random, 3)
        }
        busy--
      })
    const committer = Effect.gen(function* () {
      while (busy > 0 || rows.pending > 0) {
        const cut = rows.cut()
        yield* turns(random, 5)
        for (const { key, value } of cut) {
          if (value === undefined) stored.delete(key)
          else stored.set(key, Buffer.from(value))
        }
        yield* turns(random, 5)
        rows.landed()
        yield* Effect.yieldNow
      }
    })
    yield* Effect.all([committer, ...Array.from({ length: lanes }, (_, i) => lane(i))], { concurrency: "unbounded" })
    for (const [key, value] of model) assert.strictEqual(Buffer.from(stored.get(key)!).toString(), String(value))
    assert.isAbove(asked, 10)
  })

describe("the owner's cache", () => {
  it.effect("reads as it was written last, however late the engine answers", () =>
    Effect.forEach(
      Array.from({ length: 60 }, (_, seed) => seed),
      (seed) => run(seed, seed % 2 === 0),
      { discard: true }
    )
  )
})
