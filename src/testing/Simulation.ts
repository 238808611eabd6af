/**
 * Runs your processors on several workers, in virtual time, while everything goes wrong that may: workers crash, hang and
 * come back, answers are lost, the server goes away. A seed decides all of it, so a run that found something is run
 * again by its number. What must hold whatever happens is checked; see `Report`.
 *
 * Each worker is a process of its own as far as it can tell, with its own clock and its own way to the server, which is
 * an engine in memory. A killed one never runs again: no finalizer, no farewell.
 *
 * Gotcha: handlers wait on Effect's clock (`Effect.sleep`, schedules, timeouts); real I/O is not waited for in virtual
 * time, so give them services that do none.
 */
import { Context, Effect } from "effect"
import type { Scope } from "effect/Scope"
import { Broker } from "../Broker.ts"
import { Coordinator } from "../Coordinator.ts"
import type * as Engine from "../Engine.ts"
import { type Definition, isProcessing } from "../internal/run/definition.ts"
import type * as Part from "../Part.ts"
import { type Judged, judge, type Verdict } from "./History.ts"
import { play, until } from "./simulation/play.ts"
import type { Scene, Trouble } from "./simulation/trouble.ts"
import { timing } from "./simulation/weather.ts"
import type { Input } from "./TestProcessor.ts"

export interface Options<E, R> {
  /** Processors and agents; handlers of jobs are refused. */
  readonly parts: ReadonlyArray<Part.Part<E, R>>
  /** Published in this order while all that happens; made with `TestProcessor.event`. */
  readonly events: Iterable<Input>
  /** How many workers there are at first; default 3. */
  readonly workers?: number | undefined
  /**
   * The server may also lose what it had acknowledged, and go on from an earlier state. Then events that were stored
   * may be gone, and others may be handled again; processors with `onLost: "halt"` halt, and are started anew.
   */
  readonly serverWentBack?: boolean | undefined
  /** Looks at tables and topics when all is handled; each text it gives is a violation. */
  readonly check?: Effect.Effect<ReadonlyArray<string>, unknown, Engine.Services> | undefined
}

/**
 * `violations` has a sentence for each thing that must not be: events lost, order broken, writes accepted from an owner
 * that was replaced, commits out of number, work that never ends. Repeats are allowed: outside of the engine delivery is
 * at least once.
 */
export interface Report extends Verdict {
  readonly seed: number
  /** What happened, by virtual time in seconds. */
  readonly steps: ReadonlyArray<string>
}

/** At which calls a process may crash. */
const calls = ["sync", "claim", "commit", "commit", "leave", "readMany", "entries", "read"]
/** Workers that are started for those that ended, once it is calm. */
const restarts = 20

/** Never fails: what went wrong is in the report. */
export const run = <E, R>(
  seed: number,
  options: Options<E, R>
): Effect.Effect<Report, never, Exclude<R, Engine.Services | Scope>> =>
  Effect.flatMap(Effect.context<never>(), (context) => simulate(seed, options as Options<unknown, unknown>, context))

const simulate = (seed: number, options: Options<unknown, unknown>, context: Context.Context<never>) =>
  Effect.gen(function* () {
    const job = options.parts.find((part) => part.job !== undefined)
    if (job !== undefined) {
      return yield* Effect.die(new Error(`Simulation.run: ${job.name} handles jobs: use JobSimulation.run`))
    }
    const { parts } = options
    const events = Array.from(options.events)
    const { cluster, ledger } = yield* play(seed, {
      parts,
      workers: options.workers,
      serverWentBack: options.serverWentBack === true,
      context,
      calls,
      begin: (cluster, millis) => cluster.publish(events, millis),
      finish: (scene, trouble) => finish(scene, events.length, trouble),
      end: left,
      check: options.check
    })
    const verdict = judge(ledger.history, parts.filter(isProcessing).map(judged))
    const report: Report = {
      ...verdict,
      violations: [...cluster.violations, ...verdict.violations],
      seed,
      steps: cluster.steps
    }
    return report
  })

/** All workers leave in order. */
const left = (scene: Scene): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { cluster } = scene
    for (const member of cluster.live) cluster.leave(member)
    const there = () => cluster.members.filter((member) => !member.over).map(({ process }) => process.name)
    return until(
      scene,
      Effect.sync(() => there().length === 0),
      () => `told to leave, these still run: ${there().join(", ")}`
    )
  })

/** How often a partition is put back to work that the cluster has put aside: its owners died one after the other. */
const mostReleases = 3

/** With nothing in the way all is published, handled and committed; then those wake up that slept through it all. */
const finish = (scene: Scene, events: number, trouble: Trouble): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { cluster, network, world } = scene
    const parts = scene.parts.filter(isProcessing)
    const broker = Context.get(network.services, Broker)
    const coordinator = Context.get(network.services, Coordinator)
    const releases = new Map<string, number>()
    let left = restarts
    let behind = events
    const isWindowed = parts.some(({ definition }) =>
      definition.tables.some((table) => "onClose" in table || table.definition.holding !== undefined)
    )
    /** Since when all is committed and somebody is there. */
    let settled: number | undefined

    const behindIn = Effect.fnUntraced(function* ({ definition, name }: Processing) {
      const lag = yield* broker.lag(name)
      // A processor that nobody could register yet has done nothing.
      let count = lag.length === 0 ? events : lag.reduce((sum, { events }) => sum + events, 0)
      if (definition.wraps.length === 0) return count
      for (let partition = 0; partition < definition.topics[0].partitions; partition++) {
        count += (yield* broker.lanes(name, partition)).length
      }
      return count
    })
    const putBack = Effect.fnUntraced(function* ({ name }: Processing) {
      for (const { partition } of yield* coordinator.quarantined(name)) {
        const id = `${name}/${partition}`
        const times = (releases.get(id) ?? 0) + 1
        if (times > mostReleases) continue
        releases.set(id, times)
        yield* coordinator.release(name, partition)
        cluster.step(`${id}, which was quarantined, is released`)
      }
    })
    const done = Effect.gen(function* () {
      const isDeserted = cluster.live.every(({ process }) => process.state !== "running")
      if (isDeserted && left-- > 0) trouble.join()
      yield* Effect.forEach(parts, putBack, { discard: true })
      behind = (yield* Effect.forEach(parts, behindIn)).reduce((sum, count) => sum + count, 0)
      const isDone = cluster.published === events && behind === 0
      if (!isDone || !isWindowed) return isDone
      // Windows close behind the last event, by whoever has its partition by then.
      settled = isDeserted ? undefined : (settled ?? world.now)
      return settled !== undefined && world.now - settled >= 2 * timing.lease
    })
    // The engine itself, not the way to it: it cannot be away.
    yield* until(scene, Effect.orDie(done), () => `${behind} events are not committed`)
    if (trouble.continueAll()) yield* Effect.sleep(2 * timing.lease)
  })

/** Schedules and jobs have no events that are to be handled in the end. */
type Processing = Part.Any & { readonly definition: Definition }

const judged = ({ definition }: Processing): Judged => ({
  name: definition.name,
  topics: definition.topics.map((topic) => topic.name),
  ordered: definition.concurrency._tag !== "Unordered",
  // A policy may take events aside, to be handled later and by another owner.
  strict:
    definition.wraps.length === 0 && !(definition.shape._tag === "Each" && definition.shape.acknowledge === "before")
})
