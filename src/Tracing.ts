/**
 * Traces that go on from publish to handler, to what the handler emits, asks and enqueues, and to the jobs of that; across
 * processes, through retries and dead letters. The span travels in the headers, in the form of W3C (`traceparent`).
 *
 * Off unless asked for, and then it costs nothing: `Settings.layer({ tracing: { sample: 0.01 } })`, `Worker.run(parts, {
 * tracing: { sample: 0.01 } })` or `MILLRACE_TRACING_SAMPLE=0.01`. What was published in a sampled span is handled in a
 * child of it, of the rest the given share in a span of its own; each try is a span. A batch is one span, with links; in
 * a pipeline each unit of work is one (`Event.mapEffect`, `mapBatch`).
 *
 * All spans, metrics and log lines over OTLP, by Effect's own layer:
 *
 * ```ts
 * import { NodeHttpClient } from "@effect/platform-node"
 * import { Otlp } from "effect/observability"
 *
 * const telemetry = Otlp.layerJson({ baseUrl: "http://localhost:4318", resource: { serviceName: "orders" } }).pipe(
 *   Layer.provide(NodeHttpClient.layerUndici)
 * )
 * Worker.run(parts, { tracing: { sample: 0.01 } }).pipe(Effect.provide(Engine.layerConfig), Effect.provide(telemetry))
 * ```
 */
import { Effect, Option, type Tracer } from "effect"
import { decode, encode, traceparent } from "./internal/telemetry/tracing.ts"

type Headers = Readonly<Record<string, string>>

/** Name of the header. */
export const header = traceparent

/** The span that an event or a job was published in: for code that reads them itself (`Topic.stream`). */
export const parentOf = (self: { readonly headers: Headers }): Option.Option<Tracer.ExternalSpan> =>
  Option.fromNullishOr(decode(self.headers[traceparent]))

/** Headers that name the current span, whether it is sampled or not; none without a span. */
export const headers: Effect.Effect<Headers> = Effect.withFiber((fiber) => {
  const { span } = fiber.cache
  return Effect.succeed(span === undefined ? {} : { [traceparent]: encode(span) })
})
