/** Failed events that wait aside: their key keeps its order, the other keys go on, and everything counts once. */
import { assert, describe } from "@effect/vitest"
import { Effect, Schedule, Schema } from "effect"
import type { Commit } from "../src/Broker.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { losingReply, through } from "./support/brokers.ts"
import {
  behaviour,
  counts,
  drain,
  intrude,
  numbers,
  type Running,
  start,
  type TestEngine,
  until
} from "./support/engines.ts"
import { assertRising, type Reading, reading, readings, Seen } from "./support/readings.ts"

class Bad extends Schema.TaggedError<Bad>()("Bad", { n: Schema.Int }) {}

/** What was handled of each key, in its order: each event once, or it shows. */
const lists = Table.make("lists", { key: Schema.String, value: Schema.Array(Schema.Int), initial: () => [] })

const add = ({ key, n }: Reading) => Table.update(lists, key, (list) => [...list, n])

/** The lists of so many keys, each with the numbers up to `length` that it should hold. */
const assertLists = (keys: number, length: number) =>
  Effect.forEach(numbers(keys), (key) =>
    Effect.map(Table.lookup(lists, `k${key}`), (list) =>
      assert.deepStrictEqual(
        list,
        numbers(length).filter((n) => n % keys === key),
        `k${key}`
      )
    )
  )

const shapes = ["make", "perKey", "batch", "split", "around"] as const

const partOf = (
  shape: (typeof shapes)[number],
  topic: ReturnType<typeof readings>,
  handle: (value: Reading) => Effect.Effect<void, Bad>,
  policy = Policy.park({ schedule: Schedule.spaced("300 millis") })
) => {
  const one = (value: Reading) => Effect.andThen(add(value), handle(value))
  const options = { topic, tables: [lists] } as const
  const batch = (values: ReadonlyArray<Reading>) => Effect.forEach(values, one, { discard: true })
  const within = { size: 3, within: "20 millis" } as const
  switch (shape) {
    case "make":
      return Processor.make("p", options, one).pipe(Processor.catchTag("Bad", policy))
    case "perKey":
      return Processor.make("p", { ...options, concurrency: { perKey: 3 } }, one).pipe(
        Processor.catchTag("Bad", policy)
      )
    case "batch":
      return Processor.batch("p", { ...options, ...within }, batch).pipe(Processor.catchTag("Bad", policy))
    case "split":
      return Processor.batch("p", { ...options, ...within, onFailure: "split" }, batch).pipe(
        Processor.catchTag("Bad", policy)
      )
    case "around":
      return Processor.make("p", options, one).pipe(
        Processor.catchTag("Bad", policy),
        Processor.around((handle) => handle)
      )
  }
}

const untilParked = (
  engine: Parameters<typeof until>[0],
  holds: (parked: ReadonlyArray<Processor.Parked>) => boolean
) => until(engine, "it is parked so", () => Effect.map(Processor.parked("p"), holds))

/** The same on a clock that moves. */
const idle = (engine: TestEngine, worker: Running) =>
  Effect.flatMap(Effect.forkChild(worker.idle), (fiber) =>
    until(engine, "nothing is left to do", () => fiber.pollUnsafe() !== undefined)
  )

const nothingWaits = (engine: TestEngine) =>
  until(engine, "nothing waits", () => Effect.map(Processor.parked("p"), (parked) => parked.length === 0))

describe("park", () => {
  for (const shape of shapes) {
    behaviour(`the key waits in order, the others go on, all counts once: ${shape}`, (engine) =>
      Effect.gen(function* () {
        const topic = readings(2, Retention.forever)
        yield* Topic.publishAll(
          topic,
          numbers(40).map((n) => reading(n, 4))
        )
        const seen = new Seen()
        let failures = 2
        const part = partOf(shape, topic, ({ key, n }) => {
          if (n === 9 && failures-- > 0) return Effect.fail(new Bad({ n }))
          seen.add(key, n)
          return Effect.void
        })
        const worker = yield* start([part], { settle: 0 })
        yield* untilParked(engine, (parked) => parked.some(({ key }) => key === "k1"))
        yield* idle(engine, worker)
        const waiting = yield* Processor.parked("p")
        const one = waiting.find(({ key }) => key === "k1")!
        assert.deepInclude(one, { processor: "p", key: "k1" })
        assert.include(one.error, "Bad")
        assert.isTrue(one.attempts >= 1)
        if (shape !== "batch") {
          assert.strictEqual(waiting.length, 1)
          assert.strictEqual(one.count, 8)
          // All others, and what came before it.
          assert.deepStrictEqual(
            Array.from(new Set(seen.all)),
            numbers(40).filter((n) => n % 4 !== 1 || n < 9)
          )
        }
        yield* nothingWaits(engine)
        yield* idle(engine, worker)
        const summary = yield* worker.stop
        yield* assertLists(4, 40)
        const { failed, parked, processed, retried } = summary.parts.p!
        assert.strictEqual(processed, 40)
        assert.strictEqual(failed, 2)
        if (shape !== "batch") assert.strictEqual(parked, 8)
        assert.isTrue(retried >= 2)
      })
    )

    behaviour(`what waits survives its worker, and the next one goes on: ${shape}`, (engine) =>
      Effect.gen(function* () {
        const topic = readings(2, Retention.forever)
        yield* Topic.publishAll(
          topic,
          numbers(20).map((n) => reading(n, 4))
        )
        const seen = new Seen()
        let fails = true
        const part = () =>
          partOf(
            shape,
            topic,
            ({ key, n }) => {
              if (n === 5 && fails) return Effect.fail(new Bad({ n }))
              seen.add(key, n)
              return Effect.void
            },
            Policy.park({ schedule: Schedule.spaced("500 millis") })
          )
        yield* Effect.scoped(
          Effect.gen(function* () {
            const worker = yield* start([part()], { settle: 0 })
            yield* untilParked(engine, (parked) => parked.some(({ key }) => key === "k1"))
            yield* idle(engine, worker)
          })
        )
        const before = yield* Processor.parked("p")
        assert.isTrue(before.length > 0)
        yield* Topic.publishAll(
          topic,
          numbers(20, 20).map((n) => reading(n, 4))
        )
        fails = false
        const worker = yield* start([part()], { settle: 0 })
        yield* nothingWaits(engine)
        yield* worker.stop
        yield* assertLists(4, 40)
      })
    )
  }

  behaviour("a commit whose answer is lost parks once, and a retry counts once", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      yield* Topic.publishAll(
        topic,
        numbers(6).map((n) => reading(n, 2))
      )
      for (const when of [
        (commit: Commit) => commit.parking !== undefined && commit.parking.park.length > 0,
        (commit: Commit) => commit.parking !== undefined && commit.parking.remove.length > 0
      ]) {
        const { change, state } = losingReply(when)
        yield* Effect.gen(function* () {
          const seen: Array<number> = []
          let failures = 1
          const worker = yield* start([
            partOf("make", topic, ({ n }) => {
              if (n % 6 === 1 && failures-- > 0) return Effect.fail(new Bad({ n }))
              seen.push(n)
              return Effect.void
            })
          ])
          yield* until(engine, "all is done", () => seen.length >= 6)
          yield* nothingWaits(engine)
          yield* idle(engine, worker)
          yield* worker.stop
          assert.deepStrictEqual(
            seen.map((n) => n % 6),
            [0, 2, 4, 1, 3, 5]
          )
        }).pipe(through(change))
        assert.strictEqual(state.lost, 1)
        yield* Topic.publishAll(
          topic,
          numbers(6, 6).map((n) => reading(n, 2))
        )
      }
      yield* assertLists(2, 12)
    })
  )

  behaviour("the other keys see the tables as they are, and a retry sees what they wrote", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      const order = Table.make("order", {
        key: Schema.String,
        value: Schema.Array(Schema.Int),
        initial: () => [],
        scope: "partition"
      })
      yield* Topic.publishAll(
        topic,
        numbers(6).map((n) => reading(n, 2))
      )
      let failures = 1
      const part = Processor.make("p", { topic, tables: [order] }, ({ n }) =>
        Effect.andThen(
          Table.update(order, "all", (all) => [...all, n]),
          Effect.suspend(() => (n === 1 && failures-- > 0 ? Effect.fail(new Bad({ n })) : Effect.void))
        )
      ).pipe(Processor.catchTag("Bad", Policy.park({ schedule: Schedule.spaced("200 millis") })))
      const worker = yield* start([part])
      yield* until(engine, "it is all noted", () =>
        Effect.map(Table.lookup(order, "all", { partition: 0 } as never), (all) => all.length === 6)
      )
      yield* worker.stop
      assert.deepStrictEqual(yield* Table.lookup(order, "all", { partition: 0 } as never), [0, 2, 4, 1, 3, 5])
    })
  )

  behaviour(
    "an event without a key waits alone; one whose policy takes the next failure too keeps its attempts",
    (engine) =>
      Effect.gen(function* () {
        const topic = Topic.make("plain", { schema: Schema.Int, partitions: 1 })
        for (const n of numbers(5)) yield* Topic.publish(topic, n)
        const attempts: Array<number> = []
        const seen: Array<number> = []
        const part = Processor.make("p", { topic }, (n, event) => {
          if (n === 2) attempts.push(event.attempt)
          if (n === 2 && attempts.length < 4) return Effect.fail(new Bad({ n }))
          seen.push(n)
          return Effect.void
        }).pipe(Processor.catchTag("Bad", Policy.park({ schedule: Schedule.spaced("100 millis") })))
        const worker = yield* start([part])
        yield* until(engine, "the others are done", () => seen.length === 4)
        yield* untilParked(engine, (parked) => parked.length === 1)
        const [one] = yield* Processor.parked("p")
        assert.isUndefined(one!.key)
        assert.deepInclude(one!, { topic: "plain", count: 1 })
        yield* until(engine, "it is done", () => seen.length === 5)
        assert.deepStrictEqual(
          [seen, attempts],
          [
            [0, 1, 3, 4, 2],
            [1, 2, 3, 4]
          ]
        )
        const summary = yield* worker.stop
        assert.deepStrictEqual(summary.parts.p, counts({ processed: 5, failed: 3, parked: 1, retried: 3 }))
      })
  )

  behaviour("a poison key among 1,000 holds nobody up", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(3_000).map((n) => reading(n, 1_000))
      )
      const seen = new Seen()
      const part = partOf("make", topic, ({ key, n }) => {
        if (key === "k500") return Effect.fail(new Bad({ n }))
        seen.add(key, n)
        return Effect.void
      })
      const worker = yield* start([part])
      yield* until(engine, "the others are done", () => seen.all.length === 2_997)
      assertRising(seen.lists.values())
      yield* idle(engine, worker)
      const [one, ...others] = yield* Processor.parked("p")
      assert.deepStrictEqual([one!.key, one!.count, others.length], ["k500", 3, 0])
      yield* worker.stop
    })
  )

  behaviour("somebody else's epoch ends what is tried; it comes back once, to whoever has the partition", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      yield* Topic.publishAll(
        topic,
        numbers(4).map((n) => reading(n, 2))
      )
      let fails = true
      const seen: Array<number> = []
      const worker = yield* start(
        [
          partOf("make", topic, ({ n }) => {
            if (n === 1 && fails) return Effect.fail(new Bad({ n }))
            seen.push(n)
            return Effect.void
          })
        ],
        { settle: 0 }
      )
      yield* untilParked(engine, (parked) => parked.length === 1 && parked[0]!.count === 2)
      yield* intrude("p", topic)
      fails = false
      yield* until(engine, "it is done", () => Effect.map(Processor.parked("p"), ({ length }) => length === 0))
      yield* worker.stop
      yield* assertLists(2, 4)
    })
  )

  behaviour("two workers share what waits when a partition moves", (engine) =>
    Effect.gen(function* () {
      const topic = readings(4, Retention.forever)
      yield* Topic.publishAll(
        topic,
        numbers(80).map((n) => reading(n, 8))
      )
      let fails = true
      const seen = new Seen()
      const part = (shape: "make" | "perKey") =>
        partOf(shape, topic, ({ key, n }) => {
          if (n < 8 && fails) return Effect.fail(new Bad({ n }))
          seen.add(key, n)
          return Effect.void
        })
      const first = yield* start([part("make")], { settle: 0, lease: "1500 millis" })
      yield* untilParked(engine, (parked) => parked.length === 8)
      yield* idle(engine, first)
      assert.deepStrictEqual(seen.all, [])
      yield* start([part("make")], { settle: 0, lease: "1500 millis" })
      yield* Topic.publishAll(
        topic,
        numbers(80, 80).map((n) => reading(n, 8))
      )
      fails = false
      yield* until(engine, "all is done", () => seen.all.length >= 160)
      yield* nothingWaits(engine)
      yield* idle(engine, first)
      yield* assertLists(8, 160)
    })
  )

  behaviour("drained and started again and again, a failing head keeps its place in the schedule", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publish(topic, reading(0))
      const part = partOf(
        "make",
        topic,
        ({ n }) => Effect.fail(new Bad({ n })),
        Policy.park({ schedule: Schedule.exponential("1 hour") })
      )
      yield* drain([part])
      for (const attempts of [2, 3]) {
        const [before] = yield* Processor.parked("p")
        yield* Processor.release("p", 0, before!)
        const worker = yield* start([part])
        yield* until({ name: "memory", virtual: false, elapse: () => Effect.yieldNow }, "it failed again", () =>
          Effect.map(Processor.parked("p"), ([one]) => one!.attempts === attempts)
        )
        yield* worker.close
        const [after] = yield* Processor.parked("p")
        const waits = after!.due.epochMilliseconds - after!.since.epochMilliseconds
        // One hour, two, four: the delay of its round, whoever asked the schedule.
        const hours = Math.round(waits / 3_600_000)
        assert.strictEqual(hours, attempts === 2 ? 2 : 4)
      }
    })
  )
})
