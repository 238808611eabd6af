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
  /** Paths of what is not to be shown of its rows (see `internal/record/redacted.ts`), as its last program said. */
  readonly redacted?: ReadonlyArray<string> | undefined
}

/** What is due of a table in one partition. */
export interface WindowsDue {
  /** The earliest first; of the same time in the order of their keys. */
  readonly rows: ReadonlyArray<{ readonly key: string; readonly at: number }>
  /** The engine's clock, in whole milliseconds since 1970. */
  readonly now: number
}

/** A row that expires. */
export interface TimedRow {
  readonly value: Uint8Array
  /** In so many milliseconds; undefined: never. */
  readonly left: number | undefined
}

export interface Due {
  readonly keys: ReadonlyArray<string>
  /** When the next one expires that is not among these, in milliseconds from now; undefined: there is none. */
  readonly next: number | undefined
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
    /** The same in a table whose rows expire, or may: one that has expired is not there. */
    readTimed(
      processor: string,
      table: string,
      partition: number,
      keys: ReadonlyArray<string>
    ): Effect.Effect<ReadonlyArray<TimedRow | undefined>, EngineError>
    /**
     * A page of rows; start with cursor `""`, go on with `next` until it is undefined. A scan, no snapshot. `timed`: rows of
     * this table expire, and those that have are left out.
     */
    entries(
      processor: string,
      table: string,
      partition: number,
      cursor: string,
      timed?: boolean | undefined
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
    /** Rows that have expired on the engine's clock and are stored all the same: at most `count`, the first to expire first. */
    due(processor: string, table: string, partition: number, count: number): Effect.Effect<Due, EngineError>
    /** Store where tables live; one that another processor has, or with other partitions, is `LayoutMismatch`. */
    declare(tables: ReadonlyArray<TableLayout>): Effect.Effect<void, EngineError | Misconfigured>
    layout(table: string): Effect.Effect<TableLayout | undefined, EngineError>
    /** All tables that are declared, by name. */
    layouts(): Effect.Effect<ReadonlyArray<TableLayout>, EngineError>
  }
>()("millrace/TableStore") {}
