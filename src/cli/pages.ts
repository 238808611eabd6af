/** Lists that come in pages: as many as are asked for, and a note if there are more. */
import { Effect } from "effect"
import { Flag } from "effect/cli"
import type { Page } from "../Admin.ts"
import { place } from "./engine.ts"
import { Json, note } from "./globals.ts"
import { show, table } from "./output.ts"

export const limit = Flag.Int("limit").pipe(
  Flag.withAlias("n"),
  Flag.withDescription("So many at most"),
  Flag.withDefault(100)
)

/** All pages up to a number of items; whether there are more. */
export const collect = <A, E, R>(most: number, page: (cursor: string | undefined) => Effect.Effect<Page<A>, E, R>) =>
  Effect.gen(function* () {
    const items: Array<A> = []
    let cursor: string | undefined
    do {
      const { items: more, next } = yield* page(cursor)
      items.push(...more)
      cursor = next ?? undefined
    } while (cursor !== undefined && items.length < most)
    return { items: items.slice(0, most), isWhole: cursor === undefined && items.length <= most }
  })

/** Prints a list; a program gets the items as they are. Where there is none, people are told where was looked. */
export const list = <A>(
  items: ReadonlyArray<A>,
  heading: ReadonlyArray<string>,
  row: (item: A) => Parameters<typeof table>[1][number]
) =>
  Effect.gen(function* () {
    yield* show(items, () => table(heading, items.map(row)))
    if (items.length === 0 && !(yield* Json)) yield* note(`there is none ${yield* Effect.orDie(place())}`)
  })

/** The same of a list in pages. */
export const listPages = <A, E, R>(
  most: number,
  page: (cursor: string | undefined) => Effect.Effect<Page<A>, E, R>,
  heading: ReadonlyArray<string>,
  row: (item: A) => Parameters<typeof table>[1][number]
) =>
  Effect.gen(function* () {
    const { isWhole, items } = yield* collect(most, page)
    yield* list(items, heading, row)
    if (!isWhole) yield* note(`there are more: these are the first ${most} (--limit)`)
  })
