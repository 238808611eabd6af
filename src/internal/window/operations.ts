/**
 * What handlers do with a table with windows, in the unit of work of their event. A change goes to every window that holds
 * the event's time and is open; a read is of one window.
 */
import { Effect } from "effect"
import type { DecodeError } from "../../Errors.ts"
import type { Definition, Key } from "../../Table.ts"
import { missing, type Row } from "../run/row.ts"
import { type Unit, unitOf } from "../run/unit.ts"
import type { Windows } from "../run/windows.ts"
import { countOf, latestStart, rowOf, startsOf } from "./aligned.ts"
import { rowAt, valueAt, type Windowing } from "./definition.ts"
import * as Neighbours from "./neighbours.ts"
import * as Sessions from "./sessions.ts"

/** In here a value that is there is in a box. */
type Boxed = { readonly value: unknown } | undefined

interface Act {
  readonly definition: Definition
  readonly windowed: Windowing
  readonly windows: Windows
  readonly unit: Unit
  /** Of the event. */
  readonly time: number
}

const act = <A>(
  definition: Definition,
  f: (act: Act) => Effect.Effect<A, DecodeError>
): Effect.Effect<A, DecodeError> =>
  Effect.withFiber((fiber) => {
    const unit = unitOf(fiber.context)
    const { windows } = unit.host
    const { windowed } = definition
    if (windows === undefined || windowed === undefined) {
      throw new Error(`table ${definition.name} is not declared by this processor: name it in its option "tables"`)
    }
    return f({ definition, windowed, windows, unit, time: windows.timeOf(definition, unit.event) })
  })

const boxed = (row: Row): Boxed => (row.value === missing ? undefined : { value: row.table.read(row) })

const open = ({ windowed }: Act, box: Boxed): unknown => (box === undefined ? windowed.initial() : box.value)

const write = ({ unit, windows }: Act, row: Row, value: unknown): void => {
  windows.wrote = true
  unit.write(row, value)
}

/** The window that the event belongs to; of several the last. */
const current = (own: Act, key: Key): Effect.Effect<unknown, DecodeError> => {
  const { definition, time, unit, windowed, windows } = own
  const { shape } = windowed.window
  if (shape._tag !== "Session") return reading(own, key, time)
  return unit.with(definition, key, (row) => {
    const state = row.table.read(row) as Sessions.Sessions<unknown>
    return open(own, Sessions.read(state, time, shape.gap, windows.closed(definition), windowed.merge))
  })
}

/** The window that holds this time. */
const reading = (own: Act, key: Key, time: number): Effect.Effect<unknown, DecodeError> =>
  own.unit.with(own.definition, rowAt(own.windowed, key, time), (row) =>
    open(own, row.value === missing ? undefined : valueAt(own.windowed, row.table.read(row), time))
  )

export const get = (definition: Definition, key: Key): Effect.Effect<unknown, DecodeError> =>
  act(definition, (own) => current(own, key))

export const at = (definition: Definition, key: Key, time: number): Effect.Effect<unknown, DecodeError> =>
  act(definition, (own) => reading(own, key, Math.floor(time)))

export const now = (definition: Definition, key: Key): Effect.Effect<unknown, DecodeError> =>
  act(definition, (own) => reading(own, key, own.windows.now()))

/** The event's window less the one that holds the time so many milliseconds before the event. */
export const delta = (definition: Definition, key: Key, ago: number): Effect.Effect<number, DecodeError> =>
  act(definition, (own) =>
    Effect.zipWith(
      current(own, key),
      reading(own, key, own.time - ago),
      (here, before) => (here as number) - (before as number)
    )
  )

/** Gives what the event's window, of several the last, holds then. `f` gives nothing to remove a value. */
const change = (definition: Definition, key: Key, f: (value: Boxed) => Boxed): Effect.Effect<unknown, DecodeError> =>
  act(definition, (own) => {
    const { shape } = own.windowed.window
    if (shape._tag === "Aligned") return changeAligned(own, shape, key, f)
    return own.unit.with(definition, key, (row) => {
      const changed = shape._tag === "Session" ? joined(own, row, shape.gap, f) : seen(own, row, shape, f)
      return open(own, changed)
    })
  })

const changeAligned = (
  own: Act,
  shape: { readonly size: number; readonly step: number },
  key: Key,
  f: (value: Boxed) => Boxed
): Effect.Effect<unknown, DecodeError> => {
  const { definition, time, unit, windows } = own
  const closed = windows.closed(definition)
  const text = String(key)
  const one = (start: number): Effect.Effect<unknown, DecodeError> =>
    unit.with(definition, rowOf(start, text), (row) => {
      const value = f(boxed(row))
      write(own, row, value === undefined ? missing : value.value)
      return open(own, value)
    })
  if (shape.step === shape.size) {
    const start = latestStart(shape, time)
    if (start + shape.size > closed) return one(start)
    windows.late(unit.event)
    return current(own, key)
  }
  const starts = startsOf(shape, time, closed)
  if (starts.length < countOf(shape, time)) windows.late(unit.event)
  const last = starts.pop()
  if (last === undefined) return current(own, key)
  return Effect.andThen(
    Effect.forEach(starts, one, { discard: true }),
    Effect.suspend(() => one(last))
  )
}

const joined = (own: Act, row: Row, gap: number, f: (value: Boxed) => Boxed): Boxed => {
  const { definition, time, unit, windowed, windows } = own
  const closed = windows.closed(definition)
  const state = row.table.read(row) as Sessions.Sessions<unknown>
  let value: Boxed
  const changed = Sessions.change(state, time, gap, closed, windowed.merge, (before) => (value = f(before)))
  if (changed === undefined) {
    windows.late(unit.event)
    return Sessions.at(state, time)
  }
  write(own, row, changed.length === 0 ? missing : changed)
  return value
}

const seen = (own: Act, row: Row, shape: Neighbours.Sliding, f: (value: Boxed) => Boxed): Boxed => {
  const { definition, time, unit, windows } = own
  const before = row.table.read(row) as Neighbours.Neighbours<unknown>
  const { missed, state } = Neighbours.change(before, time, shape, windows.closed(definition), f)
  if (missed) windows.late(unit.event)
  if (state === undefined) return Neighbours.at(before, time, shape)
  write(own, row, state)
  return Neighbours.at(state, time, shape)
}

export const set = (definition: Definition, key: Key, value: unknown): Effect.Effect<void, DecodeError> =>
  Effect.asVoid(change(definition, key, () => ({ value })))

export const update = (
  definition: Definition,
  key: Key,
  f: (value: any) => unknown
): Effect.Effect<unknown, DecodeError> =>
  change(definition, key, (before) => ({
    value: f(before === undefined ? definition.windowed!.initial() : before.value)
  }))

export const remove = (definition: Definition, key: Key): Effect.Effect<void, DecodeError> =>
  Effect.asVoid(change(definition, key, () => undefined))
