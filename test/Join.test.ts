/** Joins: what belongs together, what comes alone and when, and how it is with policies, batches, pipelines and owners. */
import { assert, describe } from "@effect/vitest"
import { Effect } from "effect"
import * as Topic from "../src/Topic.ts"
import { drain } from "./support/engines.ts"
import { half, joining, told } from "./support/joins.ts"
import { inOurDays, never } from "./support/windows.ts"

const options = { within: "10 seconds", ...never } as const

describe("two topics", () => {
  inOurDays("inner: each pair of the same key comes once, whichever side came first", () =>
    Effect.gen(function* () {
      const { left, part, right } = joining("inner", options)
      yield* Topic.publishAll(left, [half(0, 1), half(5_000, 2), half(5_000, 3, "b")])
      yield* Topic.publishAll(right, [half(10_000, 11), half(15_001, 12)])
      yield* drain([part])
      assert.deepStrictEqual((yield* told).toSorted(), ["1/11", "2/11"])
      yield* Topic.publishAll(left, [half(20_000, 4)])
      yield* drain([part])
      assert.deepStrictEqual((yield* told).toSorted(), ["1/11", "2/11", "4/11", "4/12"])
    })
  )

  inOurDays("left: what nothing of the right belonged to comes alone, once, when its time is over", () =>
    Effect.gen(function* () {
      const { left, part, right } = joining("left", options)
      yield* Topic.publishAll(left, [half(0, 1), half(1_000, 2, "b"), half(30_000, 3)])
      yield* Topic.publishAll(right, [half(2_000, 11), half(10_999, 12, "c")])
      yield* drain([part])
      assert.deepStrictEqual((yield* told).toSorted(), ["1/11"])
      yield* Topic.publishAll(right, [half(11_000, 13, "c")])
      yield* drain([part])
      assert.deepStrictEqual((yield* told).toSorted(), ["1/11"])
      yield* Topic.publishAll(right, [half(11_001, 14, "c")])
      yield* drain([part])
      assert.deepStrictEqual((yield* told).toSorted(), ["1/11", "2/-"])
      yield* Topic.publishAll(right, [half(60_000, 15, "c")])
      yield* drain([part])
      yield* Topic.publishAll(left, [half(60_000, 4, "b")])
      yield* drain([part])
      assert.deepStrictEqual((yield* told).toSorted(), ["1/11", "2/-", "3/-"])
    })
  )

  inOurDays("outer: both sides", () =>
    Effect.gen(function* () {
      const { left, part, right } = joining("outer", options)
      yield* Topic.publishAll(left, [half(0, 1), half(1_000, 2, "b"), half(60_000, 3)])
      yield* Topic.publishAll(right, [half(2_000, 11), half(3_000, 12, "c"), half(60_000, 13, "d")])
      yield* drain([part])
      assert.deepStrictEqual((yield* told).toSorted(), ["-/12", "1/11", "2/-"])
    })
  )
})
