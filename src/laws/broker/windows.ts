/** Laws of tables with windows: what is due, and how far time has come, change with commits alone and as one with them. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { Broker, type Windows } from "../../Broker.ts"
import { TableStore } from "../../TableStore.ts"
import { claimed, commit, commitOf, fence, type Laws, range, register, topicOf, unique } from "./support.ts"

const owner = Effect.gen(function* () {
  const processor = unique("p")
  const topics = [topicOf(2), topicOf(2)] as const
  yield* register(processor, topics)
  yield* claimed(processor, topics, fence(1))
  let number = 0
  const change = (windows: Windows) =>
    Effect.suspend(() => commit(commitOf(processor, fence(1), ++number, { windows })))
  return { processor, topics, change }
})

const put = (at: number | undefined, ...keys: ReadonlyArray<string>) => keys.map((key) => ({ table: "t", key, at }))

const due = (processor: string, count = 1_000, table = "t", partition = 0) =>
  TableStore.use((tables) =>
    Effect.map(tables.windowsDue(processor, table, partition, count), ({ rows }) =>
      rows.map(({ at, key }) => `${key} ${at}`)
    )
  )

const sorted = (times: Windows["times"]) => times.toSorted((a, b) => (a.source < b.source ? -1 : 1))

export const windowLaws = ({ elapse, it }: Laws): void => {
  it.effect("what is due is told by time and then by key; a row is due once, and the last commit says when", () =>
    Effect.gen(function* () {
      const { change, processor } = yield* owner
      assert.deepStrictEqual(yield* due(processor), [])
      yield* change({ due: [...put(1_577_836_800_000, "b", "a"), ...put(-5, "old"), ...put(2_000, "gone")], times: [] })
      yield* change({ due: [...put(1_577_836_800_001, "b"), ...put(undefined, "gone", "never there")], times: [] })
      assert.deepStrictEqual(yield* due(processor), ["old -5", "a 1577836800000", "b 1577836800001"])
      assert.deepStrictEqual(yield* due(processor, 2), ["old -5", "a 1577836800000"])
      assert.deepStrictEqual(yield* due(processor, 0), [])
      assert.deepStrictEqual(yield* due(processor, 9, "u"), [])
      assert.deepStrictEqual(yield* due(processor, 9, "t", 1), [])
    })
  )

  it.effect("the engine's clock comes with what is due, and goes on", () =>
    Effect.gen(function* () {
      const { processor } = yield* owner
      const tables = yield* TableStore
      const first = yield* tables.windowsDue(processor, "t", 0, 1)
      yield* elapse(30)
      const { now } = yield* tables.windowsDue(processor, "t", 0, 1)
      const here = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      assert(Number.isSafeInteger(now) && now >= first.now + 25, `${first.now}, then ${now}`)
      assert.isAtMost(Math.abs(now - here), 5_000)
    })
  )

  it.effect("many change with one commit", () =>
    Effect.gen(function* () {
      const { change, processor } = yield* owner
      const keys = range(2_300, "k")
      yield* change({ due: put(7, ...keys), times: [] })
      assert.deepStrictEqual(yield* due(processor, 5_000), keys.map((key) => `${key} 7`).toSorted())
      yield* change({ due: put(undefined, ...keys.slice(1)), times: [] })
      assert.deepStrictEqual(yield* due(processor), ["k0 7"])
    })
  )

  it.effect("a claim tells how far time has come, as the last commit said, also to a new owner", () =>
    Effect.gen(function* () {
      const { change, processor, topics } = yield* owner
      const [a, b] = topics
      assert.deepStrictEqual((yield* claimed(processor, topics, fence(1))).times, [])
      yield* change({ due: [], times: [{ source: a.name, time: 5 }] })
      yield* change({
        due: [],
        times: [
          { source: a.name, time: 1_577_836_800_123 },
          { source: "", time: 9 }
        ]
      })
      const expected = sorted([
        { source: a.name, time: 1_577_836_800_123 },
        { source: "", time: 9 }
      ])
      assert.deepStrictEqual(sorted((yield* claimed(processor, topics, fence(1))).times), expected)
      assert.deepStrictEqual(sorted((yield* claimed(processor, topics, fence(2, "two"))).times), expected)
      assert.deepStrictEqual((yield* claimed(processor, [b], fence(3))).times, [{ source: "", time: 9 }])
      assert.deepStrictEqual((yield* claimed(processor, topics, fence(1), 1)).times, [])
    })
  )

  it.effect("a commit that is refused changes nothing of it, and one that is sent twice changes it once", () =>
    Effect.gen(function* () {
      const { processor, topics } = yield* owner
      const send = (number: number, at: number, epoch = 1) =>
        commit(
          commitOf(processor, fence(epoch), number, {
            windows: { due: put(at, "a"), times: [{ source: topics[0].name, time: at }] }
          })
        )
      const state = Effect.gen(function* () {
        const { times } = yield* claimed(processor, topics, fence(2))
        return [yield* due(processor), times]
      })
      assert.deepStrictEqual(yield* send(1, 10), [{ _tag: "Done" }])
      assert.deepStrictEqual(yield* send(1, 20), [{ _tag: "DoneBefore" }])
      assert.deepStrictEqual(yield* send(7, 30), [{ _tag: "WentBack", found: 2 }])
      const before = [["a 10"], [{ source: topics[0].name, time: 10 }]]
      assert.deepStrictEqual(yield* state, before)
      assert.deepStrictEqual(yield* send(2, 40, 1), [{ _tag: "Fenced", inForce: 2n }])
      assert.deepStrictEqual(yield* state, before)
    })
  )

  it.effect("a seek leaves it as it is; with a reset, and at the end of the processor, it is gone", () =>
    Effect.gen(function* () {
      const { processor, topics } = yield* owner
      const broker = yield* Broker
      const times = [
        { source: topics[0].name, time: 5 },
        { source: "", time: 9 }
      ]
      yield* commit(commitOf(processor, fence(1), 1, { rows: [{ table: "t", key: "a", value: "1" }] }))
      const fill = (number: number) =>
        commit(commitOf(processor, fence(1), number, { windows: { due: put(3, "a"), times } }))
      const seek = (number: number, reset: boolean) =>
        broker.seek({ ...fence(1), processor, partition: 0, number, topics, to: "earliest", reset })
      yield* fill(2)
      assert.deepStrictEqual(yield* seek(3, false), { _tag: "Done" })
      assert.deepStrictEqual(yield* due(processor), ["a 3"])
      assert.strictEqual((yield* claimed(processor, topics, fence(1))).times.length, 2)
      assert.deepStrictEqual(yield* seek(4, true), { _tag: "Done" })
      assert.deepStrictEqual(yield* due(processor), [])
      assert.deepStrictEqual((yield* claimed(processor, topics, fence(1))).times, [])
      yield* commit(commitOf(processor, fence(1), 5, { rows: [{ table: "t", key: "a", value: "1" }] }))
      yield* fill(6)
      yield* broker.unregister(processor)
      yield* register(processor, topics)
      assert.deepStrictEqual(yield* due(processor), [])
      assert.deepStrictEqual((yield* claimed(processor, topics, fence(1))).times, [])
    })
  )
}
