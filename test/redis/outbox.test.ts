/** The outbox when a shard goes back to an earlier state: what is emitted after that is never taken for what was before. */
import { randomUUID } from "node:crypto"
import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Redis as IoRedis } from "ioredis"
import { Broker, type Commit, type Layout } from "../../src/Broker.ts"
import { claimed, commit, commitOf, eventsOf, fence, from, register, single } from "../../src/laws/broker/support.ts"
import * as Retention from "../../src/Retention.ts"
import { layer as brokerLayer } from "../../src/redis/broker.ts"
import { layer as redisLayer } from "../../src/redis/client.ts"
import { sharedUrl } from "../support/redis.ts"

it.live("after its shard went back a partition's output is delivered again, and none of it is dropped", () =>
  Effect.gen(function* () {
    const url = yield* Effect.promise(sharedUrl)
    const namespace = `outbox-${randomUUID()}`
    const native = yield* Effect.acquireRelease(
      Effect.sync(() => new IoRedis(url)),
      (client) => Effect.sync(() => client.disconnect())
    )
    // Everything of the first shard, as a server that comes back with an older state would have it.
    const copy = Effect.promise(async () => {
      const keys = await native.keys(`{${namespace}:0}:*`)
      return Promise.all(keys.map(async (key) => [key, await native.dumpBuffer(key)] as const))
    })
    const restore = (copied: Effect.Success<typeof copy>) =>
      Effect.promise(async () => {
        for (const key of await native.keys(`{${namespace}:0}:*`)) await native.del(key)
        for (const [key, value] of copied) await native.restore(key, 0, value!)
      })

    yield* Effect.gen(function* () {
      const broker = yield* Broker
      const layout = (name: string): Layout => ({ name, partitions: 2, retention: Retention.forever })
      const [topic, output] = [layout("topic"), layout("output")]
      const emitted = (...names: ReadonlyArray<string>): Commit["emits"] => [
        { topic: output, partition: 1, entries: names.map((name) => single(name)) }
      ]
      const deliver = broker.deliver({ processor: "p", partition: 0, after: undefined }, "memory")
      yield* register("p", [topic])
      yield* claimed("p", [topic], fence(1))
      yield* commit(commitOf("p", fence(1), 1, { emits: emitted("a") }))
      yield* deliver
      const before = yield* copy
      yield* commit(commitOf("p", fence(1), 2, { emits: emitted("b", "c") }))
      yield* deliver
      yield* restore(before)
      yield* claimed("p", [topic], fence(2))
      // The lost part is handled again, and its handler decides differently.
      yield* commit(commitOf("p", fence(2), 2, { emits: emitted("B", "d") }))
      yield* deliver
      yield* deliver
      const reader = yield* broker.reader(1)
      const stored = yield* reader.read([from(output, 1)], { count: 100, block: 0 })
      assert.deepStrictEqual(eventsOf(stored), ["a", "b", "c", "B", "d"])
    }).pipe(Effect.provide(brokerLayer.pipe(Layer.provide(redisLayer({ url, namespace, shards: 2 })))))
  }).pipe(Effect.scoped)
)
