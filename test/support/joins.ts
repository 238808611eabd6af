/** Two topics of the same keys with times of their own, processors that join them, and a plain model of what comes out. */
import { DateTime, Effect, Option, Schema, Stream } from "effect"
import * as Join from "../../src/Join.ts"
import * as Processor from "../../src/Processor.ts"
import * as Retention from "../../src/Retention.ts"
import * as Topic from "../../src/Topic.ts"
import { zero } from "./windows.ts"

const Half = Schema.Struct({ key: Schema.String, at: Schema.Int, n: Schema.Int })
export type Half = typeof Half.Type

export type Side = "left" | "right"

export const half = (at: number, n: number, key = "a"): Half => ({ key, at, n })

/** `at` counts from the beginning of the tests' time. */
export const sideOf = (name: string, partitions = 1, beginning = zero) =>
  Topic.make(name, {
    schema: Half,
    partitionBy: "key",
    partitions,
    retention: Retention.forever,
    timestamp: ({ at }) => DateTime.makeUnsafe(beginning + at)
  })

/** What came out, in one line: the number of each half, or a dash. */
export const lineOf = ({ left, right }: Join.Pair<unknown, unknown>): string => `${numberOf(left)}/${numberOf(right)}`

const numberOf = (half: unknown): string => {
  if (!Option.isOption(half)) return String((half as Half).n)
  return Option.isNone(half) ? "-" : numberOf(half.value)
}

export const out = Topic.make("out", { schema: Schema.String, partitions: 1, retention: Retention.forever })

/** Emits a line for each pair, so it counts only if it is committed. */
export const told = Effect.map(Stream.runCollect(Topic.stream(out, { until: "now" })), (events) =>
  events.map(({ value }) => value)
)

export const emitting = (pair: Join.Pair<unknown, unknown>) => Topic.emit(out, lineOf(pair), { partition: 0 })

/** A processor over a join of two topics, and the order in which it came upon their events. */
export const joining = (
  kind: Join.Kind,
  options: Omit<Join.StreamsOptions<Join.Kind>, "kind">,
  names: { readonly processor?: string; readonly left?: string; readonly right?: string } = {}
) => {
  const { left: l = "left", processor = "joining", right: r = "right" } = names
  const left = sideOf(l)
  const right = sideOf(r)
  const seen = new Map<string, Came>()
  const part = Processor.make(processor, { topic: Join.streams(left, right, { ...options, kind }) }, emitting).pipe(
    Processor.around((handle, [event]) => {
      const side: Side = event.topic === l ? "left" : "right"
      const name = `${side} ${event.offset}`
      // What a join tells of later passes by here again.
      if (!seen.has(name)) seen.set(name, { side, ...(event.value as Half) })
      return handle
    })
  )
  return { left, right, part, came: () => Array.from(seen.values()) }
}

// ------------------------------------------------------------------------------------------------------------- the model

export interface Came extends Half {
  readonly side: Side
}

export interface Expected {
  readonly lines: ReadonlyArray<string>
  readonly late: number
}

/**
 * What a join gives for events that come in this order: every one is compared with every one before it. `watermark`: what
 * it is in the end, if time has gone on without events.
 */
export const expect = (
  kind: Join.Kind,
  within: number,
  lateness: number,
  order: ReadonlyArray<Came>,
  watermark?: number
): Expected => {
  const highest = { left: Number.NEGATIVE_INFINITY, right: Number.NEGATIVE_INFINITY }
  const lines: Array<string> = []
  const paired = new Set<Came>()
  const alone = new Set<Came>()
  let late = 0
  const now = (): number => Math.min(highest.left, highest.right) - lateness
  const isOver = ({ at }: Came, time: number): boolean => at + within < time
  const tells = ({ side }: Came): boolean => kind === "outer" || (kind === "left" && side === "left")
  order.forEach((event, i) => {
    const time = now()
    const others = order
      .slice(0, i)
      .filter(
        (other) =>
          other.side !== event.side &&
          other.key === event.key &&
          Math.abs(other.at - event.at) <= within &&
          !isOver(other, time) &&
          !alone.has(other)
      )
    for (const other of others) {
      const [l, r] = event.side === "left" ? [event, other] : [other, event]
      lines.push(`${l.n}/${r.n}`)
      paired.add(l)
      paired.add(r)
    }
    if (isOver(event, time)) {
      late++
      alone.add(event)
    }
    highest[event.side] = Math.max(highest[event.side], event.at)
  })
  const end = watermark ?? now()
  for (const event of order) {
    if (paired.has(event) || !tells(event) || !(isOver(event, end) || alone.has(event))) continue
    lines.push(event.side === "left" ? `${event.n}/-` : `-/${event.n}`)
  }
  return { lines: lines.toSorted(), late }
}
