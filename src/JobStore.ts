/**
 * The port of the queues: what an engine must do for jobs. One method is one atomic operation; those that clear or list a
 * whole queue go in slices. All times are milliseconds on the engine's clock.
 *
 * Everything can be sent again unchanged: an enqueue is known by its ids, an exchange by its number, a settlement by the
 * claim it names. A worker has a session with each queue; its lease is the session's, not the job's, so keeping a thousand
 * jobs costs one write.
 */
import { Context, type Effect, type Stream } from "effect"
import type { Durability } from "./Broker.ts"
import type { DurabilityNotReached, EngineError } from "./Errors.ts"

export type Priority = "high" | "medium" | "low"

/** Where a job is. `waiting`: for the jobs it comes after. */
export type State = "ready" | "delayed" | "waiting" | "active" | "dead" | "done" | "cancelled"

/** Why a job is dead. */
export type Reason = "Failed" | "Defect" | "Timeout" | "Expired" | "Lost" | "Buried" | "Undecodable" | "Child"

/** So many jobs in so many milliseconds. */
export interface Limit {
  readonly count: number
  readonly per: number
}

/** A second enqueue under the key stores nothing and is answered with the job that is there. */
export interface Deduplicate {
  readonly key: string
  /** So long from the first one on, whatever became of it; without it, while that one is neither done nor dead. */
  readonly within?: number | undefined
  /** One that is still delayed gets the new payload ... */
  readonly replace: boolean
  /** ... and the new delay. */
  readonly restart: boolean
}

export interface NewJob {
  /** 1 to 256 characters, none of them a control character; taken until the result is forgotten. */
  readonly id: string
  readonly name: string
  readonly priority: Priority
  /** Not before so much time has passed, or before a moment. */
  readonly delay?: number | undefined
  readonly at?: number | undefined
  /** How the payload was written, as `Serializer.seal` says. */
  readonly format: string | undefined
  readonly payload: string | Uint8Array
  /** A JSON object of strings, or "". */
  readonly headers: string
  /** Jobs of one group run in the order in which they came, so many at a time as `Room.group` says. No priority there. */
  readonly group?: string | undefined
  readonly deduplicate?: Deduplicate | undefined
  /** It is not ready before these jobs of its queue are done; one that is dead or cancelled, or not there, makes it dead. */
  readonly after?: ReadonlyArray<string> | undefined
}

export interface Enqueued {
  /** Its own, or that of the job that was there. */
  readonly id: string
  readonly repeated: boolean
}

/** One worker at one queue. `slot` is unknown to the engine once the lease has ended, or after `close`. */
export interface Session {
  readonly queue: string
  readonly slot: number
}

export interface Claimed {
  readonly id: string
  readonly name: string
  readonly priority: Priority
  /** The number of the exchange that claimed it: what a settlement has to name. */
  readonly claim: number
  /** Failures so far that count as a retry; leases that were lost. */
  readonly failures: number
  readonly lost: number
  readonly enqueuedAt: number
  readonly format: string | undefined
  readonly payload: Uint8Array
  readonly headers: string
  readonly group: string | undefined
  readonly after: ReadonlyArray<string>
}

/** What became of a claimed job. `entry` is one line of its ledger. */
export type Outcome =
  /** `ttl` 0: forgotten at once. */
  | {
      readonly _tag: "Done"
      readonly format: string | undefined
      readonly result: string | Uint8Array
      readonly ttl: number
      /** Enqueued with it, or not at all; those of a queue that lies elsewhere, soon after it. */
      readonly jobs?: ReadonlyArray<{ readonly queue: string; readonly job: NewJob }> | undefined
    }
  /** `counted`: a failure; else the retries it has left stay as they are. */
  | { readonly _tag: "Retry"; readonly delay: number; readonly counted: boolean; readonly entry: string }
  | { readonly _tag: "Dead"; readonly reason: Reason; readonly entry: string }
  | { readonly _tag: "Cancelled"; readonly ttl: number }
  /** Ready again at the place it had; neither a retry nor a lost lease. */
  | { readonly _tag: "Back" }

export interface Settlement {
  readonly job: Pick<Claimed, "id" | "name" | "priority" | "claim" | "failures" | "group">
  readonly outcome: Outcome
}

/** How many jobs of a name may be claimed. */
export interface Room {
  readonly name: string
  readonly count: number
  /** For jobs that have a group. */
  readonly group?: { readonly concurrency: number; readonly limit?: Limit | undefined } | undefined
}

/**
 * Settles, and claims the next. The same number again gives the same answer, and changes nothing; a number below the last
 * one is refused.
 */
export interface Exchange {
  readonly session: Session
  /** Rising. */
  readonly number: number
  readonly lease: number
  readonly settle: ReadonlyArray<Settlement>
  /** Names in the order in which they are looked at; all names of this session, with a count of 0 if there is no room. */
  readonly rooms: ReadonlyArray<Room>
  /** Jobs to claim in all, and how many of them are for high, medium and low before one takes what is left of another. */
  readonly count: number
  readonly shares: readonly [high: number, medium: number, low: number]
  /** This worker has nothing in hand, so it may have a job that twice lost its lease: such a one comes alone. */
  readonly alone: boolean
}

export type Exchanged =
  | {
      readonly _tag: "Exchanged"
      readonly now: number
      /** Settlements that came too late: their job is somebody else's, or over. */
      readonly refused: ReadonlyArray<string>
      readonly claimed: ReadonlyArray<Claimed>
      /** When to look again though nobody wakes: a delayed job is due, a limit has room again. */
      readonly next: number | undefined
      /** When the next slot of a recurrence is due. */
      readonly slot: number | undefined
      /** There are jobs to be claimed alone. */
      readonly suspects: boolean
      /** Some worker's lease has ended: `sweep`. */
      readonly expired: boolean
      /** The number of the last hint of work before this: what it was about was to be had here. */
      readonly hint?: number | undefined
    }
  /** The lease has ended, or the server went back: open another session; nothing was changed. */
  | { readonly _tag: "Unknown" }

export interface Extended {
  /** In hand, and not its own any more: stop them. */
  readonly lost: ReadonlyArray<string>
  readonly cancelled: ReadonlyArray<string>
  readonly expired: boolean
}

/** What is known of a job. */
export interface Item {
  readonly id: string
  readonly name: string
  readonly state: State
  readonly priority: Priority
  readonly failures: number
  readonly lost: number
  readonly enqueuedAt: number
  /** Delayed: when it is due. Done, dead or cancelled: since when. Else when it was enqueued. */
  readonly at: number
  readonly headers: string
  readonly group: string | undefined
  readonly reason: Reason | undefined
  /** Lines, the oldest first; at most the last `maxHistory`. */
  readonly history: ReadonlyArray<string>
  readonly progress: string | undefined
  /** The payload, or the result of one that is done. */
  readonly format: string | undefined
  readonly data: Uint8Array
}

export interface Page {
  readonly items: ReadonlyArray<Item>
  readonly next: string | undefined
}

/** `done` counts cancelled ones too, as long as they are remembered. */
export type Counts = Readonly<Record<Exclude<State, "cancelled">, number>>

/** What is not to be shown of jobs of one name, by paths (see `internal/record/redacted.ts`). */
export interface JobFacts {
  readonly name: string
  readonly payload: ReadonlyArray<string>
  readonly success: ReadonlyArray<string>
  readonly progress: ReadonlyArray<string>
}

/** What holds for a whole queue. */
export interface QueueSettings {
  readonly limit?: Limit | undefined
  /** Finished jobs that are kept at most, the newest; default 1,000,000. Their time (`ttl`) holds beside it. */
  readonly keepDone?: number | undefined
  readonly keepDead?: { readonly count?: number | undefined; readonly age?: number | undefined } | undefined
}

/** What a recurrence enqueues at each of its slots, under the id `<name>@<slot>`. */
export type Template = Omit<NewJob, "id" | "delay" | "at" | "after">

/** A job that recurs: data beside its queue, set once, until it is removed. */
export interface NewRecurrence {
  /** A queue has one of this name. */
  readonly name: string
  /** How its slots follow, in one line: the engine only compares it. */
  readonly timing: string
  /** What becomes of slots that nobody came for: nothing, or one run for all of them. */
  readonly missed: "skip" | "last"
  readonly job: Template
  /** Its first slot, if it is new, or has another timing than before. */
  readonly first: number
}

export interface Recurrence extends Omit<NewRecurrence, "first"> {
  readonly paused: boolean
  /** The last slot that was enqueued. */
  readonly last: number | undefined
  /** The next one; of a paused one, where it stood. */
  readonly slot: number
  /** Another one after each change of its definition. */
  readonly revision: number
}

/** A slot that is due, to be enqueued if nobody has done so: the same revision still waits for the same slot. */
export interface Firing {
  readonly name: string
  readonly revision: number
  readonly slot: number
  /** The slot after those that are due. */
  readonly next: number
  /** What to enqueue, and for which slot; undefined: all that are due are passed over. */
  readonly run: { readonly slot: number; readonly job: NewJob } | undefined
}

/** When the next slot of a queue is due; undefined: it has none. */
export interface Slots {
  readonly now: number
  readonly next: number | undefined
}

/** A hint to look; `id` if one job is meant. `Slots`: the next slot may be another one. */
export interface Signal {
  readonly _tag: "Work" | "Cancelled" | "Settled" | "Progress" | "Slots"
  readonly id: string | undefined
  /** Of work; they rise. Undefined: it cannot be told which claims came after it. */
  readonly hint?: number | undefined
}

/** Lines of a ledger that are kept. */
export const maxHistory = 20
/** The lost lease that makes a job dead. */
export const maxLost = 3
/** Jobs of one `enqueue`, and of one `exchange`. */
export const maxJobs = 1_000
export const defaultKeepDone = 1_000_000

export class JobStore extends Context.Service<
  JobStore,
  {
    /** All of one queue, at most `maxJobs`; answered in their order. Default durability: `"memory"`. */
    enqueue(
      queue: string,
      jobs: ReadonlyArray<NewJob>,
      durability?: Durability
    ): Effect.Effect<ReadonlyArray<Enqueued>, EngineError | DurabilityNotReached>
    open(queue: string, worker: string, lease: number): Effect.Effect<Session, EngineError>
    /** The durability is that of settlements. What fails with `DurabilityNotReached` was done: ask again without one. */
    exchange(request: Exchange, durability?: Durability): Effect.Effect<Exchanged, EngineError | DurabilityNotReached>
    /**
     * Keeps the lease. What the session was given up to exchange `number` and does not hold is ready again at once, not
     * counted as lost. `Unknown`: everything is lost.
     */
    extend(
      session: Session,
      lease: number,
      number: number,
      held: ReadonlyArray<Pick<Claimed, "id" | "claim">>
    ): Effect.Effect<Extended | "Unknown", EngineError>
    /** Ends a session; what it has not settled is ready again, not counted as lost. */
    close(session: Session): Effect.Effect<void, EngineError>
    /** Take back the jobs of sessions whose lease has ended; each has lost one more lease. Gives how many there were. */
    sweep(queue: string): Effect.Effect<number, EngineError>
    /** A waiting one is cancelled at once; the worker of a running one is told. False: it is over, or not known. */
    cancel(queue: string, id: string, ttl: number): Effect.Effect<boolean, EngineError>
    /** Make a delayed job ready now. False: it is not delayed. */
    promote(queue: string, id: string): Effect.Effect<boolean, EngineError>
    progress(session: Session, job: Pick<Claimed, "id" | "claim">, value: string): Effect.Effect<boolean, EngineError>
    /** One job; `watch`: somebody waits for its end, and is to be told by a signal. */
    get(queue: string, id: string, watch: boolean): Effect.Effect<Item | undefined, EngineError>
    /** A page of jobs in a state; start with cursor `""`. A scan, no snapshot. */
    list(
      queue: string,
      state: State,
      options: { readonly name: string | undefined; readonly cursor: string }
    ): Effect.Effect<Page, EngineError>
    counts(queue: string): Effect.Effect<Counts, EngineError>
    readonly queues: Effect.Effect<ReadonlyArray<string>, EngineError>
    /** Makes the queue known; settings replace those of before, and what is left out has its default. */
    configure(queue: string, settings: QueueSettings): Effect.Effect<void, EngineError>
    /** Keep this, for those who have no definition of the jobs; it makes no queue known, and outlasts its removal. */
    declare(queue: string, jobs: ReadonlyArray<JobFacts>): Effect.Effect<void, EngineError>
    /** What was said last, by name; jobs with nothing to hide are left out. */
    facts(queue: string): Effect.Effect<ReadonlyArray<JobFacts>, EngineError>
    /** While paused nothing is claimed. */
    pause(queue: string, paused: boolean): Effect.Effect<void, EngineError>
    isPaused(queue: string): Effect.Effect<boolean, EngineError>
    /** Dead jobs are ready again, as if new; all, or these. Gives how many. */
    redrive(queue: string, ids: ReadonlyArray<string> | undefined): Effect.Effect<number, EngineError>
    /** Forget dead jobs; all, or these. Gives how many. */
    bury(queue: string, ids: ReadonlyArray<string> | undefined): Effect.Effect<number, EngineError>
    /** Forget what is ready, delayed or waiting. Gives how many. */
    flush(queue: string): Effect.Effect<number, EngineError>
    /** Forget the queue, its jobs and recurrences; settlements of running jobs are refused. */
    remove(queue: string): Effect.Effect<void, EngineError>
    /** Set a recurrence; nothing is changed by one that is there. A new timing begins anew; a pause outlasts it. */
    recur(queue: string, recurrence: NewRecurrence): Effect.Effect<void, EngineError>
    /** All of a queue by name, or those that are due, the earliest first and not more than a few. */
    recurrences(
      queue: string,
      which: "all" | "due"
    ): Effect.Effect<Slots & { readonly found: ReadonlyArray<Recurrence> }, EngineError>
    /** Enqueue what is due: each slot once, whoever asks, and however often. */
    fire(queue: string, firings: ReadonlyArray<Firing>): Effect.Effect<Slots, EngineError>
    /** Pause, remove, or go on at a slot (if it was paused). False: there is none of this name. */
    alter(
      queue: string,
      name: string,
      change: "pause" | "remove" | { readonly resume: number }
    ): Effect.Effect<boolean, EngineError>
    /** Hints, some of which may be lost, and some be for nothing. */
    signals(queue: string): Stream.Stream<Signal, EngineError>
  }
>()("millrace/JobStore") {}
