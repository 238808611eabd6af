/** What an app gives to all of its parts: layers, a namespace, settings. */
import { assert, describe } from "@effect/vitest"
import { Context, Effect, Layer, Schema } from "effect"
import * as App from "../src/App.ts"
import * as Job from "../src/Job.ts"
import * as Part from "../src/Part.ts"
import * as Processor from "../src/Processor.ts"
import * as Scheduler from "../src/Scheduler.ts"
import * as Topic from "../src/Topic.ts"
import * as Worker from "../src/Worker.ts"
import { behaviour, until } from "./support/engines.ts"

const orders = Topic.make("orders", { schema: Schema.Int, partitions: 1 })
const invoice = Job.make("invoice", { payload: Schema.Int })

class Pool extends Context.Service<Pool, number>()("test/Pool") {}

/** Counts how often it is built and closed; its value is the number of the build. */
const counting = () => {
  const count = { built: 0, closed: 0 }
  const layer = Layer.effect(
    Pool,
    Effect.acquireRelease(
      Effect.sync(() => ++count.built),
      () => Effect.sync(() => void count.closed++)
    )
  )
  return { count, layer }
}

/** One of each kind; each tells which pool it has. */
const parts = (seen: Array<readonly [string, number]>) => {
  const tell = (name: string) => Effect.map(Pool, (pool) => void seen.push([name, pool]))
  return {
    billing: Processor.make("billing", { topic: orders }, () => tell("billing")),
    audit: Processor.make("audit", { topic: orders }, () => tell("audit")),
    stock: Processor.make("stock", { topic: orders }, () => tell("stock")),
    mailing: Job.handler(invoice, () => tell("mailing")),
    hello: Scheduler.task("hello", tell("hello"))
  }
}

const everyOne = ["audit", "billing", "hello", "mailing", "stock"]

describe("a layer", () => {
  behaviour("of an app is built once for a worker, and closed once", (engine) =>
    Effect.gen(function* () {
      const seen: Array<readonly [string, number]> = []
      const { count, layer } = counting()
      const app = App.make({ name: "shop", parts: Object.values(parts(seen)), layer })
      yield* Topic.publish(orders, 1)
      yield* Job.enqueue(invoice, 1)
      yield* Effect.gen(function* () {
        yield* until(engine, "all ran", () => seen.length === everyOne.length)
        assert.deepStrictEqual(count, { built: 1, closed: 0 })
      }).pipe(Effect.provide(Worker.layer(app.parts)))
      assert.deepStrictEqual(count, { built: 1, closed: 1 })
      assert.deepStrictEqual(
        seen.toSorted(),
        everyOne.map((name) => [name, 1])
      )
    })
  )

  behaviour("given to several parts is one; to two workers, and fresh, it is two", (engine) =>
    Effect.gen(function* () {
      const seen: Array<readonly [string, number]> = []
      const { count, layer } = counting()
      const { audit, billing, hello, mailing, stock } = parts(seen)
      yield* Topic.publish(orders, 1)
      yield* Job.enqueue(invoice, 1)
      const first = Worker.layer([
        billing.pipe(Part.provide(layer)),
        stock.pipe(Part.provide(layer)),
        mailing.pipe(Part.provide(layer))
      ])
      const second = Worker.layer([audit.pipe(Part.provide(layer)), hello.pipe(Part.provide(Layer.fresh(layer)))])
      yield* Effect.provide(
        until(engine, "all of the first ran", () => seen.length === 3),
        first
      )
      assert.deepStrictEqual(count, { built: 1, closed: 1 })
      // The first one was dropped when all that were registered had done it.
      yield* Topic.publish(orders, 2)
      yield* Effect.provide(
        until(engine, "all ran", () => seen.length === everyOne.length),
        second
      )
      assert.deepStrictEqual(count, { built: 3, closed: 3 })
    })
  )
})
