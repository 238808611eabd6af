/** Agents on Redis: over several shards, under faults, and what is left there when nobody asks any more. */
import { randomUUID } from "node:crypto"
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import { Redis as IoRedis } from "ioredis"
import * as Agent from "../../src/Agent.ts"
import * as Engine from "../../src/Engine.ts"
import * as Table from "../../src/Table.ts"
import * as Topic from "../../src/Topic.ts"
import * as Faults from "../../src/testing/Faults.ts"
import { numbers, start } from "../support/engines.ts"
import { makeServer, sharedUrl } from "../support/redis.ts"

const engine = (shards: number, namespace = `agents-${randomUUID()}`) =>
  Layer.unwrap(Effect.map(Effect.promise(sharedUrl), (url) => Engine.layerRedis({ url, namespace, shards })))

const counter = Agent.make("counter", { request: Schema.Int, reply: Schema.Int, partitions: 6 })
const counted = Table.make("counted", { key: Schema.Int, value: Schema.Int, initial: () => 0, scope: "partition" })
const seen = Topic.make("seen", { schema: Schema.Int, partitionBy: (n) => n, partitions: 6 })

/** Its effects are seen by whoever has the reply, in whatever shard. */
const counting = Agent.handler(
  counter,
  Effect.fnUntraced(function* (n: number) {
    yield* Table.update(counted, n, (times) => times + 1)
    return n * 2
  }),
  { tables: [counted] }
).pipe(Agent.sink(seen))

const answers = (plan: Faults.Plan, shards: number) =>
  Effect.gen(function* () {
    yield* start([counting as never])
    const replies = yield* Agent.join(counter, numbers(120), { timeout: "20 seconds" })
    assert.deepStrictEqual(
      replies,
      numbers(120).map((n) => n * 2)
    )
    for (const n of numbers(120)) {
      const times = yield* Effect.forEach(numbers(6), (partition) => Table.lookup(counted, n, { partition }))
      assert.strictEqual(
        times.reduce((sum, one) => sum + one, 0),
        1
      )
    }
  }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Faults.layer(plan)).pipe(Layer.provideMerge(engine(shards)))))

const methods = /^(append|commit|openInbox|replies|deliver)$/

const unlucky: ReadonlyArray<readonly [string, Faults.Plan]> = [
  ["nothing", () => undefined],
  ["lost answers", (_, method, call) => (methods.test(method) && call % 3 === 1 ? { _tag: "LoseReply" } : undefined)],
  ["calls that fail", (_, method, call) => (methods.test(method) && call % 3 === 1 ? { _tag: "Fail" } : undefined)],
  [
    "calls that come twice",
    (_, method) => (/^(append|commit|openInbox|deliver)$/.test(method) ? { _tag: "SendTwice" } : undefined)
  ]
]

for (const [name, plan] of unlucky) {
  it.live(`each ask is handled once and gets its reply, over three shards: ${name}`, () => answers(plan, 3), 60_000)
}

it.live("asks that time out leave no key that stays, and no connection that waits", () =>
  Effect.gen(function* () {
    const server = yield* makeServer()
    const redis = yield* Effect.acquireRelease(
      Effect.sync(() => new IoRedis(server.url)),
      (client) => Effect.sync(() => client.disconnect())
    )
    yield* Effect.gen(function* () {
      const silent = Agent.make("silent", { request: Schema.Int, reply: Schema.Int, partitions: 2 })
      const asks = Effect.forEach(numbers(200), (n) => Effect.flip(Agent.ask(silent, n, { timeout: "100 millis" })), {
        concurrency: "unbounded"
      })
      const errors = yield* asks
      assert.isTrue(errors.every(({ _tag }) => _tag === "AgentTimeout"))
      const inboxes = yield* Effect.promise(() => redis.keys("*:inbox:*"))
      assert.lengthOf(inboxes, 1)
      assert.isAtMost(yield* Effect.promise(() => redis.pttl(inboxes[0]!)), 60_000)
      // A real wait: a connection is closed, and the server is to notice.
      const blocked = Effect.promise(async () => Number(/blocked_clients:(\d+)/.exec(await redis.info("clients"))![1]))
      while ((yield* blocked) > 0) yield* Effect.sleep("10 millis")
      // As it would be a minute later: who comes late drops its reply, and the next ask makes another inbox.
      yield* Effect.promise(() => redis.del(inboxes[0]!))
      yield* start([Agent.handler(silent, (n) => Effect.succeed(n))])
      const handled = Effect.promise(() => redis.xinfo("GROUPS", "{late:0}:log:silent:0")) as Effect.Effect<
        ReadonlyArray<ReadonlyArray<unknown>>
      >
      while ((yield* handled)[0]!.at(-1) !== 0) yield* Effect.sleep("10 millis")
      assert.lengthOf(yield* Effect.promise(() => redis.keys("*:inbox:*")), 0)
    }).pipe(Effect.scoped, Effect.provide(Engine.layerRedis({ url: server.url, namespace: "late" })))
  }).pipe(Effect.scoped)
)

it.live("an inbox that is lost with its server is made again before the next ask", () =>
  Effect.gen(function* () {
    const server = yield* makeServer()
    yield* Effect.gen(function* () {
      yield* start([counting as never])
      assert.strictEqual(yield* Agent.ask(counter, 1), 2)
      // Nothing is on its disk.
      yield* server.kill
      yield* server.again
      const other = Agent.make("other", { request: Schema.Int, reply: Schema.Int })
      yield* start([Agent.handler(other, (n) => Effect.succeed(n + 1))])
      assert.strictEqual(yield* Agent.ask(other, 1), 2)
    }).pipe(Effect.scoped, Effect.provide(Engine.layerRedis({ url: server.url, namespace: "again" })))
  }).pipe(Effect.scoped)
)
