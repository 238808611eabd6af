/** What a seed decides of a chaos round. */
import { assert, describe, it } from "@effect/vitest"
import { type EngineName, planOf, describe as text } from "./rounds/plan.ts"

const seeds = Array.from({ length: 200 }, (_, i) => i + 1)
const tagsOf = (engine: EngineName): ReadonlyArray<string> =>
  [...new Set(seeds.flatMap((seed) => planOf(seed, engine).faults.map(({ fault }) => fault._tag)))].toSorted()

const ofProcesses = ["Kill", "KillPublisher", "Pause", "Replace", "Restart", "RestartAll"]

describe("the plan of a round", () => {
  it("is the same for the same seed, and another for the next", () => {
    assert.deepStrictEqual(planOf(7, "redis"), planOf(7, "redis"))
    assert.notDeepEqual(planOf(7, "redis").faults, planOf(8, "redis").faults)
  })

  it("has every fault of its engine, over 200 seeds", () => {
    assert.deepStrictEqual(tagsOf("file"), [...ofProcesses, "Lock"].toSorted())
    const ofNetwork = ["Cut", "CutAfter", "Hold", "LoseAnswers", "Slow"]
    assert.deepStrictEqual(tagsOf("redis"), [...ofProcesses, ...ofNetwork, "ServerRestart"].toSorted())
  })

  it("has faults in order, for members that are there, and tells each in words", () => {
    for (const seed of seeds) {
      const { faults, millis, publishers, workers } = planOf(seed, "redis")
      assert.isTrue(workers.length >= 2 && workers.length <= 4)
      faults.forEach(({ at, fault }, i) => {
        assert.isTrue(at < millis && at >= (faults[i - 1]?.at ?? 0))
        if ("worker" in fault) assert.isDefined(workers[fault.worker])
        if ("publisher" in fault) assert.isDefined(publishers[fault.publisher])
        if (fault._tag === "Replace") assert.isDefined(workers[fault.worker]?.member, "only a name can be taken over")
        assert.isTrue(text(fault).startsWith(fault._tag))
      })
    }
  })
})
