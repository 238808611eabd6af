/** The changes of a table as a stream: what each commit left, in the order of commits, and never what failed. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Schema, Stream } from "effect"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, drain, numbers, start, until } from "./support/engines.ts"
import { type Reading, reading, readings } from "./support/readings.ts"

const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0, changes: true })

/** What replaying the changes gives. */
const replayed = <K, V>(table: Table.State<string, K, V> & Table.Logged) =>
  Effect.map(Stream.runCollect(Topic.stream(Table.changes(table), { until: "now" })), (events) => {
    const rows = new Map<K, V>()
    for (const { value } of events) {
      if (Option.isSome(value.value)) rows.set(value.key, value.value.value)
      else rows.delete(value.key)
    }
    return rows
  })

const rowsOf = <K, V>(table: Table.State<string, K, V>) =>
  Effect.map(Stream.runCollect(Table.entries(table)), (rows) => new Map(rows))

const sorted = <K, V>(rows: ReadonlyMap<K, V>) => [...rows].toSorted(([a], [b]) => (String(a) < String(b) ? -1 : 1))

/** Adds and removes, and fails now and then. */
const add = <Name extends string>(table: Table.Table<Name, string, number>, { key, n }: Reading) =>
  Effect.gen(function* () {
    if (n % 7 === 3) yield* Table.remove(table, key)
    else yield* Table.update(table, key, (total) => total + n)
    if (n % 11 === 5) return yield* Effect.fail("no" as const)
  })

describe("changes", () => {
  behaviour("replayed they give the table, through retries, ignored failures, removals and a change of owner", () =>
    Effect.gen(function* () {
      const topic = readings(4)
      const part = Processor.make("p", { topic, tables: [totals] }, (event) => add(totals, event)).pipe(
        Processor.retry({ times: 1 }),
        Processor.catch(Policy.ignore)
      )
      yield* Topic.publishAll(
        topic,
        numbers(120).map((n) => reading(n))
      )
      yield* drain([part], { limit: 50 })
      yield* drain([part])
      const rows = yield* rowsOf(totals)
      assert.isAbove(rows.size, 3)
      assert.deepStrictEqual(sorted(yield* replayed(totals)), sorted(rows))
    })
  )

  behaviour("under perKey and in batches they are those of the commits too", (engine) =>
    Effect.gen(function* () {
      const topic = readings(2)
      const make = <const Name extends string>(name: Name) =>
        Table.make(name, { key: Schema.String, value: Schema.Finite, initial: () => 0, changes: true })
      const [lanes, batches] = [make("lanes"), make("batches")]
      yield* Topic.publishAll(
        topic,
        numbers(60).map((n) => reading(n))
      )
      const worker = yield* start([
        Processor.make("lanes", { topic, tables: [lanes], concurrency: { perKey: 4 } }, (event) =>
          Effect.andThen(Effect.yieldNow, Effect.ignore(add(lanes, event)))
        ),
        Processor.batch("batches", { topic, tables: [batches], size: 7, within: "50 millis" }, (events) =>
          Effect.forEach(events, (event) => Effect.ignore(add(batches, event)), { discard: true })
        )
      ])
      const idle = yield* Effect.forkChild(worker.idle)
      // The last batches are not full: they go when their time is over.
      yield* until(engine, "all is handled", () => idle.pollUnsafe() !== undefined)
      for (const table of [lanes, batches]) {
        assert.deepStrictEqual(sorted(yield* replayed(table)), sorted(yield* rowsOf(table)))
      }
    })
  )

  behaviour("lie in the partition of their row, under its topic key; many of one commit share entries", () =>
    Effect.gen(function* () {
      const topic = readings(4)
      const perMinute = Table.make("per-minute", {
        key: Schema.String,
        value: Schema.Struct({ n: Schema.Int, at: Schema.Date }),
        initial: () => ({ n: 0, at: new Date(0) }),
        partitionBy: (key) => key.split("/")[0]!,
        changes: { retention: Retention.forever }
      })
      yield* Topic.publish(topic, { key: "a", n: 1 })
      yield* drain([
        Processor.make("p", { topic, tables: [perMinute] }, ({ key }) =>
          Effect.forEach(numbers(150), (n) => Table.set(perMinute, `${key}/${n}`, { n, at: new Date(n) }))
        )
      ])
      const events = yield* Stream.runCollect(Topic.stream(Table.changes(perMinute), { until: "now" }))
      assert.lengthOf(events, 150)
      assert.deepStrictEqual(new Set(events.map(({ key }) => key)), new Set(["a"]))
      assert.deepStrictEqual(
        new Set(events.map(({ partition }) => partition)),
        new Set([topic.partitioner("a", topic.partitions)])
      )
      assert.isBelow(new Set(events.map(({ offset }) => offset.split(".")[0])).size, 5)
      assert.deepStrictEqual(events[0]!.value.value, Option.some({ n: 0, at: new Date(0) }))
      assert.deepStrictEqual(Table.changes(perMinute).retention, Retention.forever)
    })
  )

  behaviour("of a table with a row in each partition lie with the row, and have no key", () =>
    Effect.gen(function* () {
      const topic = readings(4)
      const sums = Table.make("sums", {
        key: Schema.String,
        value: Schema.Finite,
        initial: () => 0,
        scope: "partition",
        changes: true
      })
      yield* Topic.publishAll(
        topic,
        numbers(40).map((n) => reading(n))
      )
      yield* drain([Processor.make("p", { topic, tables: [sums] }, () => Table.update(sums, "all", (sum) => sum + 1))])
      const last = new Map<number, number>()
      const events = yield* Stream.runCollect(Topic.stream(Table.changes(sums), { until: "now" }))
      for (const { key, partition, value } of events) {
        assert.isUndefined(key)
        last.set(partition, Option.getOrThrow(value.value))
      }
      for (const [partition, sum] of last) assert.strictEqual(yield* Table.lookup(sums, "all", { partition }), sum)
      assert.strictEqual(
        [...last.values()].reduce((all, sum) => all + sum, 0),
        40
      )
    })
  )
})

describe("definitions", () => {
  it("say how many partitions changes have, or say that it is not known", () => {
    const table = Table.make("t", { key: Schema.String, value: Schema.Int, initial: () => 0, changes: true })
    assert.throws(() => Table.changes(table), "table t: how many partitions its changes have is not known here")
    const counted = Table.make("t", {
      key: Schema.String,
      value: Schema.Int,
      initial: () => 0,
      changes: true,
      partitions: 8
    })
    assert.strictEqual(Table.changes(counted).partitions, 8)
    assert.strictEqual(Table.changes(counted), Table.changes(counted))
    assert.strictEqual(Table.changes(counted).name, "t.changes")
    assert.throws(
      () => Table.make("n".repeat(125), { key: Schema.String, value: Schema.Int, initial: () => 0, changes: true }),
      "topic name"
    )
  })
})
