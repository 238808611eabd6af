/**
 * The signals that come in for the runs of one probe, by the ids of the runs. One that comes before anybody waits for it
 * is kept: of runs that real traffic begins, the signals may be here before the run is.
 */
import { Effect } from "effect"

/** Runs whose signals are remembered; they come from outside. */
const mostRuns = 10_000

export class Board<A> {
  private readonly known = new Map<string, Map<string, A>>()
  private readonly waiting = new Map<string, Set<(value: A) => void>>()

  post(id: string, signal: string, value: A): void {
    let its = this.known.get(id)
    if (its === undefined) {
      const oldest = this.known.keys().next()
      if (this.known.size >= mostRuns && oldest.done !== true) this.known.delete(oldest.value)
      this.known.set(id, (its = new Map()))
    }
    // The first one counts: what is delivered again says nothing new.
    if (!its.has(signal)) its.set(signal, value)
    for (const resume of this.waiting.get(keyOf(id, signal)) ?? []) resume(value)
  }

  wait(id: string, signal: string): Effect.Effect<A> {
    return Effect.callback<A>((resume) => {
      const its = this.known.get(id)
      if (its?.has(signal) === true) return resume(Effect.succeed(its.get(signal)!))
      const key = keyOf(id, signal)
      const waiting = this.waiting.get(key) ?? new Set()
      this.waiting.set(key, waiting)
      const told = (value: A): void => resume(Effect.succeed(value))
      waiting.add(told)
      return Effect.sync(() => {
        waiting.delete(told)
        if (waiting.size === 0) this.waiting.delete(key)
      })
    })
  }

  /** Its run is over. */
  forget(id: string): void {
    this.known.delete(id)
  }
}

const keyOf = (id: string, signal: string): string => JSON.stringify([id, signal])
