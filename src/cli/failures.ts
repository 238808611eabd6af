/**
 * How a command ends: 0 done, 1 the work failed, 2 wrong use, 3 the engine cannot be reached, 4 an agent answered with an
 * error of its own; and the one line on stderr that says why. A stack trace is for bugs: it goes to the log, at level Debug.
 */
import { Cause, Config, Data } from "effect"
import { CliError } from "effect/cli"
import { EncodeError, EngineError, Misconfigured, NotFound } from "../Errors.ts"

export const exitCodes = { done: 0, failed: 1, wrongUse: 2, unreachable: 3, answered: 4, interrupted: 130 } as const

/** What was asked for cannot be: a file, a name or a value that is wrong. The message says what there is. */
export class WrongUse extends Data.TaggedError("WrongUse")<{ readonly message: string }> {}

/** What was asked for was tried, and did not come out well. */
export class Failed extends Data.TaggedError("Failed")<{ readonly message: string }> {}

/** An agent answered, with an error that its contract declares. */
export class Answered extends Data.TaggedError("Answered")<{ readonly message: string }> {}

/** Everything in one line: causes and schema issues are written over several. */
export const oneLine = (text: string): string =>
  text
    .trim()
    .replace(/\?\s*\n\s*/g, "? ")
    .replace(/\s*\n\s*/g, "; ")

export interface Ending {
  readonly code: number
  /** Undefined: it was said already, or there is nothing to say. */
  readonly line: string | undefined
  /** Nobody's mistake but ours, or a handler's: its stack is of use. */
  readonly isDefect: boolean
}

const ending = (code: number, line: string | undefined, isDefect = false): Ending => ({ code, line, isDefect })

/** Operations that only whoever wants an engine does. */
const opening = new Set(["connect", "open"])

const codeOf = (error: unknown): number => {
  if (error instanceof EngineError) {
    const isAway = error.reason === "Unreachable" || opening.has(error.operation)
    return isAway ? exitCodes.unreachable : exitCodes.failed
  }
  if (error instanceof Answered) return exitCodes.answered
  const isWrong =
    error instanceof WrongUse ||
    error instanceof Misconfigured ||
    error instanceof NotFound ||
    error instanceof EncodeError ||
    error instanceof Config.ConfigError
  return isWrong ? exitCodes.wrongUse : exitCodes.failed
}

const messageOf = (error: unknown): string => {
  const text = error instanceof Error ? error.message || error.name : String(error)
  return oneLine(text === "" ? "it failed without saying why" : text)
}

export const endingOf = (cause: Cause.Cause<unknown>): Ending => {
  if (Cause.hasInterruptsOnly(cause)) return ending(exitCodes.interrupted, undefined)
  const error = Cause.squash(cause)
  if (CliError.isCliError(error) && error._tag === "ShowHelp") {
    // Help, or the one wrong thing, was printed where it was found.
    return ending(error.errors.length === 0 ? exitCodes.done : exitCodes.wrongUse, undefined)
  }
  // What is wrong with an option is thrown by the definition that it is given to.
  const isDefect = Cause.hasDies(cause) && codeOf(error) === exitCodes.failed
  return ending(codeOf(error), messageOf(error), isDefect)
}
