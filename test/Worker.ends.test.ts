/** What a worker leaves behind when it ends, and in which order it and what stands beside it begin and end. */
import { createServer } from "node:http"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Latch, Layer, Schema, Stream } from "effect"
import * as Agent from "../src/Agent.ts"
import * as App from "../src/App.ts"
import { Coordinator } from "../src/Coordinator.ts"
import * as Engine from "../src/Engine.ts"
import * as Job from "../src/Job.ts"
import * as Processor from "../src/Processor.ts"
import * as Scheduler from "../src/Scheduler.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import * as Faults from "../src/testing/Faults.ts"
import * as Worker from "../src/Worker.ts"
import { behaviour, numbers, start, until } from "./support/engines.ts"
import { eventually, makeServer } from "./support/redis.ts"

const first = Topic.make("first", { schema: Schema.Int, partitions: 4 })
const second = Topic.make("second", { schema: Schema.Int, partitions: 4 })
const echo = Agent.make("echo", { request: Schema.Int, reply: Schema.Int, partitions: 4 })
const work = Job.make("work", { payload: Schema.Int })
const totals = Table.make("totals", { key: Schema.Int, value: Schema.Int, initial: () => 0, scope: "partition" })

/** Some of everything: chained topics, a pipeline, an agent, jobs, schedules of its own and of the leader. */
const everything = (seen: Array<number>) => [
  Processor.make("chain", { topic: first, tables: [totals] }, (n) =>
    Effect.andThen(
      Table.update(totals, 1, (total) => total + 1),
      Topic.emit(second, n)
    )
  ),
  Processor.stream("end", { topic: second }, (events) =>
    Stream.tap(events, ({ value }) => Effect.sync(() => void seen.push(value)))
  ),
  Agent.handler(echo, (n) => Effect.succeed(n)),
  Job.handler(work, () => Effect.void),
  Scheduler.timer("tick", { every: "200 millis" }, Effect.void),
  Scheduler.timer("lead", { every: "200 millis", onLeader: true }, Effect.void)
]

describe("an interrupted worker", () => {
  behaviour("is no member, closes its streams, and asks nothing of the engine any more", (engine) =>
    Effect.gen(function* () {
      let calls: Array<string> = []
      const plan: Faults.Plan = (port, method) => {
        calls.push(`${port}.${method}`)
        return undefined
      }
      yield* Effect.gen(function* () {
        const seen: Array<number> = []
        let closed = 0
        const open = Topic.stream(second).pipe(Stream.ensuring(Effect.sync(() => void closed++)), Stream.runDrain)
        const tailing = yield* Effect.forkChild(open)
        const running = yield* Effect.forkChild(
          Worker.run(everything(seen) as never, { settle: 0 }) as Effect.Effect<
            Worker.Summary,
            unknown,
            Engine.Services
          >
        )
        yield* Topic.publishAll(first, numbers(40))
        yield* until(engine, "all went through", () => seen.length === 40)
        yield* Job.enqueue(work, 1)
        const asking = yield* Effect.forkChild(Agent.ask(echo, 7))
        yield* until(engine, "it is answered", () => asking.pollUnsafe() !== undefined)
        assert.strictEqual(yield* Fiber.join(asking), 7)
        yield* Fiber.interrupt(running)
        yield* Fiber.interrupt(tailing)
        assert.strictEqual(closed, 1)
        for (const name of ["chain", "end", "echo", "@leader"]) {
          const { members, owners } = yield* Coordinator.use((coordinator) => coordinator.group(name))
          assert.deepStrictEqual([members, owners.filter((owner) => owner !== undefined)], [[], []], name)
        }
        assert.isEmpty(yield* Coordinator.use((coordinator) => coordinator.reports()))
        // Whatever is still running would ask within this time: heartbeats, reads, leases, ticks.
        yield* engine.elapse(50)
        calls = []
        yield* engine.elapse(engine.virtual ? 60_000 : 1_000)
        assert.deepStrictEqual(calls, [])
      }).pipe(Effect.provide(Layer.fresh(Faults.layer(plan))))
    })
  )
})

describe("connections to Redis", () => {
  /** As `docs/operations.md` says. */
  const formula = (processors: number, shards: number) => 2 + processors * shards

  for (const shards of [1, 3]) {
    it.live(`are as many as documented, and gone with their scopes: ${shards} shards`, () =>
      Effect.gen(function* () {
        const server = yield* makeServer()
        const count = Effect.map(
          server.call("CLIENT", "LIST"),
          // One of them is that which asks.
          (list) => String(list).trim().split("\n").length - 1
        )
        // A real wait: connections come and go by themselves. And they stay as many.
        const becomes = (expected: number) =>
          Effect.gen(function* () {
            yield* eventually(
              `${expected} connections`,
              Effect.map(count, (found) => found === expected)
            )
            yield* Effect.sleep(150)
            assert.strictEqual(yield* count, expected)
          })
        const before = yield* count
        yield* Effect.gen(function* () {
          yield* Topic.publish(first, 1)
          // Who only publishes has one.
          yield* becomes(before + 1)
          const seen: Array<number> = []
          const worker = yield* start(everything(seen) as never, { settle: 0 })
          yield* until(
            { name: "Redis", virtual: false, elapse: Effect.sleep },
            "it went through",
            () => seen.length === 1
          )
          // Two processors and an agent.
          yield* becomes(before + formula(3, shards))
          const tailing = yield* Effect.forkChild(Stream.runDrain(Topic.stream(second)))
          yield* becomes(before + formula(3, shards) + shards)
          yield* Fiber.interrupt(tailing)
          yield* worker.close
          yield* becomes(before + formula(0, shards))
        }).pipe(Effect.scoped, Effect.provide(Engine.layerRedis({ url: server.url, namespace: "count", shards })))
        yield* becomes(before)
      }).pipe(Effect.scoped)
    )
  }
})

describe("what stands beside a worker", () => {
  const noted = (log: Array<string>, name: string) =>
    Layer.effectDiscard(
      Effect.acquireRelease(
        Effect.sync(() => void log.push(`${name} begins`)),
        () => Effect.sync(() => void log.push(`${name} ends`))
      )
    )

  behaviour("background work of an app's layer begins before the parts, and is closed after them", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const gate = yield* Latch.make(false)
      const handling = yield* Deferred.make<void>()
      const background = Layer.merge(
        noted(log, "layer"),
        Layer.effectDiscard(
          Effect.forkScoped(Effect.onInterrupt(Effect.never, () => Effect.sync(() => void log.push("background ends"))))
        )
      )
      const part = Processor.make("p", { topic: first }, () =>
        Effect.gen(function* () {
          log.push("handler begins")
          yield* Deferred.succeed(handling, undefined)
          yield* gate.await
          log.push("handler ends")
        })
      )
      const app = App.make({ name: "app", parts: [part], layer: background })
      yield* Topic.publish(first, 1)
      const running = yield* Effect.forkChild(App.run(app))
      yield* Deferred.await(handling)
      const stopping = yield* Effect.forkChild(Fiber.interrupt(running))
      yield* Effect.yieldNow
      assert.deepStrictEqual(log, ["layer begins", "handler begins"])
      yield* gate.open
      yield* Fiber.join(stopping)
      assert.deepStrictEqual(log.slice(0, 3), ["layer begins", "handler begins", "handler ends"])
      assert.deepStrictEqual(log.slice(3).toSorted(), ["background ends", "layer ends"])
      assert.strictEqual(
        (yield* Processor.lag("p")).reduce((sum, { events }) => sum + events, 0),
        0
      )
    })
  )

  it.live("a web server and a worker end together, what is in hand is committed, and their engine ends last", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const gate = yield* Latch.make(false)
      const handling = yield* Deferred.make<void>()
      const part = Processor.make("p", { topic: first }, (n) =>
        Effect.gen(function* () {
          yield* Deferred.succeed(handling, undefined)
          yield* gate.await
          log.push(`handled ${n}`)
        })
      )
      const port = yield* Deferred.make<number>()
      const web = Layer.effectDiscard(
        Effect.acquireRelease(
          Effect.callback<ReturnType<typeof createServer>>((resume) => {
            const server = createServer((_, response) => void response.end("here"))
            server.listen(0, "127.0.0.1", () => {
              const address = server.address()
              Deferred.doneUnsafe(port, Effect.succeed(typeof address === "object" && address ? address.port : 0))
              resume(Effect.succeed(server))
            })
          }),
          (server) => Effect.promise(() => new Promise<void>((resolve) => void server.close(() => resolve())))
        )
      )
      const engine = Layer.provideMerge(noted(log, "engine"), Layer.fresh(Engine.layerMemory))
      const first1 = Layer.effectDiscard(Topic.publish(first, 1))
      const app = Layer.mergeAll(web, Worker.layer([part]), first1).pipe(Layer.provide(engine))
      const running = yield* Effect.forkChild(Worker.launch(app))
      yield* Deferred.await(handling)
      const url = `http://127.0.0.1:${yield* Deferred.await(port)}`
      const asked = Effect.promise(() =>
        fetch(url, { headers: { connection: "close" } }).then((answer) => answer.text())
      )
      assert.strictEqual(yield* asked, "here")
      const stopping = yield* Effect.forkChild(Fiber.interrupt(running))
      yield* Effect.yieldNow
      assert.deepStrictEqual(log, ["engine begins"])
      yield* gate.open
      yield* Fiber.join(stopping)
      assert.deepStrictEqual(log, ["engine begins", "handled 1", "engine ends"])
      assert.isTrue(
        yield* Effect.promise(() =>
          fetch(url).then(
            () => false,
            () => true
          )
        )
      )
    })
  )
})
