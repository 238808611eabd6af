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

export interface Ended {
  readonly spec: Spec
  readonly serializer: Codec
  readonly job: Claimed
  readonly exit: Exit.Exit<unknown, unknown>
  readonly stop: Stop | undefined
  readonly answer: Answer | undefined
  /** What it enqueues, if it ends well. */
  readonly staged: ReadonlyArray<StagedJob> | undefined
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

const base = ({ job, now, worker }: Ended): Omit<Line, "exit"> => ({ at: now, attempt: job.failures + 1, worker })

/** Tried again if it has retries left, else dead. */
const failed = (ended: Ended, reason: Reason, line: Line, mayRetry = true): Outcome => {
  const { job, random, spec } = ended
  const retry = job.failures + 1
  return mayRetry && retry <= spec.retries
    ? { _tag: "Retry", counted: true, delay: delayOf(spec, retry, random), entry: lineOf(line) }
    : { _tag: "Dead", reason, entry: lineOf(line) }
}

const answered = (ended: Ended, answer: Answer): Outcome => {
  switch (answer._tag) {
    case "Back":
      return { _tag: "Back" }
    case "Bury":
      return {
        _tag: "Dead",
        reason: "Buried",
        entry: lineOf({ ...base(ended), exit: "Buried", message: answer.reason })
      }
    case "Retry": {
      const entry = lineOf({ ...base(ended), exit: "Retry" })
      if (answer.counted && ended.job.failures >= ended.spec.retries) return { _tag: "Dead", reason: "Buried", entry }
      return { _tag: "Retry", delay: answer.delay, counted: answer.counted, entry }
    }
  }
}

const done = (ended: Ended, value: unknown): Outcome => {
  const { serializer, spec, staged } = ended
  try {
    const { data, format } = codecOf(spec, "success", serializer).encode(value)
    const end = { _tag: "Done", format, result: data, ttl: spec.resultTtl } as const
    return staged === undefined ? end : { ...end, jobs: staged }
  } catch (error) {
    if (!(error instanceof EncodeError)) throw error
    // It did its work: running it again would not make its result storable.
    return failed(ended, "Defect", { ...base(ended), exit: "Defect", message: error.message }, false)
  }
}

/** Undefined: nothing is to be told to the store. */
export const outcomeOf = (ended: Ended): Outcome | undefined => {
  const { answer, exit, serializer, spec, stop } = ended
  if (Exit.isSuccess(exit)) return stop === "Lost" ? undefined : done(ended, exit.value)
  switch (stop) {
    case "Lost":
      return undefined
    case "Cancelled":
      return { _tag: "Cancelled", ttl: spec.resultTtl }
    case "Timeout":
      return failed(ended, "Timeout", { ...base(ended), exit: "Timeout", message: `it ran for ${spec.timeout} ms` })
    case "Shutdown":
      return { _tag: "Back" }
    case undefined:
      break
  }
  if (answer !== undefined) return answered(ended, answer)
  const error = Cause.findErrorOption(exit.cause)
  if (error._tag === "None") {
    return failed(ended, "Defect", { ...base(ended), exit: "Defect", message: Cause.pretty(exit.cause) })
  }
  const line = errorLine(spec, serializer, error.value, base(ended))
  // The engine was away, which is no failure of the job; unless that is an error which it declares.
  if (error.value instanceof EngineError && line.exit === "Defect") {
    return { _tag: "Retry", delay: engineDelay, counted: false, entry: lineOf({ ...line, exit: "Retry" }) }
  }
  const mayRetry = line.exit === "Defect" || spec.retryable === undefined || spec.retryable(error.value)
  return failed(ended, line.exit === "Failed" ? "Failed" : "Defect", line, mayRetry)
}

/** What the worker's summary says of it. */
export const count = (counts: Counts, outcome: Outcome): void => {
  if (outcome._tag === "Done") counts.processed++
  if (outcome._tag === "Dead" || (outcome._tag === "Retry" && outcome.counted)) counts.failed++
  if (outcome._tag === "Retry") counts.retried++
  if (outcome._tag === "Dead") counts.deadLettered++
}
