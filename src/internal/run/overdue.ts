/**
 * An event that a join held until its time was over, as it comes back to be told of: made anew from what is held, with the
 * place it was read from. It moves no offset; what ends it is that its unit of work takes it out of what the join holds.
 */
import type { Effect } from "effect"
import type { DecodeError } from "../../Errors.ts"
import type { Definition } from "../../Table.ts"
import { parseOffset } from "../entryId.ts"
import { fieldsOf, type Held, type Holding, type Item, isItem } from "../join/held.ts"
import { Received } from "../record/received.ts"
import type { Book, Log } from "./log.ts"
import { missing, type Row } from "./row.ts"
import type { Unit } from "./unit.ts"

export class Overdue extends Received<unknown> {
  readonly item: Item
  private readonly definition: Definition
  private readonly row: string
  constructor(event: Received<unknown>, item: Item, definition: Definition, row: string) {
    super(event.value, event.source, event.index, event.failure)
    this.item = item
    this.definition = definition
    this.row = row
  }

  override get offset(): string {
    return this.item.offset
  }

  /** Whatever becomes of it, it is not held any more. False: it was not by now, or it is in a pair. */
  letGo(unit: Unit): Effect.Effect<boolean, DecodeError> {
    return unit.with(this.definition, this.row, (row, unit) => {
      const held = heldOf(row)
      const item = held.find(isItem(this.item))
      if (item === undefined) return false
      unit.write(
        row,
        without(held, (one) => one !== item)
      )
      return !item.matched
    })
  }
}

export const heldOf = (row: Row): Held => (row.value === missing ? [] : (row.table.read(row) as Held))

/** What a row holds without some of its items. */
export const without = (held: Held, keeps: (item: Item) => boolean): Held | typeof missing => {
  const left = held.filter(keeps)
  return left.length === 0 ? missing : left
}

const events = new WeakMap<ReadonlyArray<string>, Received<unknown>>()

/** The event of an item; for its value alone it is made once. */
export const received = (log: Log, partition: number, item: Item): Received<unknown> => {
  let event = events.get(item.fields)
  if (event === undefined) events.set(item.fields, (event = restored(log, partition, item, log.origin, 0n)))
  return event
}

export const restored = (log: Log, partition: number, item: Item, origin: Book, epoch: bigint): Received<unknown> => {
  const entry = { id: parseOffset(item.offset)!.id, count: 1, fields: fieldsOf(item) }
  return log.codec.unpack(entry, partition, 0, origin, epoch)[0]!
}

/** The log that a side of a join is read from. */
export const logOf = <L extends Log>(logs: ReadonlyArray<L>, holding: Holding, { side }: Pick<Item, "side">): L =>
  logs.find(({ topic }) => topic.name === holding[side].name)!
