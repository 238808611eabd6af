/** Every law on the memory engine, on virtual time; and that it needs no other clock. */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import { Broker } from "../src/Broker.ts"
import { EngineError } from "../src/Errors.ts"
import * as EmbeddedBroker from "../src/embedded/broker.ts"
import { layerMemory, Sqlite } from "../src/embedded/client.ts"
import * as EmbeddedTables from "../src/embedded/tableStore.ts"
import {
  after,
  append,
  claimed,
  commit,
  commitAll,
  commitOf,
  eventsOf,
  fence,
  from,
  range,
  read,
  register,
  single,
  stored,
  topicOf
} from "../src/laws/broker/support.ts"
import * as Laws from "../src/laws/Laws.ts"
import * as Retention from "../src/Retention.ts"
import { TableStore } from "../src/TableStore.ts"

const engine = Layer.mergeAll(EmbeddedBroker.layer, EmbeddedTables.layer).pipe(Layer.provide(layerMemory))

Laws.broker("memory, virtual time", engine, { live: false })
Laws.broker("memory, real time", engine)
Laws.tableStore("memory", engine, { live: false })

it.effect("a read blocks on virtual time alone, and ids follow it", () =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const topic = topicOf()
    const reader = yield* broker.reader(0)
    const waiting = yield* Effect.forkChild(reader.read([from(topic)], { count: 1, block: 3_600_000 }))
    yield* TestClock.adjust("59 minutes")
    assert.isUndefined(waiting.pollUnsafe())
    const [id] = yield* stored(topic, [single("x")])
    assert.strictEqual(id, `${59 * 60_000}-0`)
    assert.deepStrictEqual(eventsOf(yield* Fiber.join(waiting)), ["x"])
  }).pipe(Effect.provide(engine))
)

it.effect("a publisher is forgotten ten minutes after its last append to any partition", () =>
  Effect.gen(function* () {
    const [topic, publisher] = [topicOf(2), "p"]
    yield* append(topic, [single("a")], { publisher })
    yield* append(topic, [single("b")], { publisher, partition: 1 })
    yield* TestClock.adjust("9 minutes")
    yield* append(topic, [single("c")], { publisher, number: 2 })
    yield* TestClock.adjust("9 minutes")
    const busyElsewhere = yield* append(topic, [single("d")], { publisher, partition: 1, number: 2 })
    assert.strictEqual(busyElsewhere._tag, "Stored")
    yield* TestClock.adjust("10 minutes")
    const forgotten = yield* append(topic, [single("e")], { publisher, number: 3 })
    assert.deepStrictEqual(forgotten, { _tag: "Gap", last: 0 })
    assert.strictEqual((yield* append(topic, [single("e")], { publisher, number: 1 }))._tag, "Stored")
  }).pipe(Effect.provide(engine))
)

it.effect("ids never go back, whatever the clock does", () =>
  Effect.gen(function* () {
    const topic = topicOf()
    yield* TestClock.setTime(5_000)
    const [first] = yield* stored(topic, [single("a")])
    yield* TestClock.setTime(1_000)
    const [second] = yield* stored(topic, [single("b")])
    yield* TestClock.setTime(6_000)
    const [third] = yield* stored(topic, [single("c")])
    assert.deepStrictEqual([first, second, third], ["5000-0", "5000-1", "6000-0"])
  }).pipe(Effect.provide(engine))
)

it.effect("each build of the memory layer is a database of its own", () =>
  Effect.gen(function* () {
    const topic = topicOf()
    const use = Effect.gen(function* () {
      yield* stored(topic, [single("a")])
      return (yield* (yield* Broker).inspect(topic, [0]))[0]!.length
    })
    const build = () => Effect.provide(use, engine, { local: true })
    assert.deepStrictEqual([yield* build(), yield* build()], [1, 1])
  })
)

it.effect("a backlog larger than one transaction may drop is gone when its commit is answered", () =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const topic = topicOf(1, Retention.consumed())
    const entries = range(9_500).map((event) => single(event))
    yield* register("p", [topic])
    const ids = yield* stored(topic, entries)
    yield* claimed("p", [topic], fence(1))
    yield* commitAll("p", fence(1), 1, after(topic, entries, ids))
    assert.strictEqual((yield* broker.inspect(topic, [0]))[0]!.length, 0)

    yield* stored(topic, entries)
    assert.strictEqual(yield* broker.trim({ ...topic, retention: Retention.maxLength(10) }), 9_490)
    assert.deepStrictEqual(eventsOf(yield* read([from(topic)])), range(9_500).slice(-10))
  }).pipe(Effect.provide(engine))
)

it.effect("all rows of a processor go with it, however many", () =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const tables = yield* TableStore
    const topic = topicOf()
    yield* register("p", [topic])
    yield* claimed("p", [topic], fence(1))
    for (const number of [1, 2, 3]) {
      const rows = range(3_000, `${number}/`).map((key) => ({ table: "t", key, value: key }))
      yield* commit(commitOf("p", fence(1), number, { rows }))
    }
    const keys: Array<string> = []
    let cursor: string | undefined = ""
    while (cursor !== undefined) {
      const page: Effect.Success<ReturnType<typeof tables.entries>> = yield* tables.entries("p", "t", 0, cursor)
      keys.push(...page.rows.map(([key]) => key))
      cursor = page.next
    }
    // No row twice, and in the order of the keys.
    assert.deepStrictEqual(keys, [1, 2, 3].flatMap((number) => range(3_000, `${number}/`)).sort())
    yield* broker.unregister("p")
    assert.deepStrictEqual(yield* tables.entries("p", "t", 0, ""), { rows: [], next: undefined })
  }).pipe(Effect.provide(engine))
)

it.effect("publishers that are gone do not stay in the database", () =>
  Effect.gen(function* () {
    const topic = topicOf()
    const sqlite = yield* Sqlite
    for (let i = 0; i < 50; i++) yield* stored(topic, [single("x")])
    yield* TestClock.adjust("10 minutes")
    yield* stored(topic, [single("last")])
    const count = yield* sqlite.query("count", (db) => db.prepareArrays("SELECT count(*) FROM publishers").get())
    assert.deepStrictEqual(count, [1])
  }).pipe(Effect.provide(Layer.provideMerge(EmbeddedBroker.layer, layerMemory)))
)

it.effect("ids that this engine cannot store are refused, and say why", () =>
  Effect.gen(function* () {
    const topic = topicOf()
    for (const id of ["9223372036854775808-0", "1-18446744073709551615", "word", "1-", "-1"]) {
      const error = yield* Effect.flip(append(topic, [single("x", id)]))
      assert(error instanceof EngineError && error.reason === "Refused")
      assert.include(error.message, id)
    }
    assert.deepStrictEqual(yield* read([from(topic)]), [])
  }).pipe(Effect.provide(engine))
)
