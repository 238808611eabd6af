/** Faults do to a call what they say, on every engine; and programs ride them out. */
import { assert, describe } from "@effect/vitest"
import { Clock, Effect, Fiber, Latch, Schema, Stream } from "effect"
import { Broker } from "../src/Broker.ts"
import { Coordinator } from "../src/Coordinator.ts"
import type * as Engine from "../src/Engine.ts"
import { EngineError } from "../src/Errors.ts"
import * as Processor from "../src/Processor.ts"
import * as Table from "../src/Table.ts"
import { TableStore } from "../src/TableStore.ts"
import * as Topic from "../src/Topic.ts"
import { Faults } from "../src/testing/index.ts"
import { behaviour, numbers, start, type TestEngine, until } from "./support/engines.ts"
import { collect, reading, readings } from "./support/readings.ts"

const totals = Table.make("totals", { key: Schema.String, value: Schema.Int, initial: () => 0 })

/** A plan for one method: the fault of its n-th call. */
const on =
  (wanted: string, faults: Readonly<Record<number, Faults.Fault>>): Faults.Plan =>
  (_, method, call) =>
    method === wanted ? faults[call] : undefined

/** With faults between the program and its engine; the engine itself is reached beside them. */
const faulty = <A, E, R>(plan: Faults.Plan, program: Effect.Effect<A, E, R>) =>
  Effect.provide(program, Faults.layer(plan), { local: true })

const appendOf = (topic: Topic.Any, number: number) => ({
  topic,
  partition: 0,
  publisher: "p",
  number,
  entries: [{ count: 1, fields: ["v", JSON.stringify({ key: "k", n: number })] }]
})

const length = (topic: Topic.Any) =>
  Effect.map(
    Broker.use((broker) => broker.inspect(topic, [0])),
    ([info]) => info!.length
  )

const appending = (topic: Topic.Any, number: number) =>
  Broker.use((broker) => broker.append([appendOf(topic, number)], "memory"))

const reasonOf = (error: unknown): string => {
  assert.instanceOf(error, EngineError)
  return (error as EngineError).reason
}

describe("a fault", () => {
  const topic = readings(1)

  behaviour("that fails is not applied", () =>
    faulty(
      on("append", { 1: { _tag: "Fail" }, 2: { _tag: "Full" } }),
      Effect.gen(function* () {
        assert.strictEqual(reasonOf(yield* Effect.flip(appending(topic, 1))), "Unreachable")
        assert.strictEqual(reasonOf(yield* Effect.flip(appending(topic, 1))), "Full")
        assert.strictEqual(yield* length(topic), 0)
        yield* appending(topic, 1)
        assert.strictEqual(yield* length(topic), 1)
      })
    )
  )

  behaviour("that loses the reply is applied, and a repeat is known to the engine", () =>
    faulty(
      on("append", { 1: { _tag: "LoseReply" } }),
      Effect.gen(function* () {
        assert.strictEqual(reasonOf(yield* Effect.flip(appending(topic, 1))), "Unreachable")
        assert.strictEqual(yield* length(topic), 1)
        assert.deepInclude((yield* appending(topic, 1))[0], { _tag: "Stored", repeated: true })
        assert.strictEqual(yield* length(topic), 1)
      })
    )
  )

  behaviour("that sends twice gives the answer to the first or to the second", () =>
    faulty(
      on("append", { 1: { _tag: "SendTwice" }, 2: { _tag: "SendTwice", answer: "second" } }),
      Effect.gen(function* () {
        assert.deepInclude((yield* appending(topic, 1))[0], { repeated: false })
        assert.deepInclude((yield* appending(topic, 2))[0], { repeated: true })
        assert.strictEqual(yield* length(topic), 2)
      })
    )
  )

  behaviour(
    "that delays applies late, one that delays the reply answers late, and a late duplicate comes again",
    (engine) =>
      Effect.gen(function* () {
        const calls: Array<number> = []
        const since = yield* Clock.currentTimeMillis
        const plain = yield* Broker
        // Under the faults: when the engine was really asked.
        const asked = Broker.of({
          ...plain,
          append: (appends, durability) =>
            Effect.andThen(
              Clock.clockWith((clock) => Effect.sync(() => calls.push(clock.currentTimeMillisUnsafe() - since))),
              plain.append(appends, durability)
            )
        })
        const by = 100
        yield* faulty(
          on("append", { 1: { _tag: "Delay", by }, 2: { _tag: "DelayReply", by }, 3: { _tag: "Late", by } }),
          Effect.gen(function* () {
            for (const number of [1, 2]) {
              const fiber = yield* Effect.forkChild(appending(topic, number), { startImmediately: true })
              yield* engine.elapse(40)
              assert.isUndefined(fiber.pollUnsafe(), `call ${number} is not answered yet`)
              assert.lengthOf(calls, number - 1 + (number === 2 ? 1 : 0))
              yield* engine.elapse(90)
              yield* Fiber.join(fiber)
            }
            yield* appending(topic, 3)
            assert.lengthOf(calls, 3)
            yield* until(engine, "the duplicate came", () => calls.length === 4)
            assert.isAtLeast(calls[3]! - calls[2]!, 95)
          })
        ).pipe(Effect.provideService(Broker, asked))
        assert.strictEqual(yield* length(topic), 3)
      })
  )

  behaviour("is asked for by port, method and number of the call, for readers and wakes too", () =>
    Effect.gen(function* () {
      const asked: Array<string> = []
      const plan: Faults.Plan = (port, method, call) => void asked.push(`${port}.${method} ${call}`)
      yield* faulty(
        plan,
        Effect.gen(function* () {
          const broker = yield* Broker
          const reader = yield* broker.reader(0)
          const from = [{ topic, partition: 0, after: "0-0", entriesRead: 0 }]
          yield* reader.read(from, { count: 1, block: 0 })
          yield* reader.read(from, { count: 1, block: 0 })
          yield* reader.wake
          yield* broker.hasRoom(topic, 0)
          const coordinator = yield* Coordinator
          yield* Effect.forkChild(Stream.runDrain(coordinator.wakes("m")), { startImmediately: true })
          yield* coordinator.leave("m", "i")
          yield* (yield* TableStore).layout("none")
        }).pipe(Effect.scoped)
      )
      assert.deepStrictEqual(asked, [
        "Broker.reader 1",
        "Broker.read 1",
        "Broker.read 2",
        "Broker.wake 1",
        "Broker.hasRoom 1",
        "Coordinator.wakes 1",
        "Coordinator.leave 1",
        "TableStore.layout 1"
      ])
    })
  )

  behaviour("of a reader or of wakes is the failure of a lost connection; a hint is only lost", () =>
    faulty(
      (_, method, call) =>
        /^(read|wakes|reader|awaitRoom|wake)$/.test(method) && call === 1 ? { _tag: "Fail" } : undefined,
      Effect.gen(function* () {
        const broker = yield* Broker
        assert.strictEqual(reasonOf(yield* Effect.flip(broker.reader(0))), "Unreachable")
        const reader = yield* broker.reader(0)
        const read = reader.read([{ topic, partition: 0, after: "0-0", entriesRead: 0 }], { count: 1, block: 0 })
        assert.strictEqual(reasonOf(yield* Effect.flip(read)), "Unreachable")
        assert.deepStrictEqual(yield* read, [])
        yield* reader.wake
        yield* broker.awaitRoom(topic, 0)
        const wakes = Stream.runDrain((yield* Coordinator).wakes("m"))
        assert.strictEqual(reasonOf(yield* Effect.flip(wakes)), "Unreachable")
      }).pipe(Effect.scoped)
    )
  )
})

describe("a program with faults", () => {
  /** Publish, handle and count, whatever happens to these calls. */
  const counted = (engine: TestEngine, plan: Faults.Plan) =>
    Effect.gen(function* () {
      const topic = readings(2)
      const copies = Topic.variant(topic, "copies")
      const part = Processor.make("p", { topic, tables: [totals] }, (value) =>
        Effect.andThen(
          Table.update(totals, value.key, (total) => total + 1),
          Topic.emit(copies, value)
        )
      )
      yield* faulty(
        plan,
        Effect.gen(function* () {
          const starting = yield* Effect.forkChild(start([part], { settle: 0 }))
          yield* until(engine, "it has started", () => starting.pollUnsafe() !== undefined)
          const worker = yield* Fiber.join(starting)
          const publishing = yield* Effect.forkChild(
            Effect.forEach(numbers(20), (n) => Topic.publish(topic, reading(n)), { discard: true })
          )
          yield* until(engine, "all is published", () => publishing.pollUnsafe() !== undefined)
          yield* Fiber.join(publishing)
          const behind = Effect.map(Processor.lag("p"), (lags) => lags.reduce((sum, { events }) => sum + events, 0))
          yield* until(engine, "all is committed", () => Effect.map(behind, (events) => events === 0))
          // The last answer may still be lost: stopping asks for it again.
          const stopping = yield* Effect.forkChild(worker.stop)
          yield* until(engine, "it has stopped", () => stopping.pollUnsafe() !== undefined)
          yield* Fiber.join(stopping)
        }) as Effect.Effect<void, unknown, Engine.Services>
      ).pipe(Effect.scoped)
      const rows = new Map(yield* Stream.runCollect(Table.entries(totals)))
      assert.deepStrictEqual(
        [...rows.values()],
        Array.from(rows, () => 2)
      )
      assert.strictEqual(rows.size, 10)
      assert.deepStrictEqual(
        (yield* collect(copies)).toSorted((a, b) => a - b),
        numbers(20)
      )
    })

  const faults: ReadonlyArray<Faults.Fault> = [
    { _tag: "Fail" },
    { _tag: "Full" },
    { _tag: "LoseReply" },
    { _tag: "SendTwice" },
    { _tag: "SendTwice", answer: "second" },
    { _tag: "Late", by: 30 },
    { _tag: "DelayReply", by: 30 }
  ]
  for (const fault of faults) {
    const name = "answer" in fault ? `${fault._tag}, ${fault.answer} answer` : fault._tag
    behaviour(`stores and counts everything once: ${name} at every third append, claim, commit and sync`, (engine) =>
      counted(engine, (_, method, call) =>
        /^(append|claim|commit|sync)$/.test(method) && call % 3 === 1 ? fault : undefined
      )
    )
  }

  behaviour(
    "takes no answer that comes late for a server that went back: commits meanwhile are its own",
    (engine) =>
      Effect.gen(function* () {
        const topic = readings(1)
        const gate = Latch.makeUnsafe(false)
        const begun = Latch.makeUnsafe(false)
        const part = Processor.make("p", { topic }, () => Effect.andThen(begun.open, gate.await))
        let reading1 = false
        // The reader loses its connection while an event is in hand; the claim that follows is answered late.
        const plan: Faults.Plan = (_, method, call) => {
          if (method === "read" && begun.isOpen() && !reading1) {
            reading1 = true
            return { _tag: "Fail" }
          }
          return method === "claim" && call === 2 ? { _tag: "DelayReply", by: 300 } : undefined
        }
        yield* faulty(
          plan,
          Effect.gen(function* () {
            const worker = yield* start([part], { settle: 0 })
            yield* Topic.publish(topic, reading(0))
            yield* begun.await
            yield* Topic.publish(topic, reading(1))
            yield* until(engine, "the reader has failed", () => reading1)
            yield* engine.elapse(100)
            yield* gate.open
            const idle = yield* Effect.forkChild(worker.idle)
            yield* until(engine, "idle", () => idle.pollUnsafe() !== undefined)
            yield* Fiber.join(idle)
          }) as Effect.Effect<void, unknown, Engine.Services>
        )
      }).pipe(Effect.scoped),
    { on: ["memory", "Redis"] }
  )
})
