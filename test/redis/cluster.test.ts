/** The laws of all ports on a Redis Cluster of three masters, with partitions in three shards; and on a user's own client. */
import { randomUUID } from "node:crypto"
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import { Cluster } from "ioredis"
import { Broker } from "../../src/Broker.ts"
import { eventsOf, from, single, stored, topicOf } from "../../src/laws/broker/support.ts"
import * as Laws from "../../src/laws/Laws.ts"
import * as RedisBroker from "../../src/redis/broker.ts"
import * as Redis from "../../src/redis/client.ts"
import * as RedisCoordinator from "../../src/redis/coordinator.ts"
import * as RedisJobs from "../../src/redis/jobStore.ts"
import * as RedisTables from "../../src/redis/tableStore.ts"
import { makeCluster } from "../support/redis.ts"
import { sharedInFile } from "../support/sharedInFile.ts"

const cluster = sharedInFile(makeCluster)

const engineOf = (options: Redis.Options) =>
  Layer.mergeAll(RedisBroker.layer, RedisTables.layer).pipe(Layer.provideMerge(Redis.layer(options)))

const engine = Layer.unwrap(
  Effect.map(cluster, ({ url }) => engineOf({ url, namespace: `test-${randomUUID()}`, shards: 3 }))
)

Laws.broker("Redis Cluster", engine)
Laws.tableStore("Redis Cluster", engine)
Laws.jobStore(
  "Redis Cluster",
  Layer.unwrap(
    Effect.map(cluster, ({ url }) =>
      Layer.provide(RedisJobs.layer, Redis.layer({ url, namespace: `test-${randomUUID()}`, shards: 3 }))
    )
  )
)
Laws.coordinator(
  "Redis Cluster",
  // Each law has books of its own.
  Layer.unwrap(
    Effect.map(cluster, ({ url }) =>
      Layer.provide(RedisCoordinator.layer, Redis.layer({ url, namespace: `test-${randomUUID()}`, shards: 3 }))
    )
  ),
  { seeds: 1 }
)

it.live(
  "a user's cluster client is duplicated, and left as it is",
  () =>
    Effect.gen(function* () {
      const { nodes } = yield* cluster
      const client = yield* Effect.acquireRelease(
        Effect.sync(() => new Cluster(nodes.map(({ port }) => ({ host: "127.0.0.1", port })))),
        (client) => Effect.sync(() => client.disconnect())
      )
      const topic = topicOf(16)
      yield* Effect.gen(function* () {
        const broker = yield* Broker
        for (let partition = 0; partition < 16; partition++) yield* stored(topic, [single(`${partition}`)], partition)
        const reader = yield* broker.reader(3)
        assert.deepStrictEqual(eventsOf(yield* reader.read([from(topic, 3)], { count: 1, block: 0 })), ["3"])
        const end = { ...from(topic, 3), after: "9999999999999-0" }
        const waiting = yield* Effect.forkChild(reader.read([end], { count: 1, block: 60_000 }), {
          startImmediately: true
        })
        yield* reader.wake
        assert.deepStrictEqual(yield* Fiber.join(waiting), [])
      }).pipe(Effect.provide(engineOf({ client, shards: 16 })))
      assert.strictEqual(yield* Effect.promise(() => client.set("mine", "1")), "OK")
    }),
  60_000
)
