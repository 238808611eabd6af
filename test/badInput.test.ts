/**
 * Whatever is wrong from outside (URLs, servers, names, options, payloads, entries) is a typed error that says what was
 * wrong, where, and what to do. The messages stand here.
 */
import { createServer } from "node:net"
import { inspect } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  ConfigProvider,
  Effect,
  Exit,
  Layer,
  Logger,
  Option,
  Redacted,
  References,
  Schema,
  Stream,
  Tracer
} from "effect"
import {
  Broker,
  Engine,
  type Errors,
  Policy,
  Processor,
  Retention,
  Serializer,
  Table,
  Topic,
  Worker
} from "../src/index.ts"
import { makeOldServer } from "./support/oldServer.ts"
import { makeServer } from "./support/redis.ts"

const Order = Schema.Struct({ id: Schema.Int, customer: Schema.String })
const orders = Topic.make("orders", { schema: Order, partitionBy: "customer", partitions: 4 })

/** The failure of an effect: its tag and its message. */
const failure = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<readonly [string, string], never, R> =>
  Effect.map(Effect.exit(effect), (exit) => {
    if (Exit.isSuccess(exit)) return ["none", ""]
    const error = Option.getOrThrow(Cause.findErrorOption(exit.cause)) as { _tag: string; message: string }
    return [error._tag, error.message]
  })

const thrown = (f: () => unknown): readonly [string, string] => {
  try {
    f()
  } catch (error) {
    return error instanceof Error && "_tag" in error ? [String(error._tag), error.message] : ["untyped", String(error)]
  }
  return ["none", ""]
}

const on = (url: string) => failure(Effect.scoped(Layer.build(Engine.layer({ url }))))

const deadPort = Effect.callback<number>((resume) => {
  const probe = createServer().listen(0, "127.0.0.1", () => {
    const address = probe.address()
    probe.close(() => resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0)))
  })
})

describe("a wrong engine", () => {
  it.live("unknown scheme", () =>
    Effect.gen(function* () {
      const [tag, message] = yield* on("amqp://user:hunter2@localhost")
      assert.strictEqual(tag, "Misconfigured")
      assert.include(message, "redis://")
      assert.include(message, "memory:")
      assert.notInclude(message, "hunter2")
    })
  )

  it.live("no URL at all", () =>
    Effect.gen(function* () {
      const nothing = ConfigProvider.layer(ConfigProvider.fromUnknown({}))
      const [tag, message] = yield* failure(Effect.scoped(Layer.build(Layer.provide(Engine.layerConfig, nothing))))
      assert.strictEqual(tag, "Misconfigured")
      assert.include(message, "MILLRACE_URL")
    })
  )

  it.live("unreachable server", () =>
    Effect.gen(function* () {
      const port = yield* deadPort
      const [tag, message] = yield* on(`redis://:hunter2@127.0.0.1:${port}`)
      assert.strictEqual(tag, "EngineError")
      assert.include(message, `127.0.0.1:${port}`)
      assert.notInclude(message, "hunter2")
    })
  )

  it.live("old server", () =>
    Effect.gen(function* () {
      const [tag, message] = yield* on(yield* makeOldServer("6.2.14"))
      assert.strictEqual(tag, "EngineError")
      assert.include(message, "6.2.14")
      assert.include(message, "7.0")
    })
  )

  it.live("wrong password", () =>
    Effect.gen(function* () {
      const { port } = yield* makeServer(["--requirepass", "right"])
      const [tag, message] = yield* on(`redis://:hunter2@127.0.0.1:${port}`)
      assert.strictEqual(tag, "EngineError")
      assert.match(message, /password/i)
      assert.notInclude(message, "hunter2")
    })
  )

  it.live("a file that is no database, a directory that is not there", () =>
    Effect.gen(function* () {
      const [tag, message] = yield* on("file:./package.json")
      assert.strictEqual(tag, "EngineError")
      assert.include(message, "package.json")
      const [tag2, message2] = yield* on("file:/no/such/place/engine.db")
      assert.strictEqual(tag2, "EngineError")
      assert.include(message2, "/no/such/place")
    })
  )
})

describe("a wrong definition throws Misconfigured at once", () => {
  const Nested = Schema.Struct({ id: Schema.Int, tags: Schema.Array(Schema.String) })
  const totals = Table.make("totals", { key: Schema.String, value: Schema.Int, initial: () => 0 })
  const handler = () => Effect.void
  const cases: ReadonlyArray<readonly [what: string, f: () => unknown, says: string]> = [
    ["a brace in a name", () => Topic.make("a}b", { schema: Order }), `topic name "a}b"`],
    ["a name of 129 characters", () => Topic.make("a".repeat(129), { schema: Order }), "1 to 128"],
    [
      "no partitions",
      () => Topic.make("t", { schema: Order, partitions: 0 }),
      "partitions must be a whole number from 1"
    ],
    ["an encoding", () => Topic.make("t", { schema: Order, encoding: "xml" as never }), `"flat" or left out`],
    ["a nested flat record", () => Topic.make("t", { schema: Nested, encoding: "flat" }), "tags"],
    [
      "a flat topic with a serializer",
      () => Topic.make("t", { schema: Order, encoding: "flat", serializer: Serializer.json }),
      "has no serializer"
    ],
    ["a capacity", () => Retention.consumed({ capacity: 0 }), "capacity must be a whole number of at least 1"],
    ["onFull", () => Retention.consumed({ onFull: "drop" as never }), `"wait" or "fail"`],
    ["a processor's name", () => Processor.make("", { topic: orders }, handler), `processor name ""`],
    [
      "co-partitioned topics that are not",
      () => Processor.make("p", { topic: [orders, Topic.variant(orders, "other", { partitions: 8 })] }, handler),
      "4 partitions and other with 8"
    ],
    ["one topic twice", () => Processor.make("p", { topic: [orders, orders] }, handler), "named twice"],
    ["one table twice", () => Processor.make("p", { topic: orders, tables: [totals, totals] }, handler), "named twice"],
    [
      "acknowledge",
      () => Processor.make("p", { topic: orders, acknowledge: "never" as never }, handler),
      `"after" or "before"`
    ],
    ["lanes", () => Processor.make("p", { topic: orders, concurrency: { perKey: 0 } }, handler), "concurrency.perKey"],
    ["a batch of nothing", () => Processor.batch("p", { topic: orders, size: 0, within: "1 second" }, handler), "size"],
    ["no time", () => Processor.batch("p", { topic: orders, size: 1, within: 0 }, handler), "within"],
    ["prefetch", () => Processor.make("p", { topic: orders, prefetch: { events: 0 } }, handler), "prefetch.events"],
    ["a start", () => Processor.make("p", { topic: orders, startFrom: "middle" as never }, handler), `"earliest"`],
    ["onto itself", () => Processor.repartition("p", { topic: orders, to: orders }), "onto itself"],
    [
      "an encryption key",
      () => Serializer.encrypted(Serializer.json, [{ id: "k", key: Redacted.make(new Uint8Array(3)) }]),
      "32"
    ]
  ]
  it.each(cases)("%s", (_, f, says) => {
    const [tag, message] = thrown(f)
    assert.strictEqual(tag, "Misconfigured", message)
    assert.include(message, says)
  })
})

describe("a wrong start", () => {
  const part = (name: string) => Processor.make(name, { topic: orders }, () => Effect.void)

  it.effect("two parts of one name", () =>
    Effect.gen(function* () {
      const [tag, message] = yield* failure(Worker.run([part("same"), part("same")]))
      assert.strictEqual(tag, "Misconfigured")
      assert.include(message, "two parts are named same")
    }).pipe(Effect.provide(Engine.layerMemory))
  )

  it.effect("a part that is not there", () =>
    Effect.gen(function* () {
      const [tag, message] = yield* failure(Worker.run([part("a")], { processors: ["b"] }))
      assert.strictEqual(tag, "Misconfigured")
      assert.include(message, "there is no part named b; there are a")
    }).pipe(Effect.provide(Engine.layerMemory))
  )

  it.effect("a changed partition count, by worker and by publisher", () =>
    Effect.gen(function* () {
      yield* Topic.publish(orders, { id: 1, customer: "a" })
      const changed = Topic.variant(orders, "orders", { partitions: 8 })
      const [tag, message] = yield* failure(Worker.run([Processor.make("p", { topic: changed }, () => Effect.void)]))
      assert.strictEqual(tag, "Misconfigured")
      assert.match(message, /LayoutMismatch.*orders.*4.*8/)
      const [tag2, message2] = yield* failure(Topic.publish(changed, { id: 1, customer: "a" }))
      assert.strictEqual(tag2, "EngineError")
      assert.match(message2, /orders.*4.*8/)
    }).pipe(Effect.provide(Engine.layerMemory))
  )

  it.effect("a changed partition count of a topic that is emitted to halts before anything is written there", () =>
    Effect.gen(function* () {
      const sink = Topic.make("sink", { schema: Schema.Int, partitions: 2 })
      yield* Topic.publish(sink, 0)
      yield* Topic.publish(orders, { id: 1, customer: "a" })
      const changed = Topic.variant(sink, "sink", { partitions: 3 })
      const emitting = Processor.make("p", { topic: orders }, (order) => Topic.emit(changed, order.id))
      const [tag, message] = yield* failure(Worker.run([emitting]))
      assert.strictEqual(tag, "ProcessorHalted")
      assert.match(message, /LayoutMismatch.*sink.*2.*3/)
      const infos = yield* (yield* Broker.Broker).inspect(changed, [0, 1, 2])
      assert.strictEqual(
        infos.reduce((sum, { added }) => sum + added, 0),
        1
      )
    }).pipe(Effect.provide(Engine.layerMemory))
  )

  it.effect("a lease of nothing", () =>
    Effect.gen(function* () {
      const [tag, message] = yield* failure(Worker.run([part("a")], { lease: 0 }))
      assert.strictEqual(tag, "Misconfigured")
      assert.include(message, "lease")
    }).pipe(Effect.provide(Engine.layerMemory))
  )
})

describe("a wrong payload", () => {
  it.effect("is refused by its schema, every problem listed", () =>
    Effect.gen(function* () {
      const [tag, message] = yield* failure(Topic.publish(orders, { id: 1.5, customer: 7 } as never))
      assert.strictEqual(tag, "EncodeError")
      assert.include(message, "orders")
      assert.include(message, `["id"]`)
      assert.include(message, `["customer"]`)
    }).pipe(Effect.provide(Engine.layerMemory))
  )

  it.effect("is refused when it is too large, and nothing is stored", () =>
    Effect.gen(function* () {
      const [tag, message] = yield* failure(Topic.publish(orders, { id: 1, customer: "x".repeat(1024 * 1024) }))
      assert.strictEqual(tag, "EncodeError")
      assert.include(message, "the limit is 1048576")
      const broker = yield* Broker.Broker
      for (const info of yield* broker.inspect(orders, [0, 1, 2, 3])) assert.strictEqual(info.added, 0)
    }).pipe(Effect.provide(Engine.layerMemory))
  )

  it.effect("a key function that throws", () =>
    Effect.gen(function* () {
      const keyed = Topic.make("keyed", {
        schema: Order,
        partitionBy: (): string => {
          throw new Error("no key")
        }
      })
      const [tag, message] = yield* failure(Topic.publish(keyed, { id: 1, customer: "a" }))
      assert.strictEqual(tag, "EncodeError")
      assert.include(message, "partitionBy threw: no key")
    }).pipe(Effect.provide(Engine.layerMemory))
  )

  it.effect("a partition that is not there, an offset that is none", () =>
    Effect.gen(function* () {
      const [, message] = yield* failure(Topic.publish(orders, { id: 1, customer: "a" }, { partition: 4 }))
      assert.include(message, "partition 4 does not exist: the topic has partitions 0 to 3")
      const [, message2] = yield* failure(Topic.publishAll(orders, [{ id: 1, customer: "a" }], { offsets: ["soon"] }))
      assert.include(message2, `offset "soon": use "<millis>-<seq>"`)
    }).pipe(Effect.provide(Engine.layerMemory))
  )
})

describe("a corrupt entry", () => {
  it.effect("is a DecodeError with its place and bytes; without a policy it halts, with one the rest goes on", () =>
    Effect.gen(function* () {
      const broker = yield* Broker.Broker
      yield* broker.declare([orders])
      const put = (number: number, value: string) =>
        broker.append(
          [
            { topic: orders, partition: 0, publisher: "foreign", number, entries: [{ count: 1, fields: ["v", value] }] }
          ],
          "memory"
        )
      yield* put(1, `{"id":1,"customer":"a"}`)
      yield* put(2, `{"id":`)
      yield* put(3, `{"id":"x"}`)
      yield* put(4, `{"id":4,"customer":"a"}`)
      const seen: Array<number> = []
      const part = Processor.make("strict", { topic: orders }, (order) => Effect.sync(() => seen.push(order.id)))
      const exit = yield* Effect.exit(Worker.run([part]))
      assert.deepStrictEqual(seen, [1])
      const halted = Option.getOrThrow(Exit.findErrorOption(exit)) as Errors.ProcessorHalted<Errors.DecodeError>
      const error = Cause.squash(halted.cause) as Errors.DecodeError
      assert.deepInclude(error, { _tag: "DecodeError", topic: "orders", partition: 0, reason: "Serializer" })
      assert.strictEqual(new TextDecoder().decode(error.bytes), `{"id":`)
      const lenient = Processor.make("lenient", { topic: orders }, (order) =>
        Effect.sync(() => seen.push(order.id))
      ).pipe(Processor.catchTag("DecodeError", Policy.ignore))
      const summary = yield* Worker.run([lenient], { limit: 3 })
      // The first is gone: the only processor that was registered had committed it.
      assert.deepStrictEqual(seen, [1, 4])
      assert.strictEqual(summary.parts["lenient"]!.ignored, 2)
      const tailed = yield* Effect.exit(Stream.runCollect(Topic.stream(orders, { until: "now" })))
      assert.strictEqual(Option.getOrThrow(Exit.findErrorOption(tailed))._tag, "DecodeError")
    }).pipe(Effect.provide(Engine.layerMemory))
  )
})

describe("a secret in the URL", () => {
  it.live("appears in no message, log or span of a run", () =>
    Effect.gen(function* () {
      const { port } = yield* makeServer(["--requirepass", "hunter2"])
      const url = `redis://:hunter2@127.0.0.1:${port}`
      const said: Array<string> = []
      const logger = Logger.make((entry) => {
        said.push(inspect(entry, { depth: 12 }))
      })
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          said.push(inspect(span, { depth: 8 }))
          return span
        }
      })
      const failing = Processor.make("failing", { topic: orders }, () => Effect.fail("no" as const))
      const exit = yield* Effect.gen(function* () {
        yield* Topic.publish(orders, { id: 1, customer: "a" })
        return yield* Effect.exit(Worker.run([failing]))
      }).pipe(
        Effect.withSpan("run"),
        Effect.provide(Engine.layer({ url: Redacted.make(url) })),
        Effect.provide(Logger.layer([logger])),
        Effect.provideService(References.MinimumLogLevel, "All"),
        Effect.provideService(Tracer.Tracer, tracer)
      )
      said.push(inspect(exit, { depth: 20 }))
      assert.isAbove(said.length, 1)
      for (const text of said) assert.notInclude(text, "hunter2")
    })
  )
})
