/** What it costs to look: the same work with metrics scraped each second, JSON logs and tracing, beside a plain run. */
import { Effect, Logger, Metric, Tracer } from "effect"
import { PrometheusMetrics } from "effect/observability"
import type { Engine } from "../../src/index.ts"
import { Metrics, Settings } from "../../src/index.ts"

/** As `/metrics` answers: the engine is asked first. */
const scrape = Effect.andThen(Metrics.refresh, PrometheusMetrics.format())

/** Formatted as for the console, and thrown away: what a terminal costs is not ours. */
const logging = Logger.layer([Logger.make((options) => void JSON.stringify(Logger.formatStructured.log(options)))])

/** A registry of its own, as a program has one: the processors of other rounds are no part of what is scraped. */
export const plain = <A, E, R>(work: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => Effect.provideService(work, Metric.MetricRegistry, new Map()))

/** `sample` as in `Settings.tracing`; the spans are made, and kept by nobody. */
export const watched = <A, E>(
  work: Effect.Effect<A, E, Engine.Services>,
  sample: number
): Effect.Effect<A, E, Engine.Services> =>
  Effect.raceFirst(
    work,
    // The first half a second from the start, so that a short round is looked at, too.
    Effect.andThen(Effect.sleep("500 millis"), Effect.forever(Effect.andThen(scrape, Effect.sleep("1 second"))))
  ).pipe(
    Effect.provide(Settings.layer({ tracing: { sample } })),
    Effect.provide(logging),
    Effect.provideService(Tracer.Tracer, Tracer.nativeTracer),
    plain
  )
