/**
 * A worker and publishers at work while something happens to their server. Afterwards all must be there: no acknowledged
 * event lost, order per key kept, totals and emitted events exactly once.
 *
 * Gotcha: a publish that failed may or may not be stored, so a key ends with its first failure, which is reported.
 */
import { randomUUID } from "node:crypto"
import { assert } from "@effect/vitest"
import { Cause, type Context, Effect, Exit, Fiber, Layer, Logger, Schema, Scope, Stream } from "effect"
import type { Durability } from "../../src/Broker.ts"
import { Engine, Processor, Retention, Table, Topic, Worker } from "../../src/index.ts"
import { eventually } from "./redis.ts"

const Step = Schema.Struct({ key: Schema.String, n: Schema.Int })

export interface Options {
  readonly url: string
  /** Another way to the same engine, for the publishers. */
  readonly publishersUrl?: string | undefined
  readonly partitions?: number | undefined
  readonly shards?: number | undefined
  readonly keys?: number | undefined
  readonly lease?: number | undefined
  /** Of commits and of what is published. */
  readonly durability?: Durability | undefined
}

export interface Load {
  readonly namespace: string
  /** What is acknowledged, and what was handled, repeats left out. */
  readonly published: () => number
  readonly handled: () => number
  /** Why publishers gave up. */
  readonly failures: ReadonlyArray<{ readonly _tag: string; readonly message: string }>
  /** What the worker and the publishers logged, from `Info` on. */
  readonly logs: ReadonlyArray<string>
  /** Milliseconds from now until an event of each key is handled that is published from now on. */
  readonly resumes: Effect.Effect<number>
  /** So many more events are handled. */
  readonly handles: (events: number) => Effect.Effect<void>
}

/** A pause between two events of a key, so that the machine is not the one in trouble. */
const pace = "2 millis"

export const underLoad = <A, E>(
  options: Options,
  trouble: (load: Load) => Effect.Effect<A, E, Scope.Scope>
): Effect.Effect<A, unknown> =>
  Effect.scoped(
    Effect.gen(function* () {
      const namespace = `load-${randomUUID()}`
      const partitions = options.partitions ?? 8
      const keys = Array.from({ length: options.keys ?? 8 }, (_, i) => `key-${i}`)
      const kept = { schema: Step, partitionBy: "key", partitions, retention: Retention.forever } as const
      const steps = Topic.make("steps", kept)
      const copies = Topic.make("copies", kept)
      const totals = Table.make("totals", { key: Schema.String, value: Schema.Int, initial: () => 0 })

      const acknowledged = new Map(keys.map((key) => [key, 0]))
      const handled = new Map(keys.map((key) => [key, 0]))
      const begun = new Map<string, number>()
      const failures: Array<{ readonly _tag: string; readonly message: string }> = []
      const logs: Array<string> = []
      const lastBegun = new Map<string, number>()
      const disorder: Array<string> = []
      const sum = (counts: ReadonlyMap<string, number>): number => [...counts.values()].reduce((a, b) => a + b, 0)

      const part = Processor.make("copying", { topic: steps, tables: [totals] }, (step) =>
        Effect.gen(function* () {
          const next = handled.get(step.key)!
          // Events may come again, and never too early.
          if (step.n > next) disorder.push(`${step.key}: ${step.n} where ${next} was next`)
          if (step.n === next) handled.set(step.key, next + 1)
          lastBegun.set(step.key, begun.get(`${step.key}/${step.n}`)!)
          yield* Table.update(totals, step.key, (total) => total + 1)
          yield* Topic.emit(copies, step)
        })
      )

      const scope = yield* Effect.scope
      const logging = Logger.layer([
        Logger.make(({ cause, logLevel, message }) =>
          logs.push(`${logLevel}: ${message} ${Cause.pretty(cause)}`.trim())
        )
      ])
      const engineAt = (url: string) =>
        Layer.buildWithScope(
          Layer.fresh(
            Layer.merge(
              Engine.layer({ url, namespace, ...(options.shards ? { shards: options.shards } : {}) }),
              logging
            )
          ),
          scope
        )
      const here = yield* engineAt(options.publishersUrl ?? options.url)
      const there = yield* engineAt(options.url)
      const working = yield* Effect.acquireRelease(Scope.make(), (working) => Scope.close(working, Exit.void))
      const worker: Context.Context<Worker.Worker<unknown>> = (yield* Layer.buildWithScope(
        Worker.layer([part], { lease: options.lease ?? 2_000, durability: options.durability }),
        working
      ).pipe(Effect.provideContext(there))) as never

      let stopping = false
      const publish = (key: string): Effect.Effect<void, never, Engine.Services> =>
        Effect.gen(function* () {
          for (let n = 0; !stopping; n++) {
            begun.set(`${key}/${n}`, performance.now())
            yield* Topic.publish(steps, { key, n }, { durability: options.durability })
            acknowledged.set(key, n + 1)
            yield* Effect.sleep(pace)
          }
        }).pipe(Effect.catch((failure) => Effect.sync(() => void failures.push(failure))))
      const publishers = yield* Effect.forkChild(
        Effect.forEach(keys, publish, { concurrency: "unbounded" }).pipe(Effect.provideContext(here)),
        { startImmediately: true }
      )

      const ended = yield* Effect.forkChild(Effect.exit(Effect.provideContext(Worker.join, worker)), {
        startImmediately: true
      })
      const alive = (): void => {
        const exit = ended.pollUnsafe()
        if (exit !== undefined) assert.fail(`the worker ended: ${String(exit)}`)
      }
      const until = (what: string | (() => string), holds: () => boolean, seconds?: number): Effect.Effect<void> =>
        eventually(
          what,
          Effect.sync(() => {
            alive()
            return holds()
          }),
          seconds
        )
      const load: Load = {
        namespace,
        published: () => sum(acknowledged),
        handled: () => sum(handled),
        failures,
        logs,
        resumes: Effect.gen(function* () {
          const since = performance.now()
          const late = (): ReadonlyArray<string> => keys.filter((key) => !(lastBegun.get(key)! > since))
          yield* until(
            () => `an event of each key published after the trouble is handled; not of ${late()}`,
            () => late().length === 0
          )
          return performance.now() - since
        }),
        handles: (events) =>
          Effect.suspend(() => {
            const wanted = sum(handled) + events
            return until(`${events} more events are handled`, () => sum(handled) >= wanted)
          })
      }
      yield* load.handles(50)
      const answer = yield* trouble(load)
      stopping = true
      yield* Fiber.await(publishers)

      const rows = Effect.map(Stream.runCollect(Table.entries(totals)), (all) => new Map(all))
      let missing: ReadonlyArray<string> = []
      yield* eventually(
        () => `all that was acknowledged is committed: ${missing.join(", ")}`,
        Effect.map(Effect.exit(Effect.provideContext(rows, here)), (exit) => {
          alive()
          const counts: ReadonlyMap<string, number> = Exit.isSuccess(exit) ? exit.value : new Map()
          missing = keys
            .filter((key) => (counts.get(key) ?? 0) < acknowledged.get(key)!)
            .map((key) => `${key}: ${counts.get(key)} of ${acknowledged.get(key)}, handled ${handled.get(key)}`)
          return missing.length === 0
        })
      )
      // What is stored and not acknowledged is handled too.
      yield* Effect.provideContext(Worker.idle, worker)
      yield* Effect.provideContext(Worker.stop, worker)
      assert.deepStrictEqual(disorder.slice(0, 5), [])
      const stored = yield* Stream.runCollect(Topic.stream(steps, { until: "now" })).pipe(Effect.provideContext(here))
      const copied = yield* Stream.runCollect(Topic.stream(copies, { until: "now" })).pipe(Effect.provideContext(here))
      const final = yield* Effect.provideContext(rows, here)
      for (const key of keys) {
        const numbers = stored.filter(({ value }) => value.key === key).map(({ value }) => value.n)
        const failed = failures.length > 0 ? 1 : 0
        assert.isAtLeast(numbers.length, acknowledged.get(key)!, `${key}: acknowledged, and not stored`)
        assert.isAtMost(numbers.length, acknowledged.get(key)! + failed, `${key}: stored twice`)
        const all = Array.from(numbers, (_, n) => n)
        assert.deepStrictEqual(numbers, all, `${key}: as stored`)
        assert.strictEqual(final.get(key), all.length, `${key}: its total`)
        assert.deepStrictEqual(
          copied.filter(({ value }) => value.key === key).map(({ value }) => value.n),
          all,
          `${key}: as emitted`
        )
      }
      return answer
    })
  )
