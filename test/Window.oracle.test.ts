/**
 * Windows against a plain model: random events, out of order and late, handled by one owner after the other. What closed,
 * once and with its final value, and what is open is what the model says.
 */
import { assert, describe } from "@effect/vitest"
import { Clock, Effect, Metric, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { late } from "../src/Metrics.ts"
import * as Processor from "../src/Processor.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { Choices } from "../src/testing/choices.ts"
import * as Window from "../src/Window.ts"
import { drain, numbers, start, type TestEngine, until } from "./support/engines.ts"
import { expect, type Given, type Kind } from "./support/windowOracle.ts"
import { inOurDays, lineOf, never, sumsIn, topicOf, zero } from "./support/windows.ts"

const keys = ["a", "b", "c"]

const windowOf = (kind: Kind, options: Window.Options): Window.Window =>
  kind._tag === "Session"
    ? Window.session(kind.gap, options)
    : kind._tag === "Sliding"
      ? Window.sliding(kind.before, kind.after, options)
      : kind.size === kind.step
        ? Window.tumbling(kind.size, options)
        : Window.hopping(kind.size, kind.step, options)

const kinds: Record<string, (random: Choices) => Kind> = {
  tumbling: (random) => {
    const size = 1 + random.below(2_000)
    return { _tag: "Hopping", size, step: size }
  },
  hopping: (random) => {
    const step = 1 + random.below(700)
    return { _tag: "Hopping", size: step * (1 + random.below(4)) + random.below(step), step }
  },
  sliding: (random) => ({ _tag: "Sliding", before: random.below(1_500), after: random.below(1_500) }),
  session: (random) => ({ _tag: "Session", gap: 1 + random.below(800) })
}

/** Mostly forward, in steps of all sizes; some come earlier than those before them, some much too late. */
const givenBy = (random: Choices): ReadonlyArray<Given> => {
  let at = 5_000
  return numbers(40 + random.below(40)).map((i) => {
    at += random.below(random.chance(0.1) ? 5_000 : 300)
    const back = random.chance(0.3) ? random.below(random.chance(0.2) ? 5_000 : 800) : 0
    return { key: random.pick(keys), at: Math.max(0, at - back), n: i + 1 }
  })
}

const copies = Topic.make("closed", { schema: Schema.String, partitions: 1 })

/** Sums up by key; what closes is emitted, so it counts only if it is committed. */
const partOf = (window: Window.Window, topic: ReturnType<typeof topicOf>, perKey: number) => {
  const table = sumsIn(window, topic.name)
  const closing = Table.onClose(table, (closed) => Topic.emit(copies, lineOf(closed)))
  const part = Processor.make(
    topic.name,
    { topic, tables: [closing], concurrency: { perKey } },
    Effect.fnUntraced(function* ({ key, n }) {
      if (perKey > 1) yield* Effect.yieldNow
      yield* Table.update(table, key, (sum) => sum + n)
    })
  )
  return { table, part }
}

const seedsOn = (engine: TestEngine): number => Number(process.env["SEEDS"] ?? (engine.virtual ? 30 : 3))

describe("windows by event time, against a model", () => {
  for (const [name, make] of Object.entries(kinds)) {
    inOurDays(
      name,
      (engine) =>
        Effect.gen(function* () {
          let told = 0
          for (let seed = 0; seed < seedsOn(engine); seed++) {
            const random = new Choices(seed * 31 + name.length)
            const kind = make(random)
            const lateness = random.below(1_000)
            const given = givenBy(random)
            const topic = topicOf(`${name}-${seed}`)
            const window = windowOf(kind, { ...never, lateness })
            // What several handlers find late depends on which of them came first; alone it does not.
            const { part, table } = partOf(window, topic, 1)
            const counter = Metric.withAttributes(late, { processor: topic.name })
            const before = (yield* Metric.value(counter)).count
            for (let from = 0; from < given.length; ) {
              const count = 10 + random.below(given.length)
              yield* Topic.publishAll(topic, given.slice(from, from + count))
              if (random.chance(0.5)) yield* drain([part], { limit: 1 + random.below(count) })
              yield* drain([part])
              from += count
            }
            const expected = expect(kind, given, lateness)
            const lines = (yield* Stream.runCollect(Topic.stream(copies, { until: "now" }))).map(({ value }) => value)
            const about = `seed ${seed}: ${JSON.stringify({ kind, lateness })}`
            assert.deepStrictEqual(lines.slice(told).toSorted(), expected.closed, about)
            told = lines.length
            const open = (yield* Stream.runCollect(Table.entries(table))).map(([key, value]) => `${key}: ${value}`)
            assert.deepStrictEqual(open.toSorted(), expected.open, about)
            assert.strictEqual((yield* Metric.value(counter)).count - before, expected.late, about)
          }
        }),
      { timeout: 20_000 }
    )
  }

  inOurDays(
    "several handlers at once: nothing is lost and nothing closes twice",
    (engine) =>
      Effect.gen(function* () {
        let told = 0
        for (let seed = 0; seed < seedsOn(engine) / 2; seed++) {
          const random = new Choices(seed)
          const kind = kinds[random.pick(Object.keys(kinds).slice(0, 2))]!(random)
          const given = givenBy(random)
          const topic = topicOf(`keyed-${seed}`)
          // Nothing is late.
          const { part, table } = partOf(windowOf(kind, { ...never, lateness: 10_000 }), topic, 3)
          yield* Topic.publishAll(topic, given)
          yield* Topic.publish(topic, { key: "z", at: 1_000_000, n: 1 })
          yield* drain([part])
          const expected = expect(kind, [...given, { key: "z", at: 1_000_000, n: 1 }], 10_000)
          const lines = (yield* Stream.runCollect(Topic.stream(copies, { until: "now" }))).map(({ value }) => value)
          assert.deepStrictEqual(lines.slice(told).toSorted(), expected.closed, `seed ${seed}`)
          told = lines.length
          assert.strictEqual((yield* Stream.runCollect(Table.entries(table))).length, expected.open.length)
        }
      }),
    { timeout: 20_000 }
  )
})

describe("windows by the clock, against a model", () => {
  for (const [name, make] of Object.entries(kinds)) {
    inOurDays(
      name,
      (engine) =>
        Effect.gen(function* () {
          let told = 0
          for (let seed = 0; seed < seedsOn(engine); seed++) {
            const random = new Choices(seed * 37 + name.length)
            const kind = make(random)
            const topic = topicOf(`${name}-clock-${seed}`)
            const window = windowOf(kind, { time: "clock" })
            const { part } = partOf(window, topic, 1)
            const worker = yield* start([part])
            const given: Array<Given> = []
            for (let i = 0; i < 15; i++) {
              yield* TestClock.adjust(random.below(600))
              const key = random.pick(keys)
              given.push({ key, at: (yield* Clock.currentTimeMillis) - zero, n: i + 1 })
              yield* Topic.publish(topic, { key, at: random.below(1_000), n: i + 1 })
              // Handled at this very moment.
              yield* worker.idle
            }
            yield* TestClock.adjust("10 seconds")
            yield* worker.stop
            const lines = (yield* Stream.runCollect(Topic.stream(copies, { until: "now" }))).map(({ value }) => value)
            const end = (yield* Clock.currentTimeMillis) - zero
            const { closed } = expect(kind, [...given, { key: "z", at: end, n: 0 }], 0)
            assert.deepStrictEqual(lines.slice(told).toSorted(), closed, `seed ${seed}: ${JSON.stringify(kind)}`)
            told = lines.length
          }
        }),
      // Elsewhere nobody can say what time it was when an event was handled.
      { on: ["memory"], timeout: 20_000 }
    )
  }

  inOurDays("each event counts in one of the windows that follow each other", (engine) =>
    Effect.gen(function* () {
      const topic = topicOf()
      const { part } = partOf(Window.tumbling("200 millis", { time: "clock" }), topic, 1)
      const worker = yield* start([part])
      for (const n of numbers(10)) {
        yield* Topic.publish(topic, { key: "a", at: 0, n: n + 1 })
        yield* engine.elapse(60)
      }
      const sum = Effect.map(Stream.runCollect(Topic.stream(copies, { until: "now" })), (events) => {
        const spans = events.map(({ value }) => value.slice(0, value.indexOf(":")))
        assert.strictEqual(new Set(spans).size, spans.length)
        return events.reduce((sum, { value }) => sum + Number(value.slice(value.indexOf(": ") + 2)), 0)
      })
      yield* until(engine, "all windows are closed", () => Effect.map(sum, (sum) => sum === 55))
      yield* worker.stop
      assert.strictEqual(yield* sum, 55)
    })
  )
})
