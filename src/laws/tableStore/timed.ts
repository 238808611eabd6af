/** The laws of rows that expire: by the engine's clock, from the commit that wrote them, for every reader alike. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { Broker, type Commit } from "../../Broker.ts"
import { TableStore } from "../../TableStore.ts"
import {
  claimed,
  commit,
  commitOf,
  fence,
  type Laws,
  range,
  register,
  text,
  topicOf,
  unique
} from "../broker/support.ts"

type Row = Commit["rows"][number]

/** So long that no few steps of a law take it, so short that it can be waited for; in milliseconds. */
const short = 1_000
const long = 60_000

const row = (key: string, timeToLive: number, value: string | undefined = `of ${key}`): Row => ({
  table: "t",
  key,
  value,
  timeToLive
})
const gone = (key: string): Row => ({ table: "t", key, value: undefined, timeToLive: short })

const owner = Effect.gen(function* () {
  const processor = unique("p")
  const topic = topicOf()
  yield* register(processor, [topic])
  yield* claimed(processor, [topic], fence(1))
  return { processor, topic }
})

const write = (processor: string, number: number, ...rows: ReadonlyArray<Row>) =>
  commit(commitOf(processor, fence(1), number, { rows }))

const values = (processor: string, ...keys: ReadonlyArray<string>) =>
  TableStore.use((tables) =>
    Effect.map(tables.readTimed(processor, "t", 0, keys), (rows) => rows.map((row) => text(row?.value)))
  )

const left = (processor: string, key: string) =>
  TableStore.use((tables) => Effect.map(tables.readTimed(processor, "t", 0, [key]), ([row]) => row?.left))

const scanned = (processor: string, timed: boolean) =>
  TableStore.use((tables) =>
    Effect.map(tables.entries(processor, "t", 0, "", timed), ({ rows }) => rows.map(([key]) => key).toSorted())
  )

const due = (processor: string, count = 100) => TableStore.use((tables) => tables.due(processor, "t", 0, count))

export const timedLaws = ({ elapse, it }: Laws): void => {
  it.effect("a row is there for its time, and not seen any longer; the others stay", () =>
    Effect.gen(function* () {
      const { processor } = yield* owner
      yield* write(processor, 1, row("short", short), row("removed", short))
      yield* write(processor, 2, row("long", long), { ...gone("removed"), timeToLive: long })
      assert.deepStrictEqual(yield* values(processor, "long", "none", "short", "removed"), [
        "of long",
        undefined,
        "of short",
        undefined
      ])
      assert.isAtMost((yield* left(processor, "short"))!, short)
      const before = (yield* left(processor, "long"))!
      assert.isAtMost(before, long)
      assert.isAbove(before, long - 30_000)
      yield* elapse(short + 50)
      assert.deepStrictEqual(yield* values(processor, "long", "short"), ["of long", undefined])
      assert.isBelow((yield* left(processor, "long"))!, before)
      assert.deepStrictEqual(yield* scanned(processor, true), ["long"])
      // It is stored until its owner removes it.
      assert.deepStrictEqual(yield* scanned(processor, false), ["long", "short"])
    })
  )

  it.effect("what has expired is due, the first to expire first, and no more of it than was asked for", () =>
    Effect.gen(function* () {
      const { processor } = yield* owner
      assert.deepStrictEqual(yield* due(processor), { keys: [], next: undefined })
      assert.deepStrictEqual(yield* due(unique("nobody")), { keys: [], next: undefined })
      // All rows of a table live as long; those of two commits end one after the other.
      yield* write(processor, 1, row("a", short), row("b", short))
      yield* elapse(20)
      yield* write(processor, 2, row("0", short))
      const waiting = yield* due(processor)
      assert.deepStrictEqual(waiting.keys, [])
      assert.isAtMost(waiting.next!, short)
      assert.isAbove(waiting.next!, 0)
      yield* elapse(short + 50)
      const all = yield* due(processor)
      assert.deepStrictEqual([all.keys.slice(0, 2).toSorted(), all.keys[2], all.next], [["a", "b"], "0", undefined])
      const some = yield* due(processor, 2)
      assert.deepStrictEqual([some.keys.toSorted(), some.next], [["a", "b"], 0])
      yield* write(processor, 3, gone("a"), gone("b"), gone("0"))
      assert.deepStrictEqual(yield* due(processor), { keys: [], next: undefined })
      assert.deepStrictEqual(yield* scanned(processor, false), [])
    })
  )

  it.effect("a row that is written again lives anew; one that is removed is not due", () =>
    Effect.gen(function* () {
      const { processor } = yield* owner
      yield* write(processor, 1, row("again", short), row("removed", short), row("once", short))
      yield* write(processor, 2, row("again", long, "second"), { ...gone("removed"), timeToLive: long })
      yield* elapse(short + 50)
      assert.deepStrictEqual((yield* due(processor)).keys, ["once"])
      assert.deepStrictEqual(yield* values(processor, "again", "once"), ["second", undefined])
    })
  )

  it.effect("a commit that comes twice, late, or from somebody else lengthens no row's life and ends none", () =>
    Effect.gen(function* () {
      const { processor, topic } = yield* owner
      yield* write(processor, 1, row("b", long))
      const first = commitOf(processor, fence(1), 2, { rows: [row("a", short)] })
      yield* commit(first)
      const before = (yield* left(processor, "a"))!
      yield* elapse(60)
      assert.deepStrictEqual(yield* commit(first), [{ _tag: "DoneBefore" }])
      assert.isBelow((yield* left(processor, "a"))!, before)
      yield* write(processor, 3, row("c", long))
      assert.deepStrictEqual(yield* commit(first), [{ _tag: "WentBack", found: 4 }])
      yield* claimed(processor, [topic], fence(2, "two"))
      const late = commitOf(processor, fence(1), 4, { rows: [row("a", long), { ...gone("b"), timeToLive: long }] })
      assert.deepStrictEqual(yield* commit(late), [{ _tag: "Fenced", inForce: 2n }])
      yield* elapse(short + 50)
      assert.deepStrictEqual((yield* due(processor)).keys, ["a"])
      assert.deepStrictEqual(yield* values(processor, "a", "b"), [undefined, "of b"])
    })
  )

  it.effect("one commit takes 5,000 rows that expire, and another removes them", () =>
    Effect.gen(function* () {
      const { processor } = yield* owner
      const keys = range(5_000, "k")
      yield* write(processor, 1, ...keys.map((key) => row(key, short)))
      yield* elapse(short + 50)
      assert.lengthOf((yield* due(processor, 10_000)).keys, 5_000)
      yield* write(processor, 2, ...keys.map(gone))
      assert.deepStrictEqual(yield* due(processor), { keys: [], next: undefined })
      assert.deepStrictEqual(yield* scanned(processor, false), [])
    })
  )

  it.effect("a processor that is reset or removed has nothing due", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const { processor, topic } = yield* owner
      yield* write(processor, 1, row("a", short))
      const { epoch, incarnation } = fence(1)
      const reset = { processor, partition: 0, number: 2, topics: [topic], to: "earliest", reset: true } as const
      assert.deepStrictEqual(yield* broker.seek({ epoch, incarnation, ...reset }), { _tag: "Done" })
      assert.deepStrictEqual(yield* due(processor), { keys: [], next: undefined })
      yield* write(processor, 3, row("b", short))
      yield* broker.unregister(processor)
      assert.deepStrictEqual(yield* due(processor), { keys: [], next: undefined })
      assert.deepStrictEqual(yield* values(processor, "a", "b"), [undefined, undefined])
    })
  )

  it.effect("rows from before a table had a time to live do not expire", () =>
    Effect.gen(function* () {
      const { processor } = yield* owner
      yield* write(processor, 1, { table: "t", key: "old", value: "of old" })
      yield* write(processor, 2, row("new", short))
      yield* elapse(short + 50)
      assert.deepStrictEqual(yield* values(processor, "old", "new"), ["of old", undefined])
      assert.isUndefined(yield* left(processor, "old"))
      assert.deepStrictEqual(yield* scanned(processor, true), ["old"])
    })
  )
}
