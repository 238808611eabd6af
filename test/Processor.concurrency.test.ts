/** Several handlers at once in a partition: by key, each key in order, or without any order; what is committed then. */
import { assert, describe } from "@effect/vitest"
import { Cause, Effect, Latch, Schema, Stream } from "effect"
import { Broker } from "../src/Broker.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, counts, drain, halted, numbers, start, until } from "./support/engines.ts"
import { assertRising, reading, readings, Seen } from "./support/readings.ts"

const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })
const behind = Effect.map(Processor.lag("p"), (lags) => lags.reduce((sum, lag) => sum + lag.events, 0))

/** So many turns of the other fibers. */
const turns = (count: number): Effect.Effect<void> =>
  Effect.forEach(numbers(count), () => Effect.yieldNow, { discard: true })

describe("perKey", () => {
  behaviour("runs keys side by side, each key in order and one at a time", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(300).map((n) => reading(n, 7))
      )
      const seen = new Seen()
      const busy = new Set<string>()
      let most = 0
      yield* drain([
        Processor.make(
          "p",
          { topic, concurrency: { perKey: 4 } },
          Effect.fnUntraced(function* ({ key, n }) {
            assert.isFalse(busy.has(key), `two of ${key} at once`)
            busy.add(key)
            most = Math.max(most, busy.size)
            for (let turn = n % 3; turn >= 0; turn--) yield* Effect.yieldNow
            seen.add(key, n)
            busy.delete(key)
          })
        )
      ])
      assert.strictEqual(most, 4)
      assert.deepStrictEqual(seen.all, numbers(300))
      assertRising(seen.lists.values())
    })
  )

  behaviour("what one event emits does not go with what an earlier one of another key wrote", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const out = Topic.make("out", { schema: Schema.Int, partitions: 1 })
      yield* Topic.publishAll(
        topic,
        numbers(60).map((n) => reading(n, 7))
      )
      yield* drain([
        Processor.make("p", { topic, tables: [totals], concurrency: { perKey: 3 } }, ({ key, n }) =>
          Effect.gen(function* () {
            yield* turns(n % 7 === 0 ? 20 : 1)
            if (n % 2 === 1) yield* Topic.emit(out, n)
            else yield* Table.update(totals, key, (sum) => sum + n)
          })
        )
      ])
      const emitted = yield* Stream.runCollect(Topic.stream(out, { until: "now" }))
      assert.deepStrictEqual(
        emitted.map(({ value }) => value),
        numbers(60).filter((n) => n % 2 === 1)
      )
    })
  )

  behaviour(
    "a slow key holds the offset before it and nothing else; its table rows are not committed past the hole",
    (engine) =>
      Effect.gen(function* () {
        const topic = readings(1)
        // k0 first, then many of others.
        yield* Topic.publishAll(topic, [
          reading(0),
          ...numbers(50, 1)
            .filter((n) => n % 10 !== 0)
            .map((n) => reading(n))
        ])
        const gate = yield* Latch.make(false)
        let others = 0
        const worker = yield* start([
          Processor.make(
            "p",
            { topic, tables: [totals], concurrency: { perKey: 3 } },
            Effect.fnUntraced(function* ({ key }) {
              if (key === "k0") yield* gate.await
              else others++
              yield* Table.update(totals, key, (total) => total + 1)
            })
          )
        ])
        yield* until(engine, "all others are handled", () => others === 45)
        yield* engine.elapse(50)
        assert.strictEqual(yield* behind, 46)
        assert.strictEqual(yield* Table.lookup(totals, "k1"), 0)
        yield* gate.open
        yield* worker.idle
        assert.strictEqual(yield* behind, 0)
        assert.strictEqual(yield* Table.lookup(totals, "k0"), 1)
        assert.strictEqual(yield* Table.lookup(totals, "k1"), 5)
      })
  )

  behaviour("after a stop with a hole, everything from the hole on comes again and tables are exact", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(30).map((n) => reading(n))
      )
      let handled = 0
      let stuck = true
      const part = Processor.make(
        "p",
        { topic, tables: [totals], concurrency: { perKey: 3 } },
        Effect.fnUntraced(function* ({ key, n }) {
          if (n === 4 && stuck) yield* Effect.never
          handled++
          yield* Table.update(totals, key, (total) => total + 1)
        })
      )
      const worker = yield* start([part], { grace: 0 })
      yield* until(engine, "all but the stuck key are handled", () => handled === 27)
      const closing = yield* Effect.forkChild(worker.close)
      yield* until(engine, "the worker is gone", () => closing.pollUnsafe() !== undefined)
      assert.strictEqual(yield* behind, 26)
      stuck = false
      yield* drain([part])
      assert.strictEqual(handled, 27 + 26)
      for (const [key, total] of yield* Stream.runCollect(Table.entries(totals))) assert.strictEqual(total, 3, key)
    })
  )

  behaviour("reaches only rows of its own event's key", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(topic, [reading(1)])
      const failure = yield* halted([
        Processor.make("p", { topic, tables: [totals], concurrency: { perKey: 2 } }, () =>
          Table.update(totals, "k9", (total) => total + 1)
        )
      ])
      assert.include(
        String(Cause.squash(failure.cause)),
        "with concurrency perKey a handler reaches only rows of its own event's key (k1), not k9"
      )
    })
  )

  behaviour("a failure that a policy settles drops the writes of that event alone", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(100).map((n) => reading(n))
      )
      const summary = yield* drain([
        Processor.make(
          "p",
          { topic, tables: [totals], concurrency: { perKey: 4 } },
          Effect.fnUntraced(function* ({ key, n }) {
            yield* Table.update(totals, key, (total) => total + 1)
            yield* Effect.yieldNow
            if (n % 10 === 3) return yield* Effect.fail("no" as const)
          })
        ).pipe(Processor.catch(Policy.ignore))
      ])
      assert.deepStrictEqual(summary.parts.p, counts({ processed: 90, failed: 10, ignored: 10 }))
      assert.strictEqual(yield* Table.lookup(totals, "k3"), 0)
      assert.strictEqual(yield* Table.lookup(totals, "k4"), 10)
    })
  )
})

describe("unordered", () => {
  behaviour("n handlers at once, none idle while there is work, every event once", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(1_000).map((n) => reading(n, 1))
      )
      const seen = new Seen()
      let now = 0
      let most = 0
      yield* drain([
        Processor.make(
          "p",
          { topic, concurrency: { unordered: 10 } },
          Effect.fnUntraced(function* ({ n }) {
            most = Math.max(most, ++now)
            for (let turn = n % 5; turn >= 0; turn--) yield* Effect.yieldNow
            now--
            seen.add("all", n)
          })
        )
      ])
      assert.strictEqual(most, 10)
      assert.deepStrictEqual(seen.all, numbers(1_000))
    })
  )

  behaviour("commits up to the low watermark only", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(100).map((n) => reading(n))
      )
      const gate = yield* Latch.make(false)
      let handled = 0
      const worker = yield* start([
        Processor.make("p", { topic, concurrency: { unordered: 2 } }, ({ n }) =>
          n === 20 ? gate.await : Effect.sync(() => void handled++)
        )
      ])
      yield* until(engine, "all others are handled", () => handled === 99)
      yield* until(engine, "the offset stands before the slow one", () => Effect.map(behind, (n) => n === 80))
      yield* engine.elapse(50)
      assert.strictEqual(yield* behind, 80)
      yield* gate.open
      yield* worker.idle
      assert.strictEqual(yield* behind, 0)
    })
  )
})

describe("bounds", () => {
  behaviour("no more than maxUncommitted events are taken past a stuck one", (engine) =>
    Effect.gen(function* () {
      const topic = readings(2)
      // Single entries: what is read is what there is room for.
      yield* Effect.forEach(numbers(600), (n) => Topic.publish(topic, { key: "stuck", n }, { partition: 0 }), {
        concurrency: 1
      })
      const gate = yield* Latch.make(false)
      let handled = 0
      let other = 0
      const worker = yield* start([
        Processor.make(
          "p",
          { topic, concurrency: { unordered: 2 }, maxUncommitted: 100, prefetch: { events: 20 } },
          ({ n }, event) =>
            n === 0 && event.partition === 0
              ? gate.await
              : Effect.sync(() => void (event.partition === 0 ? handled++ : other++))
        )
      ])
      yield* until(engine, "it stands still", () => handled >= 90)
      yield* engine.elapse(100)
      const bound = handled
      assert.isAtMost(bound, 120)
      // The bound of one partition is none of another.
      yield* Effect.forEach(numbers(50), (n) => Topic.publish(topic, { key: "free", n }, { partition: 1 }))
      yield* until(engine, "the other partition goes on", () => other === 50)
      assert.strictEqual(handled, bound)
      yield* gate.open
      yield* worker.idle
      assert.strictEqual(handled, 599)
    })
  )

  behaviour(
    "what is read ahead is bounded by prefetch: of single entries, and of full batches from the first read on",
    (engine) =>
      Effect.gen(function* () {
        const single = readings(1)
        const batches = Topic.variant(single, "batches")
        yield* Effect.forEach(numbers(64), (n) => Topic.publish(single, reading(n)))
        yield* Topic.publishAll(
          batches,
          numbers(5_000).map((n) => reading(n))
        )
        const read: Record<string, number> = { readings: 0, batches: 0 }
        const broker = yield* Broker
        const counting = Broker.of({
          ...broker,
          reader: (shard) =>
            Effect.map(broker.reader(shard), (reader) => ({
              wake: reader.wake,
              read: (from, options) =>
                Effect.tap(reader.read(from, options), (found) =>
                  Effect.sync(() => {
                    for (const { entries, topic } of found) for (const { count } of entries) read[topic]! += count
                  })
                )
            }))
        })
        const gate = yield* Latch.make(false)
        let handled = 0
        const handler = () =>
          Effect.andThen(
            gate.await,
            Effect.sync(() => void handled++)
          )
        const worker = yield* start([
          Processor.make("single", { topic: single, prefetch: { events: 8 } }, handler),
          Processor.make("batches", { topic: batches, prefetch: { events: 200 } }, handler)
        ]).pipe(Effect.provideService(Broker, counting))
        yield* until(engine, "something is read of both", () => read.readings! > 0 && read.batches! > 0)
        yield* engine.elapse(100)
        // As many in hand, and as many ahead of them; a batch more, since entries are read whole.
        assert.isAtMost(read.readings!, 16)
        assert.isAtMost(read.batches!, 2 * 200 + 2 * 100)
        yield* gate.open
        yield* worker.idle
        assert.strictEqual(handled, 5_064)
      })
  )

  behaviour("a slow partition does not hold up another", (engine) =>
    Effect.gen(function* () {
      const topic = readings(2)
      const gate = yield* Latch.make(false)
      yield* Topic.publishAll(
        topic,
        numbers(2_000).map((n) => reading(n)),
        { partition: 0 }
      )
      yield* Topic.publishAll(
        topic,
        numbers(2_000).map((n) => reading(n)),
        { partition: 1 }
      )
      const handled = [0, 0]
      const worker = yield* start([
        Processor.make("p", { topic }, (_, event) =>
          event.partition === 0 ? gate.await : Effect.sync(() => void handled[1]!++)
        )
      ])
      yield* until(engine, "the other is done", () => handled[1] === 2_000)
      const lags = yield* Processor.lag("p")
      assert.strictEqual(lags.find((lag) => lag.partition === 0)?.events, 2_000)
      yield* gate.open
      yield* worker.idle
    })
  )
})
