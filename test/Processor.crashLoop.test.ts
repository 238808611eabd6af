/** Partitions whose owners die: what comes next goes alone, and after three deaths nothing does. */
import { assert, describe } from "@effect/vitest"
import { Effect, Latch, Schedule, Schema } from "effect"
import { Broker, type Commit } from "../src/Broker.ts"
import { Coordinator } from "../src/Coordinator.ts"
import * as Event from "../src/Event.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Topic from "../src/Topic.ts"
import { recording, through } from "./support/brokers.ts"
import { behaviour, numbers, type Running, start, type TestEngine, until } from "./support/engines.ts"
import { reading, readings } from "./support/readings.ts"

class Bad extends Schema.TaggedError<Bad>()("Bad", { n: Schema.Int }) {}

const quick = { settle: 0 } as const

/** A worker that claims the partition, hands the first event out unless it is told not to, and is never heard of again. */
const death = (topics: ReadonlyArray<Topic.Any>, partition: number, epoch: bigint, marks = true) =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const fence = { epoch, incarnation: crypto.randomUUID() }
    const claim = yield* broker.claim("p", partition, topics, fence)
    assert.strictEqual(claim._tag, "Claimed")
    if (marks) yield* broker.mark("p", partition, fence)
  })

/** So many of them, one after the other, before any other worker comes. */
const deaths = (count: number, topics: ReadonlyArray<Topic.Any>, partition = 0) =>
  Effect.gen(function* () {
    yield* Broker.use((broker) => Effect.andThen(broker.declare(topics), broker.register("p", topics, "earliest")))
    for (const i of numbers(count)) yield* death(topics, partition, BigInt(i + 1))
  })

const publish = (topic: ReturnType<typeof readings>, values: ReadonlyArray<number>) =>
  Effect.map(
    Topic.publishAll(
      topic,
      values.map((n) => reading(n))
    ),
    (positions) => positions.map(({ offset }) => offset)
  )

const idle = (engine: TestEngine, worker: Running) =>
  Effect.flatMap(Effect.forkChild(worker.idle), (fiber) =>
    until(engine, "nothing is left to do", () => fiber.pollUnsafe() !== undefined)
  )

const aside = Effect.map(Processor.quarantined("p"), (all) => all.map(({ partition }) => partition))

describe("after three deaths", () => {
  behaviour("the partition is put aside with its offset, and no other; released, it gets its chances anew", (engine) =>
    Effect.gen(function* () {
      const topic = readings(2, Retention.forever)
      const offsets: Array<string> = []
      for (const n of numbers(6)) {
        offsets.push((yield* Topic.publish(topic, reading(n), { partition: n % 2 })).offset)
      }
      const seen: Array<number> = []
      const part = Processor.make("p", { topic }, ({ n }) => Effect.sync(() => void seen.push(n)))
      yield* deaths(3, [topic], 1)
      const worker = yield* start([part], quick)
      yield* until(engine, "it is aside", () => Effect.map(aside, (all) => all.length > 0))
      yield* idle(engine, worker)
      const [entry, ...others] = yield* Processor.quarantined("p")
      assert.deepStrictEqual(others, [])
      assert.deepInclude(entry!, { partition: 1, reason: "crash loop", offset: offsets[1]! })
      assert.include(entry!.error, "3 workers in a row")
      assert.deepStrictEqual(entry!.positions, [{ topic: "readings", first: offsets[1]!, last: offsets[1]! }])
      assert.deepStrictEqual(seen, [0, 2, 4])
      yield* Processor.release("p", 1)
      yield* until(engine, "all is done", () => seen.length === 6)
      assert.deepStrictEqual(seen, [0, 2, 4, 1, 3, 5])
      assert.strictEqual((yield* worker.stop).parts.p!.quarantined, 1)
    })
  )

  behaviour("it can be skipped", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      yield* publish(topic, numbers(3))
      yield* deaths(3, [topic])
      const seen: Array<number> = []
      yield* start([Processor.make("p", { topic }, ({ n }) => Effect.sync(() => void seen.push(n)))], quick)
      yield* until(engine, "it is aside", () => Effect.map(aside, (all) => all.length > 0))
      yield* Processor.skip("p", 0)
      yield* until(engine, "the rest is done", () => seen.length === 2)
      assert.deepStrictEqual(seen, [1, 2])
    })
  )

  behaviour("two of them, and owners without an event in hand, are no crash loop", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      yield* publish(topic, numbers(3))
      yield* deaths(2, [topic])
      for (const i of numbers(5)) yield* death([topic], 0, BigInt(i + 3), false)
      const seen: Array<number> = []
      const worker = yield* start(
        [Processor.make("p", { topic }, ({ n }) => Effect.sync(() => void seen.push(n)))],
        quick
      )
      yield* until(engine, "all is done", () => seen.length === 3)
      yield* idle(engine, worker)
      assert.deepStrictEqual(yield* aside, [])
    })
  )

  behaviour("a parked event that ends its worker is found too, and can be skipped", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      const offsets = yield* publish(topic, [0, 10, 20, 1])
      let fails = true
      const seen: Array<number> = []
      const part = Processor.make("p", { topic }, ({ n }) => {
        if (n === 0 && fails) return Effect.fail(new Bad({ n }))
        seen.push(n)
        return Effect.void
      }).pipe(Processor.catchTag("Bad", Policy.park({ schedule: Schedule.spaced("1 second") })))
      const first = yield* start([part], quick)
      yield* until(engine, "it is parked", () => Effect.map(Processor.parked("p"), ([one]) => one?.count === 3))
      yield* idle(engine, first)
      yield* first.close
      yield* Processor.release("p", 0, { key: "k0" })
      fails = false
      const inForce = yield* Broker.use((broker) =>
        Effect.map(broker.claim("p", 0, [topic], { epoch: 0n, incarnation: "nobody" }), (claim) =>
          claim._tag === "Refused" ? claim.inForce : 0n
        )
      )
      for (const i of numbers(3)) yield* death([topic], 0, inForce + BigInt(i + 1))
      const worker = yield* start([part], quick)
      yield* until(engine, "it is aside", () => Effect.map(aside, (all) => all.length > 0))
      const [entry] = yield* Processor.quarantined("p")
      assert.strictEqual(entry!.offset, offsets[0]!)
      assert.include(entry!.error, "which was parked")
      assert.deepStrictEqual(seen, [1])
      yield* Processor.skip("p", 0)
      yield* until(engine, "the rest of the key is done", () => seen.length === 3)
      assert.deepStrictEqual(seen, [1, 10, 20])
      yield* idle(engine, worker)
      assert.deepStrictEqual(yield* Processor.parked("p"), [])
    })
  )
})

describe("on probation", () => {
  for (const shape of ["make", "perKey", "batch", "stream"] as const) {
    behaviour(`the engine is told first, then each event goes alone and is committed: ${shape}`, (engine) =>
      Effect.gen(function* () {
        const topic = readings(1, Retention.forever)
        yield* publish(topic, numbers(12))
        yield* deaths(1, [topic])
        const calls: Array<ReadonlyArray<Commit>> = []
        const steps: Array<string> = []
        const seen: Array<number> = []
        let inHand = 0
        let most = 0
        const handle = ({ n }: { readonly n: number }) =>
          Effect.gen(function* () {
            steps.push("handled")
            most = Math.max(most, ++inHand)
            yield* Effect.yieldNow
            inHand--
            seen.push(n)
          })
        const part =
          shape === "batch"
            ? Processor.batch("p", { topic, size: 5, within: "10 minutes" }, (values) => Effect.forEach(values, handle))
            : shape === "stream"
              ? Processor.stream("p", { topic }, (events) => Event.mapEffect(handle)(events))
              : Processor.make("p", { topic, ...(shape === "make" ? {} : { concurrency: { perKey: 4 } }) }, handle)
        yield* Effect.gen(function* () {
          const worker = yield* start([part], quick)
          yield* until(engine, "all is done", () => seen.length === 12)
          yield* idle(engine, worker)
          yield* worker.stop
        }).pipe(
          through((broker) =>
            recording(calls)({
              ...broker,
              mark: (...request) => {
                steps.push("marked")
                return broker.mark(...request)
              }
            })
          )
        )
        assert.deepStrictEqual(steps.slice(0, 2), ["marked", "handled"])
        assert.strictEqual(steps.filter((step) => step === "marked").length, 1)
        assert.strictEqual(most, 1)
        assert.deepStrictEqual(seen, numbers(12))
        const done = calls.flat().flatMap(({ offsets }) => offsets.map(({ events }) => events))
        assert.deepStrictEqual(
          done,
          numbers(12).map((n) => n + 1)
        )
      })
    )
  }

  behaviour(
    "it begins with the event that has been there for longest, whichever of its topics is read first",
    (engine) =>
      Effect.gen(function* () {
        const older = Topic.make("older", { schema: Schema.Int, partitions: 1, retention: Retention.forever })
        const newer = Topic.make("newer", { schema: Schema.Int, partitions: 1, retention: Retention.forever })
        const topics = [newer, older] as const
        yield* Topic.publish(older, 1)
        yield* engine.elapse(5)
        yield* Topic.publish(newer, 2)
        yield* deaths(1, topics)
        const seen: Array<number> = []
        yield* start([Processor.make("p", { topic: topics }, (n) => Effect.sync(() => void seen.push(n)))], quick)
        yield* until(engine, "both are done", () => seen.length === 2)
        assert.strictEqual(seen[0], 1)
      })
  )

  behaviour("what comes to another topic before that event is committed goes out after it", (engine) =>
    Effect.gen(function* () {
      const first = Topic.make("first", { schema: Schema.Int, partitions: 1, retention: Retention.forever })
      const other = Topic.make("other", { schema: Schema.Int, partitions: 1, retention: Retention.forever })
      yield* Topic.publish(first, 1)
      yield* deaths(1, [first, other])
      const [seen, gate]: [Array<number>, Latch.Latch] = [[], yield* Latch.make(false)]
      let [commits, reads] = [0, 0]
      const part = Processor.make("p", { topic: [first, other] }, (n) => Effect.sync(() => void seen.push(n)))
      yield* start([part], quick).pipe(
        through((broker) => ({
          ...broker,
          commit: (...request) => {
            commits++
            return Effect.andThen(gate.await, broker.commit(...request))
          },
          reader: (shard) =>
            Effect.map(broker.reader(shard), (reader) => ({
              ...reader,
              read: (...request) =>
                Effect.tap(reader.read(...request), (batches) =>
                  Effect.sync(() => {
                    if (batches.some(({ entries, topic }) => topic === "other" && entries.length > 0)) reads++
                  })
                )
            }))
        }))
      )
      yield* until(engine, "the first is done", () => commits > 0)
      yield* Topic.publish(other, 2)
      yield* until(engine, "the second is read", () => reads > 0)
      yield* engine.elapse(100)
      assert.deepStrictEqual(seen, [1])
      yield* gate.open
      yield* until(engine, "the second is done", () => seen.length === 2)
    })
  )
})

describe("who lets go in order", () => {
  behaviour("is not counted, however often, with nothing committed and an event in hand", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      yield* publish(topic, numbers(3))
      let begun = 0
      const part = Processor.make("p", { topic }, () =>
        Effect.suspend(() => {
          begun++
          return Effect.never
        })
      )
      for (const round of numbers(5)) {
        const worker = yield* start([part], { ...quick, grace: 0 })
        yield* until(engine, "it is in hand", () => begun === round + 1)
        const closed = yield* Effect.forkChild(worker.close)
        yield* until(engine, "it has left", () => closed.pollUnsafe() !== undefined)
      }
      const broker = yield* Broker
      const epoch = (yield* Effect.map(
        Coordinator.use((coordinator) => coordinator.takeEpoch("p", 0)),
        (epoch) => epoch!
      )) as bigint
      const claim = yield* broker.claim("p", 0, [topic], { epoch, incarnation: "next" })
      assert.deepInclude(claim, { _tag: "Claimed", probation: undefined })
      assert.deepStrictEqual(yield* aside, [])
    })
  )
})
