/**
 * A few rounds of chaos on each engine: real processes that are killed, stopped and replaced, before a server that is
 * restarted and cut off. Many more: `npm run chaos -- --rounds 200 --seed 1 --engine redis`.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { run } from "./rounds/round.ts"

describe("rounds of chaos", () => {
  for (const engine of ["redis", "file"] as const) {
    it.live(
      `on ${engine}, nothing is lost, out of order, or accepted from an old owner`,
      () =>
        Effect.gen(function* () {
          const rounds = yield* Effect.forEach([1, 2], (seed) => run(seed, engine), { concurrency: 2 })
          for (const { directory, finding, seed, timeline, violations } of rounds) {
            const story = `seed ${seed}, files in ${directory}\n${timeline.lines.join("\n")}`
            assert.deepStrictEqual(violations, [], story)
            assert.isAbove(finding?.events ?? 0, 0, story)
          }
        }),
      120_000
    )
  }
})
