/** Whether jobs of some names wait or run, here or elsewhere: what a worker that is to come to rest asks. */
import { Effect } from "effect"
import type { JobStore } from "../../JobStore.ts"

/** An engine that does not answer has not said that there are none. */
export const isBehind = (store: JobStore["Service"], queue: string, names: Iterable<string>): Effect.Effect<boolean> =>
  Effect.gen(function* () {
    for (const name of names) {
      for (const state of ["ready", "active"] as const) {
        for (let cursor: string | undefined = ""; cursor !== undefined; ) {
          const page: { readonly items: ReadonlyArray<unknown>; readonly next: string | undefined } = yield* store.list(
            queue,
            state,
            { name, cursor }
          )
          if (page.items.length > 0) return true
          cursor = page.next
        }
      }
    }
    return false
  }).pipe(Effect.orElseSucceed(() => true))
