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
import type { NewJob } from "./JobStore.ts"
import type { Retention } from "./Retention.ts"

/** What an engine knows of a topic. */
export interface Layout {
  readonly name: string
  readonly partitions: number
  readonly retention: Retention
  /** Its entries hold the fields of a record. Kept, as the retention is, for those who have no definition of the topic. */
  readonly flat?: boolean | undefined
  /** It takes dead letters. */
  readonly letters?: boolean | undefined
  /** Paths of what is not to be shown of its values (see `internal/record/redacted.ts`). */
  readonly redacted?: ReadonlyArray<string> | undefined
}

/** A topic as the engine has it. */
export interface StoredTopic {
  readonly name: string
  readonly partitions: number
  /** As it was declared last; undefined where a release before this one declared it. */
  readonly retention: Retention | undefined
  readonly flat: boolean
  readonly letters: boolean
  readonly redacted: ReadonlyArray<string>
}

/** A processor as the engine has it; its topics by name. */
export interface StoredProcessor {
  readonly name: string
  readonly partitions: number
  readonly topics: ReadonlyArray<string>
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
  /** Read for no group, so that commits of processors trim what it has not read: it is told on every topic that trims. */
  readonly ungrouped?: true | undefined
}

export interface Batch {
  readonly topic: string
  readonly partition: number
  /** May be empty if only a loss is reported. */
  readonly entries: ReadonlyArray<Entry>
  /** Entries trimmed so far; only on topics that trim unread events and for positions without a group, at every read. */
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
  /** Retained events. */
  readonly events: number
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

/** An event that is set aside: it goes to the end of a lane of its partition, and stays until it is removed. */
export interface Park {
  /** Any text. A lane keeps its events in the order in which they were parked. */
  readonly lane: string
  /** Where it came from: a topic of the processor, and its offset in this very partition of it. */
  readonly topic: string
  readonly offset: string
  /** The event as an entry of its own. */
  readonly fields: NewEntry["fields"]
}

/** An event as it was parked. */
export interface Parked {
  /** Given by the engine; names this event when it is removed, and in pages. */
  readonly id: string
  readonly topic: string
  readonly offset: string
  readonly fields: ReadonlyArray<Uint8Array>
}

/** What is known of a lane, as its owner says. Times are whole milliseconds since 1970. */
export interface LaneState {
  readonly lane: string
  /** Attempts at its first event so far. */
  readonly attempts: number
  /** When that is tried next. */
  readonly due: number
  readonly since: number
  /** Why it failed; what is longer than `maxLaneError` is cut. */
  readonly error: string
}

/** Characters (UTF-16) of an error that are kept with a lane. */
export const maxLaneError = 500

/** A lane that holds events; one that is empty does not exist. Until its state is set all of it is 0 and empty. */
export interface Lane extends LaneState {
  /** The id of its first event. */
  readonly head: string
  readonly count: number
}

/** What a commit changes in the lanes of its partition: first all drops, then parks, then removals, then states. */
export interface Parking {
  /** Lanes that go with all that they held before this commit. */
  readonly drop: ReadonlyArray<string>
  readonly park: ReadonlyArray<Park>
  /** First events of lanes, each by its id; several of one lane in their order. With the last one the lane goes. */
  readonly remove: ReadonlyArray<{ readonly lane: string; readonly id: string }>
  /** That of a lane which is empty by then is not kept. */
  readonly states: ReadonlyArray<LaneState>
}

/** How far a partition has come in time, as its owner says: in a topic, or (source `""`) by the engine's clock. */
export interface Time {
  readonly source: string
  /** Whole milliseconds since 1970. */
  readonly time: number
}

/** What a commit changes of tables with windows. */
export interface Windows {
  /** When something is to be done about a row (see `TableStore.windowsDue`); `undefined`: nothing any more. */
  readonly due: ReadonlyArray<{ readonly table: string; readonly key: string; readonly at: number | undefined }>
  readonly times: ReadonlyArray<Time>
}

export type Claim =
  | {
      readonly _tag: "Claimed"
      /** The number that the next commit must carry. */
      readonly number: number
      readonly committed: ReadonlyArray<Committed>
      readonly logs: ReadonlyArray<LogInfo>
      /** All lanes of the partition, in no order. */
      readonly lanes: ReadonlyArray<Lane>
      /** Those that commits have stored, of these topics and of the clock, in no order. */
      readonly times: ReadonlyArray<Time>
      /**
       * Defined: owners before this one ended without a release or a commit, with events to handle. Call `mark` before
       * the first event is handed out, and handle that one alone; its commit ends the probation. The number counts the
       * owners that ended with an event so marked.
       */
      readonly probation: number | undefined
    }
  | { readonly _tag: "Refused"; readonly inForce: bigint }

/** A reply to a process that asked. */
export interface Reply {
  /** Whose inbox it goes to: letters, digits and "-", at most 64. */
  readonly asker: string
  readonly entry: NewEntry
}

/** What `deliver` did. */
export interface Delivered {
  /** The last entry of the outbox that is at its destination; undefined if there was none behind `after`. */
  readonly upTo: string | undefined
  readonly more: boolean
}

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
    /** Whole milliseconds from this commit on, on the engine's clock: then it expires. The same for all rows of a table. */
    readonly timeToLive?: number | undefined
  }>
  /** Emitted entries, taken beyond capacity. Those for other shards go to the partition's outbox (see `deliver`). */
  readonly emits: ReadonlyArray<{
    readonly topic: Layout
    readonly partition: number
    readonly entries: ReadonlyArray<NewEntry>
  }>
  /** To inboxes of this shard; one to an inbox that is gone is dropped. */
  readonly replies?: ReadonlyArray<Reply> | undefined
  /**
   * Jobs that the unit of work enqueues, under ids of their own. They are in the commit: at once where queues are in the same
   * database, else by way of the outbox, and stored once by their id.
   */
  readonly jobs?: ReadonlyArray<{ readonly queue: string; readonly job: NewJob }> | undefined
  /** What the outbox holds up to this id is delivered, and leaves it. */
  readonly delivered?: string | undefined
  /** Only where something is parked or was: most commits have none. */
  readonly parking?: Parking | undefined
  /** Only where a table has windows. */
  readonly windows?: Windows | undefined
}

export type CommitResult =
  | { readonly _tag: "Done" }
  /** This very commit was applied earlier; its answer was lost. Nothing was written now. */
  | { readonly _tag: "DoneBefore" }
  /** Another epoch or incarnation is in force. */
  | { readonly _tag: "Fenced"; readonly inForce: bigint }
  /**
   * The engine expected another number, or an event to be removed is not the first of its lane: it lost acknowledged
   * commits. `found`: the number it expects.
   */
  | { readonly _tag: "WentBack"; readonly found: number }
  /** The log of this topic ends before the offset: the engine lost acknowledged events. Nothing was written. */
  | { readonly _tag: "Truncated"; readonly topic: string; readonly last: string }

/** A page of a lane. `next`: the `after` of the following page; undefined at the end. */
export interface ParkedPage {
  readonly events: ReadonlyArray<Parked>
  readonly next: string | undefined
}

export interface Lag {
  readonly topic: string
  readonly partition: number
  /** Events not yet committed. */
  readonly events: number
  /** Entries not yet committed whole. */
  readonly entries: number
  /** Time (milliseconds since 1970) of the first entry that is not committed whole. */
  readonly oldest: number | undefined
  /** The last event done, `<entry id>.<index>`; `0-0.0` if none. */
  readonly committed: string
}

export class Broker extends Context.Service<
  Broker,
  {
    /** How many shards partitions are spread over: partition `p` of every topic lies in shard `p % shards`. */
    readonly shards: number
    /** Store the layout at first use; a stored one with other partitions (or other shards) is `LayoutMismatch`. */
    declare(topics: ReadonlyArray<Layout>): Effect.Effect<void, EngineError | Misconfigured>
    /** What was ever declared, by name. */
    topics(): Effect.Effect<ReadonlyArray<StoredTopic>, EngineError>
    /** What is registered, by name. */
    processors(): Effect.Effect<ReadonlyArray<StoredProcessor>, EngineError>
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
    /** Entries ever added below this id, trimmed ones included: what `entriesRead` is of a position in the middle. */
    entriesBefore(topic: Layout, partition: number, id: string): Effect.Effect<number, EngineError>
    /** Create the group on every partition, once; those that have one keep their position. */
    register(
      processor: string,
      topics: ReadonlyArray<Layout>,
      start: Start
    ): Effect.Effect<void, EngineError | Misconfigured>
    /** Forget the group, its tables and its lanes: it holds no topic's floor any more. */
    unregister(processor: string): Effect.Effect<void, EngineError>
    /** Install an epoch and learn where to go on. The very same (epoch, incarnation) again is accepted. Creates nothing. */
    claim(
      processor: string,
      partition: number,
      topics: ReadonlyArray<Layout>,
      fence: Fence
    ): Effect.Effect<Claim, EngineError>
    /**
     * On probation (see `Claim`), an event is handed out now: if this owner ends without a commit or a release, the next
     * claim counts one more. Without probation, or after a commit, it does nothing.
     */
    mark(
      processor: string,
      partition: number,
      fence: Fence
    ): Effect.Effect<Exclude<CommitResult, { readonly _tag: "DoneBefore" }>, EngineError>
    /**
     * This owner lets go in order, with nothing in hand: whoever claims next is on no probation. A commit since the claim
     * says the same, so only an owner that made none needs to call it. An old epoch does nothing.
     */
    release(processor: string, partition: number, fence: Fence): Effect.Effect<void, EngineError>
    /** The lanes of a partition, as a claim gives them: for those who do not own it. */
    lanes(processor: string, partition: number): Effect.Effect<ReadonlyArray<Lane>, EngineError>
    /** At most `count` events of a lane, in order, behind the event `after`; undefined: from the first. */
    parked(request: {
      readonly processor: string
      readonly partition: number
      readonly lane: string
      readonly after: string | undefined
      readonly count: number
    }): Effect.Effect<ParkedPage, EngineError>
    /** All of one processor and shard; each partition is judged for itself, and answered in its place. */
    commit(
      commits: ReadonlyArray<Commit>,
      durability: Durability
    ): Effect.Effect<ReadonlyArray<CommitResult>, EngineError | DurabilityNotReached>
    /**
     * Bring a page of the partition's outbox, from behind the id `after` (undefined: from its beginning), to where it goes,
     * in order. Anybody may, at any time, again and again: what was committed is stored there once. Without shards there
     * is never anything.
     */
    deliver(
      request: { readonly processor: string; readonly partition: number; readonly after: string | undefined },
      durability: Durability
    ): Effect.Effect<Delivered, EngineError | DurabilityNotReached>
    /**
     * See to it that the inbox of a process is there in one shard, for half a minute at least. To be called again before
     * each request: an engine that knows it to be there does not look.
     */
    openInbox(asker: string, shard: number): Effect.Effect<void, EngineError>
    /**
     * The replies behind the id `after` in that inbox; if there are none, waits up to `block` milliseconds, then gives an
     * empty array. With `clear` what is up to `after` goes. One caller at a time for each inbox.
     */
    replies(
      request: { readonly asker: string; readonly shard: number; readonly after: string; readonly clear: boolean },
      block: number
    ): Effect.Effect<ReadonlyArray<Entry>, EngineError>
    lag(processor: string): Effect.Effect<ReadonlyArray<Lag>, EngineError>
    /**
     * Move the committed offset of one partition, under a fence that was claimed before; a numbered commit like any other.
     * `reset` empties the rows of all its tables and what is due of them, its times, and its lanes. `Lost`: the start lies before the first retained event.
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
    /**
     * Apply `maxLength` and `maxAge` now, to all partitions or to these; gives the entries dropped. Appends do it as they
     * go, and owners of partitions by the clock.
     */
    trim(topic: Layout, partitions?: ReadonlyArray<number>): Effect.Effect<number, EngineError>
  }
>()("millrace/Broker") {}
