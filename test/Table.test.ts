/** Tables: what handlers read and write, what others see, where keys belong, and what happens to a cache. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Latch, Schema, Stream } from "effect"
import { Broker } from "../src/Broker.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import * as Worker from "../src/Worker.ts"
import { behaviour, drain, halted, intrude, numbers, start, until } from "./support/engines.ts"
import { reading, readings } from "./support/readings.ts"

const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })
const rowsOf = <K, V>(table: Table.State<string, K, V>, options?: { partition: number }) =>
  Effect.map(Stream.runCollect(Table.entries(table, options)), (rows) => new Map(rows))

describe("in a handler", () => {
  behaviour("get sees earlier writes of the unit; set, update and remove; a removed key reads as initial again", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const log: Array<unknown> = []
      yield* Topic.publishAll(
        topic,
        numbers(3).map((n) => reading(n, 1))
      )
      yield* drain([
        Processor.make(
          "p",
          { topic, tables: [totals] },
          Effect.fnUntraced(function* ({ n }) {
            const before = yield* Table.get(totals, "a")
            if (n === 1) yield* Table.remove(totals, "a")
            else yield* Table.set(totals, "a", n + 10)
            const between = yield* Table.get(totals, "a")
            log.push([before, between, yield* Table.update(totals, "a", (value) => value + 100)])
            if (n === 2) yield* Table.remove(totals, "a")
            yield* Table.set(totals, "b", n)
          })
        )
      ])
      assert.deepStrictEqual(log, [
        [0, 10, 110],
        [110, 0, 100],
        [100, 12, 112]
      ])
      assert.deepStrictEqual(yield* rowsOf(totals), new Map([["b", 2]]))
      assert.strictEqual(yield* Table.lookup(totals, "a"), 0)
    })
  )

  behaviour("a failed unit leaves the values as they were, also for the next event", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(6).map((n) => reading(n, 1))
      )
      const seen: Array<number> = []
      yield* drain([
        Processor.make(
          "p",
          { topic, tables: [totals] },
          Effect.fnUntraced(function* ({ n }) {
            seen.push(yield* Table.get(totals, "a"))
            yield* Table.update(totals, "a", (value) => value + 1)
            yield* Table.update(totals, "a", (value) => value + 1)
            if (n % 2 === 1) return yield* Effect.fail("no")
          })
        ).pipe(Processor.catch(Policy.ignore))
      ])
      assert.deepStrictEqual(seen, [0, 2, 2, 4, 4, 6])
      assert.strictEqual(yield* Table.lookup(totals, "a"), 6)
    })
  )

  behaviour("values of any schema, keys that are numbers", () =>
    Effect.gen(function* () {
      const topic = Topic.make("t", { schema: Schema.Int, partitionBy: (n) => n, partitions: 4 })
      const Value = Schema.Struct({ at: Schema.Date, tags: Schema.Array(Schema.String), big: Schema.BigInt })
      const table = Table.make("t", {
        key: Schema.Int,
        value: Value,
        initial: () => ({ at: new Date(0), tags: [] as ReadonlyArray<string>, big: 0n })
      })
      const part = Processor.make("p", { topic, tables: [table] }, (n) =>
        Table.update(table, n, ({ at, big, tags }) => ({
          at: new Date(at.getTime() + n),
          tags: [...tags, `ü${n}`],
          big: big + 2n ** 70n
        }))
      )
      yield* Topic.publishAll(topic, [1, 22, 333, 22])
      yield* drain([part], { limit: 2 })
      yield* drain([part])
      const rows = yield* rowsOf(table)
      assert.deepStrictEqual(
        [...rows.keys()].toSorted((a, b) => a - b),
        [1, 22, 333]
      )
      assert.deepStrictEqual(rows.get(22), { at: new Date(44), tags: ["ü22", "ü22"], big: 2n ** 71n })
      assert.deepStrictEqual(yield* Table.lookup(table, 333), { at: new Date(333), tags: ["ü333"], big: 2n ** 70n })
    })
  )

  behaviour("a key that belongs to another partition is a defect that says what to do", () =>
    Effect.gen(function* () {
      const topic = readings(16)
      yield* Topic.publish(topic, reading(1))
      const failure = yield* halted([
        Processor.make("p", { topic, tables: [totals] }, () =>
          Effect.forEach(numbers(16), (n) => Table.update(totals, `elsewhere ${n}`, (value) => value + 1))
        )
      ])
      const message = String(Cause.squash(failure.cause))
      assert.match(
        message,
        /table totals: key elsewhere \d+ belongs to partition \d+, and the event is in partition \d+; re-key the topic with Processor.repartition/
      )
    })
  )

  behaviour("partitionBy says which topic key a table key goes with; scope partition has a row in each", () =>
    Effect.gen(function* () {
      const topic = readings(4)
      const perMinute = Table.make("per-minute", {
        key: Schema.String,
        value: Schema.Finite,
        initial: () => 0,
        partitionBy: (key) => key.split("/")[0]!
      })
      const sums = Table.make("sums", {
        key: Schema.String,
        value: Schema.Finite,
        initial: () => 0,
        scope: "partition"
      })
      yield* Topic.publishAll(
        topic,
        numbers(100).map((n) => reading(n))
      )
      const summary = yield* drain([
        Processor.make("p", { topic, tables: [perMinute, sums] }, ({ key, n }) =>
          Effect.andThen(
            Table.update(perMinute, `${key}/${n % 2}`, (value) => value + 1),
            Table.update(sums, "all", (value) => value + 1)
          )
        )
      ])
      assert.strictEqual(summary.parts.p?.processed, 100)
      assert.strictEqual(yield* Table.lookup(perMinute, "k3/1"), 10)
      assert.strictEqual((yield* rowsOf(perMinute)).size, 10)
      let sum = 0
      for (const partition of numbers(4)) {
        const value = yield* Table.lookup(sums, "all", { partition })
        assert.deepStrictEqual(yield* rowsOf(sums, { partition }), new Map(value === 0 ? [] : [["all", value]]))
        sum += value
      }
      assert.strictEqual(sum, 100)
    })
  )

  behaviour("a value that its schema refuses halts and stores nothing of the unit", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(2).map((n) => reading(n))
      )
      const failure = yield* halted([
        Processor.make("p", { topic, tables: [totals] }, () => Table.set(totals, "a", "text" as never))
      ])
      assert.include(failure.message, "a value for table totals, key a was refused (Schema): Expected number")
      assert.strictEqual(yield* Table.lookup(totals, "a"), 0)
      assert.strictEqual((yield* Processor.lag("p"))[0]!.events, 2)
    })
  )

  behaviour("an undeclared table is a defect that names the option", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publish(topic, reading(0))
      const failure = yield* halted([
        Processor.make("p", { topic }, () => Table.get(totals, "a") as unknown as Effect.Effect<void>)
      ])
      assert.include(failure.message, `table totals is not declared by this processor: name it in its option "tables"`)
    })
  )
})

describe("from outside", () => {
  behaviour("only what is committed is seen, while a handler runs", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      const gate = yield* Latch.make(false)
      let waiting = false
      const worker = yield* start([
        Processor.make("p", { topic, tables: [totals] }, ({ n }) =>
          Effect.andThen(
            Table.update(totals, "a", (value) => value + 1),
            Effect.suspend(() => {
              waiting = n === 1
              return n === 1 ? gate.await : Effect.void
            })
          )
        )
      ])
      yield* Topic.publishAll(topic, [reading(0), reading(1)])
      yield* until(engine, "the second is in hand", () => waiting)
      yield* until(engine, "the first is committed", () =>
        Effect.map(Table.lookup(totals, "a"), (value) => value === 1)
      )
      yield* gate.open
      yield* worker.idle
      assert.strictEqual(yield* Table.lookup(totals, "a"), 2)
    })
  )

  behaviour("a program without the processor finds the table by its stored layout", () =>
    Effect.gen(function* () {
      const topic = readings(4)
      yield* Topic.publishAll(
        topic,
        numbers(20).map((n) => reading(n))
      )
      yield* drain([
        Processor.make("p", { topic, tables: [totals] }, ({ key }) => Table.update(totals, key, (value) => value + 1))
      ])
      // The same definition, as another program has it.
      const other = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })
      assert.strictEqual(yield* Table.lookup(other, "k7"), 2)
      assert.strictEqual((yield* rowsOf(other)).size, 10)
      const unknown = Table.make("unknown", { key: Schema.String, value: Schema.Finite, initial: () => 0 })
      const error = yield* Effect.flip(Table.lookup(unknown, "a"))
      assert.include(
        error.message,
        "table unknown is not stored here: no worker that declares it has run with this namespace"
      )
      const narrow = Table.make("totals", { key: Schema.String, value: Schema.String, initial: () => "" })
      const wrong = yield* Effect.flip(Table.lookup(narrow, "k7"))
      assert.strictEqual(wrong._tag, "DecodeError")
      assert.include(wrong.message, "table totals")
    })
  )
})

describe("the owner's cache", () => {
  behaviour(
    "holds less than a table has: sums stay exact when rows come and go, also while a commit is on its way",
    () =>
      Effect.gen(function* () {
        const topic = Topic.make("t", { schema: Schema.Int, partitions: 1 })
        const table = Table.make("wide", {
          key: Schema.Int,
          value: Schema.Finite,
          initial: () => 0,
          scope: "partition"
        })
        const width = 12_000
        yield* Topic.publishAll(topic, Stream.range(0, 3 * width - 1))
        yield* drain([
          Processor.make("p", { topic, tables: [table] }, (n) => Table.update(table, n % width, (value) => value + 1))
        ])
        const rows = yield* rowsOf(table)
        assert.strictEqual(rows.size, width)
        const wrong = [...rows].filter(([, value]) => value !== 3)
        assert.deepStrictEqual(wrong, [])
      }),
    { timeout: 60_000 }
  )

  behaviour(
    "is thrown away when the epoch is refused: nothing staged survives, what is committed is read anew",
    (engine) =>
      Effect.gen(function* () {
        const topic = readings(1)
        const gate = yield* Latch.make(false)
        const seen: Array<readonly [number, number]> = []
        let stuck = true
        const part = Processor.make(
          "p",
          { topic, tables: [totals] },
          Effect.fnUntraced(function* ({ n }) {
            const value = yield* Table.update(totals, "a", (value) => value + 1)
            seen.push([n, value])
            if (n === 1 && stuck) {
              stuck = false
              yield* gate.await
            }
          })
        )
        const worker = yield* start([part], { settle: 0 })
        yield* Topic.publishAll(
          topic,
          numbers(3).map((n) => reading(n))
        )
        yield* until(engine, "the second is in hand", () => seen.length === 2)
        yield* until(engine, "the first is committed", () =>
          Effect.map(Table.lookup(totals, "a"), (value) => value === 1)
        )
        const commit = yield* intrude("p", topic)
        const rows = [{ table: "totals", key: "a", value: "1000" }]
        yield* (yield* Broker).commit([{ ...commit, rows }], "memory")
        yield* gate.open
        const idle = yield* Effect.forkChild(worker.idle)
        yield* until(engine, "the worker has it back and is done", () => idle.pollUnsafe() !== undefined)
        assert.deepStrictEqual(seen.slice(-2), [
          [1, 1001],
          [2, 1002]
        ])
        assert.strictEqual(yield* Table.lookup(totals, "a"), 1002)
      })
  )
})

describe("definitions", () => {
  it("refuse names and tables named twice", () => {
    const make = (name: string) => Table.make(name, { key: Schema.String, value: Schema.Int, initial: () => 0 })
    assert.throws(() => make("a b"), `table name "a b": use 1 to 128 letters`)
    assert.throws(
      () => Processor.make("p", { topic: readings(), tables: [make("a"), make("a")] }, () => Effect.void),
      "processor p: a table is named twice"
    )
  })

  behaviour("a table belongs to one processor, with its count of partitions; nothing is handled otherwise", () =>
    Effect.gen(function* () {
      const topic = readings(4)
      yield* Topic.publish(topic, reading(0))
      let handled = 0
      const part = (name: string, source = topic) =>
        Processor.make(name, { topic: source, tables: [totals] }, () => Effect.sync(() => void handled++))
      const twice = yield* Effect.flip(Worker.run([part("p"), part("q")]))
      assert.strictEqual(
        twice.message,
        "DuplicateName: table totals is declared by p and by q; a table belongs to one processor"
      )
      assert.strictEqual(handled, 0)
      yield* drain([part("p")])
      const other = yield* Effect.flip(Worker.run([part("q")]))
      assert.strictEqual(other._tag, "Misconfigured")
      assert.include(other.message, "LayoutMismatch: ")
      assert.strictEqual(handled, 1)
    })
  )
})
