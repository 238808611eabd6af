/**
 * Handlers of jobs under test, on a private engine in memory: what is enqueued waits until you let it run, one by one or all
 * that are ready, and each run tells how it ended. In the body everything of `Job` and `Queue` works as it does elsewhere.
 *
 *     TestJob.run([resizing], (jobs) => Effect.gen(function* () {
 *       const { id } = yield* Job.enqueue(resize, { width: 10 })
 *       const ran = yield* jobs.step()
 *       const size = yield* Job.result(resize, id)
 *     }))
 *
 * Gotcha: delayed jobs, retries among them, become ready by the program's clock: move the `TestClock`, and run again.
 */
import { Context, Effect, type Exit, Layer, Option, type Scope } from "effect"
import * as Engine from "../Engine.ts"
import { isBehind } from "../internal/jobs/behind.ts"
import type { Handler } from "../internal/jobs/spec.ts"
import * as Job from "../Job.ts"
import { JobStore, type State } from "../JobStore.ts"
import * as Part from "../Part.ts"
import * as Worker from "../Worker.ts"

/** One run of a job, and what became of the job by it. */
export interface Ran {
  readonly id: string
  readonly job: string
  readonly queue: string
  /** 1 on the first run. */
  readonly attempt: number
  /** `delayed` or `ready` if it is tried again. */
  readonly state: State
  /** How this run ended, as its handler did. */
  readonly exit: Exit.Exit<unknown, unknown>
  /** How the job ended, if it is over: its success, its typed error, or a `JobFailed`. */
  readonly end: Option.Option<Exit.Exit<unknown, unknown>>
}

export interface Some {
  /** Only jobs of this queue; all others wait. */
  readonly queue?: string | undefined
}

export interface Jobs {
  /** Run the next one that is ready; none if there is none that these handlers are for. */
  readonly step: (some?: Some) => Effect.Effect<Option.Option<Ran>>
  /** Run until none is ready, what these enqueue included. */
  readonly run: (some?: Some) => Effect.Effect<ReadonlyArray<Ran>>
}

type JobPart = Part.Any & { readonly job: Handler }

/** Parts that handle no jobs are refused. */
const handlersOf = (parts: ReadonlyArray<Part.Any>): ReadonlyArray<JobPart> => {
  const other = parts.find(({ job }) => job === undefined)
  if (other !== undefined) throw new Error(`TestJob.run: ${other.name} handles no jobs`)
  return parts as ReadonlyArray<JobPart>
}

const makeJobs = (parts: ReadonlyArray<JobPart>) =>
  Effect.gen(function* () {
    const context = yield* Effect.context<Engine.Services>()
    const store = Context.get(context, JobStore)
    let runs: Array<{ readonly part: JobPart; readonly run: Job.Run; readonly exit: Exit.Exit<unknown, unknown> }> = []
    const watched = parts.map((part) => ({
      part,
      queue: part.job.spec.queue,
      own: Part.around(part, (handle, work) =>
        Effect.onExit(handle, (exit) =>
          Effect.sync(() => void (work._tag === "Job" && runs.push({ part, run: work.run, exit })))
        )
      )
    }))

    /** What the engine has of it by now. */
    const told = ({ exit, part, run }: (typeof runs)[number]): Effect.Effect<Ran, unknown, Job.Client> => {
      const { spec } = part.job
      // All of a definition that is asked for.
      const job = { name: spec.name, queue: spec.queue, spec } as unknown as Job.Job<unknown, unknown, unknown, unknown>
      return Effect.map(Job.info(job, run.id), (info) => ({
        id: run.id,
        job: spec.name,
        queue: spec.queue,
        attempt: run.attempt,
        // With a `resultTtl` of nothing it is forgotten when it is done.
        state: Option.match(info, { onNone: () => "done" as const, onSome: ({ state }) => state }),
        exit,
        end: Option.flatMap(info, ({ end }) => end)
      }))
    }

    const work = (some: Some | undefined, limit: number | undefined): Effect.Effect<ReadonlyArray<Ran>> =>
      Effect.gen(function* () {
        const chosen = watched.filter(({ queue }) => some?.queue === undefined || queue === some.queue)
        runs = []
        const byQueue = Map.groupBy(chosen, ({ queue }) => queue)
        const ready = yield* Effect.forEach(byQueue, ([queue, own]) =>
          isBehind(
            store,
            queue,
            own.map(({ part }) => part.name)
          )
        )
        if (!ready.includes(true)) return []
        const own = chosen.map((one) => one.own) as ReadonlyArray<unknown> as ReadonlyArray<Part.Part<never, never>>
        const options = { limit, jobs: { concurrency: 1 } }
        if (limit !== undefined) yield* Worker.run(own, options)
        else {
          yield* Effect.andThen(Worker.idle, Worker.stop).pipe(Effect.provide(Layer.fresh(Worker.layer(own, options))))
        }
        return yield* Effect.forEach(runs, told)
      }).pipe(
        Effect.provideContext(context),
        // Here the engine cannot be away, and parts that make no worker are a mistake of the test.
        Effect.orDie
      )

    const jobs: Jobs = {
      step: (some) => Effect.map(work(some, 1), ([ran]) => Option.fromNullishOr(ran)),
      run: (some) => work(some, undefined)
    }
    return jobs
  })

/** Gives what the body gives. The engine is gone with it. */
export const run = <const P extends ReadonlyArray<Part.Part<never, any>>, A, E, R>(
  parts: P,
  body: (jobs: Jobs) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, Exclude<Part.Services<P[number]> | R, Engine.Services | Scope.Scope>> =>
  Effect.suspend(() => Effect.flatMap(makeJobs(handlersOf(parts)), body)).pipe(
    Effect.scoped,
    Effect.provide(Layer.fresh(Engine.layerMemory))
  ) as Effect.Effect<A, E, any>
