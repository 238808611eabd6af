/**
 * Parked events in simulated trouble: workers crash, hang and lose answers while keys wait aside. Whatever happens, each
 * event counts once, in the order of its key. `SEEDS` as in `simulation.test.ts`.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule, Schema, Stream } from "effect"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { Simulation, TestProcessor } from "../src/testing/index.ts"
import { numbers } from "./support/engines.ts"

const Work = Schema.Struct({ key: Schema.String, n: Schema.Int })
type Work = typeof Work.Type

class Bad extends Schema.TaggedError<Bad>()("Bad", { n: Schema.Int }) {}

const topic = Topic.make("work", { schema: Work, partitionBy: "key", partitions: 3, retention: Retention.forever })
const keys = ["a", "b", "c", "d", "e"]
const works = numbers(30).map((n): Work => ({ key: keys[(n * 7 + (n >> 2)) % keys.length]!, n }))

const times = Schedule.spaced("400 millis").pipe(Schedule.upTo({ times: 4 }))

const shapeOf = <const Name extends string>(
  name: Name,
  make: (
    options: {
      readonly topic: typeof topic
      readonly tables: readonly [Table.Table<Name, string, ReadonlyArray<number>>]
    },
    handle: (work: Work, attempt: number) => Effect.Effect<void, Bad, Table.Writes<Name>>
  ) => Processor.Processor<any, never>
) => {
  const table = Table.make(name, { key: Schema.String, value: Schema.Array(Schema.Int), initial: () => [] })
  // Every fifth event fails twice; one of them is given up for good.
  const part = make({ topic, tables: [table] }, ({ key, n }, attempt) =>
    Effect.andThen(
      Table.update(table, key, (list) => [...list, n]) as unknown as Effect.Effect<void, never, Table.Writes<Name>>,
      n === 20 || (n % 5 === 0 && attempt < 3) ? Effect.fail(new Bad({ n })) : Effect.void
    )
  ).pipe(Processor.catchTag("Bad", Policy.park({ schedule: times, capacity: 4 })), Processor.catch(Policy.deadLetter()))
  const check = Effect.gen(function* () {
    const problems: Array<string> = []
    const rows = new Map(yield* Stream.runCollect(Table.entries(table)))
    for (const key of keys) {
      const expected = works.filter((work) => work.key === key && work.n !== 20).map(({ n }) => n)
      const found = rows.get(key) ?? []
      if (found.join() !== expected.join()) problems.push(`key ${key}: ${found.join()} is not ${expected.join()}`)
    }
    const letters = yield* Stream.runCollect(Topic.deadLetters(topic))
    if (letters.length !== 1 || letters[0]!.attempts < 5) {
      problems.push(`dead letters: ${letters.map(({ attempts, source }) => `${source.offset} after ${attempts}`)}`)
    }
    return problems
  })
  return { name, part, check }
}

const shapes = [
  shapeOf("one", (options, handle) => Processor.make("one", options, (work, event) => handle(work, event.attempt))),
  shapeOf("keyed", (options, handle) =>
    Processor.make("keyed", { ...options, concurrency: { perKey: 2 } }, (work, event) =>
      Effect.andThen(Effect.yieldNow, handle(work, event.attempt))
    )
  ),
  shapeOf("batched", (options, handle) =>
    Processor.batch("batched", { ...options, size: 4, within: "100 millis" }, (values, events) =>
      Effect.forEach(values, (work, i) => handle(work, events[i]!.attempt))
    )
  )
]

const seeds = Number(process.env["SEEDS"] ?? 2_000) / 20

describe("parked events, whatever goes wrong", () => {
  for (const [i, { check, name, part }] of shapes.entries()) {
    it(`count once, in the order of their key: ${name}`, async () => {
      for (let seed = i; seed < seeds; seed += shapes.length) {
        const events = works.map((work) => TestProcessor.event(topic, work))
        const report = await Effect.runPromise(Simulation.run(seed, { parts: [part], events, check }))
        // Of a failed batch later events were begun before an earlier one comes back: what counts is in the tables.
        const violations = report.violations.filter((text) => name !== "batched" || !text.includes(" began "))
        assert.isEmpty(violations, `${name}, seed ${seed}\n${report.violations.join("\n")}\n${report.steps.join("\n")}`)
      }
    }, 1_000_000)
  }
})
