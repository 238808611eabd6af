/**
 * The sessions of one key, as one value: pure steps from one to the next. An event joins every open session that it is
 * less than a gap away from, and these become one. Ends are exclusive: the last event's time and a gap.
 */

export interface Session<V> {
  readonly start: number
  readonly end: number
  /** Its end was told: it is only kept to be read. */
  readonly closed: boolean
  readonly value: V
}

/** By start. */
export type Sessions<V> = ReadonlyArray<Session<V>>

interface Joined<V> {
  readonly start: number
  readonly end: number
  /** Those that become one. */
  readonly parts: Sessions<V>
}

/** What an event of this time would be part of; of ends up to `closed` nothing is changed any more. */
const join = <V>(all: Sessions<V>, time: number, gap: number, closed: number): Joined<V> => {
  const parts = all.filter((one) => !one.closed && one.end > closed && one.start < time + gap && time < one.end)
  let start = time
  let end = time + gap
  for (const part of parts) {
    start = Math.min(start, part.start)
    end = Math.max(end, part.end)
  }
  return { start, end, parts }
}

const valueOf = <V>({ parts }: Joined<V>, merge: (left: V, right: V) => V): V | undefined =>
  parts.length === 0 ? undefined : parts.slice(1).reduce((value, part) => merge(value, part.value), parts[0]!.value)

/** The value of the session that an event of this time belongs to, or would belong to; undefined: of none. */
export const read = <V>(
  all: Sessions<V>,
  time: number,
  gap: number,
  closed: number,
  merge: (left: V, right: V) => V
): { readonly value: V } | undefined => {
  const joined = join(all, time, gap, closed)
  return joined.parts.length === 0 ? undefined : { value: valueOf(joined, merge) as V }
}

/** The value of the session that holds this time; of several (an event came when its neighbour was closed) the last one. */
export const at = <V>(all: Sessions<V>, time: number): { readonly value: V } | undefined =>
  all.findLast((one) => one.start <= time && time < one.end)

/** What an event of this time changes; `undefined`: it is late. `f` gives `undefined` to remove the session. */
export const change = <V>(
  all: Sessions<V>,
  time: number,
  gap: number,
  closed: number,
  merge: (left: V, right: V) => V,
  f: (value: { readonly value: V } | undefined) => { readonly value: V } | undefined
): Sessions<V> | undefined => {
  const joined = join(all, time, gap, closed)
  if (joined.end <= closed) return undefined
  const value = f(joined.parts.length === 0 ? undefined : { value: valueOf(joined, merge) as V })
  const rest = all.filter((one) => !joined.parts.includes(one))
  if (value === undefined) return rest
  const one: Session<V> = { start: joined.start, end: joined.end, closed: false, value: value.value }
  return [...rest, one].toSorted((a, b) => a.start - b.start || a.end - b.end)
}

const keptUntil = ({ end, start }: Session<unknown>, retain: number): number => Math.max(end, start + retain)

/** When something is to be done next: a session closes, or has been kept for long enough. */
export const due = (all: Sessions<unknown>, retain: number): number | undefined => {
  let first: number | undefined
  for (const one of all) {
    const at = one.closed ? keptUntil(one, retain) : one.end
    if (first === undefined || at < first) first = at
  }
  return first
}

/** The open session that closes first, if its end is not above this. */
export const ripe = <V>(all: Sessions<V>, closed: number): Session<V> | undefined => {
  let first: Session<V> | undefined
  for (const one of all)
    if (!one.closed && one.end <= closed && (first === undefined || one.end < first.end)) first = one
  return first
}

export const close = <V>(all: Sessions<V>, session: Session<V>): Sessions<V> =>
  all.map((one) => (one === session ? { ...one, closed: true } : one))

/** Without those that have been kept for long enough. */
export const prune = <V>(all: Sessions<V>, closed: number, retain: number): Sessions<V> =>
  all.filter((one) => !one.closed || keptUntil(one, retain) > closed)
