/** What becomes of a run: the exit of its fiber, what it asked for, and why it was stopped, as an outcome for the store. */
import { Cause, Duration, Effect, Exit, Pull, Schedule } from "effect"
import { EncodeError, EngineError } from "../../Errors.ts"
import type { Claimed, Outcome, Reason } from "../../JobStore.ts"
import type { Codec } from "../../Serializer.ts"
import type { Counts } from "../run/runner.ts"
import type { StagedJob } from "../run/unit.ts"
import { codecOf } from "./codecs.ts"
import type { Answer } from "./current.ts"
import { errorLine, type Line, lineOf } from "./ledger.ts"
import type { Spec } from "./spec.ts"

/** Why a run is interrupted. `Lost`: it is somebody else's now, and what becomes of it here does not count. */
export type Stop = "Timeout" | "Cancelled" | "Lost" | "Shutdown"

/** What is known of a run that has ended. */
export interface Ended {
  readonly job: Claimed
  readonly post: { readonly handler: { readonly spec: Spec } }
  readonly stop: Stop | undefined
  readonly answer: Answer | undefined
  /** What it enqueues, if it ends well. */
  readonly staged: { readonly jobs: ReadonlyArray<StagedJob> } | undefined
}

export interface Setting {
  readonly serializer: Codec
  readonly worker: string
  /** Milliseconds since 1970. */
  readonly now: number
  /** From 0 to 1. */
  readonly random: number
}

/** How long the engine's absence, as a handler met it, puts a job off. */
const engineDelay = 1_000

/** Milliseconds before the retry of this number, the first is 1. */
const delayOf = ({ backoff, jitter }: Spec, retry: number, random: number): number => {
  const whole = Schedule.isSchedule(backoff) ? stepped(backoff, retry) : millisOf(backoff(retry))
  return whole * (1 - jitter * random)
}

const millisOf = (input: Duration.Input): number => Duration.toMillis(Duration.fromInputUnsafe(input))

/** The n-th delay of a schedule; one that has ended goes on with its last. */
const stepped = (schedule: Schedule.Schedule<unknown, unknown>, retry: number): number =>
  Effect.runSync(
    Effect.gen(function* () {
      const step = yield* Schedule.toStep(schedule)
      let millis = 0
      for (let n = 0; n < retry; n++) {
        const delay = yield* Pull.catchDone(
          Effect.map(step(0, undefined), ([, delay]) => Duration.toMillis(delay)),
          () => Effect.succeed(undefined)
        )
        if (delay === undefined) break
        millis = delay
      }
      return millis
    })
  )

const base = ({ job }: Ended, { now, worker }: Setting): Omit<Line, "exit"> => ({
  at: now,
  attempt: job.failures + 1,
  worker
})

const specOf = ({ post }: Ended): Spec => post.handler.spec

/** Tried again if it has retries left, else dead. */
const failed = (ended: Ended, { random }: Setting, reason: Reason, line: Line, mayRetry = true): Outcome => {
  const spec = specOf(ended)
  const retry = ended.job.failures + 1
  return mayRetry && retry <= spec.retries
    ? { _tag: "Retry", counted: true, delay: delayOf(spec, retry, random), entry: lineOf(line) }
    : { _tag: "Dead", reason, entry: lineOf(line) }
}

const answered = (ended: Ended, setting: Setting, answer: Answer): Outcome => {
  const line = base(ended, setting)
  switch (answer._tag) {
    case "Back":
      return { _tag: "Back" }
    case "Bury":
      return { _tag: "Dead", reason: "Buried", entry: lineOf({ ...line, exit: "Buried", message: answer.reason }) }
    case "Retry": {
      const entry = lineOf({ ...line, exit: "Retry" })
      if (answer.counted && ended.job.failures >= specOf(ended).retries) {
        return { _tag: "Dead", reason: "Buried", entry }
      }
      return { _tag: "Retry", delay: answer.delay, counted: answer.counted, entry }
    }
  }
}

const done = (ended: Ended, setting: Setting, value: unknown): Outcome => {
  const spec = specOf(ended)
  try {
    const { data, format } = codecOf(spec, "success", setting.serializer).encode(value)
    const { staged } = ended
    return staged === undefined
      ? { _tag: "Done", format, result: data, ttl: spec.resultTtl }
      : { _tag: "Done", format, result: data, ttl: spec.resultTtl, jobs: staged.jobs }
  } catch (error) {
    if (!(error instanceof EncodeError)) throw error
    // It did its work: running it again would not make its result storable.
    const line: Line = { ...base(ended, setting), exit: "Defect", message: error.message }
    return failed(ended, setting, "Defect", line, false)
  }
}

/** Undefined: nothing is to be told to the store. */
export const outcomeOf = (ended: Ended, exit: Exit.Exit<unknown, unknown>, setting: Setting): Outcome | undefined => {
  const { answer, stop } = ended
  if (Exit.isSuccess(exit)) return stop === "Lost" ? undefined : done(ended, setting, exit.value)
  const spec = specOf(ended)
  const line = base(ended, setting)
  switch (stop) {
    case "Lost":
      return undefined
    case "Cancelled":
      return { _tag: "Cancelled", ttl: spec.resultTtl }
    case "Timeout":
      return failed(ended, setting, "Timeout", {
        ...line,
        exit: "Timeout",
        message: `it ran for ${spec.timeout} ms`
      })
    case "Shutdown":
      return { _tag: "Back" }
    case undefined:
      break
  }
  if (answer !== undefined) return answered(ended, setting, answer)
  const error = Cause.findErrorOption(exit.cause)
  if (error._tag === "None") {
    return failed(ended, setting, "Defect", { ...line, exit: "Defect", message: Cause.pretty(exit.cause) })
  }
  const told = errorLine(spec, setting.serializer, error.value, line)
  // The engine was away, which is no failure of the job; unless that is an error which it declares.
  if (error.value instanceof EngineError && told.exit === "Defect") {
    return { _tag: "Retry", delay: engineDelay, counted: false, entry: lineOf({ ...told, exit: "Retry" }) }
  }
  const mayRetry = told.exit === "Defect" || spec.retryable === undefined || spec.retryable(error.value)
  return failed(ended, setting, told.exit === "Failed" ? "Failed" : "Defect", told, mayRetry)
}

/** What the worker's summary says of it. */
export const count = (counts: Counts, outcome: Outcome): void => {
  if (outcome._tag === "Done") counts.processed++
  if (outcome._tag === "Dead" || (outcome._tag === "Retry" && outcome.counted)) counts.failed++
  if (outcome._tag === "Retry") counts.retried++
  if (outcome._tag === "Dead") counts.deadLettered++
}
