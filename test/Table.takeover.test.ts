/** A partition's new owner begins with what it needs, however much there is: nothing is recovered, nothing is replayed. */
import { assert, describe } from "@effect/vitest"
import { type Context, Effect, Schema } from "effect"
import * as Processor from "../src/Processor.ts"
import * as Table from "../src/Table.ts"
import { TableStore } from "../src/TableStore.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, drain, numbers, start } from "./support/engines.ts"

/** Each event writes so many rows, which is nearly what one commit takes. */
const perEvent = 4_000

const wide = (name: string) => {
  const topic = Topic.make(name, { schema: Schema.Int, partitions: 1 })
  const rows = Table.make(`${name}-rows`, { key: Schema.Int, value: Schema.Int, initial: () => 0, scope: "partition" })
  const write = (first: number, count: number) =>
    Effect.forEach(numbers(count, first), (n) => Table.set(rows, n, n), { discard: true })
  const part = (events: Array<number>, rowsOfEvent: number) =>
    Processor.make(name, { topic, tables: [rows] }, (n) =>
      Effect.andThen(
        Effect.sync(() => void events.push(n)),
        // Below zero: it is only looked at.
        n < 0 ? Table.get(rows, -n) : write(n * rowsOfEvent, rowsOfEvent)
      )
    )
  return { topic, rows, part }
}

/** What the next owner asks the tables for until it has handled its first event. */
const takeOver = (name: string, events: number, rowsOfEvent: number) =>
  Effect.gen(function* () {
    const { part, rows, topic } = wide(name)
    yield* Topic.publishAll(topic, numbers(events))
    yield* drain([part([], rowsOfEvent)])
    const last = events * rowsOfEvent - 1
    assert.strictEqual(yield* Table.lookup(rows, last, { partition: 0 }), last)
    yield* Topic.publish(topic, -last)
    let [calls, answered] = [0, 0]
    const counted = <A, E, R>(read: Effect.Effect<A, E, R>) =>
      Effect.tap(read, (answer) =>
        Effect.sync(() => {
          calls++
          answered += JSON.stringify(answer, (_, value) => (typeof value === "bigint" ? 0 : value)).length
        })
      )
    const watch = (store: Context.Service.Shape<typeof TableStore>) =>
      TableStore.of({
        ...store,
        readMany: (...asked) => counted(store.readMany(...asked)),
        readTimed: (...asked) => counted(store.readTimed(...asked)),
        entries: (...asked) => counted(store.entries(...asked))
      })
    const seen: Array<number> = []
    const worker = yield* start([part(seen, rowsOfEvent)], { settle: 0 }).pipe(
      Effect.provideServiceEffect(TableStore, Effect.map(TableStore, watch))
    )
    yield* worker.idle
    yield* worker.close
    // No event that was handled before comes again.
    assert.deepStrictEqual(seen, [-last])
    return { calls, answered }
  })

describe("a take-over", () => {
  behaviour(
    "of a table with 40,000 keys asks no more of the engine than one with 10, a page of rows aside",
    () =>
      Effect.gen(function* () {
        const small = yield* takeOver("small", 1, 10)
        const large = yield* takeOver("large", 10, perEvent)
        assert.isAtMost(large.calls, small.calls + 1)
        // The first page of a table is fetched with the first row that is asked for; all of it would be megabytes.
        assert.isBelow(large.answered, 50_000)
      }),
    { timeout: 60_000 }
  )
})
