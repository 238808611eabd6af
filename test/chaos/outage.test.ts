/** The server itself in trouble: killed and started again, standing still, loading, full, demoted. Work goes on when it can. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { underLoad } from "../support/load.ts"
import { makeProxy } from "../support/proxy.ts"
import { eventually, inStep, makeReplica, makeServer, type Server } from "../support/redis.ts"

/** On its disk is what it answered; killed, it loses nothing. */
// It is the process that dies, and not the machine. Every second would not do: while a slow disk is asked to keep what is
// written, the server answers before it writes.
const durable = ["--appendonly", "yes", "--appendfsync", "no", "--repl-diskless-sync-delay", "0"]

const again = (server: Server, extra: ReadonlyArray<string> = []) =>
  makeServer([...durable, ...extra], { port: server.port, directory: server.directory })

/** Swap the roles of a master and its replica, as an operator does; nothing is lost. */
const swap = (from: Server, to: Server) =>
  Effect.gen(function* () {
    yield* from.call("failover", "to", "127.0.0.1", to.port)
    yield* eventually(
      "the replica is the master",
      Effect.map(to.call("role"), (role) => (role as ReadonlyArray<unknown>)[0] === "master")
    )
    yield* inStep(from)
  })

describe("a server", () => {
  it.live(
    "that is killed and started again, twice, takes work up where it was",
    () =>
      Effect.gen(function* () {
        const server = yield* makeServer(durable)
        yield* underLoad({ url: server.url }, (load) =>
          Effect.gen(function* () {
            let running = server
            for (let round = 0; round < 2; round++) {
              yield* running.kill
              running = yield* again(server)
              assert.isBelow(yield* load.resumes, 2_000)
              yield* load.handles(50)
            }
            assert.deepStrictEqual(load.failures, [])
          })
        )
      }),
    60_000
  )

  it.live(
    "that is away for longer than the lease is waited for, by workers and publishers",
    () =>
      Effect.gen(function* () {
        const server = yield* makeServer(durable)
        yield* underLoad({ url: server.url }, (load) =>
          Effect.gen(function* () {
            yield* server.kill
            // A real wait: the outage.
            yield* Effect.sleep("4 seconds")
            yield* again(server)
            assert.isBelow(yield* load.resumes, 2_000)
            assert.deepStrictEqual(load.failures, [])
            assert.isAtMost(load.logs.length, 4, load.logs.join("\n"))
          })
        )
      }),
    60_000
  )

  it.live(
    "that stands still for longer than the lease is waited for, by workers and publishers",
    () =>
      Effect.gen(function* () {
        const server = yield* makeServer(durable)
        yield* underLoad({ url: server.url }, (load) =>
          Effect.gen(function* () {
            yield* server.pause
            // A real wait: the outage.
            yield* Effect.sleep("5 seconds")
            yield* server.goOn
            assert.isBelow(yield* load.resumes, 2_000)
            assert.deepStrictEqual(load.failures, [])
            assert.isAtMost(load.logs.length, 4, load.logs.join("\n"))
          })
        )
      }),
    60_000
  )

  it.live(
    "that loads its data for a while is waited for",
    () =>
      Effect.gen(function* () {
        const server = yield* makeServer(durable)
        yield* underLoad({ url: server.url }, (load) =>
          Effect.gen(function* () {
            yield* load.handles(500)
            yield* server.kill
            const slow = ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"]
            const began = performance.now()
            yield* again(server, slow)
            assert.isAbove(performance.now() - began, 500, "it was loading")
            assert.isBelow(yield* load.resumes, 2_000)
            assert.deepStrictEqual(load.failures, [])
          })
        )
      }),
    60_000
  )

  it.live(
    "that forgets its scripts is given them again",
    () =>
      Effect.gen(function* () {
        const server = yield* makeServer()
        yield* underLoad({ url: server.url, durability: { replicas: 0 } }, (load) =>
          Effect.gen(function* () {
            for (let round = 0; round < 20; round++) {
              yield* server.call("script", "flush")
              yield* load.handles(20)
            }
            assert.deepStrictEqual(load.failures, [])
          })
        )
      }),
    60_000
  )

  it.live(
    "that is full holds publishers up, and nobody who empties it",
    () =>
      Effect.gen(function* () {
        const server = yield* makeServer()
        yield* underLoad({ url: server.url }, (load) =>
          Effect.gen(function* () {
            yield* server.call("config", "set", "maxmemory", "1")
            const published = yield* settledCount(load.published)
            // All that was published before is handled and committed under a lease that is renewed meanwhile.
            yield* eventually(
              "all that came in is handled",
              Effect.sync(() => load.handled() >= published)
            )
            // A real wait, for longer than the lease.
            yield* Effect.sleep("2500 millis")
            assert.strictEqual(load.published(), published)
            yield* server.call("config", "set", "maxmemory", "0")
            assert.isBelow(yield* load.resumes, 2_000)
            assert.deepStrictEqual(load.failures, [])
          })
        )
      }),
    60_000
  )

  it.live(
    "that is made a replica, and a master again, is waited for meanwhile",
    () =>
      Effect.gen(function* () {
        const server = yield* makeServer(durable)
        const other = yield* makeReplica(server)
        yield* underLoad({ url: server.url }, (load) =>
          Effect.gen(function* () {
            yield* swap(server, other)
            // A real wait: it is asked in vain.
            yield* Effect.sleep("2500 millis")
            yield* swap(other, server)
            assert.isBelow(yield* load.resumes, 2_000)
            assert.deepStrictEqual(load.failures, [])
          })
        )
      }),
    60_000
  )

  it.live(
    "that is made a replica is left for the new master that stands under its name",
    () =>
      Effect.gen(function* () {
        const server = yield* makeServer(durable)
        const other = yield* makeReplica(server)
        const proxy = yield* makeProxy(server.port)
        yield* underLoad({ url: proxy.url, lease: 10_000 }, (load) =>
          Effect.gen(function* () {
            yield* proxy.lead(other.port)
            yield* swap(server, other)
            assert.isBelow(yield* load.resumes, 2_000)
            const left = String(yield* server.call("client", "list", "type", "normal"))
            assert.notInclude(left, "cmd=xread")
            assert.deepStrictEqual(load.failures, [])
          })
        )
      }),
    60_000
  )
})

/** What a number comes to when it does not grow any more. */
const settledCount = (count: () => number): Effect.Effect<number> =>
  Effect.gen(function* () {
    let last = -1
    yield* eventually(
      "a count that does not grow",
      Effect.gen(function* () {
        if (last === count()) return true
        last = count()
        // A real wait: several tries of a publisher.
        yield* Effect.sleep("500 millis")
        return false
      })
    )
    return last
  })
