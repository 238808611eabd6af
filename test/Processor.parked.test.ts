/** Parked keys from outside and at their limits: listed, released, skipped while workers run; full lanes; spent schedules. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, DateTime, Effect, Logger, Result, Schedule, Schema, Stream } from "effect"
import { Misconfigured } from "../src/Errors.ts"
import * as Event from "../src/Event.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { TestProcessor } from "../src/testing/index.ts"
import { behaviour, halted, numbers, type Running, start, type TestEngine, until } from "./support/engines.ts"
import { type Reading, reading, readings } from "./support/readings.ts"

class Bad extends Schema.TaggedError<Bad>()("Bad", { n: Schema.Int }) {}

const lists = Table.make("lists", { key: Schema.String, value: Schema.Array(Schema.Int), initial: () => [] })
const listOf = (key: string) => Table.lookup(lists, key)

/** Notes what is handled, but for those that are bad now. */
const partOf = (topic: ReturnType<typeof readings>, bad: (n: number) => boolean) =>
  Processor.make("p", { topic, tables: [lists] }, ({ key, n }: Reading) =>
    Effect.andThen(
      Table.update(lists, key, (list) => [...list, n]),
      Effect.suspend(() => (bad(n) ? Effect.fail(new Bad({ n })) : Effect.void))
    )
  )

const never = Policy.park({ schedule: Schedule.spaced("10 days") })
const soon = (times: number) => Policy.park({ schedule: Schedule.spaced("50 millis").pipe(Schedule.upTo({ times })) })

const publish = (topic: ReturnType<typeof readings>, values: ReadonlyArray<number>, keys = 2) =>
  Effect.map(
    Topic.publishAll(
      topic,
      values.map((n) => reading(n, keys))
    ),
    (positions) => positions.map(({ offset }) => offset)
  )

const idle = (engine: TestEngine, worker: Running) =>
  Effect.flatMap(Effect.forkChild(worker.idle), (fiber) =>
    until(engine, "nothing is left to do", () => fiber.pollUnsafe() !== undefined)
  )

const parkedAs = (engine: TestEngine, holds: (parked: ReadonlyArray<Processor.Parked>) => boolean) =>
  until(engine, "it is parked so", () => Effect.map(Processor.parked("p"), holds))

const handledAs = (engine: TestEngine, key: string, expected: ReadonlyArray<number>) =>
  until(engine, `${key} is ${expected}`, () => Effect.map(listOf(key), (list) => list.join() === expected.join()))

/** What is logged as a warning or worse. */
const noting = (messages: Array<string>) =>
  Logger.layer([
    Logger.make(({ logLevel, message }) => {
      if (logLevel === "Warn" || logLevel === "Error") messages.push(String(message))
    })
  ])

const quick = { settle: 0, lease: "1500 millis" } as const

describe("Processor.release and skip with a key", () => {
  behaviour("while the processor runs: tried at once, or dropped; the rest of the key follows", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      const bad = new Set([1])
      const worker = yield* start([partOf(topic, (n) => bad.has(n)).pipe(Processor.catchTag("Bad", never))], quick)
      yield* publish(topic, numbers(6))
      yield* parkedAs(engine, ([one]) => one?.count === 3)
      const [one] = yield* Processor.parked("p")
      assert.isTrue(DateTime.toEpochMillis(one!.due) - DateTime.toEpochMillis(one!.since) >= 10 * 86_400_000)

      // It is still bad: one try more, and the schedule goes on.
      yield* Processor.release("p", 0, { key: "k1" })
      yield* parkedAs(engine, ([one]) => one?.attempts === 2)
      bad.clear()
      bad.add(3)
      yield* Processor.release("p", 0, one!)
      yield* handledAs(engine, "k1", [1])
      yield* parkedAs(engine, ([one]) => one?.count === 2 && one.attempts === 1)
      yield* Processor.skip("p", 0, { key: "k1" })
      yield* handledAs(engine, "k1", [1, 5])
      assert.deepStrictEqual(yield* Processor.parked("p"), [])
      yield* publish(topic, [6, 7])
      yield* handledAs(engine, "k1", [1, 5, 7])
      yield* handledAs(engine, "k0", [0, 2, 4, 6])
      yield* idle(engine, worker)
    })
  )

  behaviour("while nobody runs it; all of a key goes at once", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      const bad = new Set([1, 2])
      const part = partOf(topic, (n) => bad.has(n)).pipe(Processor.catchTag("Bad", never))
      const worker = yield* start([part])
      yield* publish(topic, numbers(12), 4)
      yield* parkedAs(engine, (parked) => parked.reduce((sum, { count }) => sum + count, 0) === 6)
      yield* worker.close
      yield* Processor.skip("p", 0, { key: "k1", all: true })
      yield* Processor.release("p", 0, { key: "k2" })
      const [one, ...others] = yield* Processor.parked("p")
      assert.deepInclude(one!, { key: "k2", count: 3 })
      assert.deepStrictEqual(others, [])
      bad.clear()
      yield* start([part])
      yield* handledAs(engine, "k2", [2, 6, 10])
      assert.deepStrictEqual(yield* listOf("k1"), [])
      assert.deepStrictEqual(yield* listOf("k0"), [0, 4, 8])
    })
  )

  behaviour("of an event without a key, by its place", (engine) =>
    Effect.gen(function* () {
      const topic = Topic.make("plain", { schema: Schema.Int, partitions: 1 })
      const seen: Array<number> = []
      const part = Processor.make("p", { topic }, (n) => {
        if (n < 0) return Effect.fail(new Bad({ n }))
        seen.push(n)
        return Effect.void
      }).pipe(Processor.catchTag("Bad", never))
      yield* start([part], quick)
      const { offset } = yield* Topic.publish(topic, -1)
      yield* Topic.publish(topic, 1)
      yield* parkedAs(engine, (parked) => parked.length === 1)
      yield* Processor.skip("p", 0, { topic: "plain", offset })
      assert.deepStrictEqual(yield* Processor.parked("p"), [])
      yield* Topic.publish(topic, 2)
      yield* until(engine, "it goes on", () => seen.includes(2))
    })
  )

  behaviour("what does not wait is refused, with what there is", () =>
    Effect.gen(function* () {
      const refusal = (effect: Effect.Effect<void, unknown, any>) =>
        Effect.map(Effect.flip(effect), (error) => {
          assert.instanceOf(error, Misconfigured)
          return (error as Misconfigured).detail
        })
      const topic = readings(2)
      const worker = yield* start([partOf(topic, () => false)])
      yield* worker.idle
      assert.deepStrictEqual(yield* Processor.parked("p"), [])
      assert.deepStrictEqual(yield* Processor.parked("nobody"), [])
      assert.include(yield* refusal(Processor.release("p", 0, { key: "k" })), 'key "k" is not parked in partition 0')
      assert.include(yield* refusal(Processor.skip("p", 7, { key: "k" })), "has 2 partitions")
      assert.include(yield* refusal(Processor.skip("nobody", 0, { key: "k" })), "has 0 partitions")
    })
  )
})

describe("a lane that is full", () => {
  behaviour("makes the partition wait, says so, and goes on as soon as there is room", (engine) =>
    Effect.gen(function* () {
      const topic = readings(2, Retention.forever)
      const messages: Array<string> = []
      const bad = new Set([0])
      const part = partOf(topic, (n) => bad.has(n)).pipe(
        Processor.catchTag("Bad", Policy.park({ schedule: Schedule.spaced("10 days"), capacity: 3 }))
      )
      const worker = yield* Effect.provide(start([part], quick), noting(messages))
      yield* publish(topic, numbers(20))
      yield* until(engine, "it was said", () => messages.some((message) => message.includes("the partition waits")))
      yield* parkedAs(engine, ([one]) => one?.count === 3)
      const [one] = yield* Processor.parked("p")
      yield* engine.elapse(100)
      assert.strictEqual(messages.filter((message) => message.includes("the partition waits")).length, 1)
      assert.strictEqual(messages.filter((message) => message.includes("waits aside")).length, 1, "once for the key")
      bad.clear()
      yield* Processor.release("p", one!.partition, one!)
      yield* handledAs(
        engine,
        "k0",
        numbers(10).map((n) => n * 2)
      )
      yield* handledAs(
        engine,
        "k1",
        numbers(10).map((n) => n * 2 + 1)
      )
      yield* idle(engine, worker)
    })
  )

  for (const shape of ["batch", "perKey"] as const) {
    behaviour(`its own retries make room: ${shape}`, (engine) =>
      Effect.gen(function* () {
        const topic = readings(1, Retention.forever)
        let failures = 3
        const handle = ({ key, n }: Reading) =>
          Effect.andThen(
            Table.update(lists, key, (list) => [...list, n]),
            Effect.suspend(() => (n === 0 && failures-- > 0 ? Effect.fail(new Bad({ n })) : Effect.void))
          )
        const policy = Policy.park({ schedule: Schedule.spaced("100 millis"), capacity: 2 })
        const options = { topic, tables: [lists] } as const
        const part =
          shape === "batch"
            ? Processor.batch("p", { ...options, size: 5, within: "10 millis" }, (values) =>
                Effect.forEach(values, handle)
              ).pipe(Processor.catchTag("Bad", policy))
            : Processor.make("p", { ...options, concurrency: { perKey: 2 } }, handle).pipe(
                Processor.catchTag("Bad", policy)
              )
        yield* publish(topic, numbers(30))
        yield* start([part])
        yield* handledAs(
          engine,
          "k0",
          numbers(15).map((n) => n * 2)
        )
        yield* handledAs(
          engine,
          "k1",
          numbers(15).map((n) => n * 2 + 1)
        )
        yield* parkedAs(engine, (parked) => parked.length === 0)
      })
    )
  }
})

describe("a schedule that has run out", () => {
  behaviour("hands the failure to the next policy: a dead letter with its own place and all attempts", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      const offsets = yield* publish(topic, numbers(6))
      const part = partOf(topic, (n) => n === 3).pipe(
        Processor.retry({ times: 1 }),
        Processor.catchTag("Bad", soon(2)),
        Processor.catch(Policy.deadLetter())
      )
      const worker = yield* start([part])
      yield* handledAs(engine, "k1", [1, 5])
      yield* idle(engine, worker)
      const letters = yield* Stream.runCollect(Topic.deadLetters(topic))
      const [letter] = letters
      assert.strictEqual(letters.length, 1)
      // A first try and two that came back, each with one more in place.
      assert.strictEqual(letter!.attempts, 6)
      assert.deepStrictEqual(letter!.source, { topic: "readings", partition: 0, offset: offsets[3]! })
      assert.deepStrictEqual(Result.getOrThrow(letter!.event).value, reading(3, 2))
      assert.deepStrictEqual(yield* Processor.parked("p"), [])
      const { deadLettered, parked, processed } = (yield* worker.stop).parts.p!
      assert.deepStrictEqual({ deadLettered, parked, processed }, { deadLettered: 1, parked: 2, processed: 5 })
    })
  )

  behaviour("halts without a policy, at that event's place; started again, it halts again", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      const offsets = yield* publish(topic, numbers(6))
      const part = partOf(topic, (n) => n === 3).pipe(Processor.catchTag("Bad", soon(1)))
      for (let run = 0; run < 2; run++) {
        const fiber = yield* Effect.forkChild(halted([part]))
        yield* until(engine, "it halts", () => fiber.pollUnsafe() !== undefined)
        const failure = yield* Effect.flatten(Effect.sync(() => fiber.pollUnsafe()!))
        assert.strictEqual(failure.offset, offsets[3]!)
        assert.deepInclude(Cause.squash(failure.cause) as Bad, { _tag: "Bad", n: 3 })
      }
      assert.deepStrictEqual(yield* listOf("k0"), [0, 2, 4])
      assert.deepInclude((yield* Processor.parked("p"))[0]!, { key: "k1", count: 2 })
    })
  )

  for (const shape of ["make", "perKey", "batch"] as const) {
    behaviour(`may put the partition aside; skipped, the rest of the key follows: ${shape}`, (engine) =>
      Effect.gen(function* () {
        const topic = readings(1, Retention.forever)
        const offsets = yield* publish(topic, numbers(6))
        const handle = ({ key, n }: Reading) =>
          Effect.andThen(
            Table.update(lists, key, (list) => [...list, n]),
            n === 1 ? Effect.fail(new Bad({ n })) : Effect.void
          )
        const options = { topic, tables: [lists] } as const
        const bare =
          shape === "batch"
            ? Processor.batch("p", { ...options, size: 1, within: "10 millis" }, (values) =>
                Effect.forEach(values, handle)
              )
            : Processor.make("p", { ...options, ...(shape === "make" ? {} : { concurrency: { perKey: 2 } }) }, handle)
        const part = bare.pipe(Processor.catchTag("Bad", soon(1)), Processor.catch(Policy.quarantine))
        yield* start([part], quick)
        const aside = Effect.map(Processor.quarantined("p"), ([one]) => one?.offset === offsets[1]!)
        yield* until(engine, "it is put aside", () => aside)
        yield* Processor.release("p", 0)
        yield* until(engine, "it is back", () => Effect.map(aside, (is) => !is))
        yield* until(engine, "it is put aside again", () => aside)
        assert.deepStrictEqual(yield* listOf("k1"), [])
        yield* Processor.skip("p", 0)
        yield* handledAs(engine, "k1", [3, 5])
        assert.deepStrictEqual(yield* Processor.quarantined("p"), [])
        assert.deepStrictEqual(yield* Processor.parked("p"), [])
      })
    )
  }
})

describe("definitions", () => {
  const topic = readings(1)
  const bare = Processor.make("p", { topic }, ({ n }) => Effect.fail(new Bad({ n })))
  const refused = (make: () => unknown, why: RegExp): void => {
    assert.throws(make, why)
  }

  it("that cannot park are refused, and say what can", () => {
    refused(
      () =>
        Processor.stream("p", { topic }, (events) =>
          events.pipe(Event.mapEffect(({ n }) => Effect.fail(new Bad({ n }))))
        ).pipe(Processor.catchTag("Bad", never)),
      /use Processor.make or Processor.batch/
    )
    refused(
      () =>
        Processor.make("p", { topic, acknowledge: "before" }, ({ n }) => Effect.fail(new Bad({ n }))).pipe(
          Processor.catchTag("Bad", never)
        ),
      /acknowledge "before"/
    )
    const middleware = Processor.middleware((events: Stream.Stream<Event.Event<unknown>>) => events)
    refused(() => bare.pipe(middleware, Processor.catchTag("Bad", never)), /Processor.around/)
    refused(() => bare.pipe(Processor.catchTag("Bad", never), middleware), /Processor.around/)
    refused(() => bare.pipe(Processor.catchTag("DecodeError", never)), /decode no better/)
    refused(() => Policy.park({ schedule: Schedule.spaced("1 second"), capacity: 0 }), /capacity/)
    refused(() => Policy.park({ schedule: Schedule.spaced("1 second"), capacity: 10_001 }), /capacity/)
  })

  it.effect("that choose it where it cannot be halt and say why", () =>
    Effect.gen(function* () {
      const part = Processor.stream("p", { topic }, (events) =>
        events.pipe(Event.mapEffect(({ n }) => Effect.fail(new Bad({ n }))))
      ).pipe(
        Processor.catchTag(
          "Bad",
          Policy.choose(() => never)
        )
      )
      const result = yield* TestProcessor.run(part, [TestProcessor.event(topic, reading(0))])
      const failure = Cause.squash((result.halted as any).value.cause)
      assert.instanceOf(failure, Misconfigured)
      assert.include((failure as Misconfigured).detail, "use Processor.make or Processor.batch")
    })
  )

  it.effect("are shown to a test by what the policy settled", () =>
    Effect.gen(function* () {
      const part = bare.pipe(Processor.catchTag("Bad", never), Processor.catch(Policy.ignore))
      const result = yield* TestProcessor.run(part, [
        TestProcessor.event(topic, reading(0)),
        TestProcessor.event(topic, reading(1))
      ])
      assert.deepStrictEqual(
        result.settled.map(({ policy, value }) => [policy, (value as Reading).n]),
        [
          ["park", 0],
          ["park", 1]
        ]
      )
    })
  )

  behaviour("what waits is not forgotten by a release that cannot try it again", (engine) =>
    Effect.gen(function* () {
      const own = readings(1, Retention.forever)
      yield* publish(own, [0, 1])
      const worker = yield* start([partOf(own, (n) => n === 1).pipe(Processor.catchTag("Bad", never))])
      yield* parkedAs(engine, (parked) => parked.length === 1)
      yield* worker.close
      const next = Processor.stream("p", { topic: own }, (events) => events)
      const failure = yield* halted([next])
      assert.include(String(Cause.squash(failure.cause)), "1 keys of partition 0 wait aside")
      yield* Processor.skip("p", 0, { key: "k1", all: true })
      const again = yield* start([next])
      yield* idle(engine, again)
    })
  )
})
