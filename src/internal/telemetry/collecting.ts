/**
 * What a worker has to ask the engine for its metrics: lag, quarantine, queues. Nobody asks while nobody looks; while
 * somebody does, every few seconds, and at once for `Metrics.refresh`.
 */
import { Clock, type Context, Effect, Latch, type Metric, type Scope } from "effect"
import type { Broker } from "../../Broker.ts"
import type { Coordinator } from "../../Coordinator.ts"
import type { JobStore } from "../../JobStore.ts"
import * as Metrics from "../../Metrics.ts"
import { observeLoop } from "./loop.ts"
import { refreshes } from "./refreshing.ts"
import { type Attributes, level } from "./series.ts"

/** Milliseconds between two questions, and how long somebody who has looked is expected to look again. */
const pauseMillis = 5_000
const interestMillis = 60_000

export interface Options {
  readonly context: Context.Context<never>
  readonly broker: Broker["Service"]
  readonly coordinator: Coordinator["Service"]
  readonly store: JobStore["Service"]
  readonly groups: Iterable<{
    readonly definition: { readonly name: string }
    readonly epochs: ReadonlyMap<number, bigint>
  }>
  readonly queues: ReadonlyArray<string>
}

/** Gauges whose series come and go with what is found. */
class Found {
  private series = new Map<string, { value: number; readonly end: () => void }>()
  private stale = new Set<string>()
  private readonly context: Context.Context<never>
  constructor(context: Context.Context<never>) {
    this.context = context
  }

  /** All that is not set until `sweep` goes. */
  begin(): void {
    this.stale = new Set(this.series.keys())
  }

  set(metric: Metric.Gauge<number>, attributes: Attributes, value: number): void {
    const key = JSON.stringify([metric.id, attributes])
    this.stale.delete(key)
    const known = this.series.get(key)
    if (known !== undefined) {
      known.value = value
      return
    }
    this.series.set(key, {
      value,
      end: level(metric, attributes, this.context, () => this.series.get(key)?.value ?? 0)
    })
  }

  sweep(): void {
    for (const key of this.stale) {
      this.series.get(key)!.end()
      this.series.delete(key)
    }
  }
}

export const collecting = (options: Options): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { broker, context, coordinator, groups, queues, store } = options
    const clock = yield* Clock.Clock
    const found = new Found(context)
    const wanted = Latch.makeUnsafe(false)
    let looked = 0

    const refresh = Effect.gen(function* () {
      const lags = yield* Effect.forEach(groups, (group) =>
        Effect.all({
          group: Effect.succeed(group),
          lags: broker.lag(group.definition.name),
          state: coordinator.group(group.definition.name)
        })
      )
      const counts = yield* Effect.forEach(queues, (queue) =>
        Effect.map(store.counts(queue), (counts) => ({ queue, counts }))
      )
      const now = clock.currentTimeMillisUnsafe()
      found.begin()
      for (const { group, lags: all, state } of lags) {
        const processor = group.definition.name
        found.set(Metrics.inQuarantine, { processor }, state.quarantined.length)
        for (const { events, oldest, partition, topic } of all) {
          if (!group.epochs.has(partition)) continue
          const place = { processor, topic, partition: String(partition) }
          found.set(Metrics.lag, place, events)
          found.set(Metrics.lagSeconds, place, oldest === undefined ? 0 : Math.max(0, now - oldest) / 1_000)
        }
      }
      for (const { counts: states, queue } of counts) {
        for (const [state, jobs] of Object.entries(states)) found.set(Metrics.queueJobs, { queue, state }, jobs)
      }
      found.sweep()
    }).pipe(
      // What cannot be had now stays as it was.
      Effect.catch((error) => Effect.logDebug("metrics were not brought up to date", error))
    )

    const look = (): number => {
      looked = clock.currentTimeMillisUnsafe()
      wanted.openUnsafe()
      return 1
    }
    const end = level(Metrics.workers, {}, context, look)
    observeLoop(context)
    const forget = refreshes(context, refresh)
    yield* Effect.addFinalizer(() =>
      Effect.andThen(
        forget,
        Effect.sync(() => {
          end()
          found.begin()
          found.sweep()
        })
      )
    )
    const round = Effect.gen(function* () {
      yield* wanted.await
      yield* refresh
      yield* Effect.sleep(pauseMillis)
      if (clock.currentTimeMillisUnsafe() - looked > interestMillis) wanted.closeUnsafe()
    })
    yield* Effect.forkScoped(Effect.forever(round))
  })
