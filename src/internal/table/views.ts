/** A view over two tables with the same keys: nothing is stored, each question goes to both. */
import { Effect, Option, Stream } from "effect"
import type { Key, State } from "../../Table.ts"

type Side = State<string, any, any>

export interface View {
  readonly left: Side
  readonly right: Side
}

/** What both have of a key. */
type Both = readonly [left: Option.Option<unknown>, right: Option.Option<unknown>]

type Find<E, R> = (table: Side, keys: ReadonlyArray<Key>) => Effect.Effect<ReadonlyArray<Option.Option<unknown>>, E, R>

export const rows = <E, R>(
  { left, right }: View,
  find: Find<E, R>,
  keys: ReadonlyArray<Key>
): Effect.Effect<ReadonlyArray<Both>, E, R> =>
  Effect.zipWith(
    find(left, keys),
    find(right, keys),
    (lefts, rights) => lefts.map((left, i): Both => [left, rights[i]!]),
    { concurrent: true }
  )

/** A row that is missing on one side reads as that side's `initial`. */
export const valueOf =
  ({ left, right }: View) =>
  ([one, other]: Both): unknown => [
    Option.getOrElse(one, left.definition.initial),
    Option.getOrElse(other, right.definition.initial)
  ]

/** None, if there is no row on either side. */
export const some =
  (view: View) =>
  (both: Both): Option.Option<unknown> =>
    both.every(Option.isNone) ? Option.none() : Option.some(valueOf(view)(both))

type Entry = readonly [key: any, value: unknown]

/** The keys of the left side with what the right one has, then those that only the right one has. */
export const entries = <E, R>(
  view: View,
  find: Find<E, R>,
  all: (side: Side) => Stream.Stream<Entry, E, R>
): Stream.Stream<Entry, E, R> => {
  const { left, right } = view
  /** What the other side has of the keys of each page. */
  const beside = (
    side: Side,
    other: Side,
    both: (value: unknown, found: Option.Option<unknown>) => Option.Option<Both>
  ) =>
    all(side).pipe(
      Stream.chunks,
      Stream.mapEffect((page) =>
        Effect.map(
          find(
            other,
            page.map(([key]) => key)
          ),
          (found) =>
            page.flatMap(
              ([key, value], i): ReadonlyArray<Entry> =>
                Option.match(both(value, found[i]!), { onNone: () => [], onSome: (row) => [[key, valueOf(view)(row)]] })
            )
        )
      ),
      Stream.flattenIterable
    )
  return Stream.concat(
    beside(left, right, (value, found) => Option.some([Option.some(value), found])),
    beside(right, left, (value, found) =>
      Option.isSome(found) ? Option.none() : Option.some([Option.none(), Option.some(value)])
    )
  )
}
