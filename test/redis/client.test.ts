/** The connections: URLs, refusals at the start, what a lost connection means, blocking reads, pub/sub, durability. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Queue, Redacted, Result, Stream } from "effect"
import { Redis as IoRedis5 } from "ioredis"
import { Redis as IoRedis6 } from "ioredis6"
import { Misconfigured } from "../../src/Errors.ts"
import * as Redis from "../../src/redis/client.ts"
import { parse } from "../../src/redis/url.ts"
import { makeServer } from "../support/redis.ts"

const build = (options: Redis.Options) => Effect.scoped(Layer.build(Redis.layer(options)))
const refused = (options: Redis.Options) => Effect.flip(build(options))
const echo = Redis.script<ReadonlyArray<string>>("echo", "return { KEYS[1], ARGV[1] }")
const put = Redis.script<string>("put", `return redis.call("SET", KEYS[1], ARGV[1]).ok`)

describe("a URL", () => {
  it("names server, login and database", () => {
    assert.deepStrictEqual(parse("redis://us%40er:p%3Aw@example.org:7000/3"), {
      kind: "single",
      hosts: [{ host: "example.org", port: 7000 }],
      tls: false,
      username: "us@er",
      password: "p:w",
      database: 3,
      master: undefined
    })
    assert.strictEqual(parse("rediss://:pw@example.org").tls, true)
    assert.deepStrictEqual(parse("redis://[::1]:7000").hosts, [{ host: "::1", port: 7000 }])
    assert.deepStrictEqual(parse("redis://").hosts, [{ host: "localhost", port: 6379 }])
  })

  it("names several hosts of a cluster or of Sentinel", () => {
    for (const scheme of ["redis-cluster", "redis+cluster"]) {
      const { hosts, kind } = parse(`${scheme}://a:7000,b`)
      assert.deepStrictEqual(
        [kind, hosts],
        [
          "cluster",
          [
            { host: "a", port: 7000 },
            { host: "b", port: 6379 }
          ]
        ]
      )
    }
    for (const url of ["redis+sentinel://a,b:7/main/2", "redis+sentinel://a,b:7/2?master=main"]) {
      const { database, hosts, kind, master } = parse(url)
      assert.deepStrictEqual([kind, master, database], ["sentinel", "main", 2])
      assert.deepStrictEqual(hosts, [
        { host: "a", port: 26379 },
        { host: "b", port: 7 }
      ])
    }
  })

  it("that is wrong is refused without being quoted", () => {
    const wrong = [
      "http://u:secret@h",
      "redis://u:secret@h:99999",
      "redis://u:secret@h/x",
      "redis://u:secret@a,b",
      "redis://u:%secret@h",
      "redis-cluster://u:secret@h/1",
      "redis+sentinel://u:secret@h",
      "redis://u:secret@h?tls=1",
      "secret"
    ]
    for (const url of wrong) {
      const result = Result.try(() => parse(url))
      assert(Result.isFailure(result) && result.failure instanceof Misconfigured, url)
      assert.notInclude(result.failure.message, "secret")
    }
  })
})

describe("at the start", () => {
  it.live("a wrong password, a missing one and an unknown user are refused at once, and never shown", () =>
    Effect.gen(function* () {
      const { port } = yield* makeServer(["--requirepass", "right"])
      for (const login of ["", ":secret@", "nobody:secret@"]) {
        const error = yield* refused({ url: Redacted.make(`redis://${login}127.0.0.1:${port}`) })
        assert(error._tag === "EngineError" && error.reason === "Refused", error.message)
        assert.include(error.message, `127.0.0.1:${port}`)
        assert.notInclude(JSON.stringify(error) + error.message, "secret")
      }
      yield* build({ url: `redis://:right@127.0.0.1:${port}` })
    })
  )

  it.live("a database that the server does not have, or does not let one into, is refused, and no other one used", () =>
    Effect.gen(function* () {
      const { port } = yield* makeServer(["--databases", "4"])
      const master = new IoRedis5({ port })
      yield* Effect.promise(() => master.call("acl", "setuser", "mill", "on", ">right", "~*", "&*", "+@all", "-select"))
      master.disconnect()
      for (const options of [
        { url: `redis://127.0.0.1:${port}/4` },
        { url: `redis://mill:right@127.0.0.1:${port}/3` },
        { client: new IoRedis5({ port, db: 9, lazyConnect: true }) },
        { client: new IoRedis6({ port, db: 9, lazyConnect: true }) }
      ]) {
        const error = yield* refused(options)
        assert(error._tag === "EngineError" && error.reason === "Refused", error.message)
        assert.match(error.message, /the database in the URL/)
      }
      yield* build({ url: `redis://127.0.0.1:${port}/3` })
    })
  )

  it.live("a server that cannot be reached is named, within the patience for connections", () =>
    Effect.gen(function* () {
      const error = yield* refused({ url: "redis://:secret@127.0.0.1:1" })
      assert(error._tag === "EngineError" && error.reason === "Unreachable")
      assert.include(error.message, "127.0.0.1:1")
      assert.notInclude(error.message, "secret")
    })
  )

  it.live("a server that drops keys by itself is refused", () =>
    Effect.gen(function* () {
      const { url } = yield* makeServer(["--maxmemory-policy", "allkeys-lru"])
      const error = yield* refused({ url })
      assert(error._tag === "EngineError" && error.reason === "Unsupported")
      assert.include(error.message, "noeviction")
    })
  )

  it.live("a client with a key prefix, and one that is none, are refused", () =>
    Effect.gen(function* () {
      const prefixed = new IoRedis5({ lazyConnect: true, keyPrefix: "mine:" })
      for (const client of [prefixed, { duplicate: () => 1, status: "ready" }]) {
        const error = yield* refused({ client: client as unknown as Redis.RedisClient })
        assert.strictEqual(error._tag, "Misconfigured")
      }
    })
  )

  it.live("a client of the user, of ioredis 5 or 6, is duplicated and left as it is", () =>
    Effect.gen(function* () {
      const { port } = yield* makeServer()
      const clients = [new IoRedis5(port, "127.0.0.1"), new IoRedis6(port, "127.0.0.1")] as const
      for (const client of clients) {
        const reply = yield* Effect.provide(
          Redis.Redis.use((redis) => redis.run(echo, ["{a}k"], [new Uint8Array([104, 105])])),
          Redis.layer({ client }),
          { local: true }
        )
        assert.deepStrictEqual(reply, ["{a}k", "hi"])
        assert.strictEqual(yield* Effect.promise(() => client.ping()), "PONG")
        client.disconnect()
      }
    })
  )
})

describe("a connection", () => {
  it.live("that is lost fails its commands at once; later ones wait for it, and scripts are loaded again", () =>
    Effect.gen(function* () {
      const first = yield* makeServer()
      yield* Effect.gen(function* () {
        const redis = yield* Redis.Redis
        assert.deepStrictEqual(yield* redis.run(echo, ["k"], ["v"]), ["k", "v"])
        const blocked = yield* Effect.forkChild(redis.call("blpop", "nothing", 0), { startImmediately: true })
        yield* redis.call("ping").pipe(Effect.timeoutOption(20))
        yield* first.kill
        const error = yield* Effect.flip(Fiber.join(blocked))
        assert.strictEqual(error.reason, "Unreachable")
        const later = yield* Effect.forkChild(redis.run(echo, ["k"], ["again"]), { startImmediately: true })
        yield* makeServer([], { port: first.port, directory: first.directory })
        assert.deepStrictEqual(yield* Fiber.join(later), ["k", "again"])
      }).pipe(Effect.provide(Redis.layer({ url: first.url })))
    })
  )

  it.live("answers errors of the server by their reason", () =>
    Effect.gen(function* () {
      const { url } = yield* makeServer()
      yield* Effect.gen(function* () {
        const redis = yield* Redis.Redis
        const reason = (effect: Effect.Effect<unknown, { readonly reason?: string }>) =>
          Effect.map(Effect.flip(effect), (error) => error.reason)
        assert.strictEqual(yield* reason(redis.call("nonsense")), "Unsupported")
        yield* redis.call("lpush", "list", "x")
        assert.strictEqual(yield* reason(redis.call("get", "list")), "Refused")
        yield* redis.call("config", "set", "maxmemory", "1")
        assert.strictEqual(yield* reason(redis.run(put, ["k"], ["v"])), "Full")
        yield* redis.call("config", "set", "maxmemory", "0")
        yield* redis.call("acl", "setuser", "default", "-get")
        assert.strictEqual(yield* reason(redis.call("get", "list")), "Refused")
        // A disk that is full: it is waited for, since it may be mended.
        const unsaved = "return redis.error_reply('MISCONF Redis is configured to save RDB snapshots')"
        assert.strictEqual(yield* reason(redis.call("eval", unsaved, 0)), "Unreachable")
      }).pipe(Effect.provide(Redis.layer({ url })))
    })
  )

  it.live("of one's own can be unblocked from outside, and is closed with its scope", () =>
    Effect.gen(function* () {
      const { url } = yield* makeServer()
      yield* Effect.gen(function* () {
        const redis = yield* Redis.Redis
        const clients = Effect.map(redis.call<string>("client", "list"), (list) => list.trim().split("\n").length)
        const before = yield* clients
        yield* Effect.scoped(
          Effect.gen(function* () {
            const connection = yield* redis.connection("{a}k")
            assert.isFalse(yield* connection.unblock)
            const blocked = yield* Effect.forkChild(connection.call("xread", "BLOCK", 60_000, "STREAMS", "{a}k", "$"), {
              startImmediately: true
            })
            while (!(yield* connection.unblock)) yield* Effect.sleep(1)
            assert.isNull(yield* Fiber.join(blocked))
          })
        )
        // The server notices a closed connection a moment later.
        while ((yield* clients) !== before) yield* Effect.sleep(1)
      }).pipe(Effect.provide(Redis.layer({ url })))
    })
  )

  it.live("hears its channels again after it was lost", () =>
    Effect.gen(function* () {
      const { url } = yield* makeServer()
      yield* Effect.gen(function* () {
        const redis = yield* Redis.Redis
        const heard = yield* Queue.unbounded<string>()
        const listening = yield* Effect.forkChild(
          Stream.runForEach(redis.subscribe("news"), (message) => Queue.offer(heard, message)),
          { startImmediately: true }
        )
        const say = (message: string) =>
          Effect.gen(function* () {
            // Until somebody listens, which takes a moment.
            while (Number(yield* redis.call("publish", "news", message)) === 0) yield* Effect.sleep(5)
            assert.strictEqual(yield* Queue.take(heard), message)
          })
        yield* say("one")
        yield* redis.call("client", "kill", "type", "pubsub")
        yield* say("two")
        yield* Fiber.interrupt(listening)
        while (Number(yield* redis.call("publish", "news", "three")) !== 0) yield* Effect.sleep(5)
      }).pipe(Effect.provide(Redis.layer({ url })))
    })
  )
})

describe("a durability", () => {
  it.live(
    "of a replica is reached with one, and DurabilityNotReached without; the write is stored all the same",
    () =>
      Effect.gen(function* () {
        const master = yield* makeServer(["--repl-diskless-sync-delay", "0"])
        yield* Effect.gen(function* () {
          const redis = yield* Redis.Redis
          const error = yield* Effect.flip(redis.runDurable(put, ["{a}k"], ["1"], { replicas: 1 }))
          assert(error._tag === "DurabilityNotReached")
          assert.deepStrictEqual([error.wanted, error.reached], [1, 0])
          assert.strictEqual(yield* redis.call("get", "{a}k"), "1")
          const replica = yield* makeServer(["--replicaof", "127.0.0.1", String(master.port)])
          const synced: Effect.Effect<void, unknown> = Effect.suspend(() =>
            Effect.flatMap(redis.call<string>("info", "replication"), (info) =>
              info.includes("state=online") ? Effect.void : Effect.andThen(Effect.sleep(20), synced)
            )
          )
          yield* synced
          assert.strictEqual(yield* redis.runDurable(put, ["{a}k"], ["2"], { replicas: 1 }), "OK")
          yield* Effect.provide(
            Redis.Redis.use((replicaRedis) =>
              Effect.map(Effect.flip(replicaRedis.run(put, ["{a}k"], ["3"])), (error) => {
                assert.strictEqual(error.reason, "Unreachable")
              })
            ),
            Redis.layer({ url: replica.url }),
            { local: true }
          )
        }).pipe(Effect.provide(Redis.layer({ url: master.url })))
      }),
    30_000
  )

  it.live("of the disk is refused before anything is written, unless the server can give it", () =>
    Effect.gen(function* () {
      const fsync = (url: string) =>
        Effect.gen(function* () {
          const redis = yield* Redis.Redis
          const exit = yield* Effect.result(redis.runDurable(put, ["{a}k"], ["1"], "fsync"))
          return [Result.isSuccess(exit) ? "stored" : exit.failure._tag, yield* redis.call("exists", "{a}k")]
        }).pipe(Effect.provide(Redis.layer({ url }), { local: true }))
      const without = yield* makeServer()
      assert.deepStrictEqual(yield* fsync(without.url), ["EngineError", 0])
      const always = yield* makeServer(["--appendonly", "yes", "--appendfsync", "always"])
      assert.deepStrictEqual(yield* fsync(always.url), ["stored", 1])
    })
  )
})
