/** Durability levels as publishers and workers see them, with a replica that is there, one that stands still, and a disk. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { Engine, Table, Topic, Worker } from "../../src/index.ts"
import { counting, totals, work } from "../support/chaos.ts"
import { makeReplica, makeServer, type Server } from "../support/redis.ts"

const event = (n: number) => ({ key: "one", n, gate: false })

const stored = Effect.map(Stream.runCollect(Topic.stream(work, { until: "now" })), (events) =>
  events.map(({ value }) => value.n)
)

const on = (server: Server) => Effect.provide(Engine.layer({ url: server.url }))

describe("a durability", { concurrent: true }, () => {
  it.live(
    "of one replica is reached with it; while it stands still, what is published is stored once and said to be unsafe",
    () =>
      Effect.gen(function* () {
        const master = yield* makeServer(["--repl-diskless-sync-delay", "0"])
        const replica = yield* makeReplica(master)
        yield* Effect.gen(function* () {
          const publish = (n: number) => Topic.publish(work, event(n), { durability: { replicas: 1 } })
          yield* publish(0)
          yield* replica.pause
          const error = yield* Effect.flip(publish(1))
          assert(error._tag === "DurabilityNotReached", error.message)
          assert.deepStrictEqual([error.wanted, error.reached], [1, 0])
          yield* replica.goOn
          yield* publish(2)
          assert.deepStrictEqual(yield* stored, [0, 1, 2])
        }).pipe(on(master))
      })
  )

  it.live("of commits that is not reached holds up nothing for good", () =>
    Effect.gen(function* () {
      const master = yield* makeServer(["--repl-diskless-sync-delay", "0"])
      const replica = yield* makeReplica(master)
      yield* Effect.gen(function* () {
        yield* Topic.publish(work, event(0))
        yield* Worker.idle
        yield* replica.pause
        yield* Topic.publish(work, event(1))
        yield* Worker.idle
        assert.strictEqual(yield* Table.lookup(totals, "one"), 2)
      }).pipe(Effect.provide(Worker.layer([counting(() => Effect.void)], { durability: { replicas: 1 } })), on(master))
    })
  )

  it.live("of the disk needs a server that can tell, and is then kept through a kill", () =>
    Effect.gen(function* () {
      const publish = (n: number) => Topic.publish(work, event(n), { durability: "fsync" })
      const without = yield* makeServer()
      const error = yield* Effect.flip(on(without)(publish(0)))
      assert(error._tag === "EngineError" && error.reason === "Unsupported", error.message)
      assert.include(error.message, "appendonly")
      assert.deepStrictEqual(yield* on(without)(stored), [])
      const server = yield* makeServer(["--appendonly", "yes", "--appendfsync", "always"])
      for (const n of [0, 1, 2]) yield* on(server)(publish(n))
      yield* server.kill
      yield* server.again
      assert.deepStrictEqual(yield* on(server)(stored), [0, 1, 2])
    })
  )
})
