/** Joins with tables: each event with the row of its key as its turn finds it, and views over two tables. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Schema, Stream } from "effect"
import * as Join from "../src/Join.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { drain, start } from "./support/engines.ts"
import { half, sideOf } from "./support/joins.ts"
import { inOurDays, never } from "./support/windows.ts"

const Named = Schema.Struct({ key: Schema.String, name: Schema.String })

const namedIn = (topic: string) =>
  Topic.make(topic, { schema: Named, partitionBy: "key", partitions: 4, retention: Retention.forever })

const tableOf = <const Name extends string>(name: Name, source = `${name}-source`) => {
  const topic = namedIn(source)
  const table = Table.make(name, { key: Schema.String, value: Schema.String, initial: () => "nobody" })
  const part = Processor.make(`${name}-filler`, { topic, tables: [table] }, ({ key, name }) =>
    name === "" ? Table.remove(table, key) : Table.set(table, key, name)
  )
  return { topic, table, part }
}

const events = sideOf("events", 4)

describe("a topic with a table", () => {
  inOurDays("inner: a key without a row gives nothing; left: none; each as its turn finds it", () =>
    Effect.gen(function* () {
      const { part, table, topic } = tableOf("names")
      const lines: Array<string> = []
      const inner = Processor.make("inner", { topic: Join.table(events, table) }, ({ left, right }) =>
        Effect.sync(() => lines.push(`${left.n} ${right}`))
      )
      const all = Processor.make("left", { topic: Join.table(events, table, { kind: "left" }) }, ({ left, right }) =>
        Effect.sync(() => lines.push(`${left.n} (${Option.getOrElse(right, () => "-")})`))
      )
      const worker = yield* start([part, inner, all])
      const step = (name: string | undefined, n: number) =>
        Effect.gen(function* () {
          if (name !== undefined) yield* Topic.publish(topic, { key: "a", name })
          yield* worker.idle
          yield* Topic.publish(events, half(0, n))
          yield* worker.idle
        })
      yield* step(undefined, 1)
      yield* step("Ada", 2)
      yield* step("Grace", 3)
      yield* step("", 4)
      yield* worker.stop
      assert.deepStrictEqual(lines.toSorted(), ["1 (-)", "2 (Ada)", "2 Ada", "3 (Grace)", "3 Grace", "4 (-)"])
    })
  )

  inOurDays("of the processor's own table it is the row with all that was written before", () =>
    Effect.gen(function* () {
      const counts = Table.make("counts", { key: Schema.String, value: Schema.Int, initial: () => 0 })
      const lines: Array<string> = []
      const part = Processor.make(
        "own",
        { topic: Join.table(events, counts, { kind: "left" }), tables: [counts] },
        Effect.fnUntraced(function* ({ left, right }) {
          lines.push(`${left.n} ${Option.getOrElse(right, () => 0)}`)
          yield* Table.update(counts, left.key, (count) => count + 1)
        })
      )
      yield* Topic.publishAll(events, [half(0, 1), half(0, 2), half(0, 3)])
      yield* drain([part])
      assert.deepStrictEqual(lines, ["1 0", "2 1", "3 2"])
    })
  )

  inOurDays("what goes in may be a join of topics, and a plain topic may stand beside it", () =>
    Effect.gen(function* () {
      const { part, table, topic } = tableOf("names")
      const others = sideOf("others", 4)
      const plain = sideOf("plain", 4)
      const pairs = Join.streams(events, others, { within: "1 minute", ...never })
      const lines: Array<string> = []
      const both = Processor.make("both", { topic: [Join.table(pairs, table), plain] }, (value) =>
        Effect.sync(() => {
          lines.push("n" in value ? `plain ${value.n}` : `${value.left.left.n}/${value.left.right.n} ${value.right}`)
        })
      )
      yield* Topic.publish(topic, { key: "a", name: "Ada" })
      yield* drain([part])
      yield* Topic.publishAll(events, [half(0, 1), half(0, 2, "b")])
      yield* Topic.publishAll(others, [half(0, 11), half(0, 12, "b")])
      yield* Topic.publish(plain, half(0, 21))
      yield* drain([both])
      assert.deepStrictEqual(lines.toSorted(), ["1/11 Ada", "plain 21"])
    })
  )

  inOurDays("in batches and pipelines too", () =>
    Effect.gen(function* () {
      const { part, table, topic } = tableOf("names")
      yield* Topic.publish(topic, { key: "a", name: "Ada" })
      yield* drain([part])
      yield* Topic.publishAll(events, [half(0, 1), half(0, 2, "b"), half(0, 3)])
      const lines: Array<string> = []
      const joined = Join.table(events, table)
      const stream = Processor.stream("stream", { topic: joined }, (events) =>
        events.pipe(Stream.tap(({ value }) => Effect.sync(() => lines.push(`${value.left.n} ${value.right}`))))
      )
      yield* drain([stream])
      assert.deepStrictEqual(lines.toSorted(), ["1 Ada", "3 Ada"])
      const lag = yield* Processor.lag("stream")
      assert.isTrue(lag.every(({ events }) => events === 0))
    })
  )
})

describe("two tables", () => {
  inOurDays("a view follows both", () =>
    Effect.gen(function* () {
      const names = tableOf("names")
      const towns = tableOf("towns")
      const view = Join.tables(names.table, towns.table)
      const worker = yield* start([names.part, towns.part])
      const set = (side: typeof names | typeof towns, key: string, name: string) =>
        Effect.andThen(Topic.publish(side.topic, { key, name }), worker.idle)
      yield* set(names, "a", "Ada")
      assert.deepStrictEqual(yield* Table.lookup(view, "a"), ["Ada", "nobody"])
      yield* set(towns, "a", "London")
      yield* set(towns, "b", "Paris")
      assert.deepStrictEqual(yield* Table.lookupMany(view, ["b", "a", "c"]), [
        ["nobody", "Paris"],
        ["Ada", "London"],
        ["nobody", "nobody"]
      ])
      assert.deepStrictEqual(yield* Table.find(view, "b"), Option.some(["nobody", "Paris"] as const))
      assert.deepStrictEqual(yield* Table.find(view, "c"), Option.none())
      const rows = Effect.map(Stream.runCollect(Table.entries(view)), (rows) => rows.map(String).toSorted())
      assert.deepStrictEqual(yield* rows, ["a,Ada,London", "b,nobody,Paris"])
      yield* set(names, "a", "")
      assert.deepStrictEqual(yield* rows, ["a,nobody,London", "b,nobody,Paris"])
      // A view may stand where a table does.
      const lines: Array<string> = []
      const part = Processor.make("viewed", { topic: Join.table(events, view) }, ({ left, right }) =>
        Effect.sync(() => lines.push(`${left.n} ${right}`))
      )
      yield* Topic.publishAll(events, [half(0, 1), half(0, 2, "b"), half(0, 3, "c")])
      yield* drain([part])
      yield* worker.stop
      assert.deepStrictEqual(lines.toSorted(), ["1 nobody,London", "2 nobody,Paris"])
    })
  )

  it("is refused where the counts differ, and where somebody would write it", () => {
    const { table } = tableOf("names")
    const loose = Table.make("loose", { key: Schema.String, value: Schema.Int, initial: () => 0, partitions: 2 })
    assert.throws(() => Join.tables(table, loose), /table names has 4 partitions and table loose has 2/)
    const view = Join.tables(table, tableOf("towns").table)
    assert.throws(
      () => Processor.make("p", { topic: events, tables: [view] }, () => Effect.void),
      /names\+towns is a view, which nobody writes/
    )
  })
})

describe("definitions", () => {
  it("a table with another partition count is refused, with both", () => {
    const { table } = tableOf("names")
    assert.throws(
      () => Join.table(sideOf("events", 8), table),
      /events has 8 partitions and table names has 4.*Processor\.repartition/
    )
    const loose = Table.make("loose", { key: Schema.String, value: Schema.Int, initial: () => 0, partitions: 2 })
    assert.throws(() => Join.table(events, loose), /events has 4 partitions and table loose has 2/)
  })
})
