/** What the laws of ownership are written with: their form, their times, and looks at what fake members have. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import type { Coordinator, Owned } from "../../Coordinator.ts"
import type { Elapse } from "../suite.ts"
import { type FakeMember, keyOf, type Timing } from "./fakeMember.ts"

/** Long enough that a busy machine does not end a lease that should last. */
export const lease = 900
export const settle = 30
export const timing: Timing = { lease, settle }
/** For laws in which nothing may be settled by the mere passing of time. */
export const slow: Timing = { lease: 60_000, settle: 20_000 }

export type Law = (
  name: string,
  body: (coordinator: Coordinator["Service"]) => Effect.Effect<void, unknown, never>
) => void

/** Sync everybody until nobody has anything to give up and nothing changes. */
export const quiet = (members: ReadonlyArray<FakeMember>, elapse: Elapse) =>
  Effect.gen(function* () {
    for (let round = 0; round < 20; round++) {
      let changed = false
      for (const member of members) {
        const { mine } = yield* member.sync()
        if (mine !== undefined || member.release.length > 0) changed = true
      }
      if (!changed && round > 1) return
      yield* elapse(settle + 5)
    }
    assert.fail("the books do not come to rest")
  })

export const sizes = (...members: ReadonlyArray<FakeMember>): ReadonlyArray<number> =>
  members.map((member) => member.running.size)

export const epochsOf = (owned: Iterable<Owned>): ReadonlyMap<string, bigint> =>
  new Map([...owned].map((one) => [keyOf(one), one.epoch]))

export const assertKept = (before: ReadonlyMap<string, bigint>, member: FakeMember): void => {
  for (const [key, owned] of member.running) {
    if (before.has(key)) assert.strictEqual(owned.epoch, before.get(key), `${key} of ${member.name} has another epoch`)
  }
}
