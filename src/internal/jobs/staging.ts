/**
 * What is enqueued where it runs: in the handler of a processor it belongs to the unit of work, in that of a job to what
 * settles the job, and elsewhere nobody waits for it. Bounded, since one call of the store takes it all.
 */
import { Context } from "effect"
import { EncodeError } from "../../Errors.ts"
import { maxJobs, type NewJob } from "../../JobStore.ts"
import { type StagedJob, stageJob, unitIn } from "../run/unit.ts"
import { Current } from "./current.ts"

/** Bytes of what one run enqueues. */
const maxStaged = 1024 * 1024

const sizeOf = ({ headers, payload }: NewJob): number =>
  headers.length + (typeof payload === "string" ? Buffer.byteLength(payload) : payload.byteLength)

/** The follow-ups of one run of a job. */
export class Staged {
  readonly jobs: Array<StagedJob> = []
  bytes = 0
  private readonly name: string
  constructor(name: string) {
    this.name = name
  }

  /** Throws an `EncodeError`. */
  add(staged: StagedJob): void {
    const bytes = this.bytes + sizeOf(staged.job)
    if (this.jobs.length >= maxJobs || (bytes > maxStaged && this.jobs.length > 0)) {
      const detail = `one run enqueues at most ${maxJobs} jobs of 1 MiB, with what settles it; for more, enqueue jobs that enqueue the rest`
      throw new EncodeError({ target: `what job ${this.name} enqueues`, reason: "TooLarge", detail })
    }
    this.jobs.push(staged)
    this.bytes = bytes
  }
}

/** Where to stage it; undefined: it is to be stored at once. */
export const stagerIn = (context: Context.Context<never>): ((staged: StagedJob) => void) | undefined => {
  const unit = unitIn(context)
  if (unit !== undefined) return (staged) => stageJob(unit, staged)
  return Context.getOrUndefined(context, Current)?.stage
}

/** How many one exchange settles: with what they enqueue they are to be no more than one enqueue takes. */
export const portion = (
  settled: ReadonlyArray<{ readonly hand: { readonly staged: Staged | undefined } }>,
  most: number
): number => {
  let [n, jobs, bytes] = [0, 0, 0]
  for (; n < settled.length && n < most; n++) {
    const { staged } = settled[n]!.hand
    if (staged === undefined) continue
    jobs += staged.jobs.length
    bytes += staged.bytes
    if (n > 0 && (jobs > maxJobs || bytes > maxStaged)) break
  }
  return n
}
