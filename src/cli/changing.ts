/**
 * What every command that changes something has: `--dry-run`, which says what would be done, and a question before what
 * cannot be taken back, unless `--yes` is given. Where nobody can be asked, that is wrong use.
 */
import { Effect, Stdio } from "effect"
import { Flag, Prompt } from "effect/cli"
import { Failed, WrongUse } from "./failures.ts"
import { note } from "./globals.ts"
import { show } from "./output.ts"

export const dryRun = Flag.Boolean("dry-run").pipe(
  Flag.withDescription("Say what would be done, and change nothing"),
  Flag.withoutNegation,
  Flag.withDefault(false)
)

export const yes = Flag.Boolean("yes").pipe(
  Flag.withAlias("y"),
  Flag.withDescription("Do not ask"),
  Flag.withoutNegation,
  Flag.withDefault(false)
)

/** Goes on after a yes; `what` completes "about to ...". */
const confirm = (what: string) =>
  Effect.gen(function* () {
    const stdio = yield* Stdio.Stdio
    if (!((yield* stdio.stdinIsTerminal) && (yield* stdio.stdoutIsTerminal))) {
      return yield* new WrongUse({ message: `about to ${what}, and nobody can be asked here: add --yes, or --dry-run` })
    }
    const answer = yield* Prompt.run(Prompt.Confirm({ message: `About to ${what}. Go on?`, initial: false }))
    return answer ? undefined : yield* new Failed({ message: "nothing was changed" })
  })

/** Either says what would be done, or does it. */
export const unless = <A, E, R>(isDry: boolean, what: string, self: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    if (isDry) yield* note(`dry run: would ${what}`)
    else yield* self
  })

/** One change by name, from the look whether it can be done to the line that says that it is. */
export const change = <A, E1, R1, E2, R2>(
  flags: { readonly dryRun: boolean; readonly yes?: boolean | undefined },
  options: {
    /** Completes "about to ..." and "would ...". */
    readonly what: string
    /** Fails if the name is wrong, so that a dry run tells that too. */
    readonly look: Effect.Effect<unknown, E1, R1>
    readonly act: Effect.Effect<A, E2, R2>
    readonly json: (result: A) => unknown
    readonly line: (result: A) => string
  }
) =>
  Effect.gen(function* () {
    yield* options.look
    const doing = Effect.gen(function* () {
      if (flags.yes === false) yield* confirm(options.what)
      const result = yield* options.act
      yield* show(options.json(result), () => [options.line(result)])
    })
    yield* unless(flags.dryRun, options.what, doing)
  })
