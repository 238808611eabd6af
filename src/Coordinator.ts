/**
 * The port of ownership: who runs which partition, with which epoch. Members hold a lease on the engine's clock and call
 * `sync` every third of it; no leader is needed. What `sync` answers is the whole statement of what a member owns, so a
 * lost answer costs nothing.
 */
import { Context, type Effect, type Stream } from "effect"
import type { EngineError, MemberReplaced } from "./Errors.ts"

/** A partition number of a processor, and the epoch under which it was given. */
export interface Grant {
  readonly processor: string
  readonly partition: number
  readonly epoch: bigint
}

export interface Owned extends Grant {
  /** Keep it, hand out nothing. */
  readonly paused: boolean
  /** It is wanted elsewhere: stop, commit, and release it in the next sync. */
  readonly giveUp: boolean
}

export interface Sync {
  readonly member: string
  /** The random id of this start of the worker. */
  readonly incarnation: string
  /** Milliseconds. */
  readonly lease: number
  /** Milliseconds that membership must be quiet before targets are computed. */
  readonly settle: number
  /** The number of the last statement received; 0n for none. */
  readonly known: bigint
  /** Every processor that this member runs, with its partition count. Left out: the member leaves that group. */
  readonly groups: ReadonlyMap<string, number>
  /** What it has stopped running. One with another epoch than the books does nothing. */
  readonly released: ReadonlyArray<Grant>
  /** Epochs that shards had in force when they refused ours: the counter is raised above them, the partition granted anew. */
  readonly refused: ReadonlyArray<Grant>
}

export interface Statement {
  readonly number: bigint
  /** All that is mine; undefined if nothing of it changed since `known`. */
  readonly mine: ReadonlyArray<Owned> | undefined
  /** Milliseconds until the next sync is due. */
  readonly next: number
}

/** Why a partition was put aside, and the unit of work that did it: first and last offset in each topic it has events of. */
export interface Quarantine {
  readonly reason: "failure" | "crash loop"
  readonly error: string
  readonly positions: ReadonlyArray<{ readonly topic: string; readonly first: string; readonly last: string }>
}

/** A quarantine as the books have it. */
export interface Quarantined extends Quarantine {
  readonly partition: number
  /** Who put it aside. */
  readonly member: string
  /** When, in milliseconds since 1970 on the engine's clock. */
  readonly since: number
}

/** A group as the books have it: for tools and tests. */
export interface Group {
  readonly processor: string
  readonly partitions: number
  readonly paused: boolean
  readonly members: ReadonlyArray<string>
  /** Owner and epoch by partition; undefined where nobody owns it. */
  readonly owners: ReadonlyArray<{ readonly member: string; readonly epoch: bigint } | undefined>
  /** How often targets were computed. */
  readonly generation: number
  /** The partitions that are put aside, in order. */
  readonly quarantined: ReadonlyArray<number>
}

/** The group whose one partition makes its owner the leader. No processor can have this name. */
export const leaderGroup = "@leader"

/** What the books have of a schedule of the leader's; ticks are in milliseconds since 1970. */
export interface Ticks {
  readonly schedule: string
  /** The latest tick that was claimed. */
  readonly last: number
  /** Claimed and not done, in order, and by which leader. */
  readonly open: ReadonlyArray<{ readonly tick: number; readonly epoch: bigint }>
}

/** A schedule as a new leader finds it. */
export interface TakenTicks {
  readonly last: number
  /** What leaders before it have claimed and not done, in order; claimed by this one now. */
  readonly open: ReadonlyArray<number>
  /** Since when there was always somebody in the group of leaders, on the engine's clock. */
  readonly began: number
}

/** What a member says about itself. */
export interface Report {
  readonly member: string
  readonly text: string
  /** When it was said, in milliseconds since 1970 on the engine's clock. */
  readonly at: number
}

/** `Past`: it was claimed before and is done, or a later one was. `Fenced`: the epoch is not the leader's. */
export type TickClaim = "Claimed" | "Past" | "Fenced"

export class Coordinator extends Context.Service<
  Coordinator,
  {
    sync(request: Sync): Effect.Effect<Statement, EngineError | MemberReplaced>
    /** Give everything back and go; does nothing for an incarnation that was replaced. */
    leave(member: string, incarnation: string): Effect.Effect<void, EngineError>
    /** Something changed for this member: sync now. A hint; nothing depends on it. */
    wakes(member: string): Stream.Stream<void, EngineError>
    /** Keep owners, hand out nothing, for the whole cluster. */
    pause(processor: string, paused: boolean): Effect.Effect<void, EngineError>
    /**
     * Put a partition of ours aside for the whole cluster and give it back, in one: it leaves the targets until it is
     * released. Does nothing if the epoch is not the one in the books, or it is aside already.
     */
    quarantine(grant: Grant, member: string, entry: Quarantine): Effect.Effect<void, EngineError>
    /** What is put aside, by partition; it stays so through restarts. The error text is cut at 2,000 characters. */
    quarantined(processor: string): Effect.Effect<ReadonlyArray<Quarantined>, EngineError>
    /** Put a partition back into the targets, and wake those concerned; false if it is not aside. */
    release(processor: string, partition: number): Effect.Effect<boolean, EngineError>
    group(processor: string): Effect.Effect<Group, EngineError>
    /**
     * For operations on a stopped or paused processor (seek, remove), or on a quarantined partition (skip): a new epoch for
     * one partition, taken from its owner if it has one and the processor is paused. `undefined`: it runs unpaused.
     */
    takeEpoch(processor: string, partition: number): Effect.Effect<bigint | undefined, EngineError>
    /** Forget a group without members, what is put aside included; false if it has some. */
    removeGroup(processor: string): Effect.Effect<boolean, EngineError>
    /**
     * Become the leader of a schedule: everything open is claimed by this epoch from now on. A schedule that is new begins
     * at `from`. `undefined`: the epoch is not the leader's.
     */
    takeTicks(schedule: string, epoch: bigint, from: number): Effect.Effect<TakenTicks | undefined, EngineError>
    /**
     * Claim a tick above the last one; `done`: without being open. A claim that is open already under this epoch is
     * answered the same again, so it may be sent again.
     */
    claimTick(schedule: string, tick: number, epoch: bigint, done: boolean): Effect.Effect<TickClaim, EngineError>
    /** A claimed tick is done. Does nothing if it is not open under this epoch. */
    finishTick(schedule: string, tick: number, epoch: bigint): Effect.Effect<void, EngineError>
    /** Every schedule that a leader has taken, by name. */
    ticks(): Effect.Effect<ReadonlyArray<Ticks>, EngineError>
    /** Say something about oneself, in place of what was said before; forgotten after so many milliseconds, 0: at once. */
    report(member: string, text: string, millis: number): Effect.Effect<void, EngineError>
    /** What members say that is not forgotten, by name. */
    reports(): Effect.Effect<ReadonlyArray<Report>, EngineError>
  }
>()("millrace/Coordinator") {}
