/**
 * Runs your handlers of jobs on several workers, in virtual time, while workers crash, hang and come back, and answers are
 * lost: `Simulation` for jobs. What must hold is checked: every job that was stored runs, and ends once; none is run after its
 * success; those of a group end in their order; and whatever your own `check` looks at.
 *
 * Gotcha: a job whose worker was killed three times over is dead as `Lost`, here as elsewhere.
 */
import { Cause, Context, Effect, type Exit, type Scope } from "effect"
import type * as Engine from "../Engine.ts"
import { JobStore } from "../JobStore.ts"
import type * as Part from "../Part.ts"
import { Choices } from "./simulation/choices.ts"
import { Cluster } from "./simulation/cluster.ts"
import { Ledger } from "./simulation/ledger.ts"
import { Network } from "./simulation/network.ts"
import { type Scene, Trouble } from "./simulation/trouble.ts"
import { weather } from "./simulation/weather.ts"
import { World } from "./simulation/world.ts"

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
  /** What happened, by virtual time in seconds. */
  readonly steps: ReadonlyArray<string>
}

/** Milliseconds of virtual time in which things go wrong, and in which all must be done after that. */
const troubled = { least: 2_500, most: 8_000 }
const patience = 180_000
const calls = ["open", "exchange", "exchange", "exchange", "extend", "sweep", "close", "enqueue", "fire"]

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
    const { enqueue, parts, workers = 3 } = options
    const choices = new Choices(seed)
    const sky = weather(choices, false)
    const world = new World(choices.fork())
    const ledger = new Ledger()
    const network = new Network(world, choices.fork(), ledger)
    const driver = world.process("the driver")
    const setup = {
      world,
      network,
      ledger,
      choices: choices.fork(),
      weather: sky,
      parts,
      context,
      serverWentBack: false
    }
    const cluster = new Cluster(setup)

    const script = Effect.gen(function* () {
      yield* network.start([])
      network.pace = sky.pace
      const millis = choices.between(troubled.least, troubled.most)
      const publisher = cluster.perform(enqueue, millis * 0.8)
      const own = choices.fork()
      const common = { world, network, cluster, ledger, choices: own, driver, publisher, workers, parts, calls }
      const scene: Scene = { ...common, serverWentBack: false }
      const trouble = new Trouble(scene)
      for (let i = 0; i < workers; i++) trouble.join()
      const end = world.now + millis
      while (world.now < end) {
        yield* Effect.sleep(choices.next() * sky.rest)
        yield* trouble.one(choices.pick(sky.kinds))
      }
      cluster.calm = true
      trouble.calm()
      cluster.step("nothing goes wrong any more")
      yield* finish(scene, enqueue.length, trouble)
      cluster.step("all is over")
      const store = Context.get(network.services, JobStore)
      const found = yield* ledger.jobs.judge((queue, id) => Effect.orDie(store.get(queue, id, false)))
      cluster.violations.push(...found)
      if (options.check === undefined) return
      const wrong = Effect.catchCause(Effect.provide(options.check, network.services), (cause) =>
        Effect.succeed([`the check failed: ${Cause.pretty(cause)}`])
      )
      cluster.violations.push(...(yield* wrong))
    }).pipe(Effect.ensuring(network.close()))

    const ends: Array<Exit.Exit<void>> = []
    driver.run(script, driver.context, (fiber) => fiber.addObserver((exit) => ends.push(exit)))
    const wrong = yield* world.run(() => ends.length > 0)
    if (wrong !== undefined) cluster.violations.push(wrong)
    for (const end of ends) yield* end
    const { all, claims } = ledger.jobs
    const runs = all.reduce((sum, job) => sum + job.runs, 0)
    const report: Report = {
      seed,
      violations: cluster.violations,
      jobs: all.length,
      claims,
      runs,
      steps: cluster.steps
    }
    return report
  })

/** With nothing in the way all is enqueued, and nothing waits or runs any more. */
const finish = (scene: Scene, total: number, trouble: Trouble): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { cluster, network, world } = scene
    const store = Context.get(network.services, JobStore)
    const late = world.now + patience
    while (true) {
      if (cluster.live.every(({ process }) => process.state !== "running")) trouble.join()
      let left = total - cluster.published
      for (const queue of yield* Effect.orDie(store.queues)) {
        const { active, delayed, ready, waiting } = yield* Effect.orDie(store.counts(queue))
        left += active + delayed + ready + waiting
      }
      if (left === 0) break
      if (world.now > late) {
        return void cluster.violations.push(`${patience / 1_000} seconds of calm, and ${left} jobs are not over`)
      }
      yield* Effect.sleep(100)
    }
    // Those wake up that slept through it all: what they think they hold is others' by now.
    if (trouble.continueAll()) yield* Effect.sleep(10_000)
  })
