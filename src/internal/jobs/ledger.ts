/**
 * The ledger of a job: one line of JSON for each run that did not end well, written by its worker (or by the engine, for a
 * lost lease). An error is stored as its schema and serializer have it, so what is encrypted elsewhere is so here.
 */
import { Cause, Exit } from "effect"
import { EncodeError, JobFailed } from "../../Errors.ts"
import type { Item } from "../../JobStore.ts"
import type { Codec } from "../../Serializer.ts"
import { codecOf } from "./codecs.ts"
import type { Spec } from "./spec.ts"

export interface Line {
  /** Milliseconds since 1970. */
  readonly at: number
  readonly exit: "Failed" | "Retry" | "Defect" | "Timeout" | "Expired" | "Lost" | "Buried" | "Undecodable" | "Child"
  readonly attempt?: number | undefined
  readonly worker?: string | undefined
  /** The typed error: its format, and its data as text or in base64. */
  readonly format?: string | undefined
  readonly error?: string | undefined
  readonly base64?: string | undefined
  /** For people. */
  readonly message?: string | undefined
}

/** Characters of a message that are kept. */
const maxMessage = 4_000

export const lineOf = (line: Line): string =>
  JSON.stringify(line.message === undefined ? line : { ...line, message: line.message.slice(0, maxMessage) })

/** The typed error as a line has it; what its schema refuses is not typed, and told as a defect. */
export const errorLine = (spec: Spec, serializer: Codec, error: unknown, base: Omit<Line, "exit">): Line => {
  try {
    const { data, format } = codecOf(spec, "error", serializer).encode(error)
    const stored = typeof data === "string" ? { error: data } : { base64: Buffer.from(data).toString("base64") }
    return { ...base, exit: "Failed", format, ...stored, message: messageOf(error) }
  } catch (refused) {
    if (!(refused instanceof EncodeError)) throw refused
    return { ...base, exit: "Defect", message: `${messageOf(error)} (${refused.message})` }
  }
}

export const messageOf = (error: unknown): string =>
  error instanceof Error ? (error.stack ?? `${error.name}: ${error.message}`) : Cause.pretty(Cause.fail(error))

export const parseLine = (text: string): Line => {
  try {
    return JSON.parse(text) as Line
  } catch {
    return { at: 0, exit: "Lost", message: text }
  }
}

/** What a line says, as an exit. Throws a `DecodeError` if the typed error cannot be read. */
const exitOf = (spec: Spec, serializer: Codec, id: string, line: Line): Exit.Exit<never, unknown> => {
  const { base64, error, exit, format, message = "" } = line
  if (exit === "Failed") {
    const data = base64 === undefined ? Buffer.from(error ?? "") : Buffer.from(base64, "base64")
    return Exit.fail(codecOf(spec, "error", serializer).decode(format, data, id))
  }
  const reason = exit === "Retry" ? "Buried" : exit
  return Exit.fail(new JobFailed({ job: spec.name, id, reason, detail: message }))
}

export interface Attempt {
  readonly at: number
  readonly attempt: number | undefined
  readonly worker: string | undefined
  /** True for one that asked to be tried again, and did not fail. */
  readonly again: boolean
  readonly exit: Exit.Exit<never, unknown>
}

export const attemptsOf = (spec: Spec, serializer: Codec, item: Item): ReadonlyArray<Attempt> =>
  item.history.map(parseLine).map((line) => ({
    at: line.at,
    attempt: line.attempt,
    worker: line.worker,
    again: line.exit === "Retry",
    exit: exitOf(spec, serializer, item.id, line)
  }))

/** How a job ended; undefined while it has not. Throws a `DecodeError`. */
export const endOf = (spec: Spec, serializer: Codec, item: Item): Exit.Exit<unknown, unknown> | undefined => {
  const failed = (reason: JobFailed["reason"], detail = "") =>
    Exit.fail(new JobFailed({ job: spec.name, id: item.id, reason, detail }))
  switch (item.state) {
    case "done":
      return Exit.succeed(codecOf(spec, "success", serializer).decode(item.format, item.data, item.id))
    case "cancelled":
      return failed("Cancelled")
    case "dead": {
      const last = item.history[item.history.length - 1]
      const line = last === undefined ? undefined : parseLine(last)
      if (item.reason === "Failed" && line?.exit === "Failed") return exitOf(spec, serializer, item.id, line)
      return failed(item.reason === "Failed" ? "Defect" : (item.reason ?? "Lost"), line?.message)
    }
    default:
      return undefined
  }
}
