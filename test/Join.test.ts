/** Joins: what belongs together, what comes alone and when, and how it is with policies, batches, pipelines and owners. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result, Schedule, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Event from "../src/Event.ts"
import * as Join from "../src/Join.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Topic from "../src/Topic.ts"
import { drain, halted, numbers, start, type TestEngine, until } from "./support/engines.ts"
import { emitting, expect, half, joining, lineOf, sideOf, told } from "./support/joins.ts"
import { inOurDays, never } from "./support/windows.ts"

const options = { within: "10 seconds", ...never } as const
const everySecond = Schedule.spaced("1 second")
/** Batches end by time. */
const ticks = ({ virtual }: TestEngine) =>
  virtual ? Effect.forever(Effect.andThen(TestClock.adjust(1), Effect.yieldNow)) : Effect.never

describe("two topics", () => {
  inOurDays("inner: each pair of the same key comes once, whichever side came first", () =>
    Effect.gen(function* () {
      const { left, part, right } = joining("inner", options)
      yield* Topic.publishAll(left, [half(0, 1), half(5_000, 2), half(5_000, 3, "b")])
      yield* Topic.publishAll(right, [half(10_000, 11), half(15_001, 12)])
      yield* drain([part])
      assert.deepStrictEqual((yield* told).toSorted(), ["1/11", "2/11"])
      yield* Topic.publishAll(left, [half(20_000, 4)])
      yield* drain([part])
      assert.deepStrictEqual((yield* told).toSorted(), ["1/11", "2/11", "4/11", "4/12"])
    })
  )

  inOurDays("left: what nothing of the right belonged to comes alone, once, when its time is over", () =>
    Effect.gen(function* () {
      const { left, part, right } = joining("left", options)
      yield* Topic.publishAll(left, [half(0, 1), half(1_000, 2, "b"), half(30_000, 3)])
      yield* Topic.publishAll(right, [half(2_000, 11), half(10_999, 12, "c")])
      yield* drain([part])
      assert.deepStrictEqual((yield* told).toSorted(), ["1/11"])
      yield* Topic.publishAll(right, [half(11_000, 13, "c")])
      yield* drain([part])
      assert.deepStrictEqual((yield* told).toSorted(), ["1/11"])
      yield* Topic.publishAll(right, [half(11_001, 14, "c")])
      yield* drain([part])
      assert.deepStrictEqual((yield* told).toSorted(), ["1/11", "2/-"])
      yield* Topic.publishAll(right, [half(60_000, 15, "c")])
      yield* drain([part])
      yield* Topic.publishAll(left, [half(60_000, 4, "b")])
      yield* drain([part])
      assert.deepStrictEqual((yield* told).toSorted(), ["1/11", "2/-", "3/-"])
    })
  )

  inOurDays("outer: both sides", () =>
    Effect.gen(function* () {
      const { left, part, right } = joining("outer", options)
      yield* Topic.publishAll(left, [half(0, 1), half(1_000, 2, "b"), half(60_000, 3)])
      yield* Topic.publishAll(right, [half(2_000, 11), half(3_000, 12, "c"), half(60_000, 13, "d")])
      yield* drain([part])
      assert.deepStrictEqual((yield* told).toSorted(), ["-/12", "1/11", "2/-"])
    })
  )

  inOurDays(
    "what nothing can belong to any more is told of where no event comes, by whoever has the partition",
    (engine) =>
      Effect.gen(function* () {
        // In our days, so that the clock has long passed their time.
        const { left, part, right } = joining("outer", { within: "1 second", idle: "300 millis" })
        const first = yield* start([part])
        yield* Topic.publish(left, half(0, 1))
        yield* Topic.publish(right, half(100, 11))
        yield* Topic.publish(left, half(5_000, 2, "b"))
        yield* first.idle
        yield* first.stop
        assert.deepStrictEqual(yield* told, ["1/11"])
        const second = yield* start([part])
        yield* until(engine, "it is told of", () => Effect.map(told, (lines) => lines.length > 1))
        yield* engine.elapse(500)
        yield* second.stop
        yield* drain([part])
        assert.deepStrictEqual(yield* told, ["1/11", "2/-"])
      })
  )

  inOurDays("events without a key belong to nothing", () =>
    Effect.gen(function* () {
      const { left, part, right } = joining("outer", options)
      const bare = (topic: typeof left) =>
        Topic.make(topic.name, { schema: topic.schema, partitions: 1, retention: Retention.forever })
      yield* Topic.publish(bare(left), half(0, 1))
      yield* Topic.publish(bare(right), half(0, 11))
      yield* drain([part])
      assert.deepStrictEqual((yield* told).toSorted(), ["-/11", "1/-"])
    })
  )

  inOurDays("a seek that resets the tables lets go of what is held: all comes as if for the first time", () =>
    Effect.gen(function* () {
      const { left, part, right } = joining("outer", options)
      yield* Topic.publishAll(left, [half(0, 1), half(1_000, 2, "b"), half(60_000, 3)])
      yield* Topic.publishAll(right, [half(2_000, 11), half(3_000, 12, "c"), half(60_000, 13)])
      yield* drain([part])
      const first = yield* told
      assert.deepStrictEqual(first.toSorted(), ["-/12", "1/11", "2/-", "3/13"])
      yield* Processor.seek(part, "earliest", { resetTables: true })
      yield* drain([part])
      assert.deepStrictEqual((yield* told).slice(first.length).toSorted(), first.toSorted())
    })
  )

  inOurDays("events in a partition that was chosen for them meet there", () =>
    Effect.gen(function* () {
      const [left, right] = [sideOf("left", 4), sideOf("right", 4)]
      const part = Processor.make(
        "chosen",
        { topic: Join.streams(left, right, options), concurrency: { perKey: 2 } },
        emitting
      )
      for (const partition of numbers(4)) {
        yield* Topic.publish(left, half(0, partition), { partition })
        yield* Topic.publish(right, half(0, 10 + partition), { partition })
      }
      yield* drain([part])
      assert.deepStrictEqual((yield* told).toSorted(), ["0/10", "1/11", "2/12", "3/13"])
    })
  )

  inOurDays("of what was read the lower time goes first", () =>
    Effect.gen(function* () {
      const { came, left, part, right } = joining("inner", options)
      yield* Topic.publishAll(
        left,
        numbers(200).map((n) => half(n * 20, n))
      )
      yield* Topic.publishAll(
        right,
        numbers(200).map((n) => half(n * 20 + 10, n))
      )
      const seen: Array<number> = []
      const watched = part.pipe(
        Processor.around((handle, [{ timestamp }]) => {
          seen.push(timestamp.epochMilliseconds)
          return handle
        })
      )
      yield* drain([watched])
      assert.strictEqual(came().length, 400)
      assert.deepStrictEqual(
        seen,
        seen.toSorted((a, b) => a - b)
      )
    })
  )
})

describe("what a pair comes with", () => {
  const left = sideOf("left")
  const right = sideOf("right")

  inOurDays("the event that completed it; what comes alone with its own", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const part = Processor.make(
        "seen",
        { topic: Join.streams(left, right, { ...options, kind: "outer" }) },
        (pair, event) =>
          Effect.sync(() => {
            seen.push(`${lineOf(pair)} ${event.topic} ${event.key} ${event.offset} ${event.headers["from"]}`)
            assert.strictEqual(event.value, pair)
          })
      )
      const headers = { from: "test" }
      const at = yield* Topic.publishAll(left, [half(0, 1), half(10, 2, "b")], { headers })
      const to = yield* Topic.publishAll(right, [half(0, 11), half(60_000, 12)])
      yield* drain([part])
      yield* Topic.publish(left, half(60_001, 3, "c"))
      yield* drain([part])
      assert.deepStrictEqual(seen.toSorted(), [
        `1/11 right a ${to[0]!.offset} undefined`,
        `2/- left b ${at[1]!.offset} test`
      ])
    })
  )

  inOurDays("the unit of work of its event: several pairs are stored together, or none", () =>
    Effect.gen(function* () {
      let failures = 0
      const part = Processor.make("pairs", { topic: Join.streams(left, right, options) }, (pair) =>
        Effect.andThen(
          emitting(pair),
          lineOf(pair) === "2/11" && failures++ === 0 ? Effect.fail("not yet") : Effect.void
        )
      ).pipe(Processor.retry({ times: 3 }))
      yield* Topic.publishAll(left, [half(0, 1), half(1, 2), half(2, 3)])
      yield* Topic.publish(right, half(0, 11))
      yield* drain([part])
      assert.deepStrictEqual((yield* told).toSorted(), ["1/11", "2/11", "3/11"])
      assert.strictEqual(failures, 2)
    })
  )
})

describe("policies", () => {
  inOurDays("an ignored event is as if it had not come; what comes alone is told of once all the same", () =>
    Effect.gen(function* () {
      const left = sideOf("left")
      const right = sideOf("right")
      const tries: Array<string> = []
      const part = Processor.make(
        "some",
        { topic: Join.streams(left, right, { ...options, kind: "left" }) },
        (pair) => {
          const line = lineOf(pair)
          tries.push(line)
          return Effect.andThen(emitting(pair), line === "1/11" || line === "1/-" ? Effect.fail("no") : Effect.void)
        }
      ).pipe(Processor.catch(Policy.ignore))
      yield* Topic.publishAll(left, [half(0, 1), half(5_000, 2, "b")])
      yield* Topic.publishAll(right, [half(0, 11), half(10_000, 12, "c")])
      yield* drain([part])
      // The right one is gone: a second left one does not meet it.
      yield* Topic.publishAll(left, [half(10, 3)])
      yield* drain([part])
      yield* Topic.publish(left, half(60_000, 4, "c"))
      yield* Topic.publish(right, half(60_000, 13, "c"))
      yield* drain([part])
      yield* drain([part])
      assert.deepStrictEqual(tries.toSorted(), ["1/-", "1/11", "2/-", "3/-", "4/13"])
      assert.deepStrictEqual((yield* told).toSorted(), ["2/-", "3/-", "4/13"])
    })
  )

  inOurDays("what comes alone may go to the dead letters, and comes alone again when it is put back", () =>
    Effect.gen(function* () {
      const left = sideOf("left")
      const right = sideOf("right")
      let broken = true
      const part = Processor.make("some", { topic: Join.streams(left, right, { ...options, kind: "left" }) }, (pair) =>
        Effect.andThen(emitting(pair), broken ? Effect.fail("no") : Effect.void)
      ).pipe(Processor.catch(Policy.deadLetter()))
      const [at] = yield* Topic.publishAll(left, [half(0, 1), half(60_000, 2)])
      yield* Topic.publish(right, half(60_000, 11, "b"))
      yield* drain([part])
      assert.deepStrictEqual(yield* told, [])
      const letters = yield* Stream.runCollect(Topic.deadLetters(left))
      assert.deepStrictEqual(
        letters.map(({ event, source }) => [
          Result.getOrThrow(event).value,
          Result.getOrThrow(event).key,
          source.offset
        ]),
        [[half(0, 1), "a", at!.offset]]
      )
      broken = false
      assert.strictEqual(yield* Topic.redrive(left), 1)
      yield* drain([part])
      assert.deepStrictEqual(yield* told, ["1/-"])
    })
  )

  inOurDays("a failure that no policy takes halts; the next worker tells of it", () =>
    Effect.gen(function* () {
      const left = sideOf("left")
      const right = sideOf("right")
      let broken = true
      const part = Processor.make("some", { topic: Join.streams(left, right, { ...options, kind: "left" }) }, (pair) =>
        Effect.andThen(emitting(pair), broken ? Effect.fail("no") : Effect.void)
      )
      const [at] = yield* Topic.publishAll(left, [half(0, 1), half(60_000, 2)])
      yield* Topic.publish(right, half(60_000, 11, "b"))
      assert.strictEqual((yield* halted([part])).offset, at!.offset)
      broken = false
      yield* drain([part])
      assert.deepStrictEqual(yield* told, ["1/-"])
    })
  )

  inOurDays("events of an inner join wait aside, and are joined when they come back", (engine) =>
    Effect.gen(function* () {
      const left = sideOf("left")
      const right = sideOf("right")
      let failures = 0
      const part = Processor.make("some", { topic: Join.streams(left, right, options) }, (pair, event) =>
        Effect.andThen(emitting(pair), event.key === "a" && failures++ < 2 ? Effect.fail("no") : Effect.void)
      ).pipe(Processor.catch(Policy.park({ schedule: everySecond })))
      yield* Topic.publishAll(left, [half(0, 1), half(1, 2), half(2, 3, "b")])
      yield* drain([part])
      yield* Topic.publishAll(right, [half(0, 11), half(1, 12), half(2, 13, "b")])
      const worker = yield* start([part])
      yield* until(engine, "all are joined", () => Effect.map(told, (lines) => lines.length === 5))
      yield* worker.stop
      assert.deepStrictEqual(yield* told, ["3/13", "1/11", "2/11", "1/12", "2/12"])
    })
  )
})

describe("shapes", () => {
  const given = numbers(120).map((n) => {
    const side = n % 3 === 0 ? ("left" as const) : ("right" as const)
    return { side, key: "abcd"[(n * 7) % 4]!, at: n * 100 - ((n * 37) % 11) * 50 + 1_000, n: n + 1 }
  })
  const last = { key: "z", at: 1_000_000, n: 1_000 }

  for (const kind of ["inner", "left", "outer"] as const) {
    inOurDays(`${kind}: by key, in batches and in pipelines it is the same`, (engine) =>
      Effect.gen(function* () {
        const left = sideOf("left")
        const right = sideOf("right")
        const topic = Join.streams(left, right, { within: 150, lateness: "2 seconds", ...never, kind })
        const ends = (["left", "right"] as const).map((side) => ({ side, ...last }))
        const expected = expect(kind, 150, Number.POSITIVE_INFINITY, [...given, ...ends], 1_000_000 - 2_000).lines
        const parts = {
          keyed: Processor.make("keyed", { topic, concurrency: { perKey: 4 } }, (pair) =>
            Effect.andThen(Effect.yieldNow, emitting(pair))
          ),
          batch: Processor.batch("batch", { topic, size: 7, within: 1 }, (pairs) =>
            Effect.forEach(pairs, emitting, { discard: true })
          ),
          stream: Processor.stream("stream", { topic }, (events) => events.pipe(Event.mapEffect(emitting))),
          grouped: Processor.stream("grouped", { topic }, (events) =>
            events.pipe(
              Stream.groupedWithin(9, "5 millis"),
              Event.mapBatch((pairs) => Effect.forEach(pairs, emitting))
            )
          ),
          upTo: Processor.stream("upTo", { topic, acknowledge: "upTo" }, (events) =>
            events.pipe(Event.mapEffect(emitting))
          )
        }
        for (const one of [...given, ...ends]) {
          yield* Topic.publish(one.side === "left" ? left : right, { key: one.key, at: one.at, n: one.n })
        }
        let before = 0
        for (const [name, part] of Object.entries(parts)) {
          const summary = yield* start([part])
          yield* Effect.raceFirst(summary.idle, ticks(engine))
          yield* summary.stop
          yield* drain([part])
          const lines = yield* told
          assert.deepStrictEqual(lines.slice(before).toSorted(), expected, name)
          before = lines.length
          assert.isTrue(
            (yield* Processor.lag(name)).every(({ events }) => events === 0),
            name
          )
        }
      })
    )
  }
})

describe("definitions", () => {
  const left = sideOf("left", 4)
  const refuses = (say: RegExp, define: () => unknown): void => void assert.throws(define, say)

  it("inputs that are not partitioned alike are refused with both counts, and what to do", () => {
    refuses(/left has 4 partitions and right has 8.*Processor\.repartition/, () =>
      Join.streams(left, sideOf("right", 8), options)
    )
    const own = Topic.make("right", { schema: left.schema, partitionBy: "key", partitions: 4, partitioner: () => 0 })
    refuses(/left and right have different partitioners.*Processor\.repartition/, () =>
      Join.streams(left, own, options)
    )
  })

  it("a topic is not joined with itself, nor a join with a topic, nor twice in one processor", () => {
    const right = sideOf("right", 4)
    refuses(/not joined with itself/, () => Join.streams(left, left, options))
    const join = Join.streams(left, right, options)
    refuses(/left\+right is not a topic/, () => Join.streams(join, sideOf("third", 4), options))
    refuses(/a topic is named twice/, () => Processor.make("p", { topic: [join, left] }, () => Effect.void))
  })

  it("options are checked", () => {
    const right = sideOf("right", 4)
    refuses(/within is -1 ms/, () => Join.streams(left, right, { within: -1 }))
    refuses(/lateness is 0\.5 ms/, () => Join.streams(left, right, { within: 1, lateness: 0.5 }))
    refuses(/idle is 0 ms/, () => Join.streams(left, right, { within: 1, idle: 0 }))
    refuses(/kind is "inner", "left" or "outer", not "full"/, () =>
      Join.streams(left, right, { within: 1, kind: "full" as "inner" })
    )
  })

  it("what cannot work in a processor of a join is refused where it is defined", () => {
    const right = sideOf("right", 4)
    const topic = Join.streams(left, right, { ...options, kind: "left" })
    refuses(/keeps the order of each key/, () =>
      Processor.make("p", { topic, concurrency: { unordered: 2 } }, () => Effect.void)
    )
    refuses(/Policy\.park: what a join tells of/, () =>
      Processor.make("p", { topic }, () => Effect.fail("no")).pipe(
        Processor.catch(Policy.park({ schedule: everySecond }))
      )
    )
  })
})
