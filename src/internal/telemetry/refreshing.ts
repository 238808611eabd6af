/** What the workers of a process have to ask the engine before somebody looks at their metrics. */
import { Context, Effect, Metric } from "effect"

const all = new WeakMap<Metric.MetricRegistry, Set<Effect.Effect<void>>>()

/** Asked by `refreshed`, until the effect that this gives is run. */
export const refreshes = (context: Context.Context<never>, refresh: Effect.Effect<void>): Effect.Effect<void> => {
  const registry = Context.get(context, Metric.MetricRegistry)
  let known = all.get(registry)
  if (known === undefined) all.set(registry, (known = new Set()))
  const its = known
  its.add(refresh)
  return Effect.sync(() => its.delete(refresh))
}

export const refreshed = (context: Context.Context<never>): Effect.Effect<void> =>
  Effect.suspend(() =>
    Effect.forEach(all.get(Context.get(context, Metric.MetricRegistry)) ?? [], (refresh) => refresh, {
      concurrency: "unbounded",
      discard: true
    })
  )
