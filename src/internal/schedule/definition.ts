/** What a schedule is, whatever its types: made by `Scheduler`, run by the worker. */
import { Context, type DateTime, type Effect } from "effect"
import type { Common } from "../run/definition.ts"
import type { Timing } from "./timing.ts"

/** The tick that an effect runs for: a service of the effect. */
export interface Ticked {
  /** `<schedule>@<tick>`: the same whenever and wherever this tick runs, and of no other tick. */
  readonly id: string
  readonly schedule: string
  /** When it was due, in milliseconds since 1970: rises from tick to tick. */
  readonly tick: number
  readonly due: DateTime.Utc
  /** A leader before has begun it, and it was cut short. */
  readonly again: boolean
}

export class Tick extends Context.Service<Tick, Ticked>()("millrace/Tick") {}

export interface Definition extends Common {
  readonly kind: "task" | "timer" | "cron"
  readonly timing: Timing
  readonly onLeader: boolean
  readonly overlap: "skip" | "allow"
  readonly catchUp: boolean
  readonly rerun: boolean
  // The worker gives it what it needs before it runs.
  readonly effect: Effect.Effect<unknown, unknown>
}

/** Whether a part is a schedule. */
export const isSchedule = <P extends { readonly definition: Common }>(
  part: P
): part is P & { readonly definition: Definition } => "timing" in part.definition
