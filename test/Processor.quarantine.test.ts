/** What the runtime does when a policy puts a partition aside: it stops that one, commits what is done, and tells. */
import { assert, describe } from "@effect/vitest"
import { Cause, Effect, Latch, Schema, Stream } from "effect"
import { Broker } from "../src/Broker.ts"
import * as Event from "../src/Event.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Topic from "../src/Topic.ts"
import { TestProcessor } from "../src/testing/index.ts"
import { type Aside, noting } from "./support/coordinators.ts"
import { behaviour, counts, drain, numbers, start, until } from "./support/engines.ts"
import { assertRising, type Reading, reading, readings, Seen } from "./support/readings.ts"

class Bad extends Schema.TaggedError<Bad>()("Bad", { n: Schema.Int }) {}

const behind = Effect.map(Processor.lag("p"), (lags) => lags.map((lag) => lag.events))

const shapesOf = (topic: ReturnType<typeof readings>, handle: (value: Reading) => Effect.Effect<void, Bad>) => ({
  make: Processor.make("p", { topic }, handle),
  perKey: Processor.make("p", { topic, concurrency: { perKey: 4 } }, handle),
  batch: Processor.batch("p", { topic, size: 3, within: "20 millis" }, (values) => Effect.forEach(values, handle)),
  split: Processor.batch("p", { topic, size: 3, within: "20 millis", onFailure: "split" }, (values) =>
    Effect.forEach(values, handle)
  ),
  stream: Processor.stream("p", { topic }, (events) =>
    events.pipe(Event.mapEffect(handle), Stream.groupedWithin(4, "20 millis"))
  ),
  middleware: Processor.make("p", { topic }, handle).pipe(Processor.middleware((events) => events)),
  around: Processor.make("p", { topic }, handle)
})

describe("quarantine", () => {
  for (const shape of ["make", "perKey", "batch", "split", "stream", "middleware", "around"] as const) {
    behaviour(`stops that partition at its event, and no other: ${shape}`, (engine) =>
      Effect.gen(function* () {
        const topic = readings(2)
        const positions: Array<Topic.Position> = []
        for (const n of numbers(40)) positions.push(yield* Topic.publish(topic, reading(n), { partition: n % 2 }))
        const seen = new Seen()
        let fails = true
        const part = () => {
          const settled = shapesOf(topic, ({ n }) => {
            if (n === 13 && fails) return Effect.fail(new Bad({ n }))
            seen.add(`${n % 2}`, n)
            return Effect.void
          })[shape].pipe(Processor.catchTag("Bad", Policy.quarantine))
          return shape === "around" ? settled.pipe(Processor.around((handle) => handle)) : settled
        }
        const asides: Array<Aside> = []
        const first = yield* Effect.gen(function* () {
          const worker = yield* start([part()], { member: "m" })
          const idle = yield* Effect.forkChild(worker.idle)
          yield* until(engine, "it was told", () => asides.length > 0)
          // What is aside holds nobody up who waits for the rest.
          yield* until(engine, "the rest is done", () => idle.pollUnsafe() !== undefined)
          return yield* worker.stop
        }).pipe(noting(asides))
        const [{ entry, grant, member }] = asides as [Aside]
        assert.strictEqual(asides.length, 1)
        assert.deepInclude(grant, { processor: "p", partition: 1 })
        assert.strictEqual(member, "m")
        // A batch is put aside as a whole: it holds 11, 13 and perhaps another.
        const [position, ...others] = entry.positions
        assert.deepStrictEqual(others, [])
        assert.strictEqual(position!.topic, "readings")
        const [from, to] = [position!.first, position!.last].map((offset) =>
          positions.findIndex((one) => one.partition === 1 && one.offset === offset)
        )
        if (shape === "batch") assert.isTrue(from! <= 13 && to! >= 13 && to! - from! <= 4)
        else assert.deepStrictEqual([from, to], [13, 13])
        assert.strictEqual(entry.reason, "failure")
        assert.include(entry.error, "Bad")
        // All before it is done and committed, nothing from it on.
        const done = numbers(40).filter((n) => n % 2 === 1 && n < from!)
        const own = (seen.lists.get("1") ?? []).toSorted((a, b) => a - b)
        assert.deepStrictEqual(
          own.filter((n) => n < from!),
          done
        )
        assert.deepStrictEqual(yield* behind, [0, 20 - done.length])
        assert.strictEqual(first.parts.p!.quarantined, 1)
        assert.deepStrictEqual(
          seen.lists.get("0"),
          shape === "perKey" ? seen.lists.get("0") : numbers(40).filter((n) => n % 2 === 0)
        )
        assert.strictEqual(seen.lists.get("0")!.length, 20)

        // Nobody runs it; released, it goes on with that event.
        seen.lists.clear()
        yield* drain([part()])
        assert.deepStrictEqual(seen.all, [])
        yield* Processor.release("p", 1)
        fails = false
        const worker = yield* start([part()])
        const idle = yield* Effect.forkChild(worker.idle)
        yield* until(engine, "all is done", () => idle.pollUnsafe() !== undefined)
        yield* worker.stop
        assert.deepStrictEqual(
          seen.all,
          numbers(40).filter((n) => n % 2 === 1 && n >= from!)
        )
      })
    )
  }

  behaviour("it is asked for again until it is answered; meanwhile nothing of the partition runs", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(topic, [reading(0), reading(1), reading(2)])
      const asides: Array<Aside> = []
      const seen: Array<number> = []
      yield* Effect.gen(function* () {
        const worker = yield* start(
          [
            Processor.make("p", { topic }, ({ n }) => {
              seen.push(n)
              return n === 1 ? Effect.fail(new Bad({ n })) : Effect.void
            }).pipe(Processor.catchTag("Bad", Policy.quarantine))
          ],
          { lease: "300 millis" }
        )
        yield* until(engine, "it was answered", () => asides.length > 0)
        // Syncs go on, and none of them starts it again under the old epoch.
        yield* engine.elapse(500)
        yield* worker.stop
      }).pipe(noting(asides, { away: 3 }))
      assert.strictEqual(asides.length, 1)
      assert.deepStrictEqual(seen, [0, 1])
      assert.deepStrictEqual(yield* behind, [2])
    })
  )

  behaviour("a worker that put a partition aside gets it back when it is released, again and again", (engine) =>
    Effect.gen(function* () {
      const topic = readings(2)
      for (const n of numbers(10)) yield* Topic.publish(topic, reading(n), { partition: n % 2 })
      let failures = 2
      const seen: Array<number> = []
      const worker = yield* start([
        Processor.make("p", { topic }, ({ n }) => {
          if (n % 2 === 1) seen.push(n)
          return n === 5 && failures-- > 0 ? Effect.fail(new Bad({ n })) : Effect.void
        }).pipe(Processor.catchTag("Bad", Policy.quarantine))
      ])
      for (const tries of [1, 2]) {
        const idle = yield* Effect.forkChild(worker.idle)
        yield* until(engine, "it is aside", () => idle.pollUnsafe() !== undefined)
        assert.strictEqual(seen.filter((n) => n === 5).length, tries)
        assert.strictEqual((yield* Processor.quarantined("p")).length, 1)
        yield* Processor.release("p", 1)
      }
      const idle = yield* Effect.forkChild(worker.idle)
      yield* until(engine, "all is done", () => idle.pollUnsafe() !== undefined)
      assert.deepStrictEqual(seen, [1, 3, 5, 5, 5, 7, 9])
    })
  )

  for (const shape of ["make", "perKey", "batch", "split", "stream"] as const) {
    behaviour(`skipped, it goes on behind the failed unit, and nothing else is passed: ${shape}`, (engine) =>
      Effect.gen(function* () {
        const topic = readings(1)
        yield* Topic.publishAll(
          topic,
          numbers(30).map((n) => reading(n, 5))
        )
        const seen: Array<number> = []
        const part = shapesOf(topic, ({ n }) => {
          if (n === 13) return Effect.fail(new Bad({ n }))
          return Effect.sync(() => void seen.push(n))
        })[shape].pipe(Processor.catchTag("Bad", Policy.quarantine))
        const worker = yield* start([part])
        const aside = yield* Effect.forkChild(worker.idle)
        yield* until(engine, "it is aside", () => aside.pollUnsafe() !== undefined)
        yield* Processor.skip("p", 0)
        const idle = yield* Effect.forkChild(worker.idle)
        yield* until(engine, "all is done", () => idle.pollUnsafe() !== undefined)
        assert.deepStrictEqual(yield* behind, [0])
        // Of a batch of three that failed as a whole, the handler has seen one.
        const passed = shape === "batch" ? [13, 14] : [13]
        assert.deepStrictEqual(
          Array.from(new Set(seen)).toSorted((a, b) => a - b),
          numbers(30).filter((n) => !passed.includes(n))
        )
      })
    )
  }

  behaviour("the other keys finish what comes before the event, and start nothing after it", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(30).map((n) => reading(n, 5))
      )
      const gate = yield* Latch.make(false)
      // Until then the key of the event has the rest of its events in its queue.
      const queued = yield* Latch.make(false)
      const asides: Array<Aside> = []
      const seen = new Seen()
      yield* Effect.gen(function* () {
        const worker = yield* start([
          Processor.make("p", { topic, concurrency: { perKey: 5 } }, ({ key, n }) => {
            if (n === 7) return Effect.fail(new Bad({ n }))
            const handled = Effect.sync(() => seen.add(key, n))
            return n === 3 || n === 2 ? Effect.andThen(n === 3 ? gate.await : queued.await, handled) : handled
          }).pipe(Processor.catchTag("Bad", Policy.quarantine))
        ])
        yield* until(engine, "the others are done", () => seen.lists.get("k4")?.includes(29) ?? false)
        yield* queued.open
        yield* until(engine, "it is about to fail", () => seen.lists.has("k2"))
        yield* engine.elapse(50)
        assert.deepStrictEqual(asides, [])
        yield* gate.open
        yield* until(engine, "it was told", () => asides.length > 0)
        yield* worker.stop
      }).pipe(noting(asides))
      // What came after it may have run before it failed, and is not acknowledged.
      for (const n of [0, 1, 2, 3, 4, 5, 6]) assert.include(seen.all, n)
      assertRising(seen.lists.values())
      for (const n of [12, 17, 22, 27]) assert.notInclude(seen.all, n, "the key of the event")
      assert.deepStrictEqual(yield* behind, [23])
    })
  )

  for (const shape of ["make", "perKey", "batch", "stream"] as const) {
    behaviour(`at an entry that cannot be decoded, with the good ones before it done: ${shape}`, (engine) =>
      Effect.gen(function* () {
        const topic = readings(1)
        yield* Topic.publishAll(topic, [reading(0), reading(1)])
        yield* Broker.use((broker) =>
          broker.append(
            [{ topic, partition: 0, publisher: "x", number: 1, entries: [{ count: 1, fields: ["v", "no json"] }] }],
            "memory"
          )
        )
        yield* Topic.publishAll(topic, [reading(2), reading(3)])
        const asides: Array<Aside> = []
        const seen: Array<number> = []
        const summary = yield* Effect.gen(function* () {
          const note = ({ n }: Reading) => Effect.sync(() => void seen.push(n))
          const part = shapesOf(topic, note)[shape].pipe(Processor.catchTag("DecodeError", Policy.quarantine))
          const worker = yield* start([part])
          yield* until(engine, "it was told", () => asides.length > 0)
          return yield* worker.stop
        }).pipe(noting(asides))
        assert.deepStrictEqual(seen, [0, 1])
        assert.deepStrictEqual(yield* behind, [3])
        assert.include(asides[0]!.entry.error, "DecodeError: readings/0@")
        assert.deepStrictEqual(summary.parts.p, counts({ processed: 2, failed: 1, quarantined: 1 }))
      })
    )
  }

  behaviour("TestProcessor says so, with what was settled before", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const result = yield* TestProcessor.run(
        Processor.make("p", { topic }, ({ n }) => (n > 0 ? Effect.fail(new Bad({ n })) : Effect.void)).pipe(
          Processor.catchTag(
            "Bad",
            Policy.choose(({ n }) => [Policy.ignore, Policy.deadLetter(), Policy.quarantine][n - 1]!)
          )
        ),
        numbers(6).map((n) => TestProcessor.event(topic, reading(n)))
      )
      assert.deepStrictEqual(
        result.settled.map(({ cause, policy }) => [policy, (Cause.squash(cause) as Bad).n]),
        [
          ["ignore", 1],
          ["deadLetter", 2],
          ["quarantine", 3]
        ]
      )
      assert.deepStrictEqual(result.emitted(Topic.dead(topic)), [reading(2)])
    })
  )
})
