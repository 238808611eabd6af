/** Jobs that a processor enqueues: with the commit that moves the offset, or not at all. */
import { assert } from "@effect/vitest"
import { Effect, Option, Schema, Stream } from "effect"
import { Job, Policy, Processor, Queue, Topic } from "../src/index.ts"
import { Faults } from "../src/testing/index.ts"
import { behaviour, drain, numbers, start, until } from "./support/engines.ts"

const orders = Topic.make("orders", { schema: Schema.Int, partitions: 4, partitionBy: (n) => n })
const mail = Job.make("mail", { payload: Schema.Int, success: Schema.Int })
const mailing = Job.handler(mail, (n) => Effect.succeed(n))

behaviour("a job that a handler enqueues is there when its event is committed, and not when it failed", (engine) =>
  Effect.gen(function* () {
    const part = Processor.make("confirm", { topic: orders }, (n) =>
      Effect.gen(function* () {
        const handle = yield* Job.enqueue(mail, n)
        assert.isUndefined(handle.repeated)
        if (n % 3 === 0) return yield* Effect.fail("no" as const)
        yield* Job.enqueueAll(mail, [100 + n], { delay: "1 hour" })
      })
    ).pipe(Processor.catch(Policy.ignore))
    yield* Topic.publishAll(orders, numbers(12))
    yield* drain([part])
    yield* until(engine, "they are there", () =>
      Effect.map(Queue.counts("default"), ({ delayed, ready }) => ready === 8 && delayed === 8)
    )
    const worker = yield* start([mailing])
    yield* worker.idle
    const done = yield* Stream.runCollect(Queue.peek("default", "done"))
    assert.strictEqual(done.length, 8)
    const results = yield* Effect.forEach(done, ({ id }) => Job.result(mail, id))
    assert.deepStrictEqual(
      results.map((result) => Option.getOrThrow(result)).toSorted((a, b) => a - b),
      numbers(12).filter((n) => n % 3 !== 0)
    )
  })
)

behaviour(
  "commits whose answers are lost, and deliveries that come twice, enqueue once",
  (engine) =>
    Effect.gen(function* () {
      const part = Processor.make("confirm", { topic: orders }, (n) =>
        Job.enqueue(mail, n, { deduplicate: { key: n } })
      )
      const plan: Faults.Plan = (port, method, call) => {
        if (port !== "Broker" || (method !== "commit" && method !== "deliver")) return undefined
        return call % 3 === 1 ? { _tag: "LoseReply" } : call % 3 === 2 ? { _tag: "SendTwice" } : undefined
      }
      yield* Topic.publishAll(orders, numbers(200))
      yield* drain([part]).pipe(Effect.provide(Faults.layer(plan)))
      yield* until(engine, "they are there", () => Effect.map(Queue.counts("default"), ({ ready }) => ready === 200))
      yield* drain([mailing])
      assert.strictEqual((yield* Queue.counts("default")).done, 200)
    }),
  { on: ["file", "Redis"] }
)

behaviour("execute in a handler acts at once", () =>
  Effect.gen(function* () {
    const seen: Array<number> = []
    const part = Processor.make("asking", { topic: orders }, (n) =>
      Effect.map(Effect.orDie(Job.execute(mail, n)), (answer) => seen.push(answer))
    )
    yield* Topic.publishAll(orders, [1, 2, 3])
    yield* drain([part, mailing])
    assert.deepStrictEqual(seen.toSorted(), [1, 2, 3])
  })
)
