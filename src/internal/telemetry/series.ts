/**
 * Series of metrics that are read when somebody looks, and histograms that take several values at once: neither costs
 * anything per event. Workers of one process share a series, and what they read adds up.
 *
 * Gotcha: a total stays when whoever counted it is gone; a gauge goes with the last one that reads it.
 */
import { Context, Metric } from "effect"
import { boundaries } from "../../Metrics.ts"

export type Attributes = Readonly<Record<string, string>>
type Read = () => number

interface Shared {
  readonly reads: Set<Read>
  /** Of those that are gone. */
  base: number
}

const registries = new WeakMap<Metric.MetricRegistry, Map<string, unknown>>()

/** The one of this metric and these attributes in the registry of a context. */
const shared = <A>(
  metric: { readonly id: string },
  attributes: Attributes,
  context: Context.Context<never>,
  make: () => A
): { readonly value: A; readonly forget: () => void } => {
  const registry = Context.get(context, Metric.MetricRegistry)
  let known = registries.get(registry)
  if (known === undefined) registries.set(registry, (known = new Map()))
  const its = known
  const key = JSON.stringify([metric.id, attributes, Context.get(context, Metric.CurrentMetricAttributes)])
  let value = its.get(key) as A | undefined
  if (value === undefined) its.set(key, (value = make()))
  return { value, forget: () => void its.delete(key) }
}

const hooksOf = <State>(get: () => State) => ({ get, update: () => {}, modify: () => {} })

const sum = ({ base, reads }: Shared): number => {
  let total = base
  for (const read of reads) total += read()
  return total
}

const open = (): Shared => ({ reads: new Set(), base: 0 })

/** A counter that is what `read` gives, until the function that this gives is called; then it stays as it is. */
export const total = (
  metric: Metric.Counter<number>,
  attributes: Attributes,
  context: Context.Context<never>,
  read: Read
): (() => void) => {
  const { value } = shared(metric, attributes, context, () => {
    const made = open()
    const own = Metric.withAttributes(metric, attributes)
    Metric.registerUnsafe(
      own,
      context,
      hooksOf(() => ({ count: sum(made), incremental: true }))
    )
    return made
  })
  value.reads.add(read)
  return () => {
    if (value.reads.delete(read)) value.base += read()
  }
}

/** A gauge that is what `read` gives, until the function that this gives is called. */
export const level = (
  metric: Metric.Gauge<number>,
  attributes: Attributes,
  context: Context.Context<never>,
  read: Read
): (() => void) => {
  const { forget, value } = shared(metric, attributes, context, () => {
    const made = open()
    const own = Metric.withAttributes(metric, attributes)
    return {
      ...made,
      registration: Metric.registerUnsafe(
        own,
        context,
        hooksOf(() => ({ value: sum(made) }))
      )
    }
  })
  value.reads.add(read)
  return () => {
    if (!value.reads.delete(read) || value.reads.size > 0) return
    value.registration.remove()
    forget()
  }
}

/** A gauge that is the same for all who share it: what the first of them gives. */
export const reading = (
  metric: Metric.Gauge<number>,
  attributes: Attributes,
  context: Context.Context<never>,
  read: Read
): void =>
  void shared(metric, attributes, context, () =>
    Metric.registerUnsafe(
      Metric.withAttributes(metric, attributes),
      context,
      hooksOf(() => ({ value: read() }))
    )
  )

/** A histogram in seconds. */
export class Timing {
  private readonly buckets = new Float64Array(boundaries.length)
  private count = 0
  private sum = 0
  private min = Number.POSITIVE_INFINITY
  private max = 0

  /** So many things took so long together: each counts with the mean. */
  add(nanos: bigint, count = 1): void {
    this.addSeconds(Number(nanos) / 1e9, count)
  }

  /** The same, of a time in seconds. */
  addSeconds(seconds: number, count = 1): void {
    const each = seconds / count
    let i = 0
    while (i < boundaries.length && each > boundaries[i]!) i++
    if (i < boundaries.length) this.buckets[i]! += count
    this.count += count
    this.sum += seconds
    if (each < this.min) this.min = each
    if (each > this.max) this.max = each
  }

  state(): Metric.HistogramState {
    let below = 0
    const buckets = boundaries.map((boundary, i): [number, number] => [boundary, (below += this.buckets[i]!)])
    const { count, max, sum } = this
    return { buckets, count, min: count === 0 ? 0 : this.min, max, sum }
  }
}

export const timing = (
  metric: Metric.Histogram<number>,
  attributes: Attributes,
  context: Context.Context<never>
): Timing =>
  shared(metric, attributes, context, () => {
    const made = new Timing()
    const own = Metric.withAttributes(metric, attributes)
    Metric.registerUnsafe(
      own,
      context,
      hooksOf(() => made.state())
    )
    return made
  }).value
