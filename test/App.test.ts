/** What an app gives to all of its parts: layers, a namespace, settings. */
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Context, Effect, Layer, Logger, Schema, Stream } from "effect"
import * as App from "../src/App.ts"
import * as Engine from "../src/Engine.ts"
import * as Job from "../src/Job.ts"
import * as Part from "../src/Part.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Scheduler from "../src/Scheduler.ts"
import * as Settings from "../src/Settings.ts"
import * as Topic from "../src/Topic.ts"
import * as Worker from "../src/Worker.ts"
import { behaviour, until } from "./support/engines.ts"
import { urls } from "./support/places.ts"

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

describe("the name", () => {
  /** What lies in the topic there. */
  const stored = Stream.runCollect(Stream.map(Topic.stream(orders, { until: "now" }), ({ value }) => value))
  const publish = (value: number) => Topic.publish(orders, value)
  const processor = (seen: Array<number>) =>
    Processor.make("billing", { topic: orders }, (value) => Effect.sync(() => void seen.push(value)))
  const appOf = (name: string, version?: string, seen: Array<number> = []) =>
    App.make({ name, version, parts: [processor(seen)] })

  for (const [where, url] of urls) {
    it.live(`keeps two apps of equal topics and processors apart [${where}]`, () =>
      Effect.gen(function* () {
        const engine = Engine.layer({ url: yield* url })
        const [seenByShop, seenByBank]: [Array<number>, Array<number>] = [[], []]
        const shop = appOf("shop", undefined, seenByShop)
        const bank = appOf("bank", undefined, seenByBank)
        // In one program, where one layer is one engine: each has its own all the same.
        const [inShop, inBank] = [App.engine(shop, engine), App.engine(bank, engine)]
        yield* Effect.provide(publish(1), inShop)
        yield* Effect.provide(publish(2), inBank)
        yield* Effect.all([
          Effect.provide(App.run(shop, { limit: 1 }), inShop),
          Effect.provide(App.run(bank, { limit: 1 }), inBank)
        ])
        assert.deepStrictEqual([seenByShop, seenByBank], [[1], [2]])
        const next = appOf("shop", "2")
        assert.deepStrictEqual(yield* Effect.provide(stored, App.engine(next, engine)), [])
      }).pipe(Effect.scoped)
    )

    it.live(`stands below MILLRACE_NAMESPACE, and below an option [${where}]`, () =>
      Effect.gen(function* () {
        const at = yield* url
        const forever = Topic.make("orders", { schema: Schema.Int, partitions: 1, retention: Retention.forever })
        const read = Stream.runCollect(Stream.map(Topic.stream(forever, { until: "now" }), ({ value }) => value))
        const shop = appOf("shop")
        const config = (variables: Record<string, string>) => {
          const env = ConfigProvider.layer(ConfigProvider.fromEnv({ env: { MILLRACE_URL: at, ...variables } }))
          return App.engine(shop, Layer.provide(Engine.layerConfig, env))
        }
        const places: ReadonlyArray<readonly [string, Layer.Layer<Engine.Services, unknown>]> = [
          ["shop", config({})],
          ["depot", config({ MILLRACE_NAMESPACE: "depot" })],
          ["cellar", App.engine(shop, Engine.layer({ url: at, namespace: "cellar" }))]
        ]
        for (const [i, [, engine]] of places.entries()) yield* Effect.provide(Topic.publish(forever, i), engine)
        for (const [i, [namespace]] of places.entries()) {
          assert.deepStrictEqual(yield* Effect.provide(read, Engine.layer({ url: at, namespace })), [i], namespace)
        }
      }).pipe(Effect.scoped)
    )
  }

  it.live("is asked for: an app says so where it runs among all that have none", () =>
    Effect.gen(function* () {
      const [[, url]] = urls as [(typeof urls)[number]]
      const warnings: Array<string> = []
      const logger = Logger.layer([
        Logger.make(({ logLevel, message }) => {
          if (logLevel === "Warn") warnings.push(String(message))
        })
      ])
      const ran = Effect.andThen(publish(1), App.run(appOf("shop"), { limit: 1 }))
      const { parts } = yield* Effect.provide(ran, Layer.merge(Engine.layer({ url: yield* url }), logger))
      assert.strictEqual(parts.billing?.processed, 1)
      assert.lengthOf(warnings, 1)
      assert.include(warnings[0]!, "App.engine(app, Engine.layerConfig)")
    }).pipe(Effect.scoped)
  )

  it.effect("is not needed by an engine in memory", () =>
    Effect.gen(function* () {
      yield* publish(1)
      const { parts } = yield* App.run(appOf("shop"), { limit: 1 })
      assert.strictEqual(parts.billing?.processed, 1)
    }).pipe(Effect.provide(Engine.layer({ url: "memory:" })))
  )
})

describe("settings of an app", () => {
  const shop = App.make({ name: "shop", parts: [], settings: { lease: "3 seconds", tracing: { sample: 0.5 } } })

  it.effect("hold in its worker, and beside it in App.engine; wrong ones name the app", () =>
    Effect.gen(function* () {
      const seen: Array<number> = []
      const app = App.make({
        name: "shop",
        settings: { lease: "3 seconds" },
        parts: [
          Scheduler.task(
            "look",
            Effect.map(Settings.current, ({ lease }) => void seen.push(lease))
          )
        ]
      })
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* Effect.forkScoped(App.run(app))
          yield* Effect.yieldNow
          while (seen.length === 0) yield* Effect.yieldNow
        })
      )
      assert.deepStrictEqual(seen, [3000])
      const { lease, tracing } = yield* Effect.provide(Settings.current, App.engine(shop, Engine.layerMemory))
      assert.deepStrictEqual([lease, tracing], [3000, { sample: 0.5 }])
      assert.throws(
        () => App.make({ name: "shop", parts: [], settings: { prefetch: { events: 0 } } }),
        /app shop: settings: prefetch.events is 0/
      )
    }).pipe(Effect.provide(Engine.layerMemory))
  )
})
