/** The port of the tables: what is committed, readable by any process. Writing is part of `Broker.commit`. */
import { Context, type Effect } from "effect"
import type { EngineError, Misconfigured } from "./Errors.ts"

/** Where a table lives. */
export interface TableLayout {
  readonly name: string
  readonly processor: string
  readonly partitions: number
  /** The topic's keys are placed by the documented hash, so any process can find a row. */
  readonly hashed: boolean
}

/** What is due of a table in one partition. */
export interface WindowsDue {
  /** The earliest first; of the same time in the order of their keys. */
  readonly rows: ReadonlyArray<{ readonly key: string; readonly at: number }>
  /** The engine's clock, in whole milliseconds since 1970. */
  readonly now: number
}

export class TableStore extends Context.Service<
  TableStore,
  {
    /** The rows in the order of the keys; all keys of one call lie in one partition. */
    readMany(
      processor: string,
      table: string,
      partition: number,
      keys: ReadonlyArray<string>
    ): Effect.Effect<ReadonlyArray<Uint8Array | undefined>, EngineError>
    /** A page of rows; start with cursor `""`, go on with `next` until it is undefined. A scan, no snapshot. */
    entries(
      processor: string,
      table: string,
      partition: number,
      cursor: string
    ): Effect.Effect<
      {
        readonly rows: ReadonlyArray<readonly [key: string, value: Uint8Array]>
        readonly next: string | undefined
      },
      EngineError
    >
    /** The first rows of what commits have said to be due (see `Broker.Windows`), whether it is time for them or not. */
    windowsDue(
      processor: string,
      table: string,
      partition: number,
      count: number
    ): Effect.Effect<WindowsDue, EngineError>
    /** Store where tables live; one that another processor has, or with other partitions, is `LayoutMismatch`. */
    declare(tables: ReadonlyArray<TableLayout>): Effect.Effect<void, EngineError | Misconfigured>
    layout(table: string): Effect.Effect<TableLayout | undefined, EngineError>
  }
>()("millrace/TableStore") {}
