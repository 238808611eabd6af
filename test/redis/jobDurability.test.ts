/** Durability levels of jobs: as who enqueues sees them, and as workers settle. */
import { assert, it } from "@effect/vitest"
import { Effect, Option, Schema } from "effect"
import { Engine, Job, Queue, Worker } from "../../src/index.ts"
import { directory } from "../support/places.ts"
import { makeReplica, makeServer, type Server } from "../support/redis.ts"

const work = Job.make("work", { payload: Schema.Int, success: Schema.Int })
const handler = Job.handler(work, (n) => Effect.succeed(n))
const durability = { replicas: 1 } as const

const on = (server: Server) => Effect.provide(Engine.layer({ url: server.url }))

it.live(
  "a job that does not reach its replica is stored once, and said to be unsafe; so is what settles it",
  () =>
    Effect.gen(function* () {
      const master = yield* makeServer(["--repl-diskless-sync-delay", "0"])
      const replica = yield* makeReplica(master)
      yield* Effect.gen(function* () {
        yield* Job.enqueue(work, 0, { id: "safe", durability })
        yield* Job.enqueueAll(work, [1, 2], { durability })
        yield* replica.pause
        const error = yield* Effect.flip(Job.enqueue(work, 3, { id: "unsafe", durability }))
        assert(error._tag === "DurabilityNotReached", error.message)
        assert.deepStrictEqual([error.wanted, error.reached], [1, 0])
        assert.strictEqual((yield* Queue.counts("default")).ready, 4)
        // The replica stands still while all of them are settled: each of them once.
        yield* Worker.idle.pipe(Effect.provide(Worker.layer([handler], { durability })))
        assert.deepInclude(yield* Queue.counts("default"), { ready: 0, active: 0, done: 4 })
        assert.deepStrictEqual(yield* Job.result(work, "unsafe"), Option.some(3))
        yield* replica.goOn
      }).pipe(on(master))
    }),
  60_000
)

it.live(
  "on the disk is asked of a server that can tell, and of a file",
  () =>
    Effect.gen(function* () {
      const without = yield* makeServer()
      const enqueue = Job.enqueue(work, 1, { id: "a", durability: "fsync" })
      const error = yield* Effect.flip(on(without)(enqueue))
      assert(error._tag === "EngineError" && error.reason === "Unsupported", error.message)
      const server = yield* makeServer(["--appendonly", "yes", "--appendfsync", "always"])
      yield* on(server)(enqueue)
      yield* server.kill
      yield* server.again
      yield* Effect.gen(function* () {
        assert.strictEqual((yield* Queue.counts("default")).ready, 1)
        yield* Worker.idle.pipe(Effect.provide(Worker.layer([handler], { durability: "fsync" })))
        assert.deepStrictEqual(yield* Job.result(work, "a"), Option.some(1))
      }).pipe(on(server))
      const file = `${yield* directory}/jobs.db`
      yield* Effect.gen(function* () {
        assert.isFalse((yield* enqueue).repeated)
        // A file has no replicas.
        const refused = yield* Effect.flip(Job.enqueue(work, 2, { durability }))
        assert.strictEqual(refused._tag, "DurabilityNotReached")
        yield* Worker.idle.pipe(Effect.provide(Worker.layer([handler], { durability: "fsync" })))
        assert.deepInclude(yield* Queue.counts("default"), { ready: 0, done: 2 })
      }).pipe(Effect.provide(Engine.layerEmbedded({ file })))
    }),
  60_000
)
