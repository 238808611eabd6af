/** What the owner's cache asks the engine for: each row once while there is room, and those of a batch together. */
import { assert, describe, it } from "@effect/vitest"
import { type Context, Effect, Schema, Stream } from "effect"
import type { Event } from "../src/Event.ts"
import { Cache, rowOf } from "../src/internal/run/cache.ts"
import type { Row } from "../src/internal/run/row.ts"
import * as Processor from "../src/Processor.ts"
import * as Table from "../src/Table.ts"
import { TableStore } from "../src/TableStore.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, drain, numbers } from "./support/engines.ts"

const topic = Topic.make("t", { schema: Schema.Int, partitionBy: (n) => n, partitions: 1 })
const totals = Table.make("totals", { key: Schema.Int, value: Schema.Finite, initial: () => 0 })
const add = (n: number) => Table.update(totals, n, (total) => total + 1)

/** More rows than are read at a table's first use. */
const many = 2_000

/** Fill the table, then run a part over more events, and see what it asks for. */
const asked = (events: ReadonlyArray<number>, part: Parameters<typeof drain>[0][number]) =>
  Effect.gen(function* () {
    yield* Topic.publishAll(topic, numbers(many))
    yield* drain([Processor.make("p", { topic, tables: [totals] }, (n) => add(n))])
    yield* Topic.publishAll(topic, events)
    const questions: Array<ReadonlyArray<string>> = []
    const watch = (store: Context.Service.Shape<typeof TableStore>) =>
      TableStore.of({
        ...store,
        readMany: (processor, table, partition, keys) => {
          questions.push(keys)
          return store.readMany(processor, table, partition, keys)
        }
      })
    yield* drain([part]).pipe(Effect.provideServiceEffect(TableStore, Effect.map(TableStore, watch)))
    return questions
  })

describe("misses", () => {
  behaviour("1,000 reads of 10 keys ask for each of them once, all together", () =>
    Effect.gen(function* () {
      const questions = yield* asked(
        numbers(1_000).map((n) => 150 + (n % 10)),
        Processor.make("p", { topic, tables: [totals] }, (n) => add(n))
      )
      assert.lengthOf(questions.flat(), 10)
      assert.lengthOf(questions, 1)
      const keys = numbers(10, 150)
      assert.deepStrictEqual(
        yield* Table.lookupMany(totals, keys),
        keys.map(() => 101)
      )
    })
  )

  behaviour("events of a chunk that all have keys of their own cost one question", () =>
    Effect.gen(function* () {
      const questions = yield* asked(
        numbers(640, 1_000),
        Processor.make("p", { topic, tables: [totals] }, (n) => add(n))
      )
      assert.lengthOf(questions.flat(), 640)
      // 128 events are handed out at a time; what was read together may be more or less than that.
      assert.isAtMost(questions.length, 12)
    })
  )

  behaviour("lanes of several keys ask together, too", () =>
    Effect.gen(function* () {
      const questions = yield* asked(
        numbers(300, 1_000),
        Processor.make("p", { topic, tables: [totals], concurrency: { perKey: 8 } }, (n) =>
          Effect.andThen(Effect.yieldNow, add(n))
        )
      )
      assert.deepStrictEqual(
        questions
          .flat()
          .map(Number)
          .toSorted((a, b) => a - b),
        numbers(300, 1_000)
      )
      assert.isAtMost(questions.length, 12)
    })
  )

  behaviour("rows of a batch that are looked at side by side cost one question, whatever their keys", () =>
    Effect.gen(function* () {
      const pairs = Table.make("totals", {
        key: Schema.Int,
        value: Schema.Finite,
        initial: () => 0,
        // Not the key of the event.
        partitionBy: (n) => n + 1
      })
      const questions = yield* asked(
        numbers(100, 1_000),
        Processor.batch("p", { topic, tables: [pairs], size: 100, within: "1 hour" }, (values) =>
          Effect.forEach(values, (n) => Table.update(pairs, n - 500, (total) => total + 1), {
            concurrency: "unbounded",
            discard: true
          })
        )
      )
      assert.lengthOf(questions.flat(), 100)
      assert.lengthOf(questions, 1)
    })
  )

  behaviour("a cache that is far too small asks again, and counts right all the same", () =>
    Effect.gen(function* () {
      const questions = yield* asked(
        numbers(600).map((n) => n % 200),
        Processor.make("p", { topic, tables: [totals], cache: { rows: 20 } }, (n) => add(n))
      )
      // Rows of commits that are not answered yet stay, so how often it asks depends on the engine.
      assert.isAtLeast(questions.flat().length, 200)
      const keys = numbers(200)
      assert.deepStrictEqual(
        yield* Table.lookupMany(totals, keys),
        keys.map(() => 4)
      )
      assert.lengthOf(yield* Stream.runCollect(Table.entries(totals)), many)
    })
  )
})

describe("the bounds", () => {
  const table = {} as Row["table"]
  const row = (key: string, bytes: number): Row => rowOf({ table, key, topicKey: undefined }, "value", bytes)

  it("are kept in rows and in bytes; what is not stored yet stays, what was used stays longer", () => {
    const left: Array<string> = []
    const cache = new Cache({ rows: 3, bytes: 1_000 }, ({ key }) => left.push(key))
    const [a, b, c] = [row("a", 10), row("b", 10), row("c", 10)]
    for (const each of [a, b, c]) {
      cache.add(each)
      each.used = false
    }
    a.dirty = true
    b.used = true
    cache.add(row("d", 10))
    assert.deepStrictEqual(left, ["c"])
    assert.strictEqual(cache.size, 3)
    a.dirty = false
    cache.add(row("e", 995))
    // All the others together are what it has too much.
    assert.includeMembers(left, ["a", "b", "d"])
    assert.strictEqual(cache.size, 1)
  })

  it("count a row as it was stored last", () => {
    const left: Array<string> = []
    const cache = new Cache({ rows: 100, bytes: 100 }, ({ key }) => left.push(key))
    const a = row("a", 10)
    cache.add(a)
    cache.resized(a, 90)
    a.used = false
    cache.add(row("b", 20))
    assert.deepStrictEqual(left, ["a"])
  })

  it("must be whole numbers of at least 1", () => {
    const make = (rows: number) =>
      Processor.make("p", { topic, tables: [totals], cache: { rows } }, (_: number, __: Event<number>) => Effect.void)
    assert.throws(() => make(0), "processor p: cache.rows")
    assert.throws(() => make(1.5), "processor p: cache.rows")
  })
})
