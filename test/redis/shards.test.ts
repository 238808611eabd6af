/** What handlers emit over several shards, with answers that are lost, calls that come twice, and owners that change. */
import { randomUUID } from "node:crypto"
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Schema, Stream } from "effect"
import * as Engine from "../../src/Engine.ts"
import * as Processor from "../../src/Processor.ts"
import * as Table from "../../src/Table.ts"
import * as Topic from "../../src/Topic.ts"
import * as Faults from "../../src/testing/Faults.ts"
import { drain, numbers, start } from "../support/engines.ts"
import { sharedUrl } from "../support/redis.ts"

const shards = 3

const engine = () =>
  Layer.unwrap(
    Effect.map(Effect.promise(sharedUrl), (url) =>
      Engine.layerRedis({ url, namespace: `shards-${randomUUID()}`, shards })
    )
  )

const Numbered = Schema.Struct({ from: Schema.String, n: Schema.Int })

const define = () => {
  const input = Topic.make("input", { schema: Numbered, partitionBy: "from", partitions: 6 })
  const output = Topic.make("output", { schema: Numbered, partitionBy: ({ n }) => n % 7, partitions: 6 })
  const count = Table.make("count", { key: Schema.String, value: Schema.Int, initial: () => 0 })
  const spread = Processor.make("spread", { topic: input, tables: [count] }, ({ from, n }) =>
    Effect.andThen(
      Table.update(count, from, (n) => n + 1),
      Topic.emit(output, { from, n })
    )
  )
  const names = ["a", "b", "c", "d", "e"]
  const events = numbers(500).map((n) => ({ from: names[n % names.length]!, n }))
  return { input, output, count, spread, names, events }
}

type Defined = ReturnType<typeof define>

/** Each event once, and those of one source in order within each partition. */
const check = ({ count, events, names, output }: Defined) =>
  Effect.gen(function* () {
    const stored = yield* Stream.runCollect(Topic.stream(output, { until: "now" }))
    assert.deepStrictEqual(
      stored.map(({ value }) => value.n).toSorted((a, b) => a - b),
      events.map(({ n }) => n)
    )
    for (const name of names) {
      for (const partition of numbers(output.partitions)) {
        const own = stored.filter((event) => event.partition === partition && event.value.from === name)
        const order = own.map(({ value }) => value.n)
        assert.deepStrictEqual(
          order,
          order.toSorted((a, b) => a - b)
        )
      }
      assert.strictEqual(yield* Table.lookup(count, name), events.length / names.length)
    }
  })

const unlucky: ReadonlyArray<readonly [string, Faults.Plan]> = [
  ["nothing", () => undefined],
  [
    "lost answers",
    (_, method, call) => (/commit|deliver/.test(method) && call % 3 === 1 ? { _tag: "LoseReply" } : undefined)
  ],
  ["calls that come twice", (_, method) => (/commit|deliver/.test(method) ? { _tag: "SendTwice" } : undefined)],
  [
    "calls that come late again",
    (_, method) => (/commit|deliver/.test(method) ? { _tag: "Late", by: "30 millis" } : undefined)
  ],
  ["a full server", (_, method, call) => (method === "deliver" && call % 2 === 0 ? { _tag: "Full" } : undefined)]
]

for (const [name, plan] of unlucky) {
  it.live(
    `emits to other shards are stored once and in order: ${name}`,
    () => {
      const defined = define()
      return Effect.gen(function* () {
        yield* Topic.publishAll(defined.input, defined.events)
        yield* drain([defined.spread])
        yield* check(defined)
      }).pipe(Effect.provide(Layer.fresh(Faults.layer(plan)).pipe(Layer.provideMerge(engine()))))
    },
    30_000
  )
}

it.live(
  "what an owner has committed and not delivered, the next one delivers first",
  () => {
    const defined = define()
    let dead = true
    // It commits, and dies before it delivers anything.
    const plan: Faults.Plan = (_, method) => (dead && method === "deliver" ? { _tag: "Fail" } : undefined)
    return Effect.gen(function* () {
      yield* Topic.publishAll(defined.input, defined.events)
      const first = yield* start([defined.spread], { member: "first", lease: "500 millis", grace: 0 })
      const committed = Effect.map(Processor.lag("spread"), (lags) => lags.every(({ events }) => events === 0))
      // A real wait: what was committed is asked for.
      while (!(yield* committed)) yield* Effect.sleep("20 millis")
      const before = yield* Stream.runCollect(Topic.stream(defined.output, { until: "now" }))
      assert.isBelow(before.length, defined.events.length)
      yield* first.close
      dead = false
      yield* drain([defined.spread], { member: "second" })
      yield* check(defined)
    }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Faults.layer(plan)).pipe(Layer.provideMerge(engine()))))
  },
  30_000
)

it.live(
  "a processor that is removed has delivered what it emitted",
  () => {
    const defined = define()
    let lost = true
    const plan: Faults.Plan = (_, method) => (lost && method === "deliver" ? { _tag: "Fail" } : undefined)
    return Effect.gen(function* () {
      yield* Topic.publishAll(defined.input, defined.events)
      const worker = yield* start([defined.spread], { lease: "500 millis", grace: 0 })
      const committed = Effect.map(Processor.lag("spread"), (lags) => lags.every(({ events }) => events === 0))
      // A real wait: what was committed is asked for.
      while (!(yield* committed)) yield* Effect.sleep("20 millis")
      yield* worker.close
      lost = false
      yield* Processor.remove("spread")
      const stored = yield* Stream.runCollect(Topic.stream(defined.output, { until: "now" }))
      assert.lengthOf(stored, defined.events.length)
    }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Faults.layer(plan)).pipe(Layer.provideMerge(engine()))))
  },
  30_000
)
