/** What only Redis has: foreign clients and tools beside us, groups and logs that vanish, a full server, lost connections. */
import { randomUUID } from "node:crypto"
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Schedule } from "effect"
import { Broker, type Parking } from "../../src/Broker.ts"
import { EngineError } from "../../src/Errors.ts"
import {
  after,
  append,
  batch,
  claimed,
  commit,
  commitOf,
  eventsOf,
  fence,
  from,
  range,
  read,
  register,
  single,
  stored,
  topicOf,
  unique
} from "../../src/laws/broker/support.ts"
import * as Retention from "../../src/Retention.ts"
import * as RedisBroker from "../../src/redis/broker.ts"
import * as Redis from "../../src/redis/client.ts"
import * as RedisTables from "../../src/redis/tableStore.ts"
import { makeServer, sharedUrl } from "../support/redis.ts"

const engineOf = (url: string) =>
  Layer.mergeAll(RedisBroker.layer, RedisTables.layer).pipe(Layer.provideMerge(Redis.layer({ url, namespace: "ns" })))

const engine = Layer.unwrap(Effect.map(Effect.promise(sharedUrl), engineOf))

const log = (topic: { readonly name: string }) => `{ns:0}:log:${topic.name}:0`
const infoOf = (topic: { readonly name: string }, processor: string) =>
  Redis.Redis.use((redis) =>
    Effect.map(redis.call<ReadonlyArray<ReadonlyArray<string | number>>>("xinfo", "groups", log(topic)), (groups) => {
      const group = groups.find((each) => each[1] === processor)!
      return Object.fromEntries(range(group.length / 2).map((_, i) => [group[2 * i], group[2 * i + 1]]))
    })
  )

it.live("entries of foreign clients are read, counted in the lag, and committed like any other", () =>
  Effect.gen(function* () {
    const [redis, broker] = [yield* Redis.Redis, yield* Broker]
    const [topic, processor] = [topicOf(1, Retention.consumed()), unique("p")]
    yield* register(processor, [topic])
    const own = [batch("a", "b")]
    const ids = [...(yield* stored(topic, own))]
    ids.push(yield* redis.call<string>("xadd", log(topic), "*", "v", "foreign", "n", "nonsense"))
    const [found] = yield* read([from(topic)])
    assert.deepStrictEqual(
      found!.entries.map((entry) => entry.count),
      [2, 1]
    )
    assert.strictEqual((yield* broker.lag(processor))[0]!.events, 3)
    yield* claimed(processor, [topic], fence(1))
    const entries = [...own, single("foreign")]
    yield* commit(commitOf(processor, fence(1), 1, { offsets: [after(topic, entries, ids, 1)] }))
    // Tools see the same place.
    const group = yield* infoOf(topic, processor)
    assert.deepStrictEqual([group["last-delivered-id"], group["entries-read"], group.lag], [ids[0], 1, 1])
    yield* commit(commitOf(processor, fence(1), 2, { offsets: [after(topic, entries, ids)] }))
    assert.deepInclude((yield* broker.lag(processor))[0]!, { events: 0, entries: 0 })
    assert.strictEqual((yield* broker.inspect(topic, [0]))[0]!.length, 0)
  }).pipe(Effect.provide(engine))
)

it.live("a group of a foreign client holds the floor like any other", () =>
  Effect.gen(function* () {
    const [redis, broker] = [yield* Redis.Redis, yield* Broker]
    const [topic, processor] = [topicOf(1, Retention.consumed({ capacity: 2 })), unique("p")]
    yield* register(processor, [topic])
    const entries = range(2).map((event) => single(event))
    const ids = yield* stored(topic, entries)
    yield* redis.call("xgroup", "create", log(topic), "foreign", "0")
    yield* claimed(processor, [topic], fence(1))
    yield* commit(commitOf(processor, fence(1), 1, { offsets: [after(topic, entries, ids)] }))
    assert.strictEqual((yield* broker.inspect(topic, [0]))[0]!.length, 2)
    assert.deepStrictEqual(yield* append(topic, [single("x")]), { _tag: "Full", ids: [], heldBy: "foreign" })
    yield* redis.call("xgroup", "destroy", log(topic), "foreign")
    yield* stored(topic, [single("x")])
  }).pipe(Effect.provide(engine))
)

it.live("a group that is gone is made again by the next commit, and by registering", () =>
  Effect.gen(function* () {
    const redis = yield* Redis.Redis
    const [topic, processor] = [topicOf(), unique("p")]
    yield* register(processor, [topic])
    const entries = range(3).map((event) => single(event))
    const ids = yield* stored(topic, entries)
    yield* claimed(processor, [topic], fence(1))
    yield* redis.call("xgroup", "destroy", log(topic), processor)
    yield* commit(commitOf(processor, fence(1), 1, { offsets: [after(topic, entries, ids, 2)] }))
    assert.deepInclude(yield* infoOf(topic, processor), { "last-delivered-id": ids[1], "entries-read": 2, lag: 1 })
    yield* redis.call("xgroup", "destroy", log(topic), processor)
    yield* register(processor, [topic])
    assert.deepInclude(yield* infoOf(topic, processor), { "last-delivered-id": ids[1], "entries-read": 2, lag: 1 })
  }).pipe(Effect.provide(engine))
)

it.live("a log that is gone shows at the first commit and at the claim; from there commits go on", () =>
  Effect.gen(function* () {
    const redis = yield* Redis.Redis
    const [topic, processor] = [topicOf(1, Retention.consumed()), unique("p")]
    yield* register(processor, [topic])
    const entries = range(3).map((event) => single(event))
    const ids = yield* stored(topic, entries)
    yield* claimed(processor, [topic], fence(1))
    yield* redis.call("del", log(topic))
    const refused = yield* commit(commitOf(processor, fence(1), 1, { offsets: [after(topic, entries, ids)] }))
    assert.deepStrictEqual(refused, [{ _tag: "Truncated", topic: topic.name, last: "0-0" }])
    const { committed, logs } = yield* claimed(processor, [topic], fence(2))
    assert.deepStrictEqual([committed[0]!.entry, logs[0]!.last], ["0-0", "0-0"])
    const done = yield* commit(commitOf(processor, fence(2), 1, { offsets: [after(topic, entries, ids, 0)] }))
    assert.deepStrictEqual(done, [{ _tag: "Done" }])
  }).pipe(Effect.provide(engine))
)

it.live("a full server stops publishers, not those who empty it", () =>
  Effect.gen(function* () {
    const { url } = yield* makeServer()
    yield* Effect.gen(function* () {
      const redis = yield* Redis.Redis
      const [topic, processor] = [topicOf(1, Retention.consumed()), unique("p")]
      const entries = range(3).map((event) => single(event))
      const ids = yield* stored(topic, entries)
      yield* redis.call("config", "set", "maxmemory", "1")
      const error = yield* Effect.flip(append(topic, [single("x")]))
      assert(error instanceof EngineError && error.reason === "Full")
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(1))
      const broker = yield* Broker
      assert.deepStrictEqual(yield* broker.mark(processor, 0, fence(1)), { _tag: "Done" })
      const rows = [{ table: "t", key: "k", value: "v" }]
      const park = [{ lane: "k", topic: topic.name, offset: `${ids[0]}.0`, fields: ["v", "e0"] }]
      const parking = { drop: [], park, remove: [], states: [] }
      const offsets = [after(topic, entries, ids)]
      const done = yield* commit(commitOf(processor, fence(1), 1, { offsets, rows, parking }))
      assert.deepStrictEqual(done, [{ _tag: "Done" }])
      yield* broker.release(processor, 0, fence(1))
      assert.lengthOf(yield* broker.lanes(processor, 0), 1)
      yield* redis.call("config", "set", "maxmemory", "0")
      yield* stored(topic, [single("x")])
    }).pipe(Effect.provide(engineOf(url)))
  })
)

it.live("a read whose connection is lost fails, and the next one goes on where it was told to", () =>
  Effect.gen(function* () {
    const [redis, broker] = [yield* Redis.Redis, yield* Broker]
    const topic = topicOf()
    const reader = yield* broker.reader(0)
    const waiting = yield* Effect.forkChild(Effect.flip(reader.read([from(topic)], { count: 1, block: 60_000 })), {
      startImmediately: true
    })
    const blocked = Effect.map(redis.call<string>("client", "list"), (list) =>
      /id=(\d+) .*flags=b.*cmd=xread/.exec(list)
    )
    let found = yield* blocked
    while (found === null) found = yield* blocked
    yield* redis.call("client", "kill", "id", found[1]!)
    assert.strictEqual((yield* Fiber.join(waiting)).reason, "Unreachable")
    yield* stored(topic, [single("a")])
    assert.deepStrictEqual(eventsOf(yield* reader.read([from(topic)], { count: 1, block: 0 })), ["a"])
  }).pipe(Effect.provide(Layer.unwrap(Effect.map(makeServer(), ({ url }) => engineOf(url)))))
)

it.live("a trim of many batches and a seek over thousands of entries keep the books exact", () =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const [topic, processor] = [topicOf(1, Retention.maxLength(500)), unique("p")]
    const entries = range(1_000).map((event) => (event.endsWith("3") ? batch(event, event, event) : single(event)))
    const publisher = randomUUID()
    const ids: Array<string> = []
    for (let i = 0; i < 10; i++) {
      const answer = yield* append({ ...topic, retention: Retention.forever }, entries.slice(100 * i, 100 * i + 100), {
        publisher,
        number: i + 1
      })
      assert(answer._tag === "Stored")
      ids.push(...answer.ids)
    }
    yield* register(processor, [topic], { offset: `${ids[700]}.0` })
    const events = entries.slice(700).reduce((sum, entry) => sum + entry.count, 0)
    assert.deepInclude((yield* broker.lag(processor))[0]!, { events, entries: 300 })
    assert.isAbove(yield* broker.trim(topic), 500)
    const kept = (yield* read([from(topic)], 1_000))[0]!.entries.reduce((sum, entry) => sum + entry.count, 0)
    assert.isAtLeast(kept, 500)
    assert.isBelow(kept, 503)
    const late = unique("late")
    yield* register(late, [topic], "earliest")
    assert.strictEqual((yield* broker.lag(late))[0]!.events, kept)
  }).pipe(Effect.provide(engine))
)

it.live("parked events leave nothing behind: neither while others stay, nor when all are gone", () =>
  Effect.gen(function* () {
    const [redis, broker] = [yield* Redis.Redis, yield* Broker]
    const [topic, processor] = [topicOf(), unique("p")]
    yield* register(processor, [topic])
    yield* claimed(processor, [topic], fence(1))
    const park = range(100).map((event, i) => ({ lane: `${i % 3}`, topic: "t", offset: "0-0.0", fields: ["v", event] }))
    let number = 0
    const change = (rest: Partial<Parking>) =>
      commit(
        commitOf(processor, fence(1), ++number, { parking: { drop: [], park: [], remove: [], states: [], ...rest } })
      )
    const sizes = Effect.all([
      redis.call<number>("xlen", `{ns:0}:parked:${processor}:0`),
      redis.call<number>("hlen", `{ns:0}:lanes:${processor}:0`),
      redis.call<number>("hlen", `{ns:0}:parkedNext:${processor}:0`)
    ])
    yield* change({ park })
    assert.deepStrictEqual(yield* sizes, [100, 3, 97])
    const { events } = yield* broker.parked({ processor, partition: 0, lane: "0", after: undefined, count: 30 })
    yield* change({ drop: ["1"], remove: events.map(({ id }) => ({ lane: "0", id })) })
    assert.deepStrictEqual(yield* sizes, [4 + 33, 2, 3 + 32])
    yield* change({ drop: ["0", "2"] })
    assert.deepStrictEqual(yield* redis.call("keys", `*${processor}:0`), [])
    yield* change({ park })
    yield* broker.unregister(processor)
    assert.deepStrictEqual(yield* redis.call("keys", `*${processor}*`), [])
  }).pipe(Effect.provide(engine))
)

it.live("after every new connection an offset is compared with the end of its log before it is committed", () =>
  Effect.gen(function* () {
    const { url } = yield* makeServer()
    yield* Effect.gen(function* () {
      const [redis, broker] = [yield* Redis.Redis, yield* Broker]
      const [topic, processor] = [topicOf(), unique("p")]
      yield* register(processor, [topic])
      const entries = range(4).map((text) => single(text))
      const ids = yield* stored(topic, entries)
      yield* claimed(processor, [topic], fence(1))
      assert.deepStrictEqual(
        yield* commit(commitOf(processor, fence(1), 1, { offsets: [after(topic, entries, ids, 1)] })),
        [{ _tag: "Done" }]
      )
      // What a server that went back looks like: the fence stands, the last entries are gone.
      for (const id of ids.slice(2)) yield* redis.call("xdel", log(topic), id)
      yield* redis.call("xsetid", log(topic), ids[1]!)
      const session = redis.session()
      // By itself, so its own connection too: the answer is lost with it.
      yield* Effect.ignore(redis.call("client", "kill", "type", "normal", "skipme", "no"))
      const next = broker.commit(
        [commitOf(processor, fence(1), 2, { offsets: [after(topic, entries, ids, 4)] })],
        "memory"
      )
      const answer = yield* Effect.retry(next, { schedule: Schedule.spaced("20 millis"), times: 200 })
      assert.notStrictEqual(redis.session(), session)
      assert.deepStrictEqual(answer, [{ _tag: "Truncated", topic: topic.name, last: ids[1]! }])
    }).pipe(Effect.provide(engineOf(url)))
  })
)

it.live("what was meant for one connection is not sent over the next one", () =>
  Effect.gen(function* () {
    const redis = yield* Redis.Redis
    const script = Redis.script<number>("one", "return 1")
    assert.strictEqual(yield* redis.run(script, [], [], redis.session()), 1)
    const error = yield* Effect.flip(redis.run(script, [], [], redis.session() - 1))
    assert.strictEqual(error.reason, "Unreachable")
  }).pipe(Effect.provide(engine))
)
