/** Who waits for the next commit that is answered. */
import { Effect } from "effect"

export class Landings {
  private readonly all = new Set<() => void>()

  /** Completes with the first one after this call, whenever somebody begins to listen. */
  next(): Effect.Effect<void> {
    let isOver = false
    let listener: (() => void) | undefined
    const land = (): void => {
      isOver = true
      listener?.()
    }
    this.all.add(land)
    return Effect.callback<void>((resume) => {
      if (isOver) return resume(Effect.void)
      listener = () => resume(Effect.void)
      return Effect.sync(() => this.all.delete(land))
    })
  }

  land(): void {
    if (this.all.size === 0) return
    const all = Array.from(this.all)
    this.all.clear()
    for (const land of all) land()
  }
}
