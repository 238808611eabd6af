/** `pause` and `resume`, which stand alike wherever something can be paused by its name. */
import type { Effect } from "effect"
import { change } from "./changing.ts"
import { withEngine } from "./engine.ts"

export type Verb = "pause" | "resume"

export const setPaused = <E1, R1, E2, R2>(
  verb: Verb,
  dryRun: boolean,
  options: {
    /** Completes "would pause ..." and begins "... is paused". */
    readonly what: string
    /** What is said of where, in the question alone. */
    readonly where?: string
    readonly look: Effect.Effect<unknown, E1, R1>
    readonly pause: Effect.Effect<void, E2, R2>
    readonly resume: Effect.Effect<void, E2, R2>
    /** Its names, for `--json`. */
    readonly names: Readonly<Record<string, string>>
  }
) => {
  const { look, names, what, where = "" } = options
  const paused = verb === "pause"
  return withEngine()(
    change(
      { dryRun },
      {
        what: `${verb} ${what}${where}`,
        look,
        act: options[verb],
        json: () => ({ ...names, paused }),
        line: () => `${what} is ${verb}d`
      }
    )
  )
}
