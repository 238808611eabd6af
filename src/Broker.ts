/**
 * The port of the logs: what an engine must do for topics and processors. One method is one atomic operation (a Lua
 * script, a plain command or one SQL transaction); everything that need not be atomic stands above it.
 *
 * Every write can be sent again unchanged: appends are numbered per publisher and partition, commits per partition. An
 * operation that fails with `EngineError` of reason `Unreachable` may or may not have been applied; the caller sends it
 * again, the engine recognizes it.
 *
 * Entry ids are `<millis>-<seq>`, compared as two numbers. An event's offset is `<entry id>.<index>`.
 */
import { Context, type Effect, type Scope } from "effect"
import type { DurabilityNotReached, EngineError, Misconfigured } from "./Errors.ts"
import type { Retention } from "./Retention.ts"

/** What an engine knows of a topic. */
export interface Layout {
  readonly name: string
  readonly partitions: number
  readonly retention: Retention
}

/** A record batch as stored: `count` events in fields that alternate name and value (see `internal/record/record.ts`). */
export interface Entry {
  readonly id: string
  readonly count: number
  readonly fields: ReadonlyArray<Uint8Array>
}

/** A record batch on its way in. Without `id` the engine gives it one. */
export interface NewEntry {
  readonly id?: string | undefined
  readonly count: number
  readonly fields: ReadonlyArray<string | Uint8Array>
}

/** How safe a write must be before it is answered. `fsync`: on disk here; `replicas`: on so many others. */
export type Durability = "memory" | "fsync" | { readonly replicas: number }

/** Entries for one partition, taken all in order. */
export interface Append {
  readonly topic: Layout
  readonly partition: number
  /**
   * A random id that a process gives itself, and the number of this append for this partition: 1, 2, 3 ... An id that
   * the engine does not know starts at 1. One of the last five numbers again is answered from memory; a gap is refused.
   */
  readonly publisher: string
  readonly number: number
  readonly entries: ReadonlyArray<NewEntry>
  /** A user's own producer, remembered for ever; then there is one entry with one event. */
  readonly producer?: { readonly id: string; readonly sequence: bigint } | undefined
}

export type Appended =
  /**
   * The ids of the entries. `repeated`: this append, or the producer's sequence, was stored before; the id of a sequence
   * below the producer's last is not known any more, and empty.
   */
  | { readonly _tag: "Stored"; readonly ids: ReadonlyArray<string>; readonly repeated: boolean }
  /**
   * At capacity (`Retention.consumed` only). The number counts as used if `ids` is not empty: the rest goes out as the
   * next number; with no ids the same number is tried again.
   */
  | { readonly _tag: "Full"; readonly ids: ReadonlyArray<string>; readonly heldBy: string | undefined }
  /** An explicit id is not above the last one; nothing of this append was stored, the number is free. */
  | { readonly _tag: "Conflict"; readonly last: string }
  /** Not the next number: `last` is what the engine has (0: it does not know the publisher). Nothing was stored. */
  | { readonly _tag: "Gap"; readonly last: number }

/** A place in a partition: read what comes after this entry id (`0-0`: from the beginning). */
export interface Position {
  readonly topic: Layout
  readonly partition: number
  readonly after: string
  /** Entries added up to and including `after`. More entries trimmed than this means that unread ones were lost. */
  readonly entriesRead: number
}

export interface Batch {
  readonly topic: string
  readonly partition: number
  /** May be empty if only a loss is reported. */
  readonly entries: ReadonlyArray<Entry>
  /** Entries trimmed so far; only on topics that trim unread events, where every read checks it. */
  readonly trimmed: number | undefined
}

/** A connection for blocking reads of one shard. */
export interface Reader {
  /**
   * What stands after these positions, at most `count` entries each; if nothing does, waits up to `block` milliseconds
   * (0: does not wait), then gives an empty array. Interruption is safe: nothing is consumed by reading.
   */
  read(
    from: ReadonlyArray<Position>,
    options: { readonly count: number; readonly block: number }
  ): Effect.Effect<ReadonlyArray<Batch>, EngineError>
  /** Make a waiting read return at once; if none waits now, nothing happens. */
  readonly wake: Effect.Effect<void>
}

/** Facts of one partition's log. */
export interface LogInfo {
  readonly topic: string
  readonly partition: number
  /** Ids of the first and last retained entry; `0-0` if there is none (`last` stays known after a trim). */
  readonly first: string
  readonly last: string
  /** Retained entries. */
  readonly length: number
  /** Entries ever added. */
  readonly added: number
  /** Events beyond one per entry, ever added. */
  readonly extra: number
}

/** Where a new processor starts. Times are milliseconds since 1970. */
export type Start = "earliest" | "latest" | { readonly offset: string } | { readonly time: number }

/** One ownership: epochs are compared together with the incarnation, the random id of one start of a worker. */
export interface Fence {
  readonly epoch: bigint
  readonly incarnation: string
}

/** How far a processor is in one topic of a partition. */
export interface Committed {
  readonly topic: string
  /** The last event done, `<entry id>.<index>`; `0-0.0` if none. */
  readonly offset: string
  /** The last entry done whole; reading goes on after it, and skips the events of `offset`'s entry up to its index. */
  readonly entry: string
  /** Entries done whole, and events done. */
  readonly entries: number
  readonly events: number
}

export type Claim =
  | {
      readonly _tag: "Claimed"
      /** The number that the next commit must carry. */
      readonly number: number
      readonly committed: ReadonlyArray<Committed>
      readonly logs: ReadonlyArray<LogInfo>
    }
  | { readonly _tag: "Refused"; readonly inForce: bigint }

/** One partition's numbered commit: a unit of work, or several in a row. Sent again unchanged until it is answered. */
export interface Commit extends Fence {
  readonly processor: string
  readonly partition: number
  readonly number: number
  /** The topics whose offset moves. */
  readonly offsets: ReadonlyArray<Committed & { readonly layout: Layout }>
  /** Rows of this partition; `undefined` removes. Each (table, key) at most once. */
  readonly rows: ReadonlyArray<{
    readonly table: string
    readonly key: string
    readonly value: string | Uint8Array | undefined
  }>
  /** Emitted entries, for partitions of the same shard; taken beyond capacity. */
  readonly emits: ReadonlyArray<{
    readonly topic: Layout
    readonly partition: number
    readonly entries: ReadonlyArray<NewEntry>
  }>
}

export type CommitResult =
  | { readonly _tag: "Done" }
  /** This very commit was applied earlier; its answer was lost. Nothing was written now. */
  | { readonly _tag: "DoneBefore" }
  /** Another epoch or incarnation is in force. */
  | { readonly _tag: "Fenced"; readonly inForce: bigint }
  /** The engine expected another number: it lost acknowledged commits. `found`: the number it expects. */
  | { readonly _tag: "WentBack"; readonly found: number }

export interface Lag {
  readonly topic: string
  readonly partition: number
  /** Events not yet committed. */
  readonly events: number
  /** Entries not yet committed whole. */
  readonly entries: number
  /** Time (milliseconds since 1970) of the first entry that is not committed whole. */
  readonly oldest: number | undefined
}

export class Broker extends Context.Service<
  Broker,
  {
    /** How many shards partitions are spread over: partition `p` of every topic lies in shard `p % shards`. */
    readonly shards: number
    /** Store the layout at first use; a stored one with other partitions (or other shards) is `LayoutMismatch`. */
    declare(topics: ReadonlyArray<Layout>): Effect.Effect<void, EngineError | Misconfigured>
    /** All of one shard; each append is judged for itself, and answered in its place. */
    append(
      appends: ReadonlyArray<Append>,
      durability: Durability
    ): Effect.Effect<ReadonlyArray<Appended>, EngineError | DurabilityNotReached>
    /** Wait until this partition may have room again; a hint. */
    awaitRoom(topic: Layout, partition: number): Effect.Effect<void>
    /** May an event be appended within the capacity? Always true but for `Retention.consumed`. */
    hasRoom(topic: Layout, partition: number): Effect.Effect<boolean, EngineError>
    reader(shard: number): Effect.Effect<Reader, EngineError, Scope.Scope>
    inspect(topic: Layout, partitions: ReadonlyArray<number>): Effect.Effect<ReadonlyArray<LogInfo>, EngineError>
    /** Create the group on every partition, once; those that have one keep their position. */
    register(
      processor: string,
      topics: ReadonlyArray<Layout>,
      start: Start
    ): Effect.Effect<void, EngineError | Misconfigured>
    /** Forget the group: it holds no topic's floor any more. */
    unregister(processor: string): Effect.Effect<void, EngineError>
    /** Install an epoch and learn where to go on. The very same (epoch, incarnation) again is accepted. Creates nothing. */
    claim(
      processor: string,
      partition: number,
      topics: ReadonlyArray<Layout>,
      fence: Fence
    ): Effect.Effect<Claim, EngineError>
    /** All of one processor and shard; each partition is judged for itself, and answered in its place. */
    commit(
      commits: ReadonlyArray<Commit>,
      durability: Durability
    ): Effect.Effect<ReadonlyArray<CommitResult>, EngineError | DurabilityNotReached>
    lag(processor: string): Effect.Effect<ReadonlyArray<Lag>, EngineError>
    /**
     * Move the committed offset of one partition, under a fence that was claimed before; a numbered commit like any other.
     * `reset` empties the rows of all its tables. `Lost`: the start lies before the first retained event.
     */
    seek(
      request: Fence & {
        readonly processor: string
        readonly partition: number
        readonly number: number
        readonly topics: ReadonlyArray<Layout>
        readonly to: Start
        readonly reset: boolean
      }
    ): Effect.Effect<
      CommitResult | { readonly _tag: "Lost"; readonly topic: string; readonly first: string },
      EngineError
    >
    /** Apply `maxLength` and `maxAge` now; gives the entries dropped. Appends do it as they go. */
    trim(topic: Layout): Effect.Effect<number, EngineError>
  }
>()("millrace/Broker") {}
