/** Tables with windows: what counts where, what is read, what is late, when windows close and what is kept of them. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, DateTime, Effect, Metric, Schema, Stream } from "effect"
import { late } from "../src/Metrics.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import * as Window from "../src/Window.ts"
import { losingReply, through } from "./support/brokers.ts"
import { drain, halted, numbers, start, until } from "./support/engines.ts"
import { inOurDays, lineOf, never, reading, type Sums, summing, sumsIn, topicOf, utc, zero } from "./support/windows.ts"

const topic = topicOf()

const spansOf = (table: Sums, starts: ReadonlyArray<number>, size: number) =>
  Effect.forEach(starts, (from) =>
    Effect.map(
      Stream.runCollect(Table.entries(table, { window: { start: utc(from), end: utc(from + size) } })),
      (rows) => rows.map(([key, value]) => `${key}: ${value}`).toSorted()
    )
  )

const told = (topic: Topic.Topic<string, undefined>) =>
  Effect.map(Stream.runCollect(Topic.stream(topic, { until: "now" })), (events) => events.map(({ value }) => value))

const all = (table: Sums) => Stream.runCollect(Table.entries(table))

describe("tumbling", () => {
  inOurDays("start included, end excluded; each time is in exactly one; the entries of a window are its own", () =>
    Effect.gen(function* () {
      const { part, table } = summing(Window.tumbling("10 seconds", { ...never, retain: "1 day" }))
      yield* Topic.publishAll(topic, [reading(0), reading(5_000, 2), reading(9_999, 4), reading(10_000, 8)])
      yield* Topic.publishAll(topic, [reading(10_001, 1, "b")])
      yield* drain([part])
      assert.deepStrictEqual(yield* spansOf(table, [0, 10_000, 20_000], 10_000), [["a: 7"], ["a: 8", "b: 1"], []])
      assert.strictEqual(yield* Table.lookup(table, "a", { at: utc(9_999) }), 7)
      assert.strictEqual(yield* Table.lookup(table, "a", { at: utc(10_000) }), 8)
      assert.strictEqual(yield* Table.lookup(table, "a"), 0)
    })
  )

  inOurDays("a window closes once, with its final value, when the watermark has passed its end", () =>
    Effect.gen(function* () {
      const { closed, part, table } = summing(Window.tumbling("10 seconds", { ...never, lateness: "5 seconds" }))
      yield* Topic.publishAll(topic, [reading(1_000), reading(12_000, 2), reading(9_000, 4)])
      yield* drain([part])
      assert.deepStrictEqual(closed, [])
      yield* Topic.publishAll(topic, [reading(15_000, 8), reading(9_500, 16), reading(26_000, 32)])
      yield* drain([part])
      assert.deepStrictEqual(closed, ["a 0-10000: 5", "a 10000-20000: 10"])
      assert.deepStrictEqual(yield* spansOf(table, [0, 10_000, 20_000], 10_000), [[], [], ["a: 32"]])
    })
  )
})

describe("hopping", () => {
  inOurDays("an event counts in every window that holds it; each closes by itself", () =>
    Effect.gen(function* () {
      const { closed, part, table } = summing(Window.hopping("10 seconds", "5 seconds", { ...never, retain: "1 day" }))
      yield* Topic.publishAll(topic, [reading(0), reading(7_000, 2), reading(12_000, 4)])
      yield* drain([part])
      const spans = yield* spansOf(table, [-5_000, 0, 5_000, 10_000], 10_000)
      assert.deepStrictEqual(spans, [["a: 1"], ["a: 3"], ["a: 6"], ["a: 4"]])
      assert.deepStrictEqual(closed, ["a -5000-5000: 1", "a 0-10000: 3"])
      // Late for the two that are closed, and in time for the third.
      yield* Topic.publishAll(topic, [reading(6_000, 8), reading(40_000)])
      yield* drain([part])
      assert.deepStrictEqual(closed.slice(2), ["a 5000-15000: 14", "a 10000-20000: 4"])
    })
  )
})

describe("sliding", () => {
  inOurDays("a window around each event holds its neighbours, also those that come in another order", () =>
    Effect.gen(function* () {
      const window = Window.sliding("10 seconds", "5 seconds", { ...never, lateness: "20 seconds" })
      const { closed, part, table } = summing(window)
      const times = [30_000, 20_000, 35_000, 35_001, 25_000, 20_000]
      yield* Topic.publishAll(
        topic,
        times.map((at, i) => reading(at, 10 ** i))
      )
      yield* drain([part])
      assert.strictEqual(yield* Table.lookup(table, "a", { at: utc(30_000) }), 110_111 + 5 - 5)
      yield* Topic.publish(topic, reading(100_000))
      yield* drain([part])
      assert.deepStrictEqual(closed, [
        "a 10000-25001: 110010",
        "a 15000-30001: 110011",
        "a 20000-35001: 110111",
        "a 25000-40001: 11101",
        "a 25001-40002: 1101"
      ])
    })
  )
})

describe("session", () => {
  inOurDays("closed by a gap of silence; an event between two makes them one, with their values merged", () =>
    Effect.gen(function* () {
      const { closed, part, table } = summing(Window.session("10 seconds", { ...never, lateness: "1 minute" }))
      const bursts = [0, 3_000, 9_000, 30_000, 31_000, 60_000]
      yield* Topic.publishAll(
        topic,
        bursts.map((at) => reading(at))
      )
      yield* Topic.publish(topic, reading(0, 7, "b"))
      yield* drain([part])
      const values = (yield* all(table)).map(([key, value]) => `${key}: ${value}`).toSorted()
      assert.deepStrictEqual(values, ["a: 1", "a: 2", "a: 3", "b: 7"])
      assert.strictEqual(yield* Table.lookup(table, "a", { at: utc(18_999) }), 3)
      assert.strictEqual(yield* Table.lookup(table, "a", { at: utc(19_000) }), 0)
      yield* Topic.publishAll(topic, [reading(40_500, 10), reading(50_499, 100), reading(200_000)])
      yield* drain([part])
      assert.deepStrictEqual(closed, ["b 0-10000: 7", "a 0-19000: 3", "a 30000-70000: 113"])
    })
  )
})

describe("reads", () => {
  inOurDays("the event's window, that of now, of a time, and the change against a time ago", () =>
    Effect.gen(function* () {
      const day = 24 * 60 * 60 * 1_000
      const table = sumsIn(Window.tumbling("1 day", { ...never, retain: "30 days" }))
      const seen: Array<unknown> = []
      const part = Processor.make(
        "reads",
        { topic, tables: [table] },
        Effect.fnUntraced(function* ({ key, n }) {
          const before = yield* Table.get(table, key)
          const after = yield* Table.update(table, key, (sum) => sum + n)
          seen.push([
            before,
            after,
            yield* Table.get(table, key),
            yield* Table.now(table, key),
            yield* Table.at(table, key, utc(day - 1)),
            yield* Table.delta(table, key, "1 day")
          ])
        })
      )
      const today = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      yield* Topic.publishAll(topic, [reading(1), reading(day, 10), reading(day + 5, 5)])
      yield* Topic.publish(topic, reading(today - zero, 100))
      yield* drain([part])
      assert.deepStrictEqual(seen, [
        [0, 1, 1, 0, 1, 1],
        [0, 10, 10, 0, 1, 9],
        [10, 15, 15, 0, 1, 14],
        [0, 100, 100, 100, 1, 100]
      ])
    })
  )

  inOurDays("time comes from the event, from a field that the topic names, or from the clock", () =>
    Effect.gen(function* () {
      const plain = Topic.make("plain", { schema: Schema.Int, partitionBy: (n) => n, partitions: 1 })
      const make = <const Name extends string>(name: Name, time: "event" | "clock") =>
        Table.windowed(name, {
          key: Schema.String,
          value: Schema.Array(Schema.Int),
          initial: () => [],
          window: Window.tumbling("1 hour", { ...never, time, retain: "10 days" })
        })
      const [byEvent, byField, byClock] = [make("byEvent", "event"), make("byField", "event"), make("byClock", "clock")]
      const hour = 60 * 60 * 1_000
      const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      const given = DateTime.makeUnsafe(now - 5 * hour)
      yield* Topic.publish(plain, 7, { timestamp: given })
      yield* Topic.publish(topic, reading(3 * hour, 8))
      yield* drain([
        Processor.make("plain", { topic: plain, tables: [byEvent, byClock] }, (n) =>
          Effect.andThen(
            Table.update(byEvent, "k", (all) => [...all, n]),
            Table.update(byClock, "k", (all) => [...all, n])
          )
        ),
        Processor.make("field", { topic, tables: [byField] }, ({ n }) =>
          Table.update(byField, "a", (all) => [...all, n])
        )
      ])
      assert.deepStrictEqual(yield* Table.lookup(byEvent, "k", { at: given }), [7])
      assert.deepStrictEqual(yield* Table.lookup(byField, "a", { at: utc(3 * hour) }), [8])
      assert.deepStrictEqual(yield* Table.lookup(byField, "a", { at: utc(4 * hour) }), [])
      assert.deepStrictEqual(yield* Table.lookup(byClock, "k", { at: DateTime.makeUnsafe(now) }), [7])
    })
  )

  inOurDays("set and remove reach every window of the event's time; a failed unit leaves them as they were", () =>
    Effect.gen(function* () {
      const table = sumsIn(Window.hopping("10 seconds", "5 seconds", { ...never, lateness: "1 hour" }))
      const part = Processor.make(
        "p",
        { topic, tables: [table] },
        Effect.fnUntraced(function* ({ key, n }) {
          if (n === 0) yield* Table.remove(table, key)
          else yield* Table.set(table, key, n)
          if (n === 99) return yield* Effect.fail("no")
        })
      ).pipe(Processor.catch(Policy.ignore))
      yield* Topic.publishAll(topic, [reading(6_000, 5), reading(11_000, 7), reading(3_000, 99), reading(11_000, 0)])
      yield* drain([part])
      assert.deepStrictEqual(yield* spansOf(table, [-5_000, 0, 5_000, 10_000], 10_000), [[], ["a: 5"], [], []])
    })
  )
})

describe("late events", () => {
  inOurDays("are left out, counted once, and change nothing that is closed, also after a change of owner", () =>
    Effect.gen(function* () {
      const counter = Metric.withAttributes(late, { processor: "summing" })
      const before = (yield* Metric.value(counter)).count
      const { closed, part } = summing(Window.hopping("10 seconds", "5 seconds", { ...never, lateness: "2 seconds" }))
      yield* Topic.publishAll(topic, [reading(1_000), reading(11_999, 2), reading(9_000, 4), reading(14_000, 8)])
      yield* drain([part])
      assert.deepStrictEqual(closed, ["a -5000-5000: 1", "a 0-10000: 5"])
      yield* Topic.publishAll(topic, [reading(9_999, 16), reading(1_000, 32), reading(60_000)])
      yield* drain([part])
      assert.deepStrictEqual(closed.slice(2), ["a 5000-15000: 30", "a 10000-20000: 10"])
      // One of them counted in one of its two windows.
      assert.strictEqual((yield* Metric.value(counter)).count - before, 2)
    })
  )

  inOurDays("times more than a minute ahead of the clock count as that minute", () =>
    Effect.gen(function* () {
      const { closed, part, table } = summing(Window.tumbling("10 seconds", { ...never, retain: "1 day" }))
      const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      yield* Topic.publish(topic, reading(now - zero))
      yield* Topic.publish(topic, reading(now - zero + 1_000 * 60 * 60 * 24 * 365))
      yield* drain([part])
      assert.strictEqual(closed.length, 1)
      // What comes in between is not late.
      yield* Topic.publish(topic, reading(now - zero + 90_000, 5))
      yield* drain([part])
      const values = (yield* all(table)).map(([, value]) => value)
      assert.strictEqual(
        values.reduce((sum, value) => sum + value, 0),
        7
      )
    })
  )
})

describe("closing", () => {
  inOurDays(
    "on an idle partition by the clock, once; and what is kept goes by time too",
    (engine) =>
      Effect.gen(function* () {
        const window = Window.tumbling("1 second", { idle: "1 second", retain: "3 seconds" })
        const { closed, part, table } = summing(window)
        const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
        yield* start([part])
        yield* Topic.publish(topic, reading(now - zero, 3))
        yield* until(engine, "the window is closed", () => closed.length > 0)
        assert.strictEqual((yield* all(table)).length, 1)
        yield* until(engine, "it is not kept any more", () => Effect.map(all(table), (rows) => rows.length === 0))
        assert.deepStrictEqual(
          closed.map((line) => line.slice(line.indexOf(":"))),
          [": 3"]
        )
      }),
    { timeout: 30_000 }
  )

  inOurDays("windows of the clock close by the clock alone", (engine) =>
    Effect.gen(function* () {
      const { closed, part } = summing(Window.tumbling("500 millis", { time: "clock" }))
      yield* start([part])
      // Of long ago, which does not matter.
      yield* Topic.publishAll(topic, [reading(0, 3), reading(10_000, 4)])
      yield* until(engine, "the windows are closed", () => closed.join().match(/: (7|3.*: 4)$/) !== null)
    })
  )

  inOurDays("what waits in the topic counts before silence does", (engine) =>
    Effect.gen(function* () {
      const window = Window.tumbling("1 second", { idle: "1 second" })
      const { part, closed, table } = summing(window)
      const slow = Processor.around(part, (handle, [event]) =>
        Effect.andThen((event.value as { n: number }).n === 1 ? Effect.sleep("3 seconds") : Effect.void, handle)
      )
      const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      yield* Topic.publishAll(topic, [reading(now - zero, 1), reading(now - zero, 2), reading(now - zero, 4)])
      yield* start([slow])
      yield* until(engine, "the window is closed", () => closed.length > 0)
      assert.strictEqual(closed.map((line) => line.slice(line.indexOf(":"))).join(), ": 7")
      assert.deepStrictEqual(yield* all(table), [])
    })
  )

  inOurDays("a unit of work: what it writes and emits is there with the close, once, and in the order of ends", () =>
    Effect.gen(function* () {
      const copies = Topic.make("copies", { schema: Schema.String, partitions: 1 })
      const totals = Table.make("totals", { key: Schema.String, value: Schema.Int, initial: () => 0 })
      const table = sumsIn(Window.tumbling("10 seconds", never))
      const closing = Table.onClose(
        table,
        Effect.fnUntraced(function* (closed) {
          yield* Table.update(totals, "all", (total) => total + closed.value)
          yield* Topic.emit(copies, lineOf(closed))
        })
      )
      const part = Processor.make("p", { topic, tables: [closing, totals] }, ({ key, n }) =>
        Table.update(table, key, (sum) => sum + n)
      )
      const times = [0, 11_000, 22_000, 33_000, 95_000]
      yield* Topic.publishAll(
        topic,
        times.flatMap((at) => [reading(at), reading(at, 10, "b")])
      )
      yield* drain([part])
      const lines = (yield* Stream.runCollect(Topic.stream(copies, { until: "now" }))).map(({ value }) => value)
      assert.deepStrictEqual(lines, [
        "a 0-10000: 1",
        "b 0-10000: 10",
        "a 10000-20000: 1",
        "b 10000-20000: 10",
        "a 20000-30000: 1",
        "b 20000-30000: 10",
        "a 30000-40000: 1",
        "b 30000-40000: 10"
      ])
      assert.strictEqual(yield* Table.lookup(totals, "all"), 44)
    })
  )

  inOurDays("windows of windows: what closes together counts in the longer one before that closes", () =>
    Effect.gen(function* () {
      const short = sumsIn(Window.tumbling("10 seconds", never))
      const long = Table.windowed("long", {
        key: Schema.String,
        value: Schema.Int,
        initial: () => 0,
        window: Window.tumbling("30 seconds", never)
      })
      const closed: Array<string> = []
      const part = Processor.make(
        "p",
        {
          topic,
          tables: [
            Table.onClose(short, ({ key, value }) => Table.update(long, key, (sum) => sum + value)),
            Table.onClose(long, (window) => Effect.sync(() => closed.push(lineOf(window))))
          ]
        },
        ({ key, n }) => Table.update(short, key, (sum) => sum + n)
      )
      yield* Topic.publishAll(
        topic,
        numbers(60).map((n) => reading(n * 2_000))
      )
      yield* Topic.publish(topic, reading(500_000))
      yield* drain([part])
      assert.deepStrictEqual(closed, ["a 0-30000: 15", "a 30000-60000: 15", "a 60000-90000: 15", "a 90000-120000: 15"])
    })
  )

  inOurDays("beside several handlers at once: with all that was in hand, and nothing twice", () =>
    Effect.gen(function* () {
      const keys = ["a", "b", "c", "d"]
      const { closed, part } = summing(Window.tumbling("10 seconds", never), { concurrency: { perKey: 3 } })
      const slow = Processor.around(part, (handle) => Effect.andThen(Effect.yieldNow, handle))
      yield* Topic.publishAll(
        topic,
        numbers(400).map((n) => reading(Math.floor(n / 40) * 10_000, 1, keys[n % 4]!))
      )
      yield* drain([slow])
      const expected = numbers(9).flatMap((n) => keys.map((key) => `${key} ${n * 10_000}-${(n + 1) * 10_000}: 10`))
      assert.deepStrictEqual(closed.toSorted(), expected.toSorted())
    })
  )

  inOurDays("a failure is tried again, ignored with what it staged, or halts with where and why", () =>
    Effect.gen(function* () {
      class Bad extends Schema.TaggedError<Bad>()("Bad", { n: Schema.Int }) {}
      const totals = Table.make("totals", { key: Schema.String, value: Schema.Int, initial: () => 0 })
      const table = sumsIn(Window.tumbling("10 seconds", never))
      const tried: Array<number> = []
      const closing = Table.onClose(
        table,
        Effect.fnUntraced(function* ({ value }) {
          tried.push(value)
          yield* Table.update(totals, "all", (total) => total + value)
          if (value === 2 && tried.filter((n) => n === 2).length < 3) return yield* new Bad({ n: 2 })
          if (value === 3) return yield* new Bad({ n: 3 })
        })
      )
      const part = Processor.make("p", { topic, tables: [closing, totals] }, ({ key, n }) =>
        Table.update(table, key, (sum) => sum + n)
      )
      yield* Topic.publishAll(topic, [reading(0, 1), reading(10_000, 2), reading(20_000, 3), reading(30_000, 4)])
      const retried = part.pipe(Processor.retry({ times: 3 }))
      // Not a policy that needs an event.
      const failure = yield* halted([retried.pipe(Processor.catchTag("Bad", Policy.deadLetter()))])
      assert.strictEqual(failure.processor, "p")
      assert.deepStrictEqual(Cause.squash(failure.cause), new Bad({ n: 3 }))
      assert.deepStrictEqual(tried, [1, 2, 2, 2, 3, 3, 3, 3])
      yield* drain([part.pipe(Processor.catchTag("Bad", Policy.ignore))])
      assert.deepStrictEqual(tried.slice(8), [3])
      assert.strictEqual(yield* Table.lookup(totals, "all"), 3)
      assert.strictEqual((yield* all(table)).length, 1)
      yield* Topic.publish(topic, reading(50_000, 5))
      yield* drain([part.pipe(Processor.catchTag("Bad", Policy.ignore))])
      assert.deepStrictEqual(tried.slice(9), [4])
    })
  )

  inOurDays(
    "once, when the answer to its commit is lost, and another owner goes on",
    () =>
      Effect.gen(function* () {
        const copies = Topic.make("copies", { schema: Schema.String, partitions: 1 })
        const table = sumsIn(Window.tumbling("10 seconds", never))
        const closing = Table.onClose(table, (closed) => Topic.emit(copies, lineOf(closed)))
        const part = Processor.make("p", { topic, tables: [closing] }, ({ key, n }) =>
          Table.update(table, key, (sum) => sum + n)
        )
        yield* Topic.publishAll(topic, [reading(0), reading(10_000, 2), reading(20_000, 4)])
        const { change, state } = losingReply((commit) => commit.emits.length > 0)
        yield* drain([part]).pipe(through(change))
        assert.strictEqual(state.lost, 1)
        assert.deepStrictEqual(yield* told(copies), ["a 0-10000: 1", "a 10000-20000: 2"])
        yield* Topic.publishAll(topic, [reading(5_000, 100), reading(30_000, 8)])
        yield* drain([part])
        assert.deepStrictEqual((yield* told(copies)).slice(2), ["a 20000-30000: 4"])
      }),
    // Sending again waits a moment, and nobody moves the clock of memory meanwhile.
    { on: ["file", "Redis"] }
  )

  inOurDays("of several topics the one that is least far counts; one that is silent goes with the clock", (engine) =>
    Effect.gen(function* () {
      const [fast, slow] = [topicOf("fast"), topicOf("slow")]
      const table = sumsIn(Window.tumbling("10 seconds", { idle: "2 seconds" }))
      const closed: Array<string> = []
      const closing = Table.onClose(table, (window) => Effect.sync(() => closed.push(lineOf(window))))
      const part = Processor.make("p", { topic: [fast, slow], tables: [closing] }, ({ key, n }) =>
        Table.update(table, key, (sum) => sum + n)
      )
      yield* start([part])
      yield* Topic.publish(slow, reading(1_000, 1))
      yield* Topic.publishAll(fast, [reading(1_000, 2), reading(25_000, 4)])
      yield* until(engine, "all is committed", () =>
        Effect.map(Processor.lag("p"), (lags) => lags.every(({ events }) => events === 0))
      )
      assert.deepStrictEqual(closed, [])
      yield* Topic.publish(slow, reading(10_000, 8))
      yield* until(engine, "the first window is closed", () => closed.length > 0)
      assert.deepStrictEqual(closed, ["a 0-10000: 3"])
      yield* until(engine, "the others are closed", () => closed.length === 3)
      assert.deepStrictEqual(closed.slice(1), ["a 10000-20000: 8", "a 20000-30000: 4"])
    })
  )

  inOurDays("a reset empties windows, and time begins again", () =>
    Effect.gen(function* () {
      const { closed, part, table } = summing(Window.tumbling("10 seconds", { ...never, retain: "1 day" }))
      yield* Topic.publishAll(topic, [reading(0), reading(15_000, 2)])
      yield* drain([part])
      yield* Processor.seek(part, "earliest", { resetTables: true })
      assert.deepStrictEqual(yield* all(table), [])
      yield* drain([part])
      assert.deepStrictEqual(closed, ["a 0-10000: 1", "a 0-10000: 1"])
      // Without it everything is late, as far as it is closed.
      yield* Processor.seek(part, "earliest")
      yield* drain([part])
      assert.strictEqual(closed.length, 2)
      assert.deepStrictEqual((yield* all(table)).map(([, value]) => value).toSorted(), [1, 4])
    })
  )
})

describe("refused at definition", () => {
  const sum = { key: Schema.String, value: Schema.Int, initial: () => 0 }
  const cases: ReadonlyArray<readonly [() => unknown, RegExp]> = [
    [() => Window.tumbling("10 seconds", { retain: "9 seconds" }), /retain is 9000 ms, less than the size, 10000 ms/],
    [() => Window.hopping("10 seconds", "11 seconds"), /step is 11000 ms, more than the size/],
    [() => Window.tumbling(0), /size is 0 ms/],
    [() => Window.session("1 second", { time: "field" as never }), /"event" or "clock", not "field"/],
    [() => Table.windowed("t", { ...sum, window: Window.session("1 second") } as never), /say with "merge"/],
    [
      () => Table.windowed("t", { ...sum, window: Window.tumbling("1 second"), merge: Math.max } as never),
      /only sessions are merged/
    ],
    [
      () =>
        Processor.batch("p", { topic, tables: [sumsIn(Window.tumbling(1))], size: 1, within: 1 }, () => Effect.void),
      /a batch has no event time/
    ],
    [() => Processor.stream("p", { topic, tables: [sumsIn(Window.tumbling(1))] }, (events) => events), /pipeline/],
    [
      () =>
        Processor.middleware(
          Processor.make("p", { topic, tables: [sumsIn(Window.tumbling(1))] }, () => Effect.void),
          (events) => events
        ),
      /use Processor.around/
    ]
  ]
  for (const [make, message] of cases) it(String(message), () => void assert.throws(make, message))
})
