/**
 * Tables against a plain model, through crashes, hand-overs, lost answers and pauses: random operations on several tables
 * of one processor, some of them of events that fail. In the end each row is what one pass over the events makes of it.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, HashSet, Option, Schema, Stream } from "effect"
import type * as Engine from "../src/Engine.ts"
import type { Part } from "../src/Part.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { Choices } from "../src/testing/choices.ts"
import { differences } from "../src/testing/History.ts"
import { Simulation, TestProcessor } from "../src/testing/index.ts"
import { numbers } from "./support/engines.ts"

const Step = Schema.Struct({
  key: Schema.String,
  n: Schema.Int,
  what: Schema.Literals(["add", "set", "remove", "join", "leave", "swap", "fail"])
})
type Step = typeof Step.Type

const whats = ["add", "add", "set", "remove", "join", "join", "leave", "swap", "fail"] as const
const keys = ["a", "b", "c", "d", "e"]
const stepsOf = (seed: number, whats: ReadonlyArray<Step["what"]>): ReadonlyArray<Step> => {
  const random = new Choices(seed)
  return numbers(30).map((n) => ({ key: random.pick(keys), n, what: random.pick(whats) }))
}

/** The rows of all tables, as text. */
type Rows = Map<string, string>

const totals = (name: string) =>
  Table.make(`${name}-totals`, { key: Schema.String, value: Schema.Finite, initial: () => 100, changes: true })
const parts = (name: string) =>
  Table.make(`${name}-parts`, {
    key: Schema.String,
    value: Schema.Struct({ n: Schema.Int }),
    initial: () => ({ n: 0 }),
    partitionBy: (key) => key.split("/")[0]!,
    // Longer than any run.
    timeToLive: "1 day"
  })
const groups = (name: string) =>
  Table.sets(`${name}-groups`, { key: Schema.String, member: Schema.Int, changes: { retention: Retention.forever } })

interface Tables {
  readonly totals: Table.Table<string, string, number> & Table.Logged
  readonly parts: Table.Table<string, string, { readonly n: number }>
  readonly groups: Table.Sets<string, string, number>
}

const handle = ({ groups, parts, totals }: Tables, { key, n, what }: Step) =>
  Effect.gen(function* () {
    yield* Table.update(parts, `${key}/${n % 2}`, (part) => ({ n: part.n + 1 }))
    switch (what) {
      case "add":
        return yield* Table.update(totals, key, (total) => total + n)
      case "set":
        return yield* Table.set(totals, key, n)
      case "remove":
        yield* Table.remove(totals, key)
        return yield* Table.remove(parts, `${key}/0`)
      case "join":
        return yield* Table.add(groups, key, n % 4)
      case "leave":
        return yield* Table.discard(groups, key, n % 3)
      case "swap": {
        // Reads its own writes.
        yield* Table.set(totals, key, HashSet.size(yield* Table.change(groups, key, "symmetricDifference", [0, n % 5])))
        return yield* Table.update(totals, key, (total) => total * 2)
      }
      case "fail":
        yield* Table.set(totals, key, -1)
        yield* Table.change(groups, key, "clear", [])
        return yield* Effect.fail("no")
    }
  })

const modelOf = (steps: ReadonlyArray<Step>): Rows => {
  const total = new Map<string, number>()
  const part = new Map<string, number>()
  const group = new Map<string, Set<number>>()
  for (const { key, n, what } of steps) {
    if (what === "fail") continue
    const of = `${key}/${n % 2}`
    part.set(of, (part.get(of) ?? 0) + 1)
    const set = new Set(group.get(key))
    const toggle = (member: number): unknown => (set.has(member) ? set.delete(member) : set.add(member))
    if (what === "add") total.set(key, (total.get(key) ?? 100) + n)
    else if (what === "set") total.set(key, n)
    else if (what === "remove") {
      total.delete(key)
      part.delete(`${key}/0`)
    } else if (what === "join") set.add(n % 4)
    else if (what === "leave") set.delete(n % 3)
    else {
      for (const member of new Set([0, n % 5])) toggle(member)
      total.set(key, set.size * 2)
    }
    group.set(key, set)
  }
  const rows: Rows = new Map()
  for (const [key, value] of total) rows.set(`total ${key}`, String(value))
  for (const [key, value] of part) rows.set(`part ${key}`, String(value))
  for (const [key, set] of group) if (set.size > 0) rows.set(`group ${key}`, [...set].toSorted().join())
  return rows
}

const collect = <K, V>(table: Table.State<string, K, V>) => Stream.runCollect(Table.entries(table))

const storedIn = ({ groups, parts, totals }: Tables) =>
  Effect.gen(function* () {
    const rows: Rows = new Map()
    for (const [key, value] of yield* collect(totals)) rows.set(`total ${key}`, String(value))
    for (const [key, { n }] of yield* collect(parts)) rows.set(`part ${key}`, String(n))
    for (const [key, set] of yield* collect(groups)) rows.set(`group ${key}`, Array.from(set).toSorted().join())
    return rows
  })

const replayed = ({ totals }: Tables) =>
  Effect.map(Stream.runCollect(Topic.stream(Table.changes(totals), { until: "now" })), (events) => {
    const rows: Rows = new Map()
    for (const { value } of events) {
      if (Option.isSome(value.value)) rows.set(`total ${value.key}`, String(value.value.value))
      else rows.delete(`total ${value.key}`)
    }
    return rows
  })

/** As they are compared. */
const listed = (rows: Rows) => new Map([...rows].map(([key, value]) => [key, [value]]))

const topicOf = (name: string) =>
  Topic.make(name, {
    schema: Step,
    partitionBy: "key",
    partitions: 3,
    retention: Retention.consumed({ capacity: 12 })
  })

interface Shape {
  readonly name: string
  readonly topic: Topic.Topic<Step, string>
  readonly tables: Tables
  readonly part: Part<unknown, Engine.Services>
}

const shape = (name: string, kind: "one" | "keyed" | "batch"): Shape => {
  const topic = topicOf(name)
  const [total, part, group] = [totals(name), parts(name), groups(name)]
  const tables = { totals: total, parts: part, groups: group }
  // A cache that is far too small: rows come and go.
  const options = { topic, tables: [total, part, group], cache: { rows: 2 } }
  const work = (step: Step) => Effect.andThen(Effect.yieldNow, handle(tables, step))
  const processor =
    kind === "batch"
      ? Processor.batch(name, { ...options, size: 4, within: "200 millis" }, (steps) =>
          Effect.forEach(steps, work, { discard: true })
        )
      : kind === "keyed"
        ? Processor.make(name, { ...options, concurrency: { perKey: 3 } }, work)
        : Processor.make(name, options, work)
  const handled = processor.pipe(Processor.catch(Policy.ignore))
  // The names of its tables are not known to the compiler.
  return { name, topic, tables, part: handled as unknown as Part<unknown, Engine.Services> }
}

const shapes = [shape("one", "one"), shape("keyed", "keyed"), shape("batch", "batch")]

const simulate = (seed: number) => {
  const { name, part, tables, topic } = shapes[seed % shapes.length]!
  // A batch that fails is ignored whole, whatever is in it.
  const steps = stepsOf(seed, name === "batch" ? whats.filter((what) => what !== "fail") : whats)
  const check = Effect.gen(function* () {
    const rows = yield* storedIn(tables)
    const ofTotals = new Map([...rows].filter(([key]) => key.startsWith("total")))
    return [
      ...differences("the tables", listed(modelOf(steps)), listed(rows)),
      ...differences("the changes, replayed", listed(ofTotals), listed(yield* replayed(tables)))
    ]
  })
  return Simulation.run(seed, {
    parts: [part],
    events: steps.map((step) => TestProcessor.event(topic, step)),
    check
  })
}

describe("tables", () => {
  it.live(
    "are what one pass over the events makes of them, whatever happens on the way",
    () =>
      Effect.gen(function* () {
        let moves = 0
        for (const seed of numbers(60)) {
          const { lost, reordered, stale, steps, violations } = yield* simulate(seed)
          const told = [...steps, ...violations.map((text) => `!! ${text}`)].join("\n")
          const wrong = { lost, reordered, stale, violations: violations.length }
          assert.deepStrictEqual(wrong, { lost: 0, reordered: 0, stale: 0, violations: 0 }, `seed ${seed}\n${told}`)
          moves += steps.length
        }
        assert.isAbove(moves, 300)
      }),
    60_000
  )
})
