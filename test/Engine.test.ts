/** One program on each engine, chosen by URL; and URLs that choose none, which keep their secrets. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { inspect } from "node:util"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Cause, ConfigProvider, Effect, Exit, Layer, Redacted, Result, Scope } from "effect"
import { Redis as Client } from "ioredis"
import { Broker, type Layout } from "../src/Broker.ts"
import { Coordinator } from "../src/Coordinator.ts"
import * as Engine from "../src/Engine.ts"
import { Misconfigured } from "../src/Errors.ts"
import { parse } from "../src/internal/url.ts"
import * as Redis from "../src/Redis.ts"
import * as Retention from "../src/Retention.ts"
import * as Serializer from "../src/Serializer.ts"
import * as Settings from "../src/Settings.ts"
import { TableStore } from "../src/TableStore.ts"
import { makeServer } from "./support/redis.ts"

const servers = Scope.makeUnsafe()
let redis = ""
beforeAll(async () => {
  redis = (await Effect.runPromise(Scope.provide(makeServer(), servers))).url
})
afterAll(() => Effect.runPromise(Scope.close(servers, Exit.void)))

const topic: Layout = { name: "orders", partitions: 4, retention: Retention.forever }

/** Appends one event, and gives how many there are then: every port of an engine is asked for something. */
const program = Effect.gen(function* () {
  const broker = yield* Broker
  yield* broker.declare([topic])
  const entries = [{ count: 1, fields: ["v", "1"] }]
  const publisher = `publisher-${crypto.randomUUID()}`
  const [appended] = yield* broker.append([{ topic, partition: 3, publisher, number: 1, entries }], "memory")
  assert.strictEqual(appended?._tag, "Stored")
  const group = yield* (yield* Coordinator).group("billing")
  assert.deepStrictEqual(group.members, [])
  assert.deepStrictEqual(yield* (yield* TableStore).readMany("billing", "totals", 3, ["a"]), [undefined])
  assert.strictEqual((yield* Serializer.Serializer).format, "json")
  const [info] = yield* broker.inspect(topic, [3])
  return { length: info!.length, shards: broker.shards }
})

const on = (engine: Layer.Layer<Engine.Services, unknown>) => Effect.provide(program, engine, { local: true })

const withDirectory = <A, E, R>(f: (directory: string) => Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "millrace-engine-"))),
    f,
    (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
  )

const environment = (variables: Record<string, string>) =>
  ConfigProvider.layer(ConfigProvider.fromEnv({ env: variables }))

const namespace = () => `test-${crypto.randomUUID()}`

describe("memory", () => {
  it.effect("runs, and begins empty with each build", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* on(Engine.layerMemory), { length: 1, shards: 1 })
      assert.deepStrictEqual(yield* on(Engine.layerMemory), { length: 1, shards: 1 })
      assert.deepStrictEqual(yield* on(Engine.layer({ url: "memory:", shards: 4 })), { length: 1, shards: 1 })
    })
  )
})

describe("a file", () => {
  it.live("keeps what it has, by options and by URL, apart by namespace", () =>
    withDirectory((directory) =>
      Effect.gen(function* () {
        const file = join(directory, "größe 1.db")
        assert.strictEqual((yield* on(Engine.layerEmbedded({ file }))).length, 1)
        assert.strictEqual((yield* on(Engine.layer({ url: `file://${encodeURI(file)}`, fsync: true }))).length, 2)
        assert.strictEqual((yield* on(Engine.layer({ url: `file:${encodeURI(file)}` }))).length, 3)
        assert.strictEqual((yield* on(Engine.layerEmbedded({ file, namespace: "other" }))).length, 1)
      })
    )
  )

  it.live("that cannot be is the engine's error", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(on(Engine.layer({ url: "file:./no/such/directory/orders.db" })))
      assert.propertyVal(error, "_tag", "EngineError")
    })
  )
})

describe("redis", () => {
  it.live("by URL, by redacted URL, by a client of one's own", () =>
    Effect.gen(function* () {
      const url = redis
      const own = namespace()
      assert.deepStrictEqual(yield* on(Engine.layer({ url, namespace: own, shards: 2 })), { length: 1, shards: 2 })
      const options = { namespace: own, shards: 2 }
      assert.strictEqual((yield* on(Engine.layerRedis({ ...options, url: Redacted.make(url) }))).length, 2)
      const client = new Client(url)
      assert.strictEqual((yield* on(Engine.layerRedis({ ...options, client }))).length, 3)
      assert.strictEqual(yield* Effect.promise(() => client.ping()), "PONG")
      client.disconnect()
    })
  )

  it.live("in parts, one of them replaced", () =>
    Effect.gen(function* () {
      const url = redis
      const mine = Layer.mock(Coordinator, {
        group: (processor) =>
          Effect.succeed({
            processor,
            partitions: 9,
            paused: false,
            members: [],
            owners: [],
            generation: 7,
            quarantined: []
          })
      })
      const engine = Layer.mergeAll(Redis.layerBroker, Redis.layerTableStore, mine, Serializer.layerJson).pipe(
        Layer.provide(Redis.layer({ url, namespace: namespace() }))
      )
      const found = Effect.gen(function* () {
        yield* program
        return (yield* (yield* Coordinator).group("billing")).generation
      })
      assert.strictEqual(yield* Effect.provide(found, engine), 7)
    })
  )

  it.live("the coordinator alone is Redis.layerCoordinator", () =>
    Effect.gen(function* () {
      const url = redis
      const engine = Redis.layerCoordinator.pipe(Layer.provide(Redis.layer({ url, namespace: namespace() })))
      const group = yield* Effect.provide(
        Effect.flatMap(Coordinator, (coordinator) => coordinator.group("x")),
        engine
      )
      assert.deepStrictEqual(group.members, [])
    })
  )
})

describe("layerConfig", () => {
  const configured = (variables: Record<string, string>) =>
    Engine.layerConfig.pipe(Layer.provide(environment(variables)))

  it.live("takes URL, namespace and shards from the environment", () =>
    Effect.gen(function* () {
      const url = redis
      const variables = { MILLRACE_URL: url, MILLRACE_NAMESPACE: namespace(), MILLRACE_SHARDS: "3" }
      assert.deepStrictEqual(yield* on(configured(variables)), { length: 1, shards: 3 })
      assert.deepStrictEqual(yield* on(configured(variables)), { length: 2, shards: 3 })
      const other = { ...variables, MILLRACE_NAMESPACE: namespace() }
      assert.deepStrictEqual(yield* on(configured(other)), { length: 1, shards: 3 })
    })
  )

  it.effect("and the settings", () =>
    Effect.gen(function* () {
      const variables = { MILLRACE_URL: "memory:", MILLRACE_LEASE: "3 seconds" }
      assert.strictEqual((yield* Effect.provide(Settings.current, configured(variables))).lease, 3000)
      const error = yield* Effect.flip(on(configured({ ...variables, MILLRACE_LEASE: "soon" })))
      assert.include(String(error), "MILLRACE_LEASE")
    })
  )

  const wrong: ReadonlyArray<readonly [Record<string, string>, string]> = [
    [{}, "InvalidOption: MILLRACE_URL is not set: give redis://"],
    [{ MILLRACE_URL: "" }, "InvalidOption: MILLRACE_URL is not set: give redis://"],
    [{ MILLRACE_URL: "   " }, "InvalidOption: MILLRACE_URL is empty: give redis://"],
    [
      { MILLRACE_URL: "mysql://u:hunter2@h" },
      "InvalidOption: MILLRACE_URL has the unknown scheme mysql://: give redis://"
    ],
    [
      { MILLRACE_URL: "memory:", MILLRACE_SHARDS: "0" },
      `InvalidOption: MILLRACE_SHARDS is "0": give a whole number from 1 to 16384`
    ],
    [
      { MILLRACE_URL: "memory:", MILLRACE_SHARDS: "two" },
      `InvalidOption: MILLRACE_SHARDS is "two": give a whole number from 1 to 16384`
    ],
    [
      { MILLRACE_URL: "file:./x.db", MILLRACE_NAMESPACE: "a b" },
      `InvalidOption: namespace "a b": use 1 to 128 letters`
    ],
    [{ MILLRACE_URL: "redis://127.0.0.1:1", MILLRACE_NAMESPACE: "a{b" }, `InvalidOption: namespace "a{b"`]
  ]
  it.effect.each(wrong)("%j is refused", ([variables, expected]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(on(configured(variables)))
      assert.instanceOf(error, Misconfigured)
      assert.isTrue(error.message.startsWith(expected), error.message)
      assert.notInclude(inspect(error, { depth: 9 }), "hunter2")
    })
  )
})

describe("URLs", () => {
  it.each([
    ["memory:", { _tag: "Memory" }],
    ["MEMORY://", { _tag: "Memory" }],
    ["file:orders.db", { _tag: "File", file: "orders.db" }],
    ["file:./orders.db", { _tag: "File", file: "./orders.db" }],
    ["file:../my%20data/orders.db", { _tag: "File", file: "../my data/orders.db" }],
    ["file:/var/orders.db", { _tag: "File", file: "/var/orders.db" }],
    ["file:///var/a%23b.db", { _tag: "File", file: "/var/a#b.db" }],
    [" memory: ", { _tag: "Memory" }]
  ])("%j", (url, expected) => assert.deepStrictEqual(parse("url", url), Result.succeed(expected as never)))

  it.each([
    "redis://h",
    "rediss://u:p@h:1/2",
    "redis-cluster://a,b:1",
    "redis+cluster://a",
    "redis+sentinel://a,b/main",
    "rediss+sentinel://a/main",
    "REDIS://h"
  ])("%s is for the Redis client", (url) => {
    const parsed = parse("url", Redacted.make(url))
    assert.isTrue(
      Result.isSuccess(parsed) && parsed.success._tag === "Redis" && Redacted.value(parsed.success.url) === url
    )
  })

  const schemes =
    "give redis://host:6379, rediss:// (TLS), redis-cluster:// or redis+cluster://, redis+sentinel://, " +
    "file:./millrace.db or memory:"
  const paths = "give file:./orders.db for a path from here, file:///var/lib/orders.db for an absolute one"
  it.each([
    ["", `url is empty: ${schemes}`],
    ["hunter2", `url begins with no scheme: ${schemes}`],
    ["hunter2:6379", `url begins with no scheme that is known: ${schemes}`],
    ["//u:hunter2@h", `url begins with no scheme: ${schemes}`],
    ["postgres://u:hunter2@h/d", `url has the unknown scheme postgres://: ${schemes}`],
    ["redis-ring://u:hunter2@h", `url has the unknown scheme redis-ring://: ${schemes}`],
    ["memory:hunter2", `url says more than memory:: ${schemes}`],
    ["file:", `url names no file: ${paths}`],
    ["file:///var/lib/", `url names no file: ${paths}`],
    ["file:a.db?mode=hunter2", `url has a ? or # (in a file's name they are written %3F and %23): ${paths}`],
    ["file://hunter2/a.db", `url is no valid file URL: ${paths}`],
    ["file:%ff.db", `url is no valid file URL: ${paths}`]
  ])("%j is refused", (url, detail) => {
    const parsed = parse("url", url)
    assert.isTrue(Result.isFailure(parsed))
    if (Result.isFailure(parsed)) {
      assert.strictEqual(parsed.failure.detail, detail)
      assert.notInclude(inspect(parsed.failure, { depth: 9 }), "hunter2")
    }
  })

  it.effect("fsync is refused where it would promise nothing", () =>
    Effect.gen(function* () {
      const memory = yield* Effect.flip(on(Engine.layer({ url: "memory:", fsync: true })))
      assert.propertyVal(
        memory,
        "detail",
        "fsync is for file: URLs, and the engine's URL names another engine: leave it out"
      )
      const refused = yield* Effect.flip(on(Engine.layer({ url: "redis://h", fsync: true })))
      assert.propertyVal(
        refused,
        "detail",
        "fsync is for file: URLs, and the engine's URL names another engine: leave it out, " +
          `and publish and commit with the durability "fsync"`
      )
    })
  )

  it.live("a password is in no error, whatever is wrong with the server or the URL", () =>
    Effect.gen(function* () {
      const server = new URL(redis)
      const urls = [
        "redis://user:hunter2@127.0.0.1:1",
        `redis://user:hunter2@127.0.0.1:${server.port}`,
        "redis://user:hunter2@127.0.0.1:99999",
        "redis://user:hunter2@127.0.0.1:6379/x",
        "redis+sentinel://user:hunter2@127.0.0.1:26379",
        "redis://user:hunter2%@127.0.0.1",
        "http://user:hunter2@127.0.0.1"
      ]
      for (const url of urls) {
        const exit = yield* Effect.exit(on(Engine.layer({ url, namespace: namespace() })))
        assert.strictEqual(exit._tag, "Failure", url)
        if (exit._tag !== "Failure") continue
        assert.notInclude(Cause.pretty(exit.cause), "hunter2")
        assert.notInclude(inspect(exit.cause, { depth: 20 }), "hunter2")
      }
    })
  )
})
