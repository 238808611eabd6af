/**
 * Rows against a plain model: random commits of several tables and partitions, some of them sent twice, late, with a wrong
 * number or from an owner that is not one any more. What is stored is what the accepted ones left, and nothing else.
 */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { Broker, type Commit } from "../../Broker.ts"
import { TableStore } from "../../TableStore.ts"
import { Choices } from "../../testing/choices.ts"
import { claimed, commitOf, fence, type Laws, register, text, topicOf, unique } from "../broker/support.ts"

const names = ["t", "u"]
const keys = ["a", "b", "c", "", "ü", "1"]

type Model = Map<string, string>

const place = (partition: number, table: string, key: string): string => JSON.stringify([partition, table, key])

const apply = (model: Model, { partition, rows }: Commit): void => {
  for (const { key, table, value } of rows) {
    if (value === undefined) model.delete(place(partition, table, key))
    else model.set(place(partition, table, key), String(value))
  }
}

/** All rows, by scanning and by asking. */
const stored = (processor: string) =>
  Effect.gen(function* () {
    const tables = yield* TableStore
    const [scanned, asked]: [Model, Model] = [new Map(), new Map()]
    for (const partition of [0, 1]) {
      for (const table of names) {
        const page = yield* tables.entries(processor, table, partition, "")
        for (const [key, value] of page.rows) scanned.set(place(partition, table, key), text(value)!)
        const values = yield* tables.readMany(processor, table, partition, keys)
        values.forEach((value, i) => value && asked.set(place(partition, table, keys[i]!), text(value)!))
      }
    }
    return { scanned, asked }
  })

const sorted = (model: Model) => [...model].toSorted()

export const modelLaws = ({ it }: Laws): void => {
  it.effect("random commits, whatever becomes of their answers, agree with a plain model", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      for (const seed of [1, 2, 3, 4]) {
        const random = new Choices(seed)
        const processor = unique("p")
        const topic = topicOf(2)
        yield* register(processor, [topic])
        const epochs = [1, 1]
        const numbers = [1, 1]
        for (const partition of [0, 1]) yield* claimed(processor, [topic], fence(1), partition)
        const model: Model = new Map()
        const late: Array<Commit> = []
        for (let step = 0; step < 60; step++) {
          const partition = random.below(2)
          if (random.below(8) === 0) yield* claimed(processor, [topic], fence(++epochs[partition]!), partition)
          const rows = new Map<string, Commit["rows"][number]>()
          for (let i = random.below(5); i >= 0; i--) {
            const [table, key] = [random.pick(names), random.pick(keys)]
            const value = random.below(3) === 0 ? undefined : `${seed}/${step}/${i}`
            rows.set(place(partition, table, key), { table, key, value })
          }
          const good = commitOf(processor, fence(epochs[partition]!), numbers[partition]!, {
            partition,
            rows: [...rows.values()]
          })
          const fate = random.below(6)
          if (fate === 0) {
            const [result] = yield* broker.commit([{ ...good, number: good.number + 1 }], "memory")
            assert.strictEqual(result?._tag, "WentBack")
            continue
          }
          if (fate === 1) {
            const [result] = yield* broker.commit([{ ...good, incarnation: "another" }], "memory")
            assert.strictEqual(result?._tag, "Fenced")
            continue
          }
          const old = fate === 2 ? late[random.below(late.length)] : undefined
          // An old one arrives at last.
          const [earlier] = old === undefined ? [] : yield* broker.commit([old], "memory")
          assert.notStrictEqual(earlier?._tag, "Done")
          assert.deepStrictEqual(yield* broker.commit([good], "memory"), [{ _tag: "Done" }])
          apply(model, good)
          numbers[partition]!++
          late.push(good)
          // Its answer was lost: the same again.
          if (fate === 3) assert.deepStrictEqual(yield* broker.commit([good], "memory"), [{ _tag: "DoneBefore" }])
        }
        const { asked, scanned } = yield* stored(processor)
        assert.deepStrictEqual(sorted(scanned), sorted(model))
        assert.deepStrictEqual(sorted(asked), sorted(model))
      }
    })
  )
}
