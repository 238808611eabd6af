/** What is stored and does not fit any more, keys that are refused, partition counts that differ, and look-ups of many. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Schema, Stream } from "effect"
import type { DecodeError } from "../src/Errors.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import * as Worker from "../src/Worker.ts"
import { behaviour, drain, halted, numbers } from "./support/engines.ts"
import { reading, readings } from "./support/readings.ts"

const before = Table.make("totals", { key: Schema.String, value: Schema.String, initial: () => "" })
const make = () => Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })
const after = make()

/** A table whose values were of another kind: `k0` to `k4` hold text. */
const stored = (topic: ReturnType<typeof readings>) =>
  Effect.gen(function* () {
    yield* Topic.publishAll(
      topic,
      numbers(5).map((n) => reading(n))
    )
    yield* drain([Processor.make("p", { topic, tables: [before] }, ({ key, n }) => Table.set(before, key, `old ${n}`))])
  })

describe("a stored value that does not fit the schema any more", () => {
  behaviour("halts as a DecodeError that names table and key, before anything of the event is stored", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* stored(topic)
      yield* Topic.publish(topic, reading(13))
      yield* Topic.publish(topic, reading(3))
      const failure = yield* halted([
        Processor.make("p", { topic, tables: [after] }, ({ key }) =>
          Effect.andThen(
            Table.update(after, "extra", (n) => n + 1),
            Table.get(after, key)
          )
        )
      ])
      const error = Cause.squash(failure.cause) as DecodeError
      assert.strictEqual(error._tag, "DecodeError")
      assert.strictEqual(error.topic, "table totals")
      assert.strictEqual(error.offset, "k3")
      assert.strictEqual(Buffer.from(error.bytes).toString(), JSON.stringify("old 3"))
      assert.strictEqual(yield* Table.lookup(after, "extra"), 0)
      assert.strictEqual((yield* Processor.lag("p"))[0]!.events, 2)
    })
  )

  behaviour("goes through policies like any failure, and the event goes on by them", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* stored(topic)
      yield* Topic.publishAll(
        topic,
        numbers(10, 100).map((n) => reading(n))
      )
      const part = Processor.make("p", { topic, tables: [after] }, ({ key, n }) =>
        Table.update(after, key, (total) => total + n)
      ).pipe(Processor.retry({ times: 1 }), Processor.catchTag("DecodeError", Policy.deadLetter()))
      const summary = yield* drain([part])
      assert.strictEqual(summary.parts.p?.deadLettered, 5)
      assert.strictEqual(summary.parts.p?.processed, 5)
      assert.deepStrictEqual(yield* Table.lookupMany(after, ["k5", "k9"]), [105, 109])
    })
  )

  behaviour("can be caught in the handler, and be replaced or removed", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* stored(topic)
      yield* Topic.publishAll(
        topic,
        numbers(4).map((n) => reading(n))
      )
      yield* drain([
        Processor.make(
          "p",
          { topic, tables: [after] },
          Effect.fnUntraced(function* ({ key, n }) {
            if (n === 0) return yield* Table.set(after, key, 10)
            if (n === 1) return yield* Table.remove(after, key)
            const value = yield* Effect.catchTag(Table.get(after, key), "DecodeError", () => Effect.succeed(-1))
            yield* Table.set(after, key, value)
            if (n === 2) return yield* Effect.fail("it stays as it is")
          })
        ).pipe(Processor.catch(Policy.ignore))
      ])
      assert.deepStrictEqual(yield* Table.lookupMany(after, ["k0", "k1", "k3"]), [10, 0, -1])
      const wrong = yield* Effect.flip(Table.lookup(after, "k2"))
      assert.strictEqual(wrong._tag, "DecodeError")
    })
  )

  behaviour("fails a look-up and a scan with the same error; so does a key", () =>
    Effect.gen(function* () {
      const topic = readings(2)
      yield* stored(topic)
      // As a program has it that does not run the processor.
      const after = make()
      const one = yield* Effect.flip(Table.lookup(after, "k3"))
      assert.strictEqual(one.message, (yield* Effect.flip(Table.lookupMany(after, ["none", "k3"]))).message)
      assert.match(one.message, /^table totals\/\d@k3 cannot be decoded \(Schema\): Expected number/)
      const all = yield* Effect.flip(Stream.runDrain(Table.entries(after)))
      assert.strictEqual(all._tag, "DecodeError")
      const numbered = Table.make("totals", { key: Schema.Int, value: Schema.String, initial: () => "" })
      const key = yield* Effect.flip(Stream.runDrain(Table.entries(numbered)))
      assert.match(key.message, /^table totals\/\d@k\d cannot be decoded/)
    })
  )
})

describe("keys", () => {
  behaviour("that their schema refuses are a defect, and nothing is stored under them", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const table = Table.make("halves", {
        key: Schema.Int,
        value: Schema.Finite,
        initial: () => 0,
        scope: "partition"
      })
      yield* Topic.publish(topic, reading(1))
      const failure = yield* halted([
        Processor.make("p", { topic, tables: [table] }, ({ n }) => Table.set(table, n / 2, 1))
      ])
      assert.include(failure.message, "a value for table halves, key 0.5 was refused (Key)")
      assert.deepStrictEqual(yield* Stream.runCollect(Table.entries(table)), [])
    })
  )

  behaviour("of the same text are one row, whatever their type", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const table = Table.make("mixed", {
        key: Schema.Union([Schema.String, Schema.Int]),
        value: Schema.Finite,
        initial: () => 0,
        scope: "partition"
      })
      const seen: Array<number> = []
      yield* Topic.publishAll(
        topic,
        numbers(4).map((n) => reading(n))
      )
      yield* drain([
        Processor.make("p", { topic, tables: [table] }, ({ n }) =>
          Effect.map(
            Table.update(table, n % 2 === 0 ? 5 : "5", (value) => value + 1),
            (value) => seen.push(value)
          )
        )
      ])
      assert.deepStrictEqual(seen, [1, 2, 3, 4])
      assert.deepStrictEqual(yield* Stream.runCollect(Table.entries(table)), [["5", 4]])
    })
  )
})

describe("under perKey", () => {
  const refused = (what: string, key: string | undefined) =>
    behaviour(`${what} is a defect: another handler may be writing the row`, () =>
      Effect.gen(function* () {
        const topic = Topic.make("t", { schema: Schema.Int, partitions: 1 })
        const table = Table.make("t", {
          key: Schema.String,
          value: Schema.Finite,
          initial: () => 0,
          scope: key === undefined ? "partition" : "key"
        }) as Table.Table<"t", string, number>
        yield* Topic.publish(topic, 1, key === undefined ? {} : { key })
        const failure = yield* halted([
          Processor.make("p", { topic, tables: [table], concurrency: { perKey: 2 } }, () =>
            Table.update(table, "all", (value) => value + 1)
          )
        ])
        assert.include(
          failure.message,
          `table t: with concurrency perKey a handler reaches only rows of its own event's key (${key})`
        )
      })
    )

  refused("a row of another key", "other")
  refused("a row that goes with no key, for an event that has none", undefined)
})

describe("look-ups of many", () => {
  behaviour("answer in the order of the keys, from all partitions, with the initial value for what is missing", () =>
    Effect.gen(function* () {
      const topic = readings(4)
      yield* Topic.publishAll(
        topic,
        numbers(300).map((n) => reading(n, 100))
      )
      yield* drain([
        Processor.make("p", { topic, tables: [after] }, ({ key }) => Table.update(after, key, (value) => value + 1))
      ])
      const keys = numbers(120).map((n) => `k${n}`)
      assert.deepStrictEqual(
        yield* Table.lookupMany(after, keys),
        keys.map((_, n) => (n < 100 ? 3 : 0))
      )
      assert.deepStrictEqual(yield* Table.lookupMany(after, ["k7", "k7"]), [3, 3])
      assert.deepStrictEqual(yield* Table.lookupMany(after, []), [])
    })
  )
})

describe("partitions", () => {
  it("that a table says are compared with those of the topic when the processor is defined", () => {
    const table = Table.make("t", { key: Schema.String, value: Schema.Int, initial: () => 0, partitions: 8 })
    assert.throws(
      () => Processor.make("p", { topic: readings(4), tables: [table] }, () => Effect.void),
      "PartitionsMismatch: processor p: table t says 8 partitions, and topic readings has 4: give them the same count"
    )
    Processor.make("p", { topic: readings(8), tables: [table] }, () => Effect.void)
    assert.throws(
      () => Table.make("t", { key: Schema.String, value: Schema.Int, initial: () => 0, partitions: 0 }),
      "table t: partitions"
    )
  })

  behaviour("that are stored with another count are refused at the start, with both", () =>
    Effect.gen(function* () {
      yield* drain([Processor.make("p", { topic: readings(4), tables: [after] }, () => Effect.void)])
      const other = Topic.make("other", { schema: Schema.Int, partitions: 8 })
      const error = yield* Effect.flip(
        Worker.run([Processor.make("q", { topic: other, tables: [after] }, () => Effect.void)])
      )
      assert.match(error.message, /LayoutMismatch: table "totals" is stored with 4 partitions.*declared with 8/)
    })
  )
})
