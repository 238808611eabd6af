/** The edges of parking: a whole partition that is full, entries that cannot be decoded, events without a key, options. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Logger, References, Result, Schedule, Schema, Stream } from "effect"
import { Broker } from "../src/Broker.ts"
import { Misconfigured } from "../src/Errors.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, numbers, start, until } from "./support/engines.ts"
import { reading, readings } from "./support/readings.ts"

class Bad extends Schema.TaggedError<Bad>()("Bad", { n: Schema.Int }) {}

const never = Policy.park({ schedule: Schedule.spaced("10 days") })

/** It takes a second to hear of what was changed from outside. */
const quick = { settle: 0, lease: "1500 millis" } as const

interface Warning {
  readonly text: string
  readonly [annotation: string]: unknown
}

const warnings = (noted: Array<Warning>) =>
  Logger.layer([
    Logger.make(({ fiber, logLevel, message }) => {
      if (logLevel !== "Warn") return
      noted.push({ ...fiber.getRef(References.CurrentLogAnnotations), text: String(message) })
    })
  ])

const waiting = Effect.map(Processor.parked("p"), (parked) => parked.reduce((sum, { count }) => sum + count, 0))

const committed = Effect.map(Processor.lag("p"), (lags) => lags.every(({ events }) => events === 0))

describe("a partition that holds as many parked events as it may", () => {
  behaviour(
    "waits and says so once; what is dropped makes room, live",
    (engine) =>
      Effect.gen(function* () {
        const topic = readings(1, Retention.forever)
        const noted: Array<Warning> = []
        const seen: Array<number> = []
        // Each of eleven keys could hold a thousand.
        const part = Processor.make("p", { topic }, ({ n }) =>
          n < 11_000 ? Effect.fail(new Bad({ n })) : Effect.sync(() => void seen.push(n))
        ).pipe(Processor.catchTag("Bad", never))
        yield* Effect.provide(start([part], quick), warnings(noted))
        const offsets = yield* Topic.publishAll(
          topic,
          numbers(10_001).map((n) => reading(n, 11))
        )
        yield* Topic.publishAll(topic, [{ key: "good", n: 11_000 }])
        const full = () => noted.filter(({ text }) => text.includes("the partition waits"))
        yield* until(engine, "it says so", () => full().length > 0)
        yield* until(engine, "they are stored", () => Effect.map(waiting, (count) => count === 10_000))
        assert.include(full()[0]!.text, "10000 events of this partition wait aside, which is all it holds")
        assert.include(full()[0]!.text, "Processor.skip")
        const { offset } = offsets[10_000]!
        assert.deepInclude(full()[0]!, { processor: "p", topic: "readings", partition: 0, offset, parked: 10_000 })
        yield* engine.elapse(100)
        assert.deepStrictEqual([seen, full().length], [[], 1])
        yield* Processor.skip("p", 0, { key: "k3" })
        yield* until(engine, "the good one is handled", () => seen.length > 0)
        assert.deepStrictEqual(seen, [11_000])
        yield* until(engine, "the last one is stored", () => Effect.map(waiting, (count) => count === 10_000))
      }),
    { timeout: 60_000 }
  )
})

describe("an entry that cannot be decoded", () => {
  const broken = (topic: Topic.Any, key: string) =>
    Broker.use((broker) =>
      broker.append(
        [
          {
            topic,
            partition: 0,
            publisher: crypto.randomUUID(),
            number: 1,
            entries: [{ count: 1, fields: ["v", `{"key":"${key}","n":"no number"}`, "k", key] }]
          }
        ],
        "memory"
      )
    )

  for (const shape of ["make", "perKey", "batch"] as const) {
    behaviour(`is not parked for itself, but waits its turn behind its key, and keeps its place: ${shape}`, (engine) =>
      Effect.gen(function* () {
        const topic = readings(1, Retention.forever)
        const bad = new Set([1])
        const seen: Array<number> = []
        const handle = ({ n }: { readonly n: number }) =>
          bad.has(n) ? Effect.fail(new Bad({ n })) : Effect.sync(() => void seen.push(n))
        const bare =
          shape === "batch"
            ? Processor.batch("p", { topic, size: 1, within: "10 millis" }, (values) =>
                Effect.forEach(values, handle, { discard: true })
              )
            : Processor.make("p", { topic, ...(shape === "make" ? {} : { concurrency: { perKey: 2 } }) }, handle)
        const part = bare.pipe(Processor.catch(never), Processor.catch(Policy.deadLetter()))
        yield* start([part], quick)
        // The key of the second one waits aside by then; that of the first does not.
        yield* broken(topic, "free")
        yield* Topic.publishAll(topic, [
          { key: "held", n: 1 },
          { key: "free", n: 2 }
        ])
        yield* until(engine, "one waits", () => Effect.map(waiting, (count) => count === 1))
        yield* broken(topic, "held")
        yield* Topic.publishAll(topic, [
          { key: "held", n: 3 },
          { key: "free", n: 4 }
        ])
        yield* until(engine, "the others are done", () => seen.length === 2)
        yield* until(engine, "three wait", () => Effect.map(waiting, (count) => count === 3))
        const letters = Stream.runCollect(Topic.deadLetters(topic))
        yield* until(engine, "the free one is a dead letter", () => Effect.map(letters, (all) => all.length === 1))
        bad.clear()
        yield* until(engine, "all is committed", () => committed)
        yield* Processor.release("p", 0, { key: "held" })
        yield* until(engine, "all is done", () => seen.length === 4)
        assert.deepStrictEqual(seen, [2, 4, 1, 3])
        yield* until(engine, "nothing waits", () => Effect.map(waiting, (count) => count === 0))
        const all = yield* letters
        assert.strictEqual(all.length, 2)
        const failures = all.map(({ event }) => Result.isFailure(event))
        assert.deepStrictEqual(failures, [true, true])
        assert.strictEqual(new Set(all.map(({ source }) => source.offset)).size, 2)
        for (const { source } of all) assert.deepInclude(source, { topic: "readings", partition: 0 })
      })
    )
  }
})

describe("a parked event that is due", () => {
  behaviour("is tried between two events of those that were handed out with it, however many they are", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      const seen: Array<number> = []
      let failures = 1
      const part = Processor.make("p", { topic }, ({ n }) =>
        n === 0 && failures-- > 0
          ? Effect.fail(new Bad({ n }))
          : Effect.andThen(
              Effect.sleep("20 millis"),
              Effect.sync(() => void seen.push(n))
            )
      ).pipe(Processor.catchTag("Bad", Policy.park({ schedule: Schedule.spaced("100 millis") })))
      yield* Topic.publishAll(
        topic,
        numbers(61).map((n) => reading(n, 100))
      )
      yield* start([part])
      yield* until(engine, "all are done", () => seen.length === 61)
      assert.isBelow(seen.indexOf(0), 40)
      assert.isAbove(seen.indexOf(0), 0)
    })
  )
})

describe("events without a key", () => {
  behaviour("wait each alone: those that fail, and nobody behind them", (engine) =>
    Effect.gen(function* () {
      const topic = Topic.make("plain", { schema: Schema.Int, partitions: 1 })
      const bad = new Set([1, 2, 4])
      const seen: Array<number> = []
      const part = Processor.make("p", { topic }, (n) =>
        bad.has(n) ? Effect.fail(new Bad({ n })) : Effect.sync(() => void seen.push(n))
      ).pipe(Processor.catchTag("Bad", Policy.park({ schedule: Schedule.spaced("10 days"), capacity: 1 })))
      yield* start([part], quick)
      const offsets: Array<string> = []
      for (const n of numbers(6)) offsets.push((yield* Topic.publish(topic, n)).offset)
      yield* until(engine, "the others are done", () => seen.length === 3)
      yield* until(engine, "all is committed", () => committed)
      const parked = yield* Processor.parked("p")
      const places = parked.map((one) => (one.key === undefined ? one.offset : one.key))
      assert.deepStrictEqual(
        places.toSorted(),
        [1, 2, 4].map((n) => offsets[n]!)
      )
      bad.clear()
      yield* Processor.release("p", 0, { topic: "plain", offset: offsets[2]! })
      yield* until(engine, "it is done", () => seen.length === 4)
      // An operation takes the partition away: what is not committed by then would be handled again.
      yield* until(engine, "two wait", () => Effect.map(waiting, (count) => count === 2))
      yield* Processor.skip("p", 0, { topic: "plain", offset: offsets[1]! })
      yield* until(engine, "one waits", () => Effect.map(waiting, (count) => count === 1))
      assert.deepStrictEqual(seen, [0, 3, 5, 2])
    })
  )
})

describe("options", () => {
  it("that are wrong are Misconfigured, by name", () => {
    for (const capacity of [0, -1, 1.5, Number.NaN, 10_001, Infinity]) {
      try {
        Policy.park({ schedule: Schedule.spaced("1 second"), capacity })
        assert.fail(`${capacity} was taken`)
      } catch (error) {
        assert.instanceOf(error, Misconfigured)
        assert.include((error as Misconfigured).detail, `Policy.park: capacity must be a whole number from 1 to 10000`)
      }
    }
    assert.isDefined(Policy.park({ schedule: Schedule.spaced("1 second"), capacity: 10_000 }))
  })
})
