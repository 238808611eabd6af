/**
 * The engines that a behaviour is shown on: memory on the test clock, a file and Redis on the real one. A behaviour is
 * written once and runs on all three, each time on an engine of its own, so that names and positions never meet.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { it } from "@effect/vitest"
import { type Context, Effect, Exit, Layer, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Broker, type Commit } from "../../src/Broker.ts"
import { Coordinator } from "../../src/Coordinator.ts"
import * as Engine from "../../src/Engine.ts"
import type { ProcessorHalted } from "../../src/Errors.ts"
import type { Part } from "../../src/Part.ts"
import type * as Topic from "../../src/Topic.ts"
import * as Worker from "../../src/Worker.ts"
import { sharedUrl } from "./redis.ts"

export interface TestEngine {
  readonly name: "memory" | "file" | "Redis"
  /** Time is the test's: nothing that waits for it goes on unless it is moved. */
  readonly virtual: boolean
  /** Let time pass. On a real clock it is a real wait, for what needs time by its nature. */
  readonly elapse: (millis: number) => Effect.Effect<void>
}

const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "millrace-behaviour-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

const elapseLive = (millis: number): Effect.Effect<void> => Effect.sleep(millis)
// In steps, so that what one moment sets going has gone on before the next one comes.
const elapseVirtual = (millis: number): Effect.Effect<void> =>
  Effect.gen(function* () {
    const steps = Math.min(25, millis)
    for (let step = 0; step < steps; step++) yield* TestClock.adjust(millis / steps)
  })

type Build = () => Layer.Layer<Engine.Services, unknown>

const engines: ReadonlyArray<readonly [TestEngine, Build]> = [
  [{ name: "memory", virtual: true, elapse: elapseVirtual }, () => Layer.fresh(Engine.layerMemory)],
  [
    { name: "file", virtual: false, elapse: elapseLive },
    () => Layer.unwrap(Effect.map(temporaryDirectory, (at) => Engine.layerEmbedded({ file: join(at, "test.db") })))
  ],
  [
    { name: "Redis", virtual: false, elapse: elapseLive },
    () =>
      Layer.unwrap(
        Effect.map(Effect.promise(sharedUrl), (url) =>
          Engine.layerRedis({ url, namespace: `behaviour-${crypto.randomUUID()}` })
        )
      )
  ]
]

export interface BehaviourOptions {
  readonly on?: ReadonlyArray<TestEngine["name"]> | undefined
  readonly timeout?: number | undefined
}

/** One sentence, shown on every engine. */
export const behaviour = (
  sentence: string,
  body: (engine: TestEngine) => Effect.Effect<unknown, unknown, Engine.Services | Scope.Scope>,
  options: BehaviourOptions = {}
): void => {
  for (const [engine, build] of engines) {
    if (options.on !== undefined && !options.on.includes(engine.name)) continue
    // The workers of a test end before their engine does.
    const run = () => Effect.scoped(Effect.suspend(() => body(engine))).pipe(Effect.provide(build()))
    const test = engine.virtual ? it.effect : it.live
    test(`${sentence} [${engine.name}]`, run, options.timeout ?? 15_000)
  }
}

/** Wait until it holds; what it looked like at last is in the failure. */
export const until = <E = never, R = never>(
  engine: TestEngine,
  what: string,
  holds: () => boolean | Effect.Effect<boolean, E, R>
): Effect.Effect<void, E, R> =>
  Effect.gen(function* () {
    for (let look = 0; look < 2_000; look++) {
      const answer = holds()
      if (typeof answer === "boolean" ? answer : yield* answer) return
      // A real clock is looked at again and again; a virtual one moves a little with each look.
      yield* engine.elapse(5)
    }
    return yield* Effect.die(new Error(`it never came to this: ${what}`))
  })

export interface Running {
  readonly idle: Effect.Effect<void, Worker.Failure<unknown>>
  readonly join: Effect.Effect<Worker.Summary, Worker.Failure<unknown>>
  readonly stop: Effect.Effect<Worker.Summary, Worker.Failure<unknown>>
  /** End it as interruption does. */
  readonly close: Effect.Effect<void>
  readonly context: Context.Context<Worker.Worker<unknown>>
}

type Runnable = Part<unknown, Engine.Services>

/** A worker in the background, until the test ends or it is closed. */
export const start = (
  parts: ReadonlyArray<Runnable>,
  options?: Worker.Options
): Effect.Effect<Running, unknown, Engine.Services | Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
    const context = yield* Layer.buildWithScope(Layer.fresh(Worker.layer(parts, options)), scope)
    const at = context as Context.Context<Worker.Worker<unknown>>
    return {
      context: at,
      idle: Effect.provideContext(Worker.idle, at),
      join: Effect.provideContext(Worker.join, at),
      stop: Effect.provideContext(Worker.stop, at),
      close: Scope.close(scope, Exit.void)
    }
  })

/** Run until nothing is left to do, and end. */
export const drain = (
  parts: ReadonlyArray<Runnable>,
  options?: Worker.Options
): Effect.Effect<Worker.Summary, unknown, Engine.Services> =>
  Effect.scoped(
    Effect.gen(function* () {
      const worker = yield* start(parts, options)
      yield* worker.idle
      return yield* worker.stop
    })
  )

/** Run until it halts, and say why. */
export const halted = (
  parts: ReadonlyArray<Runnable>,
  options?: Worker.Options
): Effect.Effect<ProcessorHalted<unknown>, unknown, Engine.Services> =>
  Effect.flatMap(
    Effect.flip(
      Worker.run(parts as never, options) as Effect.Effect<unknown, Worker.Failure<unknown>, Engine.Services>
    ),
    (failure) => (failure._tag === "ProcessorHalted" ? Effect.succeed(failure) : Effect.die(failure))
  )

/** What a part did, where only some of it is of interest. */
export const counts = (some: Partial<Worker.Counts>): Worker.Counts => ({
  processed: 0,
  failed: 0,
  retried: 0,
  ignored: 0,
  deadLettered: 0,
  parked: 0,
  quarantined: 0,
  ...some
})

/** The numbers from 0 on. */
export const numbers = (length: number, from = 0): Array<number> => Array.from({ length }, (_, i) => i + from)

/** Another owner of partition 0, behind the worker's back, with a higher epoch: whatever the worker commits is refused. */
export const intrude = (processor: string, topic: Topic.Any) =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const group = yield* (yield* Coordinator).group(processor)
    const fence = { epoch: group.owners[0]!.epoch + 1n, incarnation: "intruder" }
    const claim = yield* broker.claim(processor, 0, [topic], fence)
    if (claim._tag !== "Claimed") return yield* Effect.die(new Error("the intruder was refused"))
    const commit = { ...fence, processor, partition: 0, number: claim.number, offsets: [], rows: [], emits: [] }
    return commit satisfies Commit as Commit
  })
