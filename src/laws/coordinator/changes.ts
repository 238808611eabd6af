/** The laws of ownership, part two: new starts and leaves, settling, operations from outside, wakes. */
import { assert } from "@effect/vitest"
import { Effect, Stream } from "effect"
import type { Elapse } from "../suite.ts"
import { FakeMember, type Timing } from "./fakeMember.ts"
import { assertKept, epochsOf, type Law, quiet, settle, sizes, slow, timing } from "./support.ts"

export const starts = (law: Law, elapse: Elapse): void => {
  law(
    "a new start under a known name keeps the partitions with new epochs, and the old one is answered MemberReplaced",
    (coordinator) =>
      Effect.gen(function* () {
        const old = new FakeMember(coordinator, "a", { g: 4 }, slow, "first")
        yield* old.sync()
        const fresh = new FakeMember(coordinator, "a", { g: 4 }, slow, "second")
        yield* fresh.sync()
        assert.deepStrictEqual(fresh.keys, old.keys)
        for (const key of fresh.keys) assert.isTrue(fresh.grant(key).epoch > old.grant(key).epoch)
        for (const known of [old.known, 0n]) {
          const error = yield* Effect.flip(old.sync({ known }))
          assert.strictEqual(error._tag, "MemberReplaced")
        }
        yield* old.leave
        assert.strictEqual((yield* fresh.sync()).mine, undefined)
        assert.deepStrictEqual(
          (yield* coordinator.group("g")).owners.map((owner) => owner?.member),
          ["a", "a", "a", "a"]
        )
        const third = new FakeMember(coordinator, "a", { g: 4 }, slow, "third")
        yield* third.sync()
        for (const member of [old, fresh])
          assert.strictEqual((yield* Effect.flip(member.sync()))._tag, "MemberReplaced")
        assert.strictEqual((yield* coordinator.group("g")).generation, 1)
      })
  )

  law("an old start that was dropped meanwhile does not take its name back from a new one", (coordinator) =>
    Effect.gen(function* () {
      const old = new FakeMember(coordinator, "a", { g: 4 }, { lease: 100, settle: 5 }, "first")
      yield* old.sync()
      yield* elapse(105)
      const other = new FakeMember(coordinator, "b", { g: 4 }, slow)
      yield* other.sync()
      assert.deepStrictEqual(sizes(other), [4])
      const fresh = new FakeMember(coordinator, "a", { g: 4 }, slow, "second")
      yield* fresh.sync()
      assert.strictEqual((yield* Effect.flip(old.sync()))._tag, "MemberReplaced")
      yield* fresh.sync()
    })
  )

  law("a new start with fewer groups leaves the others", (coordinator) =>
    Effect.gen(function* () {
      yield* new FakeMember(coordinator, "a", { g: 2, h: 2 }, slow, "first").sync()
      const fresh = new FakeMember(coordinator, "a", { g: 2 }, slow, "second")
      yield* fresh.sync()
      assert.deepStrictEqual(fresh.keys, ["g/0", "g/1"])
      assert.deepStrictEqual((yield* coordinator.group("h")).members, [])
      const b = new FakeMember(coordinator, "b", { h: 2 }, slow)
      yield* b.sync()
      assert.deepStrictEqual(sizes(b), [2])
    })
  )

  law("a graceful leave hands over without waiting", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 4 }, timing)
      const b = new FakeMember(coordinator, "b", { g: 4 }, timing)
      yield* quiet([a, b], elapse)
      const before = epochsOf(b.running.values())
      yield* b.leave
      yield* a.sync()
      assert.deepStrictEqual(sizes(a), [4])
      for (const [key, epoch] of before) assert.isTrue(a.grant(key).epoch > epoch)
      yield* b.leave
      assert.deepStrictEqual((yield* coordinator.group("g")).members, ["a"])
    })
  )

  law("a group that is left out of a sync is left: it is handed over at once, and the others stay", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 4, h: 4 }, timing)
      const b = new FakeMember(coordinator, "b", { g: 4, h: 4 }, timing)
      yield* quiet([a, b], elapse)
      b.groups = new Map([["g", 4]])
      yield* b.sync()
      assert.isTrue(b.keys.length === 2 && b.keys.every((key) => key.startsWith("g/")))
      yield* a.sync()
      assert.strictEqual(a.keys.filter((key) => key.startsWith("h/")).length, 4)
      assert.strictEqual(a.keys.filter((key) => key.startsWith("g/")).length, 2)
    })
  )
}

export const settling = (law: Law, elapse: Elapse): void => {
  law("a storm of joins computes targets once, when it has settled", (coordinator) =>
    Effect.gen(function* () {
      const storm: Timing = { lease: 60_000, settle: 1_000 }
      const members = Array.from({ length: 12 }, (_, i) => new FakeMember(coordinator, `m${i}`, { g: 24 }, storm))
      for (const member of members) yield* member.sync()
      assert.strictEqual((yield* coordinator.group("g")).generation, 1)
      assert.deepStrictEqual(sizes(...members).slice(1), new Array(11).fill(0))
      assert.isAtMost(members[11]!.next, storm.settle + 100)
      yield* elapse(storm.settle + 5)
      for (let round = 0; round < 3; round++) for (const member of members) yield* member.sync()
      assert.strictEqual((yield* coordinator.group("g")).generation, 2)
      assert.deepStrictEqual(sizes(...members), new Array(12).fill(2))
    })
  )

  law("the delay counts from the first change, so that later joins do not put it off", (coordinator) =>
    Effect.gen(function* () {
      const delay: Timing = { lease: 60_000, settle: 400 }
      const members = Array.from({ length: 3 }, (_, i) => new FakeMember(coordinator, `m${i}`, { g: 6 }, delay))
      yield* members[0]!.sync()
      yield* members[1]!.sync()
      yield* elapse(250)
      yield* members[2]!.sync()
      yield* elapse(160)
      yield* members[0]!.sync()
      assert.strictEqual((yield* coordinator.group("g")).generation, 2)
      assert.strictEqual(members[0]!.release.length, 4)
    })
  )

  law("what was to be given up is kept when the one who was to have it leaves", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 4 }, timing)
      const b = new FakeMember(coordinator, "b", { g: 4 }, timing)
      yield* a.sync()
      const before = epochsOf(a.running.values())
      yield* b.sync()
      yield* elapse(settle + 5)
      yield* b.sync()
      yield* a.sync()
      assert.strictEqual(a.release.length, 2)
      yield* b.leave
      const { mine } = yield* a.sync({ released: [] })
      assert.isTrue(mine!.length === 4 && mine!.every((owned) => !owned.giveUp))
      assertKept(before, a)
    })
  )
}

export const operations = (law: Law): void => {
  law("a pause keeps owners and epochs, and is in the statement until it ends", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 2, h: 1 }, slow)
      const { mine } = yield* a.sync()
      yield* coordinator.pause("g", true)
      const paused = (yield* a.sync()).mine!
      assert.deepStrictEqual(epochsOf(paused), epochsOf(mine!))
      assert.isTrue(paused.every((owned) => owned.paused === (owned.processor === "g")))
      assert.isTrue((yield* coordinator.group("g")).paused)
      yield* coordinator.pause("g", true)
      assert.strictEqual((yield* a.sync()).mine, undefined)
      yield* coordinator.pause("g", false)
      assert.isTrue((yield* a.sync()).mine!.every((owned) => !owned.paused))
    })
  )

  law("a processor may be paused before it ever ran", (coordinator) =>
    Effect.gen(function* () {
      yield* coordinator.pause("g", true)
      const a = new FakeMember(coordinator, "a", { g: 2 }, slow)
      const { mine } = yield* a.sync()
      assert.deepStrictEqual(
        mine!.map((owned) => owned.paused),
        [true, true]
      )
    })
  )

  law("no epoch is taken from a processor that runs unpaused", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 2 }, slow)
      yield* a.sync()
      assert.strictEqual(yield* coordinator.takeEpoch("g", 0), undefined)
      assert.strictEqual((yield* a.sync()).mine, undefined)
    })
  )

  law(
    "an epoch taken in a pause is above the owner's, who is granted the partition anew, above it, after the pause",
    (coordinator) =>
      Effect.gen(function* () {
        const a = new FakeMember(coordinator, "a", { g: 2 }, slow)
        yield* a.sync()
        const [first, second] = [a.grant("g/0"), a.grant("g/1")]
        yield* coordinator.pause("g", true)
        const taken = (yield* coordinator.takeEpoch("g", 0))!
        assert.isTrue(taken > first.epoch && taken > second.epoch)
        yield* a.sync({ refused: [{ ...first, epoch: taken }] })
        yield* a.sync()
        assert.deepStrictEqual(a.keys, ["g/1"])
        assert.strictEqual((yield* coordinator.group("g")).owners[0], undefined)
        yield* coordinator.pause("g", false)
        yield* a.sync()
        assert.isTrue(a.grant("g/0").epoch > taken)
        assert.strictEqual(a.grant("g/1").epoch, second.epoch)
      })
  )

  law("an epoch taken while nobody runs the processor is above all before, and below all after", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 2 }, slow)
      yield* a.sync()
      const before = a.grant("g/1").epoch
      yield* a.leave
      const taken = (yield* coordinator.takeEpoch("g", 1))!
      assert.isTrue(taken > before)
      const error = yield* Effect.flip(coordinator.takeEpoch("g", 2))
      assert.strictEqual(error.reason, "Refused")
      const b = new FakeMember(coordinator, "b", { g: 2 }, slow)
      yield* b.sync()
      assert.isTrue(b.grant("g/1").epoch > taken)
    })
  )

  law("a group is removed when it has no members, and may then be made with another partition count", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 2 }, slow)
      yield* a.sync()
      assert.isFalse(yield* coordinator.removeGroup("g"))
      assert.strictEqual((yield* coordinator.group("g")).partitions, 2)
      yield* a.leave
      assert.isTrue(yield* coordinator.removeGroup("g"))
      assert.deepStrictEqual(yield* coordinator.group("g"), {
        processor: "g",
        partitions: 0,
        paused: false,
        members: [],
        owners: [],
        generation: 0,
        quarantined: []
      })
      const b = new FakeMember(coordinator, "b", { g: 5 }, slow)
      yield* b.sync()
      assert.deepStrictEqual(sizes(b), [5])
    })
  )
}

export const waking = (law: Law, elapse: Elapse): void => {
  law("a wake reaches the members for whom something changed, and no others", (coordinator) =>
    Effect.gen(function* () {
      const count = { a: 0, b: 0, c: 0, d: 0 }
      type Name = keyof typeof count
      const members = { a: { g: 4 }, b: { g: 4 }, c: { g: 4, h: 1 }, d: { h: 1 } }
      const [a, b, c, d] = (Object.keys(members) as Array<Name>).map(
        (name) =>
          new FakeMember(coordinator, name, members[name] as Record<string, number>, { ...timing, lease: 60_000 })
      ) as [FakeMember, FakeMember, FakeMember, FakeMember]
      yield* d.sync()
      yield* a.sync()
      for (const name of Object.keys(count) as Array<Name>) {
        yield* Effect.forkChild(Stream.runForEach(coordinator.wakes(name), () => Effect.sync(() => count[name]++)))
      }
      // Subscribing is asynchronous, and so is the way of a wake: a busy machine takes longer.
      const arrive = elapse(60)
      yield* Effect.repeat(arrive, { times: 5 })
      const expectWoken = (...names: ReadonlyArray<Name>) =>
        Effect.gen(function* () {
          yield* arrive
          for (let look = 0; look < 50 && names.some((name) => count[name] === 0); look++) yield* arrive
          const woken = (Object.keys(count) as Array<Name>).filter((name) => count[name] > 0)
          assert.deepStrictEqual(woken, [...names])
          for (const name of woken) count[name] = 0
        })
      yield* expectWoken()
      yield* b.sync()
      yield* elapse(settle)
      yield* b.sync()
      yield* expectWoken("a")
      yield* a.sync()
      yield* a.sync()
      yield* expectWoken("b")
      yield* b.sync()
      yield* expectWoken()
      yield* coordinator.pause("g", true)
      yield* expectWoken("a", "b")
      yield* a.sync()
      yield* b.sync()
      yield* b.leave
      yield* expectWoken("a")
      yield* c.sync()
      yield* expectWoken()
    })
  )
}
