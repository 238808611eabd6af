/** How the laws of a port are run: by which clock, and how many of the random ones. */
import { Effect } from "effect"
import { TestClock } from "effect/testing"

export interface Options {
  /** Real time (the default); false runs the laws on the test's clock, for engines that go by Effect's. */
  readonly live?: boolean | undefined
  /** Random schedules of members, of the coordinator's laws: 3 in real time, 40 on the test's clock. */
  readonly seeds?: number | undefined
}

/** Let so many milliseconds pass on the engine's clock. */
export type Elapse = (millis: number) => Effect.Effect<void>

/** With the defaults. */
export const chosen = ({ live = true, seeds = live ? 3 : 40 }: Options = {}) => {
  const elapse: Elapse = live ? (millis) => Effect.sleep(millis) : (millis) => TestClock.adjust(millis)
  return { live, seeds, elapse }
}

export type Chosen = ReturnType<typeof chosen>
