/** `declare: false`: a worker takes what is there, and makes nothing. */
import { assert, describe } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Broker } from "../src/Broker.ts"
import { Misconfigured } from "../src/Errors.ts"
import * as Job from "../src/Job.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Queue from "../src/Queue.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import * as Worker from "../src/Worker.ts"
import { behaviour } from "./support/engines.ts"

const [orders, refunds] = ["orders", "refunds"].map((name) => Topic.make(name, { schema: Schema.Int, partitions: 2 }))
const mail = Job.make("mail", { payload: Schema.Int, queue: "post" })
const count = Job.make("count", { payload: Schema.Int, queue: "sums" })

const parts = [
  Processor.make("billing", { topic: orders! }, () => Effect.void).pipe(
    Processor.catchTag("DecodeError", Policy.deadLetter())
  ),
  Processor.make("returns", { topic: [orders!, refunds!] }, () => Effect.void).pipe(
    Processor.catchTag("DecodeError", Policy.deadLetter({ topic: "trouble" }))
  ),
  Job.handler(mail, () => Effect.void),
  Job.handler(count, () => Effect.void)
]

const refused = (options?: Worker.Options) =>
  Effect.map(Effect.flip(Worker.run(parts, { declare: false, limit: 1, ...options })), (error) => {
    assert.instanceOf(error, Misconfigured)
    assert.strictEqual(error.reason, "Undeclared")
    return /is not: (.*); look at/.exec(error.detail)?.[1]
  })

const stored = Effect.gen(function* () {
  const broker = yield* Broker
  const topics = yield* broker.topics()
  return {
    topics: topics.map(({ name }) => name),
    processors: yield* broker.processors(),
    queues: yield* Queue.all
  }
})

describe("declare: false", () => {
  behaviour("names all that is not there, and stores nothing", (_) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* refused(), "topics orders, orders.dead, refunds, trouble; queues post, sums")
      assert.deepStrictEqual(yield* stored, { topics: [], processors: [], queues: [] })
      yield* Topic.publish(orders!, 1)
      yield* Queue.declare("post")
      const before = yield* stored
      assert.strictEqual(yield* refused(), "topics orders.dead, refunds, trouble; queues sums")
      assert.strictEqual(yield* refused({ processors: ["count"] }), "queues sums")
      assert.deepStrictEqual(yield* stored, before)
    })
  )

  behaviour("knows the topics of the changes of tables, which other workers make when they start", (_) =>
    Effect.gen(function* () {
      const sums = Table.make("sums", {
        key: Schema.Int,
        value: Schema.Int,
        initial: () => 0,
        changes: true,
        scope: "partition"
      })
      const summing = Processor.make("summing", { topic: orders!, tables: [sums] }, (n) => Table.set(sums, n, n))
      yield* Topic.publish(orders!, 1)
      const error = yield* Effect.flip(Worker.run([summing], { declare: false }))
      assert.include(String(error), "topics sums.changes")
      yield* Worker.run([summing], { limit: 1 })
      yield* Topic.publish(orders!, 2)
      const summary = yield* Worker.run([summing], { declare: false, limit: 1 })
      assert.strictEqual(summary.parts.summing?.processed, 1)
    })
  )

  behaviour("runs on what is there, and still compares it", (_) =>
    Effect.gen(function* () {
      yield* (yield* Broker).declare([...[orders!, refunds!].flatMap((topic) => [topic, Topic.dead(topic)])])
      yield* Topic.publish(orders!, 1)
      yield* Job.enqueue(mail, 1)
      const some = { processors: ["billing", "mail"], declare: false, limit: 2 }
      const summary = yield* Worker.run(parts, some)
      assert.deepStrictEqual([summary.parts.billing?.processed, summary.parts.mail?.processed], [1, 1])
      const other = Topic.make("orders", { schema: Schema.Int, partitions: 3 })
      const wrong = Processor.make("wrong", { topic: other }, () => Effect.void)
      const error = yield* Effect.flip(Worker.run([wrong], { declare: false }))
      assert.include(String(error), "orders")
      assert.propertyVal(error, "_tag", "Misconfigured")
      assert.notPropertyVal(error, "reason", "Undeclared")
    })
  )
})
