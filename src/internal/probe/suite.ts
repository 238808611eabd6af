/** What the runs of a probe add up to: a pure step from what has ended to what there is to report. */

/** How a run ended. `timeout`: a signal did not come in time, or the run took too long. */
export type Ended = "passed" | "failed" | "timeout"

/** `stalled`: no run has ended for long. `suiteFailed`: so many runs in a row did not pass. `recovered`: one passed again. */
export type Outcome = Ended | "stalled" | "suiteFailed" | "recovered"

export interface Suite {
  /** Runs in a row that did not pass. */
  readonly failures: number
  readonly failing: boolean
  readonly stalled: boolean
}

export const fresh: Suite = { failures: 0, failing: false, stalled: false }

/** A run has ended; each change is told once. */
export const ended = (
  suite: Suite,
  how: Ended,
  most: number
): { readonly suite: Suite; readonly told: ReadonlyArray<Outcome> } => {
  if (how === "passed") return { suite: fresh, told: suite.failing ? [how, "recovered"] : [how] }
  const failures = suite.failures + 1
  const failing = suite.failing || failures >= most
  return {
    suite: { failures, failing, stalled: false },
    told: failing && !suite.failing ? [how, "suiteFailed"] : [how]
  }
}

/** No run has ended for long; told once until one does. */
export const silent = (suite: Suite): { readonly suite: Suite; readonly told: ReadonlyArray<Outcome> } =>
  suite.stalled ? { suite, told: [] } : { suite: { ...suite, stalled: true }, told: ["stalled"] }
