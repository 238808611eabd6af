/**
 * One run of a simulation, whatever it is about: workers join, a seed decides what goes wrong while there is work, then it
 * is calm, and what is left is finished and looked at.
 *
 * Gotcha: everything is drawn from one seed in one order; another draw anywhere makes all seeds others.
 */
import { Cause, type Context, Effect, type Exit } from "effect"
import type * as Engine from "../../Engine.ts"
import type * as Part from "../../Part.ts"
import { Choices } from "../choices.ts"
import { Cluster } from "./cluster.ts"
import { Ledger } from "./ledger.ts"
import { Network } from "./network.ts"
import { type Scene, Trouble } from "./trouble.ts"
import { weather } from "./weather.ts"
import { type Process, World } from "./world.ts"

/** Milliseconds of virtual time in which things go wrong. */
const troubled = { least: 2_500, most: 8_000 }
/** Milliseconds of virtual time in which all must be done after that. */
const patience = 180_000

export interface Options {
  readonly parts: ReadonlyArray<Part.Any>
  readonly workers?: number | undefined
  readonly serverWentBack: boolean
  readonly context: Context.Context<never>
  /** At which calls a process may crash. */
  readonly calls: ReadonlyArray<string>
  /** Begins the work, which comes within so many milliseconds. */
  readonly begin: (cluster: Cluster, millis: number) => Process
  /** Completes when nothing is left to do; asked twice. */
  readonly finish: (scene: Scene, trouble: Trouble) => Effect.Effect<void>
  /** What follows then. */
  readonly end: (scene: Scene) => Effect.Effect<void>
  /** Looks at what is stored; each text it gives is a violation. */
  readonly check: Effect.Effect<ReadonlyArray<string>, unknown, Engine.Services> | undefined
}

/** Never fails: what went wrong is among the violations of the cluster. */
export const play = (
  seed: number,
  { begin, calls, check, context, end, finish, parts, serverWentBack, workers = 3 }: Options
): Effect.Effect<{ readonly cluster: Cluster; readonly ledger: Ledger }> =>
  Effect.gen(function* () {
    const choices = new Choices(seed)
    const sky = weather(choices, serverWentBack)
    const world = new World(choices.fork())
    const ledger = new Ledger()
    const network = new Network(world, choices.fork(), ledger)
    const driver = world.process("the driver")
    const setup = { world, network, ledger, choices: choices.fork(), weather: sky, parts, context, serverWentBack }
    const cluster = new Cluster(setup)

    const script = Effect.gen(function* () {
      yield* network.start([])
      network.pace = sky.pace
      const millis = choices.between(troubled.least, troubled.most)
      const publisher = begin(cluster, millis * 0.8)
      const own = choices.fork()
      const common = { world, network, cluster, ledger, choices: own, driver, publisher, workers, parts, calls }
      const scene: Scene = { ...common, serverWentBack }
      const trouble = new Trouble(scene)
      for (let i = 0; i < workers; i++) trouble.join()
      const calm = world.now + millis
      while (world.now < calm) {
        yield* Effect.sleep(choices.next() * sky.rest)
        yield* trouble.one(choices.pick(sky.kinds))
      }
      cluster.calm = true
      trouble.calm()
      cluster.step("nothing goes wrong any more")
      yield* finish(scene, trouble)
      // A duplicate that comes after that is news to a server that went back behind it; so is one of a process that has
      // only just woken up.
      if (world.now < cluster.lateUntil) yield* Effect.sleep(cluster.lateUntil - world.now)
      yield* finish(scene, trouble)
      cluster.step("all is over")
      yield* end(scene)
      if (check === undefined) return
      const wrong = Effect.catchCause(Effect.provide(check, network.services), (cause) =>
        Effect.succeed([`the check failed: ${Cause.pretty(cause)}`])
      )
      cluster.violations.push(...(yield* wrong))
    }).pipe(Effect.ensuring(network.close()))

    const ends: Array<Exit.Exit<void>> = []
    driver.run(script, driver.context, (fiber) => fiber.addObserver((exit) => ends.push(exit)))
    const wrong = yield* world.run(() => ends.length > 0)
    if (wrong !== undefined) cluster.violations.push(wrong)
    for (const end of ends) yield* end
    return { cluster, ledger }
  })

/** Wait until it holds; that it never does is a violation. */
export const until = (
  { cluster, world }: Scene,
  holds: Effect.Effect<boolean>,
  wrong: () => string
): Effect.Effect<void> =>
  Effect.gen(function* () {
    const late = world.now + patience
    while (!(yield* holds)) {
      if (world.now > late) return void cluster.violations.push(`${patience / 1_000} seconds of calm, and ${wrong()}`)
      yield* Effect.sleep(100)
    }
  })
