/**
 * What a table with windows stores, and when something of a row is due. Fixed windows have a row each; sessions and
 * sliding windows are one row for each key, since an event may change several of them together.
 */
import { Schema } from "effect"
import type { Key } from "../../Table.ts"
import type * as Window from "../../Window.ts"
import { keyFrom } from "../table/keys.ts"
import { keyOf, rowOf, startOf } from "./aligned.ts"
import * as Neighbours from "./neighbours.ts"
import * as Sessions from "./sessions.ts"

type Coded = Schema.ConstraintCodec<any, any>

/** How the windows of a table are kept. */
export interface Windowing {
  readonly window: Window.Window
  /** A key from its text form. */
  readonly key: (text: string) => Key
  /** What a window without a value reads as. */
  readonly initial: () => unknown
  readonly merge: (left: any, right: any) => unknown
  /** When something is to be done about a row: a window closes, or has been kept for long enough. */
  readonly due: (row: string, value: unknown) => number | undefined
}

interface Stored {
  readonly key: Coded
  readonly value: Coded
  readonly initial: () => unknown
  readonly partitionBy: ((key: any) => Key) | undefined
  readonly windowed: Windowing
}

const unmerged = (): never => {
  throw new Error("only sessions are merged")
}

const sessions = (value: Coded): Coded =>
  Schema.Array(Schema.Struct({ start: Schema.Finite, end: Schema.Finite, closed: Schema.Boolean, value }))

const neighbours = (value: Coded): Coded =>
  Schema.Struct({
    times: Schema.Array(Schema.Finite),
    closed: Schema.Finite,
    pieces: Schema.Array(Schema.Struct({ from: Schema.Finite, value: Schema.optionalKey(value) }))
  })

/** The rows of a table whose keys and values are these, cut by this window. */
export const storedAs = (options: {
  readonly key: Coded
  readonly value: Coded
  readonly initial: () => unknown
  readonly window: Window.Window
  readonly partitionBy: ((key: any) => Key) | undefined
  readonly merge: ((left: any, right: any) => unknown) | undefined
}): Stored => {
  const { initial, key, merge = unmerged, partitionBy, value, window } = options
  const { retain, shape } = window
  const parse = keyFrom(key)
  const windowing = (due: Windowing["due"]): Windowing => ({ window, key: parse, initial, merge, due })
  switch (shape._tag) {
    case "Aligned":
      return {
        key: Schema.String,
        value,
        initial,
        partitionBy: (row: string) => (partitionBy === undefined ? keyOf(row) : partitionBy(parse(keyOf(row)))),
        windowed: windowing((row) => startOf(row) + shape.size)
      }
    case "Session":
      return {
        key,
        value: sessions(value),
        initial: () => [],
        partitionBy,
        windowed: windowing((_, state) => Sessions.due(state as Sessions.Sessions<unknown>, retain))
      }
    case "Sliding":
      return {
        key,
        value: neighbours(value),
        initial: () => Neighbours.empty,
        partitionBy,
        windowed: windowing((_, state) => Neighbours.due(state as Neighbours.Neighbours<unknown>, shape, retain))
      }
  }
}

/** The row of a key whose windows hold this time: of fixed windows that of the last one. */
export const rowAt = ({ window }: Windowing, key: Key, time: number): Key =>
  window.shape._tag === "Aligned" ? rowOf(Math.floor(time / window.shape.step) * window.shape.step, String(key)) : key

/** What a row says of the window that holds this time; undefined: nothing. */
export const valueAt = (
  { window }: Windowing,
  state: unknown,
  time: number
): { readonly value: unknown } | undefined => {
  switch (window.shape._tag) {
    case "Aligned":
      return { value: state }
    case "Session":
      return Sessions.at(state as Sessions.Sessions<unknown>, time)
    case "Sliding":
      return Neighbours.at(state as Neighbours.Neighbours<unknown>, time, window.shape)
  }
}

interface Slice {
  readonly start: number
  readonly end: number
  readonly value: unknown
}

/** The windows of a row, each with its span. */
export const slicesOf = ({ window }: Windowing, row: string, state: unknown): ReadonlyArray<Slice> => {
  const { shape } = window
  switch (shape._tag) {
    case "Aligned":
      return [{ start: startOf(row), end: startOf(row) + shape.size, value: state }]
    case "Session":
      return state as Sessions.Sessions<unknown>
    case "Sliding":
      return Neighbours.all(state as Neighbours.Neighbours<unknown>, shape)
  }
}

/** The key of a row, in its text form. */
export const textOf = ({ window }: Windowing, row: string): string =>
  window.shape._tag === "Aligned" ? keyOf(row) : row
