/**
 * Log lines that may come with every event: the first of a kind is said at once, those within a minute of it are counted,
 * and the next one after that says how many they were. Nothing is lost by it: the metrics count each.
 */
import { Effect } from "effect"

const minute = 60_000
/** Kinds are made of names that users choose. */
const mostKinds = 200

export class Repeats {
  private readonly kinds = new Map<string, { said: number; more: number }>()

  /** How many of this kind were not said since the last one that was; undefined: this one is not said either. */
  ask(kind: string, now: number): number | undefined {
    const known = this.kinds.get(kind)
    if (known !== undefined && now >= known.said && now - known.said < minute) {
      known.more++
      return undefined
    }
    if (known === undefined && this.kinds.size >= mostKinds) this.kinds.clear()
    this.kinds.set(kind, { said: now, more: 0 })
    return known?.more ?? 0
  }

  /** Says it, if it is to be said. */
  say(kind: string, now: number, line: Effect.Effect<void>): Effect.Effect<void> {
    const more = this.ask(kind, now)
    if (more === undefined) return Effect.void
    return more === 0 ? line : Effect.annotateLogs(line, { moreSinceTheLast: more })
  }
}
