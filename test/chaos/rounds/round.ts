/** One round: the cast plays before the engine, faults come and end, everything drains, and the evidence is judged. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Cause, Effect, Exit } from "effect"
import { Engine } from "../../../src/index.ts"
import { makeCast } from "./cast.ts"
import { check, type Finding } from "./check.ts"
import { behind, gather } from "./evidence.ts"
import { carryOut } from "./faults.ts"
import { type EngineName, planOf } from "./plan.ts"
import { makeStage } from "./stage.ts"
import { Timeline } from "./timeline.ts"

export interface Round {
  readonly seed: number
  readonly engine: EngineName
  /** Undefined: it did not come to an end that could be judged. */
  readonly finding: Finding | undefined
  /** None: the round is green. */
  readonly violations: ReadonlyArray<string>
  readonly timeline: Timeline
  /** The files of a round that failed. */
  readonly directory: string
}

/** How long nothing may be handled of what is left once the faults are over: slow is not lost, on a busy machine. */
const standstillMillis = 60_000

export const run = (seed: number, engine: EngineName): Effect.Effect<Round> =>
  Effect.gen(function* () {
    const plan = planOf(seed, engine)
    const directory = mkdtempSync(join(tmpdir(), `millrace-round-${engine}-${seed}-`))
    const records = join(directory, "records")
    mkdirSync(records)
    const timeline = new Timeline()
    const { faults: _, ...parameters } = plan
    timeline.note(JSON.stringify(parameters))
    const exit = yield* Effect.exit(
      Effect.scoped(
        Effect.gen(function* () {
          const stage = yield* makeStage(plan, directory, timeline)
          const cast = yield* makeCast(plan, stage, records, timeline)
          return yield* Effect.gen(function* () {
            yield* cast.start
            timeline.note("all have joined")
            yield* carryOut(plan, stage, cast, timeline)
            yield* cast.endPublishers
            timeline.note("all is published")
            return yield* Effect.gen(function* () {
              yield* drained(timeline)
              yield* cast.endWorkers
              return check(yield* gather(plan, records, cast.names()))
            }).pipe(Effect.provide(Engine.layer({ url: stage.direct, shards: plan.shards })))
          }).pipe(Effect.ensuring(Effect.sync(() => writeFileSync(join(directory, "errors"), cast.errors()))))
        })
      )
    )
    const finding = Exit.isSuccess(exit) ? exit.value : undefined
    const violations = [
      ...timeline.problems,
      ...(Exit.isSuccess(exit) ? exit.value.violations : [`the round broke off: ${Cause.pretty(exit.cause)}`])
    ]
    timeline.note("judged")
    const text = [...timeline.lines, "", ...violations].join("\n")
    if (violations.length === 0) rmSync(directory, { recursive: true, force: true })
    else writeFileSync(join(directory, "timeline"), text)
    return { seed, engine, finding, violations, timeline, directory }
  })

const drained = (timeline: Timeline) =>
  Effect.gen(function* () {
    let moved = timeline.millis
    let late = yield* behind
    while (late.length > 0 && timeline.millis - moved < standstillMillis) {
      // Real time: the workers are other processes.
      yield* Effect.sleep("50 millis")
      const left = yield* behind
      if (left.join() !== late.join()) moved = timeline.millis
      late = left
    }
    timeline.note(late.length === 0 ? "all is handled" : `not drained: ${late.join(", ")}`)
  })
