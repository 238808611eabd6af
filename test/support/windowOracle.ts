/**
 * What windows should hold, by a plain look at all events: nothing here is clever, and nothing is shared with the code
 * that it judges. One partition, events in the order in which they are handled.
 */

import { zero } from "./windows.ts"

export interface Given {
  readonly key: string
  readonly at: number
  readonly n: number
}

export type Kind =
  | { readonly _tag: "Hopping"; readonly size: number; readonly step: number }
  | { readonly _tag: "Sliding"; readonly before: number; readonly after: number }
  | { readonly _tag: "Session"; readonly gap: number }

interface Held {
  readonly key: string
  readonly start: number
  readonly end: number
  readonly value: number
}

export interface Expected {
  /** `key start-end: value`, sorted. */
  readonly closed: ReadonlyArray<string>
  readonly open: ReadonlyArray<string>
  readonly late: number
}

const lineOf = ({ end, key, start, value }: Held): string => `${key} ${start - zero}-${end - zero}: ${value}`

type Arrived = Given & { readonly watermark: number }

/** Every span that there could be, one by one. */
const hopping = (events: ReadonlyArray<Arrived>, size: number, step: number): ReadonlyArray<Held> => {
  const windows: Array<Held> = []
  const first = Math.floor((Math.min(...events.map(({ at }) => at)) - size) / step) * step
  const last = Math.max(...events.map(({ at }) => at))
  for (const key of new Set(events.map((event) => event.key))) {
    for (let start = first; start <= last; start += step) {
      const end = start + size
      const inside = events.filter(
        (event) => event.key === key && event.at >= start && event.at < end && end > event.watermark
      )
      if (inside.length > 0) windows.push({ key, start, end, value: inside.reduce((sum, { n }) => sum + n, 0) })
    }
  }
  return windows
}

/** Around each event that was not late for its own window, those in reach that were not late for it. */
const sliding = (events: ReadonlyArray<Arrived>, before: number, after: number): ReadonlyArray<Held> => {
  const windows = new Map<string, Held>()
  for (const { at, key, watermark } of events) {
    const end = at + after + 1
    if (end <= watermark) continue
    const near = events.filter(
      (event) => event.key === key && event.at >= at - before && event.at <= at + after && end > event.watermark
    )
    windows.set(`${key} ${at}`, { key, start: at - before, end, value: near.reduce((sum, { n }) => sum + n, 0) })
  }
  return Array.from(windows.values())
}

/** Heaps of events; an event that is near to several pours them together. */
const sessions = (events: ReadonlyArray<Arrived>, gap: number): ReadonlyArray<Held> => {
  let heaps: Array<ReadonlyArray<Arrived>> = []
  const endOf = (heap: ReadonlyArray<Arrived>): number => Math.max(...heap.map(({ at }) => at)) + gap
  for (const event of events) {
    const near = heaps.filter(
      (heap) =>
        heap[0]!.key === event.key &&
        endOf(heap) > event.watermark &&
        heap.some(({ at }) => Math.abs(at - event.at) < gap)
    )
    const heap = [...near.flat(), event]
    if (endOf(heap) <= event.watermark) continue
    heaps = [...heaps.filter((other) => !near.includes(other)), heap]
  }
  return heaps.map((heap) => ({
    key: heap[0]!.key,
    start: Math.min(...heap.map(({ at }) => at)),
    end: endOf(heap),
    value: heap.reduce((sum, { n }) => sum + n, 0)
  }))
}

export const expect = (kind: Kind, events: ReadonlyArray<Given>, lateness: number): Expected => {
  const arrived: Array<Arrived> = []
  let highest = Number.NEGATIVE_INFINITY
  for (const { at, key, n } of events) {
    // Fixed windows begin at multiples of their size since 1970.
    arrived.push({ key, n, at: zero + at, watermark: highest - lateness })
    highest = Math.max(highest, zero + at)
  }
  const all =
    kind._tag === "Hopping"
      ? hopping(arrived, kind.size, kind.step)
      : kind._tag === "Sliding"
        ? sliding(arrived, kind.before, kind.after)
        : sessions(arrived, kind.gap)
  const isClosed = ({ end }: Held): boolean => end <= highest - lateness
  const late = arrived.filter(({ at, key, watermark }) => {
    if (kind._tag === "Sliding") return at + kind.after + 1 <= watermark
    // The earliest window that holds it is the first that it can be late for.
    if (kind._tag === "Hopping")
      return (Math.floor((at - kind.size) / kind.step) + 1) * kind.step + kind.size <= watermark
    return at + kind.gap <= watermark && !all.some((one) => one.key === key && one.end > watermark && one.start <= at)
  })
  return {
    closed: all.filter(isClosed).map(lineOf).toSorted(),
    open: all
      .filter((one) => !isClosed(one))
      .map(({ key, value }) => `${key}: ${value}`)
      .toSorted(),
    late: late.length
  }
}
