/**
 * What stands around handlers when somebody asks for it: spans, hooks, and the clock where several run at once. A
 * processor that handles one event after the other, without spans and hooks, has its handler as it is.
 */
import { Effect, type Tracer } from "effect"
import type { Received } from "../record/received.ts"
import type { Shape } from "../run/definition.ts"
import type { Setup } from "../run/runner.ts"
import { sensed } from "./sensing.ts"
import { inSpan } from "./tracing.ts"

type Events = ReadonlyArray<Received<unknown>>
type Handled = Effect.Effect<unknown, unknown>

/** Beside others, every so many-th is timed. */
const timedEvery = 32

/** The shape to run. */
export const instrumented = (setup: Setup): Shape => {
  const { concurrency, middleware, shape } = setup.definition
  if (shape._tag === "Stream") return shape
  if (shape._tag === "Batch") {
    const handler = (values: any, events: Events): Handled =>
      timed(
        setup,
        events.length,
        observed(setup, events, suspended(shape.handler, values, events), spanOf(setup, events))
      )
    return { ...shape, handler }
  }
  // Where events go one by one through the fast path, their chunks are timed.
  const isSequential = concurrency._tag === "One" && middleware.length === 0 && shape.acknowledge === "after"
  const { sensing, tracing } = setup
  if (isSequential && sensing === undefined && tracing === undefined) return shape
  const observes = (handle: typeof shape.handler): typeof shape.handler =>
    sensing === undefined && tracing === undefined
      ? handle
      : (value, event) => {
          const options = tracing?.one(event.headers)
          // Of a small share that is traced the others are to notice nothing.
          if (options === undefined && sensing === undefined) return handle(value, event)
          return observed(setup, [event], suspended(handle, value, event), options)
        }
  const handle = observes(shape.handler)
  if (isSequential) return { ...shape, handler: handle }
  const handler = (value: any, event: any): Handled => sampled(setup, 1, handle(value, event))
  return { ...shape, handler }
}

/** The same, timed now and then. */
export const sampled = (setup: Setup, events: number, effect: Handled): Handled =>
  setup.meter.turn++ % timedEvery === 0 ? timed(setup, events, effect) : effect

const suspended = <V, E>(handle: (value: V, event: E) => Handled, value: V, event: E): Handled =>
  Effect.suspend(() => handle(value, event))

/** The span that these are handled in, if they are traced. */
export const spanOf = ({ tracing }: Setup, events: Events): Tracer.SpanOptions | undefined => {
  if (tracing === undefined) return undefined
  return events.length === 1 ? tracing.one(events[0]!.headers) : tracing.several(events.map(({ headers }) => headers))
}

/** In a span, if there are options for one, and told to hooks, if there are any. */
export const observed = (
  setup: Setup,
  events: Events,
  effect: Handled,
  options: Tracer.SpanOptions | undefined
): Handled => {
  const { definition, partition, sensing } = setup
  const all =
    options === undefined ? effect : inSpan(effect, options, `process ${definition.name}`, attributesOf(setup, events))
  if (sensing === undefined) return all
  return sensed(sensing, () => ({ processor: definition.name, partition: partition.partition, events }), all)
}

/** As the semantic conventions of OpenTelemetry name them. */
const attributesOf = ({ definition }: Setup, events: Events): Record<string, unknown> => {
  const { attempt, epoch, key, offset, partition, topic } = events[events.length - 1]!
  return {
    "messaging.system": "millrace",
    "messaging.operation.type": "process",
    "messaging.consumer.group.name": definition.name,
    "messaging.destination.name": topic,
    "messaging.destination.partition.id": String(partition),
    "millrace.offset": offset,
    "millrace.epoch": String(epoch),
    ...(key === undefined ? {} : { "millrace.key": key }),
    ...(attempt > 1 ? { "millrace.attempt": attempt } : {}),
    ...(events.length > 1 ? { "messaging.batch.message_count": events.length } : {})
  }
}

/** How long so many events take. */
const timed = ({ meter }: Setup, events: number, effect: Handled): Handled =>
  Effect.suspend(() => {
    const since = meter.clock.currentTimeNanosUnsafe()
    return Effect.onExit(effect, () => Effect.sync(() => meter.handled(since, events)))
  })
