/**
 * The promise everything rests on: per key in order, nothing lost, nothing twice, state exact, while workers come and
 * go. 100,000 events of 1,000 keys in 64 partitions; three workers join and leave while they are published.
 */
import { assert, describe } from "@effect/vitest"
import { Effect, Fiber, Schema, Stream } from "effect"
import * as Processor from "../src/Processor.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, numbers, type Running, start, until } from "./support/engines.ts"
import { assertRising, Reading, reading, readings, Seen } from "./support/readings.ts"

const events = 100_000
const keys = 1_000
/** A machine so busy that nobody's heartbeat comes through would make an event come again, which is no disorder. */
const patientLease = 60_000

const Total = Schema.Struct({ count: Schema.Finite, sum: Schema.Finite, last: Schema.Finite })
const totals = Table.make("totals", {
  key: Schema.String,
  value: Total,
  initial: () => ({ count: 0, sum: 0, last: -1 })
})

describe("order", () => {
  behaviour(
    "holds per key with 100,000 events, 64 partitions and three workers that join and leave; tables are exact",
    (engine) =>
      Effect.gen(function* () {
        const topic = Topic.make("readings", { schema: Reading, partitionBy: "key", partitions: 64 })
        const last = new Map<string, number>()
        const handledBy = new Map<string, number>()
        let handled = 0
        const part = (worker: string) =>
          Processor.make("p", { topic, tables: [totals] }, ({ key, n }) => {
            // Graceful hand-overs repeat nothing, so each key rises strictly, whoever handles it.
            if (n <= (last.get(key) ?? -1)) assert.fail(`${key}: ${n} after ${last.get(key)} by ${worker}`)
            last.set(key, n)
            handled++
            handledBy.set(worker, (handledBy.get(worker) ?? 0) + 1)
            return Table.update(totals, key, (total) => {
              if (n <= total.last) throw new Error(`${key}: the table has seen ${total.last} before ${n}`)
              return { count: total.count + 1, sum: total.sum + n, last: n }
            })
          })
        const halts: Array<unknown> = []
        const join = (worker: string) =>
          Effect.tap(start([part(worker)], { settle: 10, lease: patientLease }), (running) =>
            Effect.forkChild(Effect.catch(running.join, (failure) => Effect.sync(() => void halts.push(failure))))
          )
        const publishing = yield* Effect.forkChild(
          Topic.publishAll(
            topic,
            Stream.range(0, events - 1, 1_000).pipe(
              // Spread over time, so that all workers meet some of it.
              Stream.chunks,
              Stream.tap(() => Effect.sleep("5 millis")),
              Stream.flattenArray,
              Stream.map((n) => reading(n, keys))
            )
          )
        )
        const past = (share: number) =>
          until(engine, `${share * 100} % are handled, ${halts}`, () => halts.length > 0 || handled >= events * share)
        const workers: Record<string, Running> = {}
        workers.a = yield* join("a")
        yield* past(0.1)
        workers.b = yield* join("b")
        yield* past(0.25)
        workers.c = yield* join("c")
        yield* past(0.4)
        yield* workers.a.close
        yield* past(0.5)
        workers.a = yield* join("a again")
        yield* past(0.65)
        yield* workers.b.close
        yield* workers.c.close
        yield* past(0.75)
        workers.c = yield* join("c again")
        yield* until(engine, "all is published", () => publishing.pollUnsafe() !== undefined)
        assert.strictEqual(yield* Fiber.join(publishing), events)
        const idle = yield* Effect.forkChild(workers.c.idle)
        yield* until(engine, "all is committed", () => halts.length > 0 || idle.pollUnsafe() !== undefined)
        assert.deepStrictEqual(halts, [])
        assert.strictEqual(handled, events)
        assert.isAtLeast(handledBy.size, 4, "hand-overs took place while events flowed")
        const rows = yield* Stream.runCollect(Table.entries(totals))
        assert.strictEqual(rows.length, keys)
        const each = events / keys
        for (const [key, { count, last, sum }] of rows) {
          const k = Number(key.slice(1))
          assert.deepStrictEqual(
            [count, sum, last],
            [each, each * k + (keys * each * (each - 1)) / 2, events - keys + k],
            key
          )
        }
      }),
    { timeout: 120_000 }
  )

  behaviour("holds for batches too: workers leave one after the other while events come", (engine) =>
    Effect.gen(function* () {
      const topic = readings(3)
      const seen = new Seen()
      const sizes: Array<number> = []
      const part = Processor.batch("p", { topic, size: 11, within: "20 millis" }, (values) =>
        Effect.sync(() => {
          sizes.push(values.length)
          for (const { key, n } of values) seen.add(key, n)
        })
      )
      const publish = (from: number) =>
        Topic.publishAll(
          topic,
          numbers(33, from).map((n) => reading(n))
        )
      const workers: Array<Running> = []
      for (let n = 0; n < 3; n++) workers.push(yield* start([part], { settle: 0 }))
      yield* publish(0)
      yield* until(engine, "the first are handled", () => seen.all.length === 33)
      for (let n = 0; n < 2; n++) {
        yield* publish(33 + n * 33)
        yield* workers[n]!.close
      }
      yield* until(engine, "all are handled", () => seen.all.length >= 99)
      const idle = yield* Effect.forkChild(workers[2]!.idle)
      yield* until(engine, "all is committed", () => idle.pollUnsafe() !== undefined)
      assert.deepStrictEqual(seen.all, numbers(99))
      assertRising(seen.lists.values())
      assert.isAtMost(Math.max(...sizes), 11)
      assert.isAtLeast(Math.min(...sizes), 1)
    })
  )
})
