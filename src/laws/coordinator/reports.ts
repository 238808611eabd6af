/** The laws of ownership, part five: what members say about themselves. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import type { Chosen } from "../suite.ts"
import type { Law } from "./support.ts"

const long = 60_000

export const reports = (law: Law, { elapse }: Chosen): void => {
  law("what a member says stands in place of what it said before, and is told with its time", (coordinator) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* coordinator.reports(), [])
      yield* coordinator.report("b", `{"said":"first"}`, long)
      yield* coordinator.report("a", "with spaces\nand a line, ž 🐎", long)
      const [, first] = yield* coordinator.reports()
      yield* elapse(20)
      yield* coordinator.report("b", "", long)
      const all = yield* coordinator.reports()
      assert.deepStrictEqual(
        all.map(({ member, text }) => [member, text]),
        [
          ["a", "with spaces\nand a line, ž 🐎"],
          ["b", ""]
        ]
      )
      assert.isAbove(all[1]!.at, first!.at)
      assert.isTrue(Number.isInteger(all[1]!.at))
    })
  )

  law("it is forgotten when its time is over, or at once", (coordinator) =>
    Effect.gen(function* () {
      yield* coordinator.report("a", "x", 400)
      yield* coordinator.report("b", "y", long)
      yield* coordinator.report("c", "z", long)
      yield* coordinator.report("c", "", 0)
      yield* coordinator.report("nobody", "", 0)
      const names = Effect.map(coordinator.reports(), (all) => all.map(({ member }) => member))
      assert.deepStrictEqual(yield* names, ["a", "b"])
      yield* elapse(450)
      assert.deepStrictEqual(yield* names, ["b"])
      // Another who begins to speak sweeps; the one that is gone may begin again.
      yield* coordinator.report("d", "w", long)
      yield* coordinator.report("a", "x", long)
      assert.deepStrictEqual(yield* names, ["a", "b", "d"])
    })
  )
}
