/** A partition's new owner begins with what it needs, however much there is: nothing is recovered, nothing is replayed. */
import { assert, describe } from "@effect/vitest"
import { type Context, Effect, Schema } from "effect"
import * as Processor from "../src/Processor.ts"
import * as Table from "../src/Table.ts"
import { TableStore } from "../src/TableStore.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, drain, numbers, start } from "./support/engines.ts"

/** Write so many rows, nearly as many as one commit takes; or look at one. */
const Step = Schema.Union([
  Schema.TaggedStruct("Write", { from: Schema.Int, count: Schema.Int }),
  Schema.TaggedStruct("Look", { at: Schema.Int })
])
const steps = Topic.make("steps", { schema: Step, partitions: 1 })
const rows = Table.make("rows", { key: Schema.Int, value: Schema.Int, initial: () => 0, scope: "partition" })

const part = (seen: Array<string>) =>
  Processor.make(
    "p",
    { topic: steps, tables: [rows] },
    Effect.fnUntraced(function* (step) {
      seen.push(step._tag)
      if (step._tag === "Look") seen.push(String(yield* Table.get(rows, step.at)))
      else yield* Effect.forEach(numbers(step.count, step.from), (n) => Table.set(rows, n, n), { discard: true })
    })
  )

/** What the next owner asks the tables for until it has handled its first event, which looks at one row. */
const takeOver = (at: number) =>
  Effect.gen(function* () {
    yield* Topic.publish(steps, { _tag: "Look", at })
    let [calls, answered] = [0, 0]
    const counted = <A, E, R>(read: Effect.Effect<A, E, R>) =>
      Effect.tap(read, (answer) =>
        Effect.sync(() => {
          calls++
          answered += JSON.stringify(answer).length
        })
      )
    const watch = (store: Context.Service.Shape<typeof TableStore>) =>
      TableStore.of({
        ...store,
        readMany: (...asked) => counted(store.readMany(...asked)),
        readTimed: (...asked) => counted(store.readTimed(...asked)),
        entries: (...asked) => counted(store.entries(...asked))
      })
    const seen: Array<string> = []
    const worker = yield* start([part(seen)], { settle: 0 }).pipe(
      Effect.provideServiceEffect(TableStore, Effect.map(TableStore, watch))
    )
    yield* worker.idle
    yield* worker.close
    // No event that was handled before comes again.
    assert.deepStrictEqual(seen, ["Look", String(at)])
    return { calls, answered }
  })

describe("a take-over", () => {
  behaviour(
    "of a table with 40,000 keys asks no more of the engine than one with 10, a page of rows aside",
    () =>
      Effect.gen(function* () {
        yield* Topic.publish(steps, { _tag: "Write", from: 0, count: 10 })
        yield* drain([part([])])
        const small = yield* takeOver(9)
        yield* Topic.publishAll(
          steps,
          numbers(10).map((n) => ({ _tag: "Write" as const, from: n * 4_000, count: 4_000 }))
        )
        yield* drain([part([])])
        const large = yield* takeOver(39_999)
        assert.isAtMost(large.calls, small.calls + 1)
        // The first page of a table is fetched with the first row that is asked for; all of it would be megabytes.
        assert.isBelow(large.answered, 50_000)
      }),
    { timeout: 60_000 }
  )
})
