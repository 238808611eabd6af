/** One at a time, for a partition whose owners have died: waits until the next event may be handed out, by `Caution`. */
import { Effect } from "effect"
import { cannotPark } from "./definition.ts"
import type { Setup } from "./runner.ts"

/** A pipeline may hold its event until more come. */
const patience = "10 seconds"

/**
 * What to wait for, and then look again, before the first event of this lane is handed out, or the next one that was read
 * (`undefined`). Nothing: it may go now. `"later"`: something else goes first.
 */
export const alone = (setup: Setup, lane: string | undefined): Effect.Effect<void> | "later" | undefined => {
  const { definition, partition } = setup
  const { caution } = partition
  if (caution === undefined) return undefined
  const { parking, taken } = partition
  // What waits for room is not being handled; it may be this very lane that it waits for.
  const isFree = taken === (lane === undefined ? 0 : parking.heldUp) && parking.busy === 0
  if (!isFree || !partition.clean) {
    if (isFree) return setup.flush
    // Whatever gathers or holds events cannot park them either.
    const landing = partition.landing()
    if (cannotPark(definition) === undefined) return landing
    const trust = Effect.map(Effect.sleep(patience), () => partition.trust())
    return Effect.raceFirst(landing, trust)
  }
  if (caution.lifted) return undefined
  if (caution.suspect !== undefined && caution.suspect.lane !== lane) return "later"
  return caution.marked ? undefined : setup.mark
}
