/** Workers: how they end, what they hold to the end, and how they stand in a program. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Latch, Layer, Logger, References, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Coordinator } from "../src/Coordinator.ts"
import * as Engine from "../src/Engine.ts"
import * as Job from "../src/Job.ts"
import * as JobStore from "../src/JobStore.ts"
import * as Part from "../src/Part.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Settings from "../src/Settings.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import * as Faults from "../src/testing/Faults.ts"
import * as Worker from "../src/Worker.ts"
import { behaviour, drain, numbers, start, until } from "./support/engines.ts"
import { reading, readings, Seen } from "./support/readings.ts"

const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })
const behind = Effect.map(Processor.lag("p"), (lags) => lags.reduce((sum, lag) => sum + lag.events, 0))
const publish = (topic: ReturnType<typeof readings>, count: number, from = 0) =>
  Topic.publishAll(
    topic,
    numbers(count, from).map((n) => reading(n))
  )

/** Collects warnings with their annotations. */
const warnings = (messages: Array<string>) =>
  Logger.layer([
    Logger.make(({ fiber, logLevel, message }) => {
      if (logLevel !== "Warn") return
      const annotations = fiber.getRef(References.CurrentLogAnnotations)
      messages.push(`${Array.isArray(message) ? message.join(" ") : String(message)} ${JSON.stringify(annotations)}`)
    })
  ])

behaviour("a server that is away for a moment when a worker starts does not end it", (engine) =>
  Effect.gen(function* () {
    const topic = readings(2)
    const seen = new Seen()
    const part = Processor.make("p", { topic, tables: [totals] }, ({ n }) => Effect.sync(() => seen.add("p", n)))
    const asked: Array<string> = []
    const plan: Faults.Plan = (port, method, call) => {
      if (!["declare", "register"].includes(method)) return undefined
      asked.push(`${port}.${method} ${call}`)
      return call < 3 ? { _tag: call === 1 ? "Fail" : "LoseReply" } : undefined
    }
    const starting = yield* Effect.forkChild(start([part]).pipe(Effect.provide(Faults.layer(plan))))
    yield* engine.elapse(4_000)
    const worker = yield* Fiber.join(starting)
    yield* publish(topic, 10)
    yield* worker.idle
    assert.deepStrictEqual(seen.all, numbers(10))
    for (const call of ["Broker.declare", "Broker.register", "TableStore.declare"]) assert.include(asked, `${call} 3`)
  })
)

describe("the end", () => {
  behaviour("a worker that was stopped is no member any more, however long its layer lives on", (engine) =>
    Effect.gen(function* () {
      const worker = yield* start([Processor.make("p", { topic: readings(2) }, () => Effect.void)], {
        lease: "300 millis",
        settle: 0
      })
      yield* worker.stop
      const members = Coordinator.use((coordinator) => Effect.map(coordinator.group("p"), (group) => group.members))
      assert.deepStrictEqual(yield* members, [])
      // Past the time of several syncs.
      yield* engine.elapse(400)
      assert.deepStrictEqual(yield* members, [])
    })
  )

  behaviour("without parts it ends at once, with an empty summary", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* Worker.run([]), { parts: {}, rebalances: 0 })
    })
  )

  behaviour("limit is exact, over all partitions and parts, and the rest is left for later", () =>
    Effect.gen(function* () {
      const topic = readings(8)
      yield* publish(topic, 500)
      let count = 0
      const part = Processor.make("p", { topic }, () => Effect.sync(() => void count++))
      const summary = yield* Worker.run([part], { limit: 123 })
      assert.deepStrictEqual([count, summary.parts.p?.processed], [123, 123])
      assert.strictEqual(yield* behind, 377)
      yield* Worker.run([part], { limit: 377 })
      assert.deepStrictEqual([count, yield* behind], [500, 0])
    })
  )

  behaviour("a claim of jobs that brings none does not use up the limit", (engine) =>
    Effect.gen(function* () {
      const topic = readings(2)
      yield* publish(topic, 3)
      const parts = ["one", "two"].map((queue) =>
        Job.handler(Job.make(queue, { payload: Schema.Int, queue }), () => Effect.void)
      )
      const slow = Layer.effect(
        JobStore.JobStore,
        Effect.map(JobStore.JobStore, (store) => ({
          ...store,
          exchange: (...request) => Effect.delay(store.exchange(...request), "200 millis")
        }))
      )
      const all = [Processor.make("p", { topic }, () => Effect.void), ...parts]
      const running = yield* Effect.forkChild(Effect.provide(Worker.run(all, { limit: 2 }), slow))
      yield* until(engine, "the limit is reached", () => running.pollUnsafe() !== undefined)
      const summary = yield* Fiber.join(running)
      assert.deepStrictEqual([summary.parts.p?.processed, yield* behind], [2, 1])
    })
  )

  behaviour("interruption: the running handler finishes and is committed, nothing after it is started", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* publish(topic, 20)
      const [started, gate] = [yield* Deferred.make<void>(), yield* Latch.make(false)]
      const seen: Array<string> = []
      const part = Processor.make(
        "p",
        { topic, tables: [totals] },
        Effect.fnUntraced(function* ({ n }) {
          seen.push(`start ${n}`)
          yield* Table.update(totals, "all", (total) => total + 1)
          if (n === 5) yield* Effect.andThen(Deferred.succeed(started, undefined), gate.await)
          seen.push(`end ${n}`)
        })
      )
      const running = yield* Effect.forkChild(Worker.run([part]))
      yield* Deferred.await(started)
      const interrupting = yield* Effect.forkChild(Fiber.interrupt(running))
      yield* engine.elapse(100)
      assert.isUndefined(running.pollUnsafe())
      yield* gate.open
      yield* Fiber.await(interrupting)
      const exit = yield* Fiber.await(running)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
      assert.deepStrictEqual(seen.slice(-2), ["start 5", "end 5"])
      assert.strictEqual(yield* behind, 14)
      assert.strictEqual(yield* Table.lookup(totals, "all"), 6)
    })
  )

  behaviour("a handler that outlasts the grace is interrupted, its finalizers run, its event comes again", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* publish(topic, 3)
      const started = yield* Deferred.make<void>()
      let finalized = 0
      let stuck = true
      const part = Processor.make(
        "p",
        { topic },
        Effect.fnUntraced(function* ({ n }) {
          yield* Effect.addFinalizer(() => Effect.sync(() => void finalized++))
          if (n !== 1 || !stuck) return
          yield* Deferred.succeed(started, undefined)
          yield* Effect.never
        })
      )
      const worker = yield* start([part], { grace: "100 millis" })
      yield* Deferred.await(started)
      const closing = yield* Effect.forkChild(worker.close)
      yield* until(engine, "the worker is gone", () => closing.pollUnsafe() !== undefined)
      assert.strictEqual(finalized, 2)
      assert.strictEqual(yield* behind, 2)
      stuck = false
      yield* drain([part])
      assert.strictEqual(finalized, 4)
    })
  )

  behaviour("a handler that cannot be interrupted does not hold the release, and is reported", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* publish(topic, 3)
      const [started, gate] = [yield* Deferred.make<void>(), yield* Latch.make(false)]
      const seen: Array<number> = []
      let stuck = true
      const part = Processor.make(
        "p",
        { topic, tables: [totals] },
        Effect.fnUntraced(function* ({ n }) {
          seen.push(n)
          yield* Table.update(totals, "all", (total) => total + 1)
          if (n === 0 && stuck) {
            stuck = false
            yield* Effect.uninterruptible(Effect.andThen(Deferred.succeed(started, undefined), gate.await))
          }
        })
      )
      const messages: Array<string> = []
      const worker = yield* start([part], { grace: 0 }).pipe(Effect.provide(warnings(messages)))
      yield* Deferred.await(started)
      const stopping = yield* Effect.forkChild(worker.stop)
      yield* until(engine, "it has left", () => stopping.pollUnsafe() !== undefined)
      assert.include(messages.join(), "a handler cannot be interrupted")
      const next = yield* start([part])
      yield* next.idle
      yield* gate.open
      yield* engine.elapse(50)
      yield* next.idle
      assert.deepStrictEqual(seen, [0, 0, 1, 2])
      assert.strictEqual(yield* Table.lookup(totals, "all"), 3)
    })
  )

  behaviour("a halt in a layer lets the other parts finish, and gives everything back at once", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      yield* publish(topic, 5)
      const seen: Array<number> = []
      const bad = Processor.make("bad", { topic }, () => Effect.fail("no" as const))
      const fine = Processor.make("fine", { topic }, ({ n }) => Effect.sync(() => void seen.push(n)))
      const first = yield* start([bad, fine])
      yield* Effect.flip(first.join)
      const count = seen.length
      yield* publish(topic, 5, 5)
      yield* engine.elapse(100)
      assert.strictEqual(seen.length, count)
      // Its scope is still open; nothing is held by it.
      const second = yield* start([fine])
      yield* second.idle
      assert.deepStrictEqual(seen, numbers(10))
    })
  )

  behaviour("join, stop, launch: who waits for the worker learns its end", () =>
    Effect.gen(function* () {
      const topic = readings(2)
      yield* publish(topic, 10)
      const part = Processor.make("p", { topic }, ({ n }) => (n === 7 ? Effect.fail("no" as const) : Effect.void))
      const failure = yield* Effect.flip(Worker.launch(Worker.layer([part])))
      assert.propertyVal(failure, "_tag", "ProcessorHalted")
      const fine = Processor.make("q", { topic }, () => Effect.void)
      const summary = yield* Worker.launch(Worker.layer([fine], { limit: 2 }))
      assert.strictEqual(summary.parts.q?.processed, 2)
      const worker = yield* start([fine])
      const joined = yield* Effect.forkChild(worker.join)
      yield* worker.idle
      assert.deepStrictEqual(yield* worker.stop, yield* Fiber.join(joined))
    })
  )
})

describe("embedding", () => {
  class Counter extends Context.Service<Counter, { readonly next: Effect.Effect<number> }>()("test/Counter") {}

  behaviour("a part's own layer is built once per worker and closed with it; a test layer takes its place", () =>
    Effect.gen(function* () {
      const topic = readings(4, Retention.forever)
      yield* publish(topic, 20)
      let [built, closed, n] = [0, 0, 0]
      const layer = Layer.effect(
        Counter,
        Effect.acquireRelease(
          Effect.sync(() => {
            built++
            return { next: Effect.sync(() => ++n) }
          }),
          () => Effect.sync(() => void closed++)
        )
      )
      const part = Processor.make("p", { topic }, () => Effect.flatMap(Counter, (counter) => counter.next))
      yield* drain([Part.provide(part, layer)])
      assert.deepStrictEqual([built, closed, n], [1, 1, 20])
      let fake = 0
      const other = Processor.make("q", { topic }, () => Effect.flatMap(Counter, (counter) => counter.next))
      yield* drain([other.pipe(Part.provide(Layer.succeed(Counter, { next: Effect.sync(() => ++fake) })))])
      assert.deepStrictEqual([fake, n], [20, 20])
    })
  )

  it.effect("two workers of two engines in one program: copy from one to the other", () =>
    Effect.gen(function* () {
      const topic = readings(2)
      const [from, to] = [
        yield* Layer.build(Layer.fresh(Engine.layerMemory)),
        yield* Layer.build(Layer.fresh(Engine.layerMemory))
      ]
      yield* Effect.provideContext(publish(topic, 30), from)
      const copy = Processor.make("copy", { topic }, (value) => Effect.provideContext(Topic.publish(topic, value), to))
      yield* Effect.provideContext(drain([copy]), from)
      const seen = new Seen()
      const read = Processor.make("read", { topic }, ({ key, n }) => Effect.sync(() => seen.add(key, n)))
      yield* Effect.provideContext(drain([read]), to)
      assert.deepStrictEqual(seen.all, numbers(30))
    }).pipe(Effect.scoped)
  )

  it.effect("settings of the program are those of the worker, and its options win", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* publish(topic, 1)
      const part = Processor.make("p", { topic }, () => Effect.never)
      const worker = yield* start([part], { grace: "5 seconds" })
      yield* TestClock.adjust(100)
      const closing = yield* Effect.forkChild(worker.close)
      yield* TestClock.adjust("4 seconds")
      assert.isUndefined(closing.pollUnsafe())
      yield* TestClock.adjust("2 seconds")
      assert.isDefined(closing.pollUnsafe())
    }).pipe(Effect.provide(Settings.layer({ grace: "1 hour" })), Effect.provide(Layer.fresh(Engine.layerMemory)))
  )
})
