/** All scripts of the broker: they compile, are as short as they should be, and get the keys that they name. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Broker } from "../../src/Broker.ts"
import { JobStore } from "../../src/JobStore.ts"
import * as Retention from "../../src/Retention.ts"
import * as Append from "../../src/redis/append.ts"
import * as RedisBroker from "../../src/redis/broker.ts"
import * as Claim from "../../src/redis/claim.ts"
import * as Redis from "../../src/redis/client.ts"
import * as Commit from "../../src/redis/commit.ts"
import * as Inspect from "../../src/redis/inspect.ts"
import * as JobBooks from "../../src/redis/jobBooks.ts"
import * as JobEnqueue from "../../src/redis/jobEnqueue.ts"
import * as JobExchange from "../../src/redis/jobExchange.ts"
import * as JobFacts from "../../src/redis/jobFacts.ts"
import * as JobFollow from "../../src/redis/jobFollow.ts"
import * as JobSessions from "../../src/redis/jobSessions.ts"
import * as JobSlots from "../../src/redis/jobSlots.ts"
import * as RedisJobs from "../../src/redis/jobStore.ts"
import * as Layouts from "../../src/redis/layouts.ts"
import * as Parking from "../../src/redis/parking.ts"
import * as Position from "../../src/redis/position.ts"
import * as Probation from "../../src/redis/probation.ts"
import * as RedisTables from "../../src/redis/tableStore.ts"
import * as Timed from "../../src/redis/timed.ts"
import { TableStore } from "../../src/TableStore.ts"
import { layerRedis } from "../support/redis.ts"

const isScript = (value: unknown): value is Redis.Script<unknown> =>
  typeof value === "object" && value !== null && "sha" in value && "lua" in value

const scripts = [
  Append,
  Claim,
  Commit,
  Inspect,
  Layouts,
  Parking,
  Position,
  Probation,
  Timed,
  JobBooks,
  JobEnqueue,
  JobExchange,
  JobFacts,
  JobFollow,
  JobSessions,
  JobSlots
].flatMap((module) => Object.values<unknown>(module).filter(isScript))

/** Keys that are named by their number; those that are computed cannot be told from the text. */
const namedKeys = (lua: string): number =>
  Math.max(0, ...[...lua.matchAll(/KEYS\[(\d+)\]/g)].map(([, number]) => Number(number)))

describe("scripts", () => {
  it.live("are known to the server by the hash that is sent", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.Redis
      for (const { lua, name, sha } of scripts) {
        assert.strictEqual(yield* redis.call("script", "load", lua), sha, name)
        // Writers must say whether they run on a full server.
        assert.match(lua, /^#!lua/, name)
      }
    }).pipe(Effect.provide(layerRedis()))
  )

  it.live("get the keys that they name, all with the hash tag of one shard", () =>
    Effect.gen(function* () {
      const seen = new Map<string, number>()
      const watched = Layer.effect(
        Redis.Redis,
        Effect.map(Redis.Redis, (redis) => {
          const look = (script: Redis.Script<unknown>, keys: ReadonlyArray<string>): void => {
            seen.set(script.name, Math.max(seen.get(script.name) ?? 0, namedKeys(script.lua)))
            assert.isAtLeast(keys.length, namedKeys(script.lua), script.name)
            assert.lengthOf(new Set(keys.map((key) => /^\{[^}]+\}/.exec(key)?.[0])), 1, script.name)
          }
          return {
            ...redis,
            run: <A>(script: Redis.Script<A>, keys: ReadonlyArray<string>, args: ReadonlyArray<Redis.Argument>) => {
              look(script, keys)
              return redis.run(script, keys, args)
            },
            runBuffer: <A>(
              script: Redis.Script<unknown>,
              keys: ReadonlyArray<string>,
              args: ReadonlyArray<Redis.Argument>
            ) => {
              look(script, keys)
              return redis.runBuffer<A>(script, keys, args)
            }
          }
        })
      ).pipe(Layer.provide(layerRedis({ shards: 2 })))
      yield* Effect.gen(function* () {
        const broker = yield* Broker
        const tables = yield* TableStore
        const topic = { name: "t", partitions: 4, retention: Retention.consumed({ capacity: 1 }) }
        const kept = { name: "kept", partitions: 4, retention: Retention.maxLength(1) }
        const fence = { epoch: 1n, incarnation: "i" }
        const entries = [{ count: 1, fields: ["v", "x"] }]
        yield* broker.declare([topic, kept])
        yield* tables.declare([{ name: "rows", processor: "p", partitions: 4, hashed: true }])
        yield* broker.append([{ topic, partition: 2, publisher: "a", number: 1, entries }], "memory")
        const both = [0, 2].map((partition) => ({ topic: kept, partition, publisher: "a", number: 1, entries }))
        yield* broker.append(both, "memory")
        yield* Effect.timeoutOption(broker.awaitRoom(topic, 2), 50)
        yield* broker.register("p", [topic], { time: 0 })
        yield* broker.register("late", [topic], { offset: "1-0.0" })
        yield* broker.claim("p", 2, [topic], fence)
        const rows = [{ table: "rows", key: "k", value: "v", timeToLive: 60_000 }]
        const emits = [{ topic: kept, partition: 0, entries }]
        const offsets = [{ topic: "t", layout: topic, offset: "9-0.0", entry: "9-0", entries: 1, events: 1 }]
        yield* broker.mark("p", 2, fence)
        yield* broker.release("p", 2, fence)
        const park = [{ lane: "k", topic: "t", offset: "9-0.0", fields: ["v", "x"] }]
        const parking = { drop: [], park, remove: [], states: [] }
        const one = { ...fence, processor: "p", partition: 2, number: 1, offsets, rows, emits, parking }
        yield* broker.commit([one], "memory")
        assert.lengthOf(yield* broker.lanes("p", 2), 1)
        assert.lengthOf(yield* tables.readTimed("p", "rows", 2, ["k"]), 1)
        assert.lengthOf((yield* tables.entries("p", "rows", 2, "", true)).rows, 1)
        assert.lengthOf((yield* tables.due("p", "rows", 2, 1)).keys, 0)
        yield* broker.parked({ processor: "p", partition: 2, lane: "k", after: undefined, count: 1 })
        const to = { offset: "1-0.0" }
        yield* broker.seek({ ...fence, processor: "p", partition: 2, number: 2, topics: [topic], to, reset: true })
        yield* broker.lag("p")
        yield* broker.inspect(topic, [0, 1, 2, 3])
        yield* broker.topics()
        yield* broker.trim(kept)
        yield* broker.unregister("p")
        assert.isUndefined(yield* tables.layout("rows"))

        const jobs = yield* JobStore
        const job = { name: "n", priority: "low", format: undefined, payload: "x", headers: "" } as const
        yield* jobs.configure("q", { limit: { count: 100, per: 1 } })
        yield* jobs.declare("q", [{ name: "n", payload: ["/a"], success: [], progress: [] }])
        yield* jobs.enqueue("q", [{ ...job, id: "a" }])
        yield* jobs.enqueue("q", [{ ...job, id: "b", delay: 60_000 }])
        const session = yield* jobs.open("q", "w", 60_000)
        const rooms = [{ name: "n", count: 1 }]
        const asked = { session, lease: 60_000, rooms, count: 1, shares: [1, 0, 0], alone: false } as const
        const answer = yield* jobs.exchange({ ...asked, number: 1, settle: [] })
        const [claimed] = answer._tag === "Exchanged" ? answer.claimed : []
        yield* jobs.progress(session, claimed!, "1")
        yield* jobs.extend(session, 60_000, 1, [claimed!])
        const outcome = { _tag: "Dead", reason: "Failed", entry: "{}" } as const
        yield* jobs.exchange({ ...asked, number: 2, settle: [{ job: claimed!, outcome }] })
        assert.isTrue(yield* jobs.promote("q", "b"))
        assert.isTrue(yield* jobs.cancel("q", "b", 1_000))
        assert.strictEqual(yield* jobs.redrive("q", undefined), 1)
        yield* jobs.sweep("q")
        yield* jobs.enqueue("f", [{ ...job, id: "f" }])
        const following = yield* jobs.open("f", "w", 60_000)
        const first = { ...asked, session: following }
        const found = yield* jobs.exchange({ ...first, number: 1, settle: [] })
        const [done] = found._tag === "Exchanged" ? found.claimed : []
        const others = ["q", "r", "s", "t"].map((queue) => ({ queue, job: { ...job, id: "follows" } }))
        const ended = { _tag: "Done", format: undefined, result: "", ttl: 0, jobs: others } as const
        yield* jobs.exchange({ ...first, number: 2, settle: [{ job: done!, outcome: ended }] })
        yield* jobs.close(following)
        yield* jobs.recur("q", { name: "r", timing: "T", missed: "skip", job, first: 1 })
        const [due] = (yield* jobs.recurrences("q", "due")).found
        yield* jobs.fire("q", [{ ...due!, next: 9e12, run: { slot: 1, job: { ...job, id: "r@1" } } }])
        assert.isTrue(yield* jobs.alter("q", "r", "remove"))
        yield* jobs.close(session)
        assert.strictEqual((yield* jobs.counts("q")).ready, 3)
        assert.strictEqual(yield* jobs.flush("q"), 3)
        assert.isUndefined(yield* jobs.get("q", "a", false))
        yield* jobs.remove("q")
      }).pipe(
        Effect.provide(
          Layer.mergeAll(RedisBroker.layer, RedisTables.layer, RedisJobs.layer).pipe(Layer.provide(watched))
        )
      )
      const unseen = scripts.filter(({ name }) => !seen.has(name) && name !== "measure")
      assert.deepStrictEqual(
        unseen.map(({ name }) => name),
        []
      )
    })
  )
})
