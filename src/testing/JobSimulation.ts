/**
 * Runs your handlers of jobs on several workers, in virtual time, while workers crash, hang and come back, and answers are
 * lost: `Simulation` for jobs. What must hold is checked: every job that was stored runs, and ends once; none is run after its
 * success; those of a group end in their order; of jobs that recur every slot is enqueued once, or passed over by its policy;
 * and whatever your own `check` looks at. In the end those that recur are paused, once no slot is due.
 *
 * Gotcha: a job whose worker was killed three times over is dead as `Lost`, here as elsewhere.
 */
import { Clock, Context, Effect, type Scope } from "effect"
import type * as Engine from "../Engine.ts"
import { JobStore } from "../JobStore.ts"
import type * as Part from "../Part.ts"
import { play, until } from "./simulation/play.ts"
import type { Scene, Trouble } from "./simulation/trouble.ts"

export interface Options<out P extends ReadonlyArray<Part.Part<never, any>>> {
  /** Handlers of jobs. */
  readonly parts: P
  /** Each is run once while all that happens, in this order, such as `Job.enqueue(job, payload)`; a failure is written down. */
  readonly enqueue: ReadonlyArray<Effect.Effect<unknown, unknown, Engine.Services>>
  /** How many workers there are at first; default 3. */
  readonly workers?: number | undefined
  /** Looks at jobs and queues when all is over; each text it gives is a violation. */
  readonly check?: Effect.Effect<ReadonlyArray<string>, unknown, Engine.Services> | undefined
}

export interface Report {
  readonly seed: number
  /** A sentence for each thing that must not be. */
  readonly violations: ReadonlyArray<string>
  /** Jobs that were stored, claims of them, and runs of handlers. */
  readonly jobs: number
  readonly claims: number
  readonly runs: number
  /** Slots of jobs that recur: those that were enqueued, and those that were missed and passed over. */
  readonly slots: { readonly fired: number; readonly missed: number }
  /** What happened, by virtual time in seconds. */
  readonly steps: ReadonlyArray<string>
}

/** At which calls a process may crash. */
const calls = ["open", "exchange", "exchange", "exchange", "extend", "sweep", "close", "enqueue", "fire", "recurrences"]

/** Never fails: what went wrong is in the report. */
export const run = <const P extends ReadonlyArray<Part.Part<never, any>>>(
  seed: number,
  options: Options<P>
): Effect.Effect<Report, never, Exclude<Part.Services<P[number]>, Engine.Services | Scope.Scope>> =>
  Effect.flatMap(Effect.context<never>(), (context) => simulate(seed, options, context))

const simulate = (
  seed: number,
  options: Options<ReadonlyArray<Part.Part<never, any>>>,
  context: Context.Context<never>
) =>
  Effect.gen(function* () {
    const other = options.parts.find((part) => part.job === undefined)
    if (other !== undefined) {
      return yield* Effect.die(new Error(`JobSimulation.run: ${other.name} handles no jobs; use Simulation.run`))
    }
    const { check, enqueue, parts, workers } = options
    const { cluster, ledger } = yield* play(seed, {
      parts,
      workers,
      serverWentBack: false,
      context,
      calls,
      begin: (cluster, millis) => cluster.perform(enqueue, millis),
      finish: (scene, trouble) => finish(scene, enqueue.length, trouble),
      end: judged,
      check
    })
    const { all, claims } = ledger.jobs
    const runs = all.reduce((sum, job) => sum + job.runs, 0)
    const report: Report = {
      seed,
      violations: cluster.violations,
      jobs: all.length,
      claims,
      runs,
      slots: { fired: ledger.jobs.slots.fired, missed: ledger.jobs.slots.missed },
      steps: cluster.steps
    }
    return report
  })

/** What the ledger saw, beside what the store has in the end. */
const judged = ({ cluster, ledger, network }: Scene): Effect.Effect<void> =>
  Effect.gen(function* () {
    const store = Context.get(network.services, JobStore)
    const { jobs } = ledger
    cluster.violations.push(...(yield* jobs.judge((queue, id) => Effect.orDie(store.get(queue, id, false)))))
    const recurrences = (queue: string) =>
      Effect.map(Effect.orDie(store.recurrences(queue, "all")), ({ found }) => found)
    cluster.violations.push(...(yield* jobs.slots.judge(recurrences)))
  })

/** With nothing in the way all is enqueued, and nothing waits or runs any more. */
const finish = (scene: Scene, total: number, trouble: Trouble): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { cluster, network } = scene
    const store = Context.get(network.services, JobStore)
    // Slots are due by the server's clock, which may have stepped.
    const clock = Context.get(network.services as Context.Context<never>, Clock.Clock)
    let left = total
    const over = Effect.gen(function* () {
      if (cluster.live.every(({ process }) => process.state !== "running")) trouble.join()
      left = total - cluster.published
      if (left > 0) return false
      for (const queue of yield* Effect.orDie(store.queues)) {
        left += yield* Effect.provideService(Effect.orDie(stillDue(store, queue)), Clock.Clock, clock)
        const { active, delayed, ready, waiting } = yield* Effect.orDie(store.counts(queue))
        left += active + delayed + ready + waiting
      }
      return left === 0
    })
    yield* until(scene, over, () => `${left} jobs are not over`)
    // Those wake up that slept through it all: what they think they hold is others' by now.
    if (trouble.continueAll()) yield* Effect.sleep(10_000)
  })

/** Slots that are due. The other recurrences are paused, or there would be no end. */
const stillDue = (store: JobStore["Service"], queue: string) =>
  Effect.gen(function* () {
    const { found, now } = yield* store.recurrences(queue, "all")
    let due = 0
    for (const { name, paused, slot } of found) {
      if (paused) continue
      if (slot <= now) due++
      else yield* store.alter(queue, name, "pause")
    }
    return due
  })
