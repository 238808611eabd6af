/** The laws of ownership, part four: the ticks of the leader's schedules, each claimed once through changes of leader. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { type Coordinator, leaderGroup } from "../../Coordinator.ts"
import { Choices } from "../../testing/choices.ts"
import type { Chosen } from "../suite.ts"
import { FakeMember } from "./fakeMember.ts"
import { type Law, slow } from "./support.ts"

const leading = { [leaderGroup]: 1 }
const key = `${leaderGroup}/0`

const member = (coordinator: Coordinator["Service"], name: string): FakeMember =>
  new FakeMember(coordinator, name, leading, slow)

/** Leads, and with which epoch. */
const lead = (one: FakeMember) => Effect.map(one.sync(), () => one.grant(key).epoch)

const epochOf = (tick: number, epoch: bigint) => ({ tick, epoch })

export const ticks = (law: Law, options: Chosen): void => {
  claims(law)
  leaders(law)
  lives(law, options)
  randomTicks(law, options)
}

const claims = (law: Law): void => {
  law("a tick is due, claimed, and done: each above the last is claimed once", (coordinator) =>
    Effect.gen(function* () {
      const epoch = yield* lead(member(coordinator, "a"))
      assert.deepInclude(yield* coordinator.takeTicks("s", epoch, 100), { last: 100, open: [] })
      assert.deepStrictEqual(yield* coordinator.ticks(), [{ schedule: "s", last: 100, open: [] }])
      assert.strictEqual(yield* coordinator.claimTick("s", 100, epoch, false), "Past")
      assert.strictEqual(yield* coordinator.claimTick("s", 150, epoch, false), "Claimed")
      assert.strictEqual(yield* coordinator.claimTick("s", 200, epoch, false), "Claimed")
      assert.strictEqual(yield* coordinator.claimTick("s", 149, epoch, false), "Past")
      const open = [epochOf(150, epoch), epochOf(200, epoch)]
      assert.deepStrictEqual(yield* coordinator.ticks(), [{ schedule: "s", last: 200, open }])
      yield* coordinator.finishTick("s", 150, epoch)
      assert.strictEqual(yield* coordinator.claimTick("s", 150, epoch, false), "Past")
      yield* coordinator.finishTick("s", 200, epoch)
      assert.deepStrictEqual(yield* coordinator.ticks(), [{ schedule: "s", last: 200, open: [] }])
      assert.deepInclude(yield* coordinator.takeTicks("s", epoch, 900), { last: 200, open: [] })
    })
  )

  law("claims, takings and endings whose answer was lost may be sent again", (coordinator) =>
    Effect.gen(function* () {
      const epoch = yield* lead(member(coordinator, "a"))
      const first = yield* coordinator.takeTicks("s", epoch, 5)
      assert.deepStrictEqual(yield* coordinator.takeTicks("s", epoch, 7), first)
      assert.strictEqual(yield* coordinator.claimTick("s", 10, epoch, false), "Claimed")
      assert.strictEqual(yield* coordinator.claimTick("s", 10, epoch, false), "Claimed")
      assert.strictEqual(yield* coordinator.claimTick("s", 11, epoch, true), "Claimed")
      assert.strictEqual(yield* coordinator.claimTick("s", 10, epoch, false), "Claimed")
      yield* coordinator.finishTick("s", 10, epoch)
      yield* coordinator.finishTick("s", 10, epoch)
      // A late duplicate opens nothing again.
      assert.strictEqual(yield* coordinator.claimTick("s", 10, epoch, false), "Past")
      assert.deepStrictEqual(yield* coordinator.ticks(), [{ schedule: "s", last: 11, open: [] }])
    })
  )

  law("a tick that is claimed as done is never open", (coordinator) =>
    Effect.gen(function* () {
      const epoch = yield* lead(member(coordinator, "a"))
      yield* coordinator.takeTicks("s", epoch, 0)
      assert.strictEqual(yield* coordinator.claimTick("s", 1_700_000_000_000, epoch, true), "Claimed")
      assert.deepStrictEqual(yield* coordinator.ticks(), [{ schedule: "s", last: 1_700_000_000_000, open: [] }])
      assert.strictEqual(yield* coordinator.claimTick("s", 1_700_000_000_000, epoch, false), "Past")
    })
  )

  law("schedules know nothing of each other", (coordinator) =>
    Effect.gen(function* () {
      const epoch = yield* lead(member(coordinator, "a"))
      yield* coordinator.takeTicks("s", epoch, 0)
      yield* coordinator.takeTicks("s.b", epoch, 50)
      yield* coordinator.claimTick("s", 10, epoch, false)
      yield* coordinator.claimTick("s.b", 60, epoch, false)
      yield* coordinator.finishTick("s", 60, epoch)
      assert.deepStrictEqual(yield* coordinator.ticks(), [
        { schedule: "s", last: 10, open: [epochOf(10, epoch)] },
        { schedule: "s.b", last: 60, open: [epochOf(60, epoch)] }
      ])
    })
  )

  law("of many open ticks each is ended by itself", (coordinator) =>
    Effect.gen(function* () {
      const epoch = yield* lead(member(coordinator, "a"))
      yield* coordinator.takeTicks("s", epoch, 0)
      const all = Array.from({ length: 120 }, (_, i) => i + 1)
      for (const tick of all) yield* coordinator.claimTick("s", tick, epoch, false)
      for (const tick of all) if (tick % 11 !== 0) yield* coordinator.finishTick("s", tick, epoch)
      const taken = yield* coordinator.takeTicks("s", epoch, 0)
      assert.deepStrictEqual(taken?.open, [11, 22, 33, 44, 55, 66, 77, 88, 99, 110])
    })
  )
}

const leaders = (law: Law): void => {
  law("after its epoch was given back, nothing of an old leader is accepted", (coordinator) =>
    Effect.gen(function* () {
      const a = member(coordinator, "a")
      const old = yield* lead(a)
      yield* coordinator.takeTicks("s", old, 0)
      yield* coordinator.claimTick("s", 10, old, false)
      yield* a.leave
      assert.strictEqual(yield* coordinator.claimTick("s", 20, old, false), "Fenced")
      assert.isUndefined(yield* coordinator.takeTicks("s", old, 0))
      const epoch = yield* lead(member(coordinator, "b"))
      assert.isTrue(epoch > old)
      assert.strictEqual(yield* coordinator.claimTick("s", 20, old, false), "Fenced")
      assert.strictEqual(yield* coordinator.claimTick("s", 10, old, false), "Fenced")
      assert.isUndefined(yield* coordinator.takeTicks("s", old, 0))
      assert.deepStrictEqual(yield* coordinator.ticks(), [{ schedule: "s", last: 10, open: [epochOf(10, old)] }])
    })
  )

  law("a new leader takes over what is open, and the old one cannot end it any more", (coordinator) =>
    Effect.gen(function* () {
      const a = member(coordinator, "a")
      const old = yield* lead(a)
      yield* coordinator.takeTicks("s", old, 0)
      for (const tick of [30, 40, 100]) yield* coordinator.claimTick("s", tick, old, false)
      yield* a.leave
      const epoch = yield* lead(member(coordinator, "b"))
      // The last word of the old one is still in time for this one.
      yield* coordinator.finishTick("s", 40, old)
      assert.deepInclude(yield* coordinator.takeTicks("s", epoch, 500), { last: 100, open: [30, 100] })
      yield* coordinator.finishTick("s", 30, old)
      const open = [epochOf(30, epoch), epochOf(100, epoch)]
      assert.deepStrictEqual(yield* coordinator.ticks(), [{ schedule: "s", last: 100, open }])
      assert.strictEqual(yield* coordinator.claimTick("s", 100, epoch, false), "Claimed")
      yield* coordinator.finishTick("s", 30, epoch)
      yield* coordinator.finishTick("s", 100, epoch)
      assert.strictEqual(yield* coordinator.claimTick("s", 101, epoch, false), "Claimed")
    })
  )

  law("an epoch of nobody, of another group, or of the future claims nothing", (coordinator) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* coordinator.claimTick("s", 1, 1n, false), "Fenced")
      const a = new FakeMember(coordinator, "a", { ...leading, g: 1 }, slow)
      yield* a.sync()
      const epoch = a.grant(key).epoch
      assert.strictEqual(yield* coordinator.claimTick("s", 1, epoch + 1n, false), "Fenced")
      assert.strictEqual(yield* coordinator.claimTick("s", 1, epoch - 1n, false), "Fenced")
      yield* a.sync({ released: [a.grant("g/0")] })
      const other = a.grant("g/0").epoch
      if (other !== epoch) assert.strictEqual(yield* coordinator.claimTick("s", 1, other, false), "Fenced")
      yield* a.sync({ released: [a.grant(key)] })
      assert.strictEqual(yield* coordinator.claimTick("s", 1, epoch, false), "Fenced")
      assert.deepStrictEqual(yield* coordinator.ticks(), [])
    })
  )

  law("a new start under a known name leads with a new epoch", (coordinator) =>
    Effect.gen(function* () {
      const old = yield* lead(member(coordinator, "a"))
      yield* coordinator.takeTicks("s", old, 0)
      const again = new FakeMember(coordinator, "a", leading, slow, "a-2")
      const epoch = yield* lead(again)
      assert.isTrue(epoch > old)
      assert.strictEqual(yield* coordinator.claimTick("s", 1, old, false), "Fenced")
      assert.strictEqual(yield* coordinator.claimTick("s", 1, epoch, false), "Claimed")
    })
  )
}

const lives = (law: Law, { elapse }: Chosen): void => {
  const beganOf = (coordinator: Coordinator["Service"], epoch: bigint) =>
    Effect.map(coordinator.takeTicks("s", epoch, 0), (taken) => taken?.began ?? assert.fail("fenced"))

  law("the group begins anew when all have left, and not while there is one", (coordinator) =>
    Effect.gen(function* () {
      const [a, b, c] = [member(coordinator, "a"), member(coordinator, "b"), member(coordinator, "c")]
      const began = yield* beganOf(coordinator, yield* lead(a))
      assert.isAbove(began, 0)
      yield* elapse(5)
      yield* b.sync()
      yield* a.leave
      assert.strictEqual(yield* beganOf(coordinator, yield* lead(b)), began)
      yield* c.sync()
      yield* b.leave
      assert.strictEqual(yield* beganOf(coordinator, yield* lead(c)), began)
      yield* c.leave
      const later = yield* beganOf(coordinator, yield* lead(member(coordinator, "d")))
      assert.isTrue(later > began, `${later} is not above ${began}`)
    })
  )

  law(
    "the group begins anew when its only member's lease has ended, and not when it comes back in time",
    (coordinator) =>
      Effect.gen(function* () {
        const a = new FakeMember(coordinator, "a", leading, { lease: 300, settle: 5 })
        const began = yield* beganOf(coordinator, yield* lead(a))
        yield* elapse(350)
        // Its lease has ended, but nobody has taken its place.
        assert.strictEqual(yield* beganOf(coordinator, yield* lead(a)), began)
        yield* elapse(350)
        assert.isTrue((yield* beganOf(coordinator, yield* lead(member(coordinator, "b")))) > began)
      })
  )
}

/** Leaders come and go in the middle of everything; whatever they claim is written down. */
const randomTicks = (law: Law, { seeds }: Chosen): void => {
  for (let seed = 1; seed <= seeds; seed++) {
    law(`through changes of leader each tick is claimed once and none is left out (seed ${seed})`, (coordinator) =>
      Effect.gen(function* () {
        const random = new Choices(seed)
        const claimed = new Map<number, number>()
        const done = new Set<number>()
        let leader = member(coordinator, "0")
        let epoch = yield* lead(leader)
        let taken = (yield* coordinator.takeTicks("s", epoch, 0)) ?? assert.fail("fenced")
        let last = taken.last
        for (let step = 1; step <= 60; step++) {
          const chance = random.below(100)
          if (chance < 15) {
            const next = member(coordinator, String(step))
            if (random.chance(0.5)) yield* next.sync()
            yield* leader.leave
            assert.strictEqual(yield* coordinator.claimTick("s", last + 1, epoch, false), "Fenced")
            ;[leader, epoch] = [next, yield* lead(next)]
            taken = (yield* coordinator.takeTicks("s", epoch, 0)) ?? assert.fail("fenced")
            assert.isTrue(taken.last === last || taken.last === last + 1)
            // A claim whose answer never came.
            if (taken.last === last + 1) claimed.set(last + 1, 1)
            last = taken.last
            const open = [...claimed.keys()].filter((tick) => !done.has(tick)).sort((a, b) => a - b)
            assert.deepStrictEqual(taken.open, open)
          } else if (chance < 70) {
            const answer = yield* coordinator.claimTick("s", last + 1, epoch, false)
            assert.strictEqual(answer, "Claimed")
            // Some answers are lost, and the question is put again, or the leader dies before that.
            if (random.chance(0.3)) continue
            if (!claimed.has(last + 1)) claimed.set(last + 1, 1)
            last++
          } else {
            const open = [...claimed.keys()].filter((tick) => !done.has(tick))
            if (open.length === 0) continue
            const tick = random.pick(open)
            yield* coordinator.finishTick("s", tick, epoch)
            done.add(tick)
          }
        }
        assert.deepStrictEqual(
          [...claimed.keys()],
          Array.from({ length: last }, (_, i) => i + 1)
        )
      })
    )
  }
}
