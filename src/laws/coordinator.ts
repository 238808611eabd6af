/**
 * The laws of ownership, for every engine. Each law has books of its own (the layer is built anew), since the rule about
 * an absent server looks at all members. Times are in the engine's clock: `elapse` lets it pass.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Coordinator } from "../Coordinator.ts"
import { operations, settling, starts, waking } from "./coordinator/changes.ts"
import { FakeMember, keyOf } from "./coordinator/fakeMember.ts"
import { quarantines } from "./coordinator/quarantine.ts"
import { reports } from "./coordinator/reports.ts"
import { randomSchedules } from "./coordinator/schedules.ts"
import { assertKept, epochsOf, type Law, lease, quiet, settle, sizes, slow, timing } from "./coordinator/support.ts"
import { ticks } from "./coordinator/ticks.ts"
import { chosen, type Elapse, type Suite } from "./suite.ts"

export const coordinatorLaws: Suite<Coordinator> = (name, layer, options) => {
  const its = chosen(options)
  const { elapse, live } = its
  const law: Law = (sentence, body) => {
    const run = () => Coordinator.use(body).pipe(Effect.provide(layer))
    // Live laws mostly wait: side by side they take far less time.
    if (live) it.live(sentence, run)
    else it.effect(sentence, run)
  }
  describe(`coordinator laws: ${name}`, { concurrent: live }, () => {
    assignment(law, elapse)
    answers(law)
    leases(law, elapse)
    starts(law, elapse)
    settling(law, elapse)
    operations(law)
    waking(law, elapse)
    quarantines(law, elapse)
    ticks(law, its)
    reports(law, its)
    randomSchedules(law, its)
  })
}

const assignment = (law: Law, elapse: Elapse): void => {
  law("the first member gets everything at once", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 16, h: 3 }, slow)
      const statement = yield* a.sync()
      assert.deepStrictEqual(sizes(a), [19])
      assert.isTrue(statement.mine!.every((owned) => owned.epoch > 0n && !owned.giveUp && !owned.paused))
      const epochs = statement.mine!.filter((owned) => owned.processor === "g").map((owned) => owned.epoch)
      assert.strictEqual(new Set(epochs).size, 16)
    })
  )

  law(
    "through joins and leaves members differ by at most one, and what need not move keeps its owner and epoch",
    (coordinator) =>
      Effect.gen(function* () {
        const [a, b, c] = ["a", "b", "c"].map((name) => new FakeMember(coordinator, name, { g: 16 }, timing)) as [
          FakeMember,
          FakeMember,
          FakeMember
        ]
        yield* quiet([a], elapse)
        const alone = epochsOf(a.running.values())
        yield* quiet([a, b], elapse)
        assert.deepStrictEqual(sizes(a, b), [8, 8])
        assertKept(alone, a)
        const before = [a, b].map((member) => epochsOf(member.running.values()))
        yield* quiet([a, b, c], elapse)
        assert.deepStrictEqual([...sizes(a, b, c)].sort(), [5, 5, 6])
        assert.isTrue(a.keys.every((key) => before[0]!.has(key)) && b.keys.every((key) => before[1]!.has(key)))
        assertKept(before[0]!, a)
        assertKept(before[1]!, b)
        const then = [a, c].map((member) => epochsOf(member.running.values()))
        yield* b.leave
        yield* quiet([a, c], elapse)
        assert.deepStrictEqual(sizes(a, c), [8, 8])
        assert.isTrue([...then[0]!.keys()].every((key) => a.running.has(key)))
        assert.isTrue([...then[1]!.keys()].every((key) => c.running.has(key)))
        assertKept(then[0]!, a)
        assertKept(then[1]!, c)
      })
  )

  law(
    "what is to be given up is granted to nobody before its release, and then at once with a higher epoch",
    (coordinator) =>
      Effect.gen(function* () {
        const a = new FakeMember(coordinator, "a", { g: 4 }, timing)
        const b = new FakeMember(coordinator, "b", { g: 4 }, timing)
        yield* a.sync()
        yield* b.sync()
        yield* elapse(settle + 5)
        yield* b.sync()
        const { mine } = yield* a.sync()
        const wanted = mine!.filter((owned) => owned.giveUp)
        assert.strictEqual(wanted.length, 2)
        assert.deepStrictEqual((yield* b.sync()).mine ?? [], [])
        yield* a.sync({ released: [] })
        assert.deepStrictEqual((yield* b.sync()).mine ?? [], [])
        yield* a.sync({ released: [wanted[0]!] })
        yield* b.sync()
        assert.deepStrictEqual(b.keys, [keyOf(wanted[0]!)])
        assert.isTrue(b.grant(keyOf(wanted[0]!)).epoch > wanted[0]!.epoch)
      })
  )

  law("with more members than partitions, some own one and the others none", (coordinator) =>
    Effect.gen(function* () {
      const members = Array.from({ length: 5 }, (_, i) => new FakeMember(coordinator, `m${i}`, { g: 3 }, timing))
      yield* quiet(members, elapse)
      assert.deepStrictEqual([...sizes(...members)].sort(), [0, 0, 1, 1, 1])
    })
  )

  law("another partition count than the stored one is refused with both counts, and changes nothing", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 4 }, slow)
      yield* a.sync()
      const error = yield* Effect.flip(new FakeMember(coordinator, "b", { g: 8 }, slow).sync())
      assert.strictEqual(error._tag === "EngineError" && error.reason, "Refused")
      assert.include(error.message, "4 partitions")
      assert.include(error.message, "8")
      assert.deepStrictEqual((yield* coordinator.group("g")).members, ["a"])
    })
  )
}

const answers = (law: Law): void => {
  law("a sync by which nothing of the member changed is answered by the number alone", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 4 }, slow)
      const first = yield* a.sync()
      const second = yield* a.sync()
      assert.deepStrictEqual([second.number, second.mine], [first.number, undefined])
      assert.isAtMost(second.next, slow.lease / 3 + 100)
    })
  )

  law("a lost answer is repaired: the next sync gives the whole statement, with the same epochs", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 4 }, slow)
      const lost = yield* a.syncLost()
      const again = yield* a.sync()
      assert.deepStrictEqual(epochsOf(again.mine!), epochsOf(lost.mine!))
      assert.strictEqual(again.mine!.length, 4)
      yield* coordinator.leave("nobody", "x")
      assert.strictEqual((yield* a.sync()).mine, undefined)
    })
  )

  law("a release whose answer was lost may be sent again, and the grant that came of it stands", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 2 }, slow)
      yield* a.sync()
      const old = a.grant("g/1")
      const lost = yield* a.syncLost({ released: [old] })
      yield* a.sync({ released: [old] })
      assert.isTrue(a.grant("g/1").epoch > old.epoch)
      assert.deepStrictEqual(epochsOf(a.running.values()), epochsOf(lost.mine!))
    })
  )

  law("a late duplicate of a release, with an old epoch, does nothing", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 2 }, slow)
      yield* a.sync()
      const old = a.grant("g/0")
      yield* a.sync({ released: [old] })
      const granted = a.grant("g/0")
      assert.isTrue(granted.epoch > old.epoch)
      assert.strictEqual((yield* a.sync({ released: [old] })).mine, undefined)
      assert.deepStrictEqual((yield* coordinator.group("g")).owners[0], { member: "a", epoch: granted.epoch })
      const foreign = { ...granted, processor: "other" }
      assert.strictEqual((yield* a.sync({ released: [foreign] })).mine, undefined)
    })
  )

  law("a release names what its sender owns: that of another member does nothing", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 2 }, slow)
      yield* a.sync()
      const b = new FakeMember(coordinator, "b", { g: 2 }, slow)
      yield* b.sync({ released: [a.grant("g/0")], refused: [a.grant("g/1")] })
      assert.deepStrictEqual(
        (yield* coordinator.group("g")).owners.map((owner) => owner?.member),
        ["a", "a"]
      )
    })
  )

  law(
    "a refused epoch is granted anew above the one in force, and a late repeat of the refusal does nothing",
    (coordinator) =>
      Effect.gen(function* () {
        const a = new FakeMember(coordinator, "a", { g: 2 }, slow)
        yield* a.sync()
        const old = a.grant("g/0")
        const other = a.grant("g/1")
        const refused = [{ ...old, epoch: old.epoch + 1_000_000n }]
        yield* a.sync({ released: [old], refused })
        const granted = a.grant("g/0")
        assert.isTrue(granted.epoch > refused[0]!.epoch)
        assert.strictEqual(a.grant("g/1").epoch, other.epoch)
        assert.strictEqual((yield* a.sync({ refused })).mine, undefined)
        yield* a.sync({ refused: [granted] })
        assert.isTrue(a.grant("g/0").epoch > granted.epoch)
      })
  )
}

const leases = (law: Law, elapse: Elapse): void => {
  law("a member that stops syncing loses everything when its lease has ended, and not before", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 4 }, timing)
      const b = new FakeMember(coordinator, "b", { g: 4 }, timing)
      yield* quiet([a, b], elapse)
      yield* a.sync()
      yield* elapse(lease * 0.8)
      yield* b.sync()
      assert.deepStrictEqual((yield* coordinator.group("g")).members, ["a", "b"])
      assert.isAtMost(b.next, lease * 0.2 + 100, "the end of another's lease is earlier than a third of one's own")
      yield* elapse(lease * 0.2 + 5)
      yield* b.sync()
      assert.deepStrictEqual((yield* coordinator.group("g")).members, ["b"])
      yield* quiet([b], elapse)
      assert.deepStrictEqual(sizes(b), [4])
      const { mine } = yield* a.sync()
      assert.deepStrictEqual(mine, [])
    })
  )

  law("what a dead member had in groups that no survivor runs is free all the same", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 2 }, timing)
      const b = new FakeMember(coordinator, "b", { g: 2, h: 2, i: 2 }, timing)
      const c = new FakeMember(coordinator, "c", { i: 2 }, timing)
      yield* quiet([a, b, c], elapse)
      yield* elapse(lease / 2)
      yield* a.sync()
      yield* c.sync()
      yield* elapse(lease / 2 + 5)
      yield* a.sync()
      assert.deepStrictEqual((yield* coordinator.group("h")).owners, [undefined, undefined])
      assert.deepStrictEqual((yield* coordinator.group("i")).members, ["c"])
      yield* quiet([a, c], elapse)
      assert.deepStrictEqual(sizes(a, c), [2, 2])
    })
  )

  law("one that comes after a death of the only member gets everything at once", (coordinator) =>
    Effect.gen(function* () {
      yield* new FakeMember(coordinator, "a", { g: 4 }, { lease: 100, settle: 50 }).sync()
      yield* elapse(105)
      const b = new FakeMember(coordinator, "b", { g: 4 }, slow)
      yield* b.sync()
      assert.deepStrictEqual(sizes(b), [4])
    })
  )

  law(
    "when more than half of the leases ended at once, the server was away: nobody is dropped for a third of a lease",
    (coordinator) =>
      Effect.gen(function* () {
        const [a, b, c] = ["a", "b", "c"].map((name) => new FakeMember(coordinator, name, { g: 6 }, timing)) as [
          FakeMember,
          FakeMember,
          FakeMember
        ]
        yield* quiet([a, b, c], elapse)
        const epochs = epochsOf([...a.running.values(), ...b.running.values()])
        yield* elapse(lease + 5)
        yield* a.sync()
        assert.deepStrictEqual((yield* coordinator.group("g")).members, ["a", "b", "c"])
        assert.isAtMost(a.next, lease / 3 + 100)
        yield* b.sync()
        yield* elapse(lease / 3 + 5)
        yield* a.sync()
        assert.deepStrictEqual((yield* coordinator.group("g")).members, ["a", "b"])
        yield* quiet([a, b], elapse)
        assert.deepStrictEqual(sizes(a, b), [3, 3])
        assertKept(epochs, a)
        assertKept(epochs, b)
      })
  )

  law("those who do not come back in that time are dropped, however many", (coordinator) =>
    Effect.gen(function* () {
      const members = ["a", "b", "c", "d"].map((name) => new FakeMember(coordinator, name, { g: 4 }, timing))
      yield* quiet(members, elapse)
      yield* elapse(lease + 5)
      const survivor = members[0]!
      yield* survivor.sync()
      assert.strictEqual((yield* coordinator.group("g")).members.length, 4)
      yield* elapse(lease / 3 + 5)
      yield* survivor.sync()
      assert.deepStrictEqual((yield* coordinator.group("g")).members, ["a"])
      yield* quiet([survivor], elapse)
      assert.deepStrictEqual(sizes(survivor), [4])
    })
  )

  law("what was to be given up is kept when the one who was to have it dies", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 4 }, slow)
      const b = new FakeMember(coordinator, "b", { g: 4 }, { lease: 400, settle: 5 })
      yield* a.sync()
      const before = epochsOf(a.running.values())
      yield* b.sync()
      yield* elapse(10)
      yield* a.sync()
      assert.strictEqual(a.release.length, 2)
      yield* elapse(400)
      const { mine } = yield* a.sync({ released: [] })
      assert.isTrue(mine?.every((owned) => !owned.giveUp))
      assert.deepStrictEqual(epochsOf(mine!), before)
    })
  )

  law("two that come back in time after an absence of the server keep all they had", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 4 }, timing)
      const b = new FakeMember(coordinator, "b", { g: 4 }, timing)
      yield* quiet([a, b], elapse)
      for (let outage = 0; outage < 2; outage++) {
        yield* elapse(lease + 5)
        yield* a.sync()
        yield* b.sync()
        assert.deepStrictEqual((yield* coordinator.group("g")).members, ["a", "b"], `outage ${outage}`)
        yield* elapse(lease / 3 + 5)
        yield* quiet([a, b], elapse)
      }
      assert.deepStrictEqual(sizes(a, b), [2, 2])
    })
  )
}
