/**
 * Our own processors through thousands of seeds. `SEEDS=10000` tries more of them, `SEED=42` one again, with its steps;
 * a seed fails here because of a bug in the runtime, the engine or the simulation, never because of the time of day.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Simulation } from "../src/testing/index.ts"
import { simulate } from "./support/simulation.ts"

const count = Number(process.env["SEEDS"] ?? 2_000)
const only = process.env["SEED"] === undefined ? undefined : Number(process.env["SEED"])
/** Every tenth seed has a server that goes back. */
const backEvery = 10

const told = ({ seed, steps, violations }: Simulation.Report): string =>
  [`SEED=${seed} npx vitest run test/simulation.test.ts`, ...steps, ...violations.map((text) => `!! ${text}`)].join(
    "\n"
  )

const held = (report: Simulation.Report): void => {
  const { lost, reordered, stale, violations } = report
  assert.deepStrictEqual({ lost, reordered, stale, violations: violations.length }, nothing, told(report))
}
const nothing = { lost: 0, reordered: 0, stale: 0, violations: 0 }

const seeds = only === undefined ? Array.from({ length: count }, (_, i) => i) : [only]
const groups = Map.groupBy(seeds, (seed) => Math.floor(seed / 250))

describe("whatever goes wrong, nothing is lost, order is kept per key, no old owner writes, tables and outputs are exact", () => {
  for (const [, group] of groups) {
    it.live(
      `seeds ${group[0]} to ${group.at(-1)}`,
      () =>
        Effect.gen(function* () {
          let commits = 0
          for (const seed of group) {
            const report = yield* simulate(seed, { serverWentBack: seed % backEvery === backEvery - 1 })
            held(report)
            commits += report.commits.reduce((sum, one) => sum + one.commits, 0)
            if (only !== undefined) yield* Effect.log(told(report))
          }
          assert.isAbove(commits, group.length)
        }),
      // So many runs at ten times the time that they take.
      group.length * 1_000
    )
  }
})
