/**
 * `npm run chaos -- --rounds 200 --seed 1 --engine redis|file`: rounds of chaos with real processes, one seed after the
 * other. Prints a line for each, all that is known of a red one, and the counts of all. Exits with 1 if one was red.
 */
import { parseArgs } from "node:util"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Effect, Exit } from "effect"
import type { EngineName } from "./plan.ts"
import { type Round, run } from "./round.ts"

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "10" },
    seed: { type: "string", default: "1" },
    engine: { type: "string", default: "redis" },
    parallel: { type: "string", default: "1" },
    verbose: { type: "boolean", default: false }
  }
})

const whole = (name: "rounds" | "seed" | "parallel"): number => {
  const value = Number(values[name])
  if (Number.isSafeInteger(value) && value >= 1) return value
  throw new Error(`--${name} is ${values[name]}: give a whole number of at least 1`)
}

const engine = values.engine as EngineName
if (engine !== "redis" && engine !== "file") throw new Error(`--engine is ${values.engine}: give redis or file`)

const shownViolations = 20
const counted = ["kills", "stops", "restarts", "server restarts", "cuts", "locks", "failed starts"]
const found = ["lost", "reordered", "stale", "repeated"] as const

const print = (round: Round): void => {
  const { directory, finding, seed, timeline, violations } = round
  const isGreen = violations.length === 0
  const events = `${finding?.events ?? "?"} events, ${finding?.repeated ?? "?"} repeats`
  console.log(`${isGreen ? "green" : "RED"} ${engine} seed ${seed}: ${events}, ${Math.round(timeline.millis)} ms`)
  if (!isGreen) {
    console.log(`  again: npm run chaos -- --rounds 1 --seed ${seed} --engine ${engine}; its files: ${directory}`)
  }
  if (!isGreen || values.verbose) for (const line of timeline.lines) console.log(`  ${line}`)
  for (const violation of violations.slice(0, shownViolations)) console.log(`  - ${violation}`)
  if (violations.length > shownViolations) console.log(`  - and ${violations.length - shownViolations} more`)
}

const rounds: Array<Round> = []

const played = Effect.forEach(
  Array.from({ length: whole("rounds") }, (_, i) => whole("seed") + i),
  (seed) =>
    Effect.map(run(seed, engine), (round) => {
      rounds.push(round)
      print(round)
    }),
  { concurrency: whole("parallel"), discard: true }
)

/** Also when it was broken off. */
const summary = Effect.sync(() => {
  const red = rounds.filter(({ violations }) => violations.length > 0)
  const sum = (of: (round: Round) => number): number => rounds.reduce((total, round) => total + of(round), 0)
  const totals = [
    ["rounds", rounds.length],
    ["red", red.length],
    ["events", sum(({ finding }) => finding?.events ?? 0)],
    ...counted.map((what) => [what, sum(({ timeline }) => timeline.counted(what))] as const),
    ...found.map((what) => [what, sum(({ finding }) => finding?.[what] ?? 0)] as const)
  ] as const
  console.log(totals.map(([what, count]) => `${what}: ${count}`).join(", "))
  if (red.length > 0) console.log(`red seeds: ${red.map(({ seed }) => seed).join(", ")}`)
})

// Interrupted by a signal, it ends the processes that it started.
NodeRuntime.runMain(Effect.ensuring(played, summary), {
  teardown: (exit, onExit) =>
    onExit(Exit.isSuccess(exit) && rounds.every(({ violations }) => violations.length === 0) ? 0 : 1)
})
