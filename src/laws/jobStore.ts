/** The laws of the job store: what every engine keeps. Each law has a queue of its own, so they may share an engine. */
import { it } from "@effect/vitest"
import type { Layer } from "effect"
import type { JobStore } from "../JobStore.ts"
import { basicLaws } from "./jobStore/basic.ts"
import { followUpLaws } from "./jobStore/followUps.ts"
import { groupLaws } from "./jobStore/groups.ts"
import { rareLaws } from "./jobStore/rare.ts"
import { recurrenceLaws } from "./jobStore/recurrences.ts"
import { sessionLaws } from "./jobStore/sessions.ts"
import { chosen, type Options } from "./options.ts"

export const jobStoreLaws = (name: string, layer: Layer.Layer<JobStore, unknown>, options?: Options): void => {
  const { elapse, live } = chosen(options)
  it.layer(layer, { excludeTestServices: live, timeout: "30 seconds" })(`job store laws: ${name}`, (it) => {
    const laws = { it, elapse }
    basicLaws(laws)
    sessionLaws(laws)
    groupLaws(laws)
    rareLaws(laws)
    recurrenceLaws(laws)
    followUpLaws(laws)
  })
}
