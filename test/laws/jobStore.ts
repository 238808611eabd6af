/** The laws of the job store: what every engine keeps. Each law has a queue of its own, so they may share an engine. */
import { it } from "@effect/vitest"
import { Effect, type Layer } from "effect"
import { TestClock } from "effect/testing"
import type { JobStore } from "../../src/JobStore.ts"
import { basicLaws } from "./jobStore/basic.ts"
import { followUpLaws } from "./jobStore/followUps.ts"
import { groupLaws } from "./jobStore/groups.ts"
import { rareLaws } from "./jobStore/rare.ts"
import { recurrenceLaws } from "./jobStore/recurrences.ts"
import { sessionLaws } from "./jobStore/sessions.ts"

export const jobStoreLaws = (
  name: string,
  layer: Layer.Layer<JobStore, unknown>,
  options?: { readonly live?: boolean | undefined }
): void => {
  const live = options?.live ?? true
  it.layer(layer, { excludeTestServices: live, timeout: "30 seconds" })(`job store laws: ${name}`, (it) => {
    // A real wait where the engine's clock is a real one.
    const elapse = live ? (millis: number) => Effect.sleep(millis) : (millis: number) => TestClock.adjust(millis)
    const laws = { it, elapse }
    basicLaws(laws)
    sessionLaws(laws)
    groupLaws(laws)
    rareLaws(laws)
    recurrenceLaws(laws)
    followUpLaws(laws)
  })
}
