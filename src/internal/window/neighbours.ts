/**
 * The sliding windows of one key, as one value: pure steps from one to the next. All windows are equally long, so what one
 * holds depends on its start alone, and changes only where an event comes in or drops out. `pieces` are these stretches of
 * starts, each with the value of a window that begins in it: an event changes the pieces from which it can be seen, and a
 * window of a new event finds what earlier events left there.
 */

export interface Piece<V> {
  /** The first start; it reaches up to the next piece. */
  readonly from: number
  /** Not there: no event, or removed. */
  readonly value?: V
}

export interface Neighbours<V> {
  /** Of the events that have a window, each once, in order. */
  readonly times: ReadonlyArray<number>
  /** The windows of times up to here are closed, and only kept to be read. */
  readonly closed: number
  readonly pieces: ReadonlyArray<Piece<V>>
}

export interface Sliding {
  readonly before: number
  readonly after: number
}

interface Found<V> {
  readonly value: V
}

/** Nothing is closed; a number that JSON has. */
export const never: number = -Number.MAX_VALUE

export const empty: Neighbours<never> = { times: [], closed: never, pieces: [] }

const endOf = (time: number, { after }: Sliding): number => time + after + 1

const found = <V>(piece: Piece<V> | undefined): Found<V> | undefined =>
  piece !== undefined && "value" in piece ? { value: piece.value as V } : undefined

/** The value of the window around this time. */
export const at = <V>({ pieces }: Neighbours<V>, time: number, { before }: Sliding): Found<V> | undefined =>
  found(pieces.findLast((piece) => piece.from <= time - before))

/** A piece begins here. */
const cut = <V>(pieces: ReadonlyArray<Piece<V>>, from: number): ReadonlyArray<Piece<V>> => {
  const index = pieces.findLastIndex((piece) => piece.from <= from)
  const last = pieces[index]
  if (last?.from === from) return pieces
  return pieces.toSpliced(index + 1, 0, last === undefined ? { from } : { ...last, from })
}

/**
 * What an event of this time changes: all windows that hold it and end after `closed`; undefined if there is none.
 * `missed`: there are some that are closed. `f` gives `undefined` to remove a value.
 */
export const change = <V>(
  state: Neighbours<V>,
  time: number,
  shape: Sliding,
  closed: number,
  f: (value: Found<V> | undefined) => Found<V> | undefined
): { readonly state: Neighbours<V> | undefined; readonly missed: boolean } => {
  const length = shape.before + shape.after
  const missed = endOf(time, shape) <= closed
  // A window that begins at x ends at x + length + 1.
  const first = Math.max(time - length, closed - length)
  if (first > time) return { state: undefined, missed }
  let removes = false
  const pieces = cut(cut(state.pieces, first), time + 1).map((piece) => {
    if (piece.from < first || piece.from > time) return piece
    const value = f(found(piece))
    removes = value === undefined
    return value === undefined ? { from: piece.from } : { from: piece.from, value: value.value }
  })
  const isNew = !missed && !removes && !state.times.includes(time)
  const times = isNew ? [...state.times, time].toSorted((a, b) => a - b) : state.times
  return { state: { ...state, times, pieces }, missed }
}

const keptUntil = (time: number, shape: Sliding, retain: number): number =>
  Math.max(endOf(time, shape), time - shape.before + retain)

/** From here on nothing of what is stored can be seen: by windows of events still to come either. */
const gone = (pieces: ReadonlyArray<Piece<unknown>>, { after, before }: Sliding): number =>
  pieces[pieces.length - 1]!.from + before + after

/** When something is to be done next: a window closes, or it or the last piece has been kept for long enough. */
export const due = (
  { closed, pieces, times }: Neighbours<unknown>,
  shape: Sliding,
  retain: number
): number | undefined => {
  const [first] = times
  if (first === undefined) return pieces.length === 0 ? undefined : gone(pieces, shape)
  const open = times.find((time) => time > closed)
  const kept = first <= closed ? keptUntil(first, shape, retain) : Number.POSITIVE_INFINITY
  return open === undefined ? kept : Math.min(endOf(open, shape), kept)
}

/** The event whose window closes first, if its end is not above this. */
export const ripe = ({ closed, times }: Neighbours<unknown>, shape: Sliding, upTo: number): number | undefined => {
  const open = times.find((time) => time > closed)
  return open !== undefined && endOf(open, shape) <= upTo ? open : undefined
}

export const close = <V>(state: Neighbours<V>, time: number): Neighbours<V> => ({ ...state, closed: time })

/** Without what has been kept for long enough, and what no window can see any more. */
export const prune = <V>(state: Neighbours<V>, shape: Sliding, closed: number, retain: number): Neighbours<V> => {
  const times = state.times.filter((time) => time > state.closed || keptUntil(time, shape, retain) > closed)
  // A late event may still come to windows that begin here.
  const open = closed - shape.before - shape.after
  const first = times[0] === undefined ? open : Math.min(open, times[0] - shape.before)
  const index = state.pieces.findLastIndex((piece) => piece.from <= first)
  const pieces = index <= 0 ? state.pieces : state.pieces.slice(index)
  return { times, closed: state.closed, pieces: pieces.length === 1 && found(pieces[0]) === undefined ? [] : pieces }
}

/** The windows of the events, in order. */
export const all = <V>(
  state: Neighbours<V>,
  shape: Sliding
): ReadonlyArray<{ readonly start: number; readonly end: number; readonly value: V }> =>
  state.times.flatMap((time) => {
    const value = at(state, time, shape)
    return value === undefined ? [] : [{ start: time - shape.before, end: endOf(time, shape), value: value.value }]
  })
