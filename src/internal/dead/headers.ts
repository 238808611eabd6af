/**
 * The headers that a dead letter carries beside those of its event: what went wrong, where it came from, how often it was
 * tried. Long texts are cut, since a letter is kept for ever.
 */
import { Cause, DateTime } from "effect"

type Headers = Readonly<Record<string, string>>

/** Names of the headers that are added to dead letters, and to events that are put back. */
export const deadHeaders = {
  /** The tag of the error; the name of an `Error` without one. */
  errorTag: "millrace-error-tag",
  errorMessage: "millrace-error-message",
  /** The whole cause as text, cut at 4,000 characters. */
  errorStack: "millrace-error-stack",
  /** How often the event was tried. */
  attempts: "millrace-attempts",
  processor: "millrace-processor",
  sourceTopic: "millrace-source-topic",
  sourcePartition: "millrace-source-partition",
  sourceOffset: "millrace-source-offset",
  /** When it was given up, ISO 8601. */
  failedAt: "millrace-failed-at",
  /** `<index>/<count>`: the value holds a whole batch that nobody could take apart, and this is one of its events. */
  batch: "millrace-batch",
  /** On an event that was put back: `<topic>/<partition>@<offset>` of the letter that it was. */
  redrivenFrom: "millrace-redriven-from"
} as const

const ours: ReadonlySet<string> = new Set(Object.values(deadHeaders))

const maxMessage = 1_000
const maxStack = 4_000

const cut = (text: string, most: number): string => (text.length <= most ? text : `${text.slice(0, most)}...`)

/** The tag of an error, or what comes nearest to it. */
export const tagOf = (error: unknown): string => {
  if (typeof error === "object" && error !== null && "_tag" in error && typeof error._tag === "string")
    return error._tag
  return error instanceof Error ? error.name : "Unknown"
}

export const messageOf = (error: unknown): string => cut(textOf(error), maxMessage)

const common: ReadonlySet<string> = new Set(["_tag", "name", "message", "stack", "cause"])

const textOf = (error: unknown): string => {
  if (typeof error !== "object" || error === null) return String(error)
  if (error instanceof Error && error.message !== "") return error.message
  try {
    if (!(error instanceof Error)) return JSON.stringify(error)
    // A tagged error without a message of its own says by its fields what happened.
    const fields = Object.entries(error).filter(([name]) => !common.has(name))
    return fields.length === 0 ? "" : JSON.stringify(Object.fromEntries(fields))
  } catch {
    // A circle, or a bigint.
    return String(error)
  }
}

/** Why an event was given up, and by whom; the same for all events of a failed batch. */
export const failureHeaders = (processor: string, cause: Cause.Cause<unknown>, now: number): Headers => {
  const error = Cause.squash(cause)
  return {
    [deadHeaders.errorTag]: cut(tagOf(error), maxMessage),
    [deadHeaders.errorMessage]: messageOf(error),
    [deadHeaders.errorStack]: cut(Cause.pretty(cause), maxStack),
    [deadHeaders.processor]: processor,
    [deadHeaders.failedAt]: DateTime.formatIso(DateTime.makeUnsafe(now))
  }
}

/** Where an event comes from, and how often it was tried. */
export const sourceHeaders = (event: {
  readonly topic: string
  readonly partition: number
  readonly offset: string
  readonly attempt: number
}): Headers => ({
  [deadHeaders.attempts]: String(event.attempt),
  [deadHeaders.sourceTopic]: event.topic,
  [deadHeaders.sourcePartition]: String(event.partition),
  [deadHeaders.sourceOffset]: event.offset
})

/** The headers that the event had before it became a dead letter. */
export const withoutOurs = (headers: Headers): Headers =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => !ours.has(name)))
