/**
 * What a join of two topics holds of one key: events of both sides, each until no event can come any more that belongs to
 * it. Pure steps; an event is held as it is stored, so that what a topic encrypts is not kept in the clear.
 */
import { isUtf8 } from "node:buffer"
import { Schema } from "effect"
import type { NewEntry } from "../../Broker.ts"
import type { Any } from "../../Topic.ts"
import type { Timing } from "../../Window.ts"

export type Side = "left" | "right"

export type Kind = "inner" | "left" | "outer"

/** An event that is held. */
export interface Item {
  readonly side: Side
  /** When it happened, as it counts. */
  readonly time: number
  /** Where it was read from; with its side it names the item. */
  readonly offset: string
  /** It was in a pair, and this matters. */
  readonly matched: boolean
  /** Of its entry, as texts. */
  readonly fields: ReadonlyArray<string>
}

/** In the order in which they came. */
export type Held = ReadonlyArray<Item>

/** How a table holds events of a join. */
export interface Holding extends Timing {
  readonly left: Any
  readonly right: Any
  readonly kind: Kind
  /** Milliseconds that the times of a pair lie apart, at most. */
  readonly within: number
  /** When something is to be done about a row. */
  readonly due: (held: unknown) => number | undefined
}

export const schema = Schema.Array(
  Schema.Struct({
    side: Schema.Literals(["left", "right"]),
    time: Schema.Finite,
    offset: Schema.String,
    matched: Schema.Boolean,
    fields: Schema.Array(Schema.String)
  })
)

/** Events of this side are told of when their time is over and none of the other side belonged to them. */
export const tells = (kind: Kind, side: Side): boolean => kind === "outer" || (kind === "left" && side === "left")

/** The first moment at which nothing belongs to an event of this time any more. */
export const endOf = (time: number, within: number): number => time + within + 1

/** When the time is over for the first of them. */
export const due =
  (within: number) =>
  (held: unknown): number | undefined => {
    let first: number | undefined
    for (const { time } of held as Held) if (first === undefined || time < first) first = time
    return first === undefined ? undefined : endOf(first, within)
  }

export interface Arrival {
  readonly side: Side
  readonly time: number
  readonly offset: string
  readonly fields: () => ReadonlyArray<string>
}

/** What an event finds and leaves behind. */
export interface Joined {
  readonly partners: ReadonlyArray<Item>
  readonly held: Held
  /** Its time is over: it is not held, and what belongs to it may have been let go. */
  readonly isLate: boolean
}

/** An event comes while the watermark is at `upTo`. Gives the very same array back if nothing changes. */
export const join = (held: Held, { kind, within }: Holding, upTo: number, arrival: Arrival): Joined => {
  const { offset, side, time } = arrival
  const isPartner = (item: Item): boolean =>
    item.side !== side && endOf(item.time, within) > upTo && Math.abs(item.time - time) <= within
  const partners = held.filter(isPartner)
  const isLate = endOf(time, within) <= upTo
  // What is over and has nothing to tell goes at this opportunity.
  const isKept = (item: Item): boolean => endOf(item.time, within) > upTo || (tells(kind, item.side) && !item.matched)
  let left = held.every(isKept) ? held : held.filter(isKept)
  if (partners.some((item) => tells(kind, item.side) && !item.matched)) {
    left = left.map((item) => (isPartner(item) && tells(kind, item.side) ? { ...item, matched: true } : item))
  }
  if (isLate) return { partners, held: left, isLate }
  const matched = partners.length > 0 && tells(kind, side)
  return { partners, held: [...left, { side, time, offset, matched, fields: arrival.fields() }], isLate }
}

export const isItem =
  ({ offset, side }: Pick<Item, "offset" | "side">) =>
  (item: Item): boolean =>
    item.offset === offset && item.side === side

/** Those whose time is over, by what becomes of them. */
export const over = (
  held: Held,
  { kind, within }: Holding,
  upTo: number
): { readonly told: Held; readonly dropped: Held } => {
  const all = held.filter(({ time }) => endOf(time, within) <= upTo)
  const isTold = ({ matched, side }: Item): boolean => !matched && tells(kind, side)
  return { told: all.filter(isTold), dropped: all.filter((item) => !isTold(item)) }
}

// Most formats are text, and stand as it is; the others as base64.

/** The fields of an entry as texts. */
export const textsOf = ({ fields }: NewEntry): ReadonlyArray<string> =>
  fields.map((field) => {
    if (typeof field === "string") return `t${field}`
    return isUtf8(field) ? `t${Buffer.from(field).toString()}` : `b${Buffer.from(field).toString("base64")}`
  })

export const fieldsOf = ({ fields }: Item): ReadonlyArray<Uint8Array> =>
  fields.map((text) => Buffer.from(text.slice(1), text.startsWith("b") ? "base64" : "utf8"))
