/** Tables whose values are sets: each operation, in handlers and asked for from elsewhere. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, HashSet, Schema, Stream } from "effect"
import type { Commit } from "../src/Broker.ts"
import { Broker } from "../src/Broker.ts"
import * as Partitioner from "../src/Partitioner.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { Choices } from "../src/testing/choices.ts"
import { behaviour, drain, numbers, start } from "./support/engines.ts"

const tags = Table.sets("tags", { key: Schema.String, member: Schema.String, partitions: 2 })

const orders = Topic.make("orders", {
  schema: Schema.Struct({ key: Schema.String, tags: Schema.Array(Schema.String) }),
  partitionBy: "key",
  partitions: 2
})

const tagger = Processor.make("tagger", { topic: [orders, Table.requests(tags)], tables: [tags] }, (value) =>
  Table.isRequest(value) ? Table.apply(tags, value) : Table.change(tags, value.key, "add", value.tags)
)

const members = (key: string) => Effect.map(Table.lookup(tags, key), (set) => Array.from(set).toSorted())

/** The same on plain sets. */
const model: Record<Table.Operation, (set: Set<string>, members: ReadonlySet<string>) => Set<string>> = {
  add: (set, members) => new Set([...set, ...members]),
  discard: (set, members) => new Set([...set].filter((one) => !members.has(one))),
  clear: () => new Set(),
  intersection: (set, members) => new Set([...set].filter((one) => members.has(one))),
  symmetricDifference: (set, members) =>
    new Set([...set, ...members].filter((one) => set.has(one) !== members.has(one)))
}

describe("sets", () => {
  behaviour("each operation does to the set what it does to a plain one, whoever asks, also after a take-over", () =>
    Effect.gen(function* () {
      const random = new Choices(7)
      const names = ["a", "b", "c", "d"]
      const wanted = new Map<string, Set<string>>()
      const operations = Object.keys(model) as ReadonlyArray<Table.Operation>
      for (const round of [1, 2]) {
        const worker = yield* start([tagger])
        for (let i = 0; i < 60; i++) {
          const key = random.pick(["x", "y", "z"])
          const some = names.filter(() => random.chance(0.4))
          const operation = random.chance(0.05) ? "clear" : random.pick(operations.filter((name) => name !== "clear"))
          yield* Table.request(tags, key, operation, some)
          wanted.set(key, model[operation](wanted.get(key) ?? new Set(), new Set(some)))
        }
        yield* worker.idle
        for (const [key, set] of wanted) assert.deepStrictEqual(yield* members(key), [...set].toSorted(), `${round}`)
        yield* worker.stop
      }
    })
  )

  behaviour("handlers put in, take out and look; a failed one changes nothing", () =>
    Effect.gen(function* () {
      const seen: Array<readonly [boolean, number]> = []
      yield* Topic.publishAll(
        orders,
        numbers(4).map((n) => ({ key: "x", tags: [`t${n}`] }))
      )
      const part = Processor.make(
        "tagger",
        { topic: orders, tables: [tags] },
        Effect.fnUntraced(function* ({ key, tags: [tag] }) {
          const before = yield* Table.has(tags, key, "t0")
          const set = yield* Table.add(tags, key, tag!)
          seen.push([before, HashSet.size(set)])
          if (tag === "t1") yield* Table.discard(tags, key, "t0")
          if (tag === "t2") return yield* Effect.fail("no")
        })
      ).pipe(Processor.catch(Policy.ignore))
      yield* drain([part])
      assert.deepStrictEqual(seen, [
        [false, 1],
        [true, 2],
        [false, 2],
        [false, 2]
      ])
      assert.deepStrictEqual(yield* members("x"), ["t1", "t3"])
      assert.lengthOf(yield* Stream.runCollect(Table.entries(tags)), 1)
    })
  )

  behaviour("what changes nothing writes nothing, and an empty set is no row", () =>
    Effect.gen(function* () {
      const rows: Array<Commit["rows"][number]> = []
      const watched = Effect.map(Broker, (broker) =>
        Broker.of({
          ...broker,
          commit: (commits, durability) => {
            for (const commit of commits) rows.push(...commit.rows)
            return broker.commit(commits, durability)
          }
        })
      )
      const worker = yield* start([tagger]).pipe(Effect.provideServiceEffect(Broker, watched))
      const ask = (operation: Table.Operation, ...some: ReadonlyArray<string>) =>
        Effect.andThen(Table.request(tags, "x", operation, some), worker.idle)
      yield* ask("add", "a", "b")
      assert.lengthOf(rows, 1)
      yield* ask("add", "a")
      yield* ask("discard", "c")
      yield* ask("intersection", "a", "b", "c")
      yield* ask("symmetricDifference")
      assert.lengthOf(rows, 1)
      yield* ask("symmetricDifference", "a", "b")
      assert.deepStrictEqual(
        rows.map(({ key, value }) => [key, value === undefined]),
        [
          ["x", false],
          ["x", true]
        ]
      )
      assert.deepStrictEqual(yield* Stream.runCollect(Table.entries(tags)), [])
    })
  )

  behaviour("members of any schema are equal by value, also when they were stored", () =>
    Effect.gen(function* () {
      const Member = Schema.Struct({ x: Schema.Int, at: Schema.Date })
      const table = Table.sets("points", { key: Schema.String, member: Member })
      const topic = Topic.make("t", { schema: Schema.Int, partitionBy: () => "k", partitions: 2 })
      const part = Processor.make("p", { topic, tables: [table] }, (n) =>
        Table.add(table, "k", { x: n % 2, at: new Date(n % 2) })
      )
      yield* Topic.publishAll(topic, numbers(4))
      yield* drain([part], { limit: 2 })
      yield* drain([part])
      assert.strictEqual(HashSet.size(yield* Table.lookup(table, "k")), 2)
    })
  )
})

describe("definitions", () => {
  // Backwards: no key is where the default puts it.
  const backwards = (key: string, partitions: number) => partitions - 1 - Partitioner.hash(key, partitions)
  const options = { key: Schema.String, member: Schema.String, partitions: 2 }
  const placed = Topic.make("placed", {
    schema: Schema.String,
    partitionBy: (key) => key,
    partitions: 2,
    partitioner: backwards
  })
  const handling = (table: Table.Sets<"tags", string, string>) =>
    Processor.make("tagger", { topic: [placed, Table.requests(table)], tables: [table] }, (value) =>
      Table.isRequest(value) ? Table.apply(table, value as never) : Table.add(table, value, "placed")
    )

  it("refuse topics of one processor that are partitioned by different functions", () => {
    assert.throws(
      () => handling(Table.sets("tags", options)),
      /placed and tags\.requests, which have different partitioners/
    )
  })

  behaviour("a set beside a topic with a partitioner of its own is asked for by the same one", () =>
    Effect.gen(function* () {
      const table = Table.sets("tags", { ...options, partitioner: backwards })
      const part = handling(table)
      for (const key of ["x", "y", "z"]) {
        yield* Topic.publish(placed, key)
        yield* Table.request(table, key, "add", ["asked"])
      }
      yield* drain([part])
      for (const key of ["x", "y", "z"]) {
        assert.deepStrictEqual(Array.from(yield* Table.lookup(table, key)).toSorted(), ["asked", "placed"])
      }
    })
  )

  it("say what is needed to ask from elsewhere", () => {
    const table = Table.sets("t", { key: Schema.String, member: Schema.String })
    assert.throws(() => Table.requests(table), "table t: to ask for changes of its sets from elsewhere")
    assert.strictEqual(Table.requests(tags), Table.requests(tags))
    assert.strictEqual(Table.requests(tags).partitions, 2)
  })
})
