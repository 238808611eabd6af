/**
 * Windows in simulated trouble: workers crash, hang and lose answers while windows close. Whatever happens, each closes
 * once, with its final value. `SEEDS` as in `simulation.test.ts`.
 */
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Duration, Effect, Schema, Stream } from "effect"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { Simulation, TestProcessor } from "../src/testing/index.ts"
import * as Window from "../src/Window.ts"
import { numbers } from "./support/engines.ts"

const Work = Schema.Struct({ key: Schema.String, at: Schema.Int, n: Schema.Int })
type Work = typeof Work.Type

/** Before any time that a simulation begins at. */
const zero = -1_000_000_000

const topic = Topic.make("work", {
  schema: Work,
  partitionBy: "key",
  partitions: 2,
  retention: Retention.forever,
  timestamp: ({ at }) => DateTime.makeUnsafe(zero + at)
})
const closed = Topic.make("closed", { schema: Schema.String, partitions: 2 })
const keys = ["a", "b", "c", "d"]

/** A second further with each event of a key, and once ten. */
const works = numbers(32).map((n): Work => {
  const at = Math.floor(n / keys.length) * 1_000
  return { key: keys[n % keys.length]!, at: at + (n < 16 ? 0 : 10_000), n }
})

/** Far enough behind all others to close them, one for each partition: whichever key lies in it. */
const last = numbers(keys.length).map((n): Work => ({ key: keys[n]!, at: 60_000, n: 1_000 }))

const options = { idle: Duration.infinity }

const rowOf = (all: ReadonlyArray<number>): string => all.toSorted((a, b) => a - b).join("+")

const shapeOf = <const Name extends string>(
  name: Name,
  window: Window.Window,
  concurrency: { readonly perKey: number },
  /** The numbers of each window of a key. */
  cut: (all: ReadonlyArray<Work>) => ReadonlyArray<ReadonlyArray<Work>>
) => {
  const rest = { key: Schema.String, value: Schema.Array(Schema.Int), initial: () => [] as ReadonlyArray<number> }
  const table =
    window["~millrace/Window"] === "session"
      ? Table.windowed(name, { ...rest, window: window as Window.Session, merge: (a, b) => [...a, ...b] })
      : Table.windowed(name, { ...rest, window })
  const totals = Table.make(`${name}-totals`, { key: Schema.String, value: Schema.Int, initial: () => 0 })
  const closing = Table.onClose(table, ({ key, value }) =>
    Effect.all([
      Table.update(totals, key, (windows) => windows + 1),
      Topic.emit(closed, `${key}: ${rowOf(value)}`, { partition: keys.indexOf(key) % 2 })
    ])
  )
  const part = Processor.make(name, { topic, tables: [closing, totals], concurrency }, ({ key, n }) =>
    Effect.andThen(
      Effect.yieldNow,
      Table.update(table, key, (all) => [...all, n])
    )
  )
  const expected = keys.flatMap((key) =>
    cut(works.filter((work) => work.key === key)).map((all) => `${key}: ${rowOf(all.map(({ n }) => n))}`)
  )
  const check = Effect.gen(function* () {
    const found = (yield* Stream.runCollect(Topic.stream(closed, { until: "now" }))).map(({ value }) => value)
    const problems: Array<string> = []
    if (found.toSorted().join("\n") !== expected.toSorted().join("\n")) {
      problems.push(`closed: ${found.toSorted().join(", ")} is not ${expected.toSorted().join(", ")}`)
    }
    for (const [key, windows] of yield* Stream.runCollect(Table.entries(totals))) {
      const count = expected.filter((line) => line.startsWith(`${key}:`)).length
      if (windows !== count) problems.push(`key ${key}: ${windows} windows are not ${count}`)
    }
    return problems
  })
  return { name, part, check }
}

const bySize = (size: number) => (all: ReadonlyArray<Work>) =>
  Array.from(Map.groupBy(all, ({ at }) => Math.floor((zero + at) / size)).values())

const shapes = [
  shapeOf("tumbling", Window.tumbling("3 seconds", options), { perKey: 1 }, bySize(3_000)),
  shapeOf("keyed", Window.tumbling("2 seconds", options), { perKey: 2 }, bySize(2_000)),
  shapeOf("session", Window.session("5 seconds", options), { perKey: 1 }, (all) => [
    all.filter(({ n }) => n < 16),
    all.filter(({ n }) => n >= 16)
  ]),
  shapeOf("sliding", Window.sliding("1 second", 0, options), { perKey: 1 }, (all) =>
    all.map((work, i) => all.slice(0, i + 1).filter(({ at }) => at >= work.at - 1_000))
  )
]

const seeds = Number(process.env["SEEDS"] ?? 2_000) / 20

describe("windows, whatever goes wrong", () => {
  for (const [i, { check, name, part }] of shapes.entries()) {
    it(`close once, with their final value: ${name}`, async () => {
      for (let seed = i; seed < seeds; seed += shapes.length) {
        const events = [...works, ...last].map((work) => TestProcessor.event(topic, work))
        const { steps, violations } = await Effect.runPromise(Simulation.run(seed, { parts: [part], events, check }))
        assert.isEmpty(violations, `${name}, seed ${seed}\n${violations.join("\n")}\n${steps.join("\n")}`)
      }
    }, 1_000_000)
  }
})
