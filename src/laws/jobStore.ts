/** The laws of the job store: what every engine keeps. Each law has a queue of its own, so they may share an engine. */
import type { JobStore } from "../JobStore.ts"
import { basicLaws } from "./jobStore/basic.ts"
import { followUpLaws } from "./jobStore/followUps.ts"
import { groupLaws } from "./jobStore/groups.ts"
import { rareLaws } from "./jobStore/rare.ts"
import { recurrenceLaws } from "./jobStore/recurrences.ts"
import { sessionLaws } from "./jobStore/sessions.ts"
import { suite } from "./suite.ts"

export const jobStoreLaws = suite<JobStore>("job store", (laws) => {
  basicLaws(laws)
  sessionLaws(laws)
  groupLaws(laws)
  rareLaws(laws)
  recurrenceLaws(laws)
  followUpLaws(laws)
})
