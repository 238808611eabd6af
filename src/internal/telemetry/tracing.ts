/**
 * Trace context in the headers of events and jobs, in the form of W3C: `traceparent` names the span that published. With
 * tracing off (`Settings`, `tracing.sample` 0) no header is read and none is written.
 */
import { Context, Effect, type Fiber, Random, Tracer } from "effect"
import * as Settings from "../../Settings.ts"

type Headers = Readonly<Record<string, string>>

/** Name of the header. */
export const traceparent = "traceparent"

export const encode = ({ sampled, spanId, traceId }: Tracer.AnySpan): string =>
  `00-${traceId.padStart(32, "0")}-${spanId}-${sampled ? "01" : "00"}`

const pattern = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/

/** The span that a header names; undefined if it names none. */
export const decode = (text: string | undefined): Tracer.ExternalSpan | undefined => {
  const match = text === undefined ? null : pattern.exec(text)
  if (match === null || /^0+$/.test(match[1]!) || /^0+$/.test(match[2]!)) return undefined
  return Tracer.externalSpan({
    traceId: match[1]!,
    spanId: match[2]!,
    sampled: (Number.parseInt(match[3]!, 16) & 1) === 1
  })
}

interface Carries {
  readonly headers?: Headers | undefined
}

/** The same options with the span of this fiber in the headers, if it is sampled and tracing is on. */
export const traced = <O extends Carries>(
  fiber: Fiber.Fiber<unknown, unknown>,
  options: O | undefined
): O | Carries | undefined => {
  const { span } = fiber.cache
  if (span === undefined || !span.sampled || Settings.sampleOf(fiber.context) === 0) return options
  // Whoever names another span means it.
  if (options?.headers?.[traceparent] !== undefined) return options
  return { ...options, headers: { ...options?.headers, [traceparent]: encode(span) } }
}

/** What a thread goes on with: the span it works for, as a header has it, and the share that is traced. */
export interface Trace {
  readonly traceparent: string
  readonly sample: number
}

/** Undefined: this fiber has no span that is sampled, or tracing is off. */
export const traceOf = ({ cache: { span }, context }: Fiber.Fiber<unknown, unknown>): Trace | undefined => {
  const sample = Settings.sampleOf(context)
  return span === undefined || !span.sampled || sample === 0 ? undefined : { traceparent: encode(span), sample }
}

/** The other side of `traceOf`: in a span of its own, the child of the one that was handed over. */
export const continued = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  trace: Trace | undefined,
  name: string,
  attributes: Record<string, unknown>
): Effect.Effect<A, E, R> => {
  if (trace === undefined) return effect
  const options = { parent: decode(trace.traceparent), attributes, captureStackTrace: false }
  const spanned = Effect.withSpan(effect, name, options) as typeof effect
  return Effect.updateContext(
    spanned,
    (context: Context.Context<R>) => Settings.withSample(context, trace.sample) as typeof context
  )
}

/** Whether what came with these headers is handled in a span of its own, and of which parent; undefined: it is not. */
export interface Tracing {
  readonly one: (headers: Headers) => Tracer.SpanOptions | undefined
  /** Of things handled together the span has links to all that were published in one, and no parent. */
  readonly several: (headers: ReadonlyArray<Headers>) => Tracer.SpanOptions | undefined
}

/** An effect in such a span. */
export const inSpan = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  options: Tracer.SpanOptions,
  name: string,
  attributes: Record<string, unknown>
): Effect.Effect<A, E, R> =>
  Effect.withSpan(effect, name, {
    ...options,
    kind: "consumer",
    attributes,
    captureStackTrace: false
  }) as typeof effect

/** Spans of a batch are linked to so many at most. */
const mostLinks = 128

/** Undefined: tracing is off. What was published in a sampled span is traced, of the rest the share that is asked for. */
export const tracingOf = (context: Context.Context<never>): Tracing | undefined => {
  const sample = Settings.sampleOf(context)
  if (sample === 0) return undefined
  const random = Context.get(context, Random.Random)
  const own = (): boolean => sample === 1 || random.nextDoubleUnsafe() < sample
  return {
    one: (headers) => {
      const parent = decode(headers[traceparent])
      if (parent === undefined) return own() ? { root: true, sampled: true } : undefined
      return parent.sampled ? { parent } : undefined
    },
    several: (headers) => {
      const links: Array<Tracer.SpanLink> = []
      for (const one of headers) {
        const span = decode(one[traceparent])
        if (span?.sampled === true && links.length < mostLinks) links.push({ span, attributes: {} })
      }
      return links.length > 0 || own() ? { root: true, sampled: true, links } : undefined
    }
  }
}

/** The context of handlers: with tracing, what they publish does not belong to the span that the worker was started in. */
export const traceable = (context: Context.Context<never>, sample: number): Context.Context<never> => {
  const told = Settings.withSample(context, sample)
  return sample === 0 ? told : (Context.omit(Tracer.ParentSpan)(told) as Context.Context<never>)
}
