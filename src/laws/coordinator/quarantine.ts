/** The laws of ownership, part three: partitions that are put aside for the whole cluster, until they are released. */
import { assert } from "@effect/vitest"
import { Effect, Stream } from "effect"
import type { Coordinator, Quarantine } from "../../Coordinator.ts"
import type { Elapse } from "../suite.ts"
import { FakeMember } from "./fakeMember.ts"
import { assertKept, epochsOf, type Law, quiet, settle, sizes, slow, timing } from "./support.ts"

const entry: Quarantine = {
  reason: "failure",
  error: "Declined: no funds",
  positions: [
    { topic: "orders", first: "1-0.0", last: "1-0.2" },
    { topic: "refunds", first: "2-5.0", last: "2-5.0" }
  ]
}

/** Longer than the settling delay of a quarantine. */
const pass = 60

const asideIn = (coordinator: Coordinator["Service"], processor: string) =>
  Effect.map(coordinator.quarantined(processor), (all) => all.map(({ partition }) => partition))

export const quarantines = (law: Law, elapse: Elapse): void => {
  law("a partition that its owner puts aside leaves the statement at once, and tells why", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 4 }, slow)
      yield* a.sync()
      const others = epochsOf(a.running.values())
      yield* coordinator.quarantine(a.grant("g/2"), "a", entry)
      const group = yield* coordinator.group("g")
      assert.deepStrictEqual(group.quarantined, [2])
      assert.deepStrictEqual(
        group.owners.map((owner) => owner?.member),
        ["a", "a", undefined, "a"]
      )
      const { mine } = yield* a.sync()
      assert.deepStrictEqual(
        mine!.map(({ partition }) => partition),
        [0, 1, 3]
      )
      assertKept(others, a)
      const found = yield* coordinator.quarantined("g")
      const since = found[0]!.since
      assert.deepStrictEqual(found, [{ partition: 2, member: "a", since, ...entry }])
      assert.isTrue(Number.isSafeInteger(since) && since >= 0)
      assert.deepStrictEqual(yield* coordinator.quarantined("h"), [])
    })
  )

  law("an old epoch, another member's grant and a partition that is not there put nothing aside", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 2 }, slow)
      const b = new FakeMember(coordinator, "b", { g: 2 }, slow)
      yield* a.sync()
      yield* b.sync()
      const old = a.grant("g/0")
      yield* a.sync({ released: [old] })
      assert.isTrue(a.grant("g/0").epoch > old.epoch)
      yield* coordinator.quarantine(old, "a", entry)
      yield* coordinator.quarantine(a.grant("g/1"), "b", entry)
      yield* coordinator.quarantine(a.grant("g/1"), "nobody", entry)
      yield* coordinator.quarantine({ ...a.grant("g/1"), partition: 7 }, "a", entry)
      yield* coordinator.quarantine({ ...a.grant("g/1"), processor: "h" }, "a", entry)
      assert.deepStrictEqual(yield* asideIn(coordinator, "g"), [])
      assert.deepStrictEqual(yield* asideIn(coordinator, "h"), [])
      assert.strictEqual((yield* a.sync()).mine, undefined)
    })
  )

  law(
    "a quarantine whose answer was lost may be sent again, also after its release: that grant stands",
    (coordinator) =>
      Effect.gen(function* () {
        const a = new FakeMember(coordinator, "a", { g: 2 }, slow)
        yield* a.sync()
        const grant = a.grant("g/0")
        yield* coordinator.quarantine(grant, "a", entry)
        const [first] = yield* coordinator.quarantined("g")
        yield* coordinator.quarantine(grant, "a", { ...entry, error: "the same again" })
        assert.deepStrictEqual(yield* coordinator.quarantined("g"), [first!])
        assert.isTrue(yield* coordinator.release("g", 0))
        yield* a.sync()
        const again = a.grant("g/0")
        assert.isTrue(again.epoch > grant.epoch)
        yield* coordinator.quarantine(grant, "a", entry)
        // Its late release does no more.
        yield* a.sync({ released: [grant] })
        assert.deepStrictEqual(yield* asideIn(coordinator, "g"), [])
        assert.strictEqual(a.grant("g/0").epoch, again.epoch)
      })
  )

  law("what is aside stays so when every worker starts anew, whatever its name", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 4 }, timing)
      yield* quiet([a], elapse)
      yield* coordinator.quarantine(a.grant("g/3"), "a", entry)
      const fresh = new FakeMember(coordinator, "a", { g: 4 }, timing, "a-2")
      yield* fresh.sync()
      assert.deepStrictEqual(fresh.keys, ["g/0", "g/1", "g/2"])
      yield* fresh.leave
      const b = new FakeMember(coordinator, "b", { g: 4 }, timing)
      yield* quiet([b], elapse)
      assert.deepStrictEqual(b.keys, ["g/0", "g/1", "g/2"])
      assert.deepStrictEqual(yield* asideIn(coordinator, "g"), [3])
      yield* b.leave
      // With nobody there a release is remembered as well.
      assert.isTrue(yield* coordinator.release("g", 3))
      const c = new FakeMember(coordinator, "c", { g: 4 }, timing)
      yield* quiet([c], elapse)
      assert.deepStrictEqual(sizes(c), [4])
    })
  )

  law("the members share what is left to within one, and move no more than that demands", (coordinator) =>
    Effect.gen(function* () {
      const members = ["a", "b", "c"].map((name) => new FakeMember(coordinator, name, { g: 12 }, timing))
      const [a] = members as [FakeMember, FakeMember, FakeMember]
      yield* quiet(members, elapse)
      assert.deepStrictEqual(sizes(...members), [4, 4, 4])
      const before = members.map((member) => epochsOf(member.running.values()))
      const put = a.keys.slice(0, 3)
      for (const key of put) yield* coordinator.quarantine(a.grant(key), "a", entry)
      yield* elapse(pass)
      yield* quiet(members, elapse)
      assert.deepStrictEqual(sizes(...members), [3, 3, 3])
      members.forEach((member, i) => assertKept(before[i]!, member))
      assert.strictEqual((yield* coordinator.group("g")).quarantined.length, 3)
      for (const key of put) assert.isTrue(members.every((member) => !member.running.has(key)))
      const kept = members.map((member) => epochsOf(member.running.values()))
      for (const key of put) assert.isTrue(yield* coordinator.release("g", Number(key.slice(2))))
      yield* quiet(members, elapse)
      assert.deepStrictEqual(sizes(...members), [4, 4, 4])
      members.forEach((member, i) => assertKept(kept[i]!, member))
    })
  )

  law("when all are aside nobody has anything, and joins and leaves change nothing of that", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 3 }, timing)
      const b = new FakeMember(coordinator, "b", { g: 3 }, timing)
      yield* quiet([a], elapse)
      for (const key of a.keys) yield* coordinator.quarantine(a.grant(key), "a", entry)
      yield* elapse(pass)
      yield* quiet([a, b], elapse)
      assert.deepStrictEqual(sizes(a, b), [0, 0])
      yield* a.leave
      yield* quiet([b], elapse)
      assert.deepStrictEqual(sizes(b), [0])
      assert.deepStrictEqual(yield* asideIn(coordinator, "g"), [0, 1, 2])
    })
  )

  law("one that is on its way to another member may be put aside by its owner", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 2 }, timing)
      const b = new FakeMember(coordinator, "b", { g: 2 }, timing)
      yield* a.sync()
      const grants = epochsOf(a.running.values())
      yield* b.sync()
      yield* elapse(settle + 5)
      yield* a.sync()
      const [moving] = a.release as [{ readonly processor: string; readonly partition: number; readonly epoch: bigint }]
      yield* coordinator.quarantine(moving, "a", entry)
      yield* elapse(pass)
      yield* quiet([a, b], elapse)
      assert.strictEqual(a.running.size + b.running.size, 1)
      assertKept(grants, a)
      assert.deepStrictEqual(yield* asideIn(coordinator, "g"), [moving.partition])
    })
  )

  law("release grants it anew with a higher epoch, and is false for what is not aside", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 2 }, slow)
      yield* a.sync()
      const old = a.grant("g/1")
      yield* coordinator.quarantine(old, "a", entry)
      yield* a.sync()
      assert.isFalse(yield* coordinator.release("g", 0))
      assert.isFalse(yield* coordinator.release("g", 9))
      assert.isFalse(yield* coordinator.release("h", 1))
      assert.isTrue(yield* coordinator.release("g", 1))
      assert.isFalse(yield* coordinator.release("g", 1))
      yield* a.sync()
      assert.isTrue(a.grant("g/1").epoch > old.epoch)
      assert.deepStrictEqual((yield* coordinator.group("g")).quarantined, [])
    })
  )

  law("quarantine wakes the owner, release whoever gets the partition, and neither the others", (coordinator) =>
    Effect.gen(function* () {
      const woken = { a: 0, b: 0 }
      const a = new FakeMember(coordinator, "a", { g: 1 }, slow)
      const b = new FakeMember(coordinator, "b", { g: 1, h: 1 }, { lease: slow.lease, settle: 0 })
      yield* a.sync()
      for (const member of [a, b, a, b]) yield* member.sync()
      const [owner, other] = a.running.has("g/0") ? [a, b] : [b, a]
      for (const name of ["a", "b"] as const) {
        yield* Effect.forkChild(Stream.runForEach(coordinator.wakes(name), () => Effect.sync(() => woken[name]++)))
      }
      // Subscribing is asynchronous, and so is the way of a wake: a busy machine takes longer.
      for (let look = 0; look < 50 && (woken.a === 0 || woken.b === 0); look++) {
        yield* coordinator.pause("g", look % 2 === 0)
        yield* elapse(pass)
      }
      yield* coordinator.pause("g", false)
      for (const member of [a, b, a, b]) yield* member.sync()
      yield* elapse(pass)
      woken.a = woken.b = 0
      yield* coordinator.quarantine(owner.grant("g/0"), owner.name, entry)
      for (let look = 0; look < 50 && woken[owner.name as "a" | "b"] === 0; look++) yield* elapse(pass)
      assert.isAtLeast(woken[owner.name as "a" | "b"], 1)
      assert.strictEqual(woken[other.name as "a" | "b"], 0)
      for (const member of [a, b, a, b]) yield* member.sync()
      yield* elapse(pass)
      woken.a = woken.b = 0
      yield* coordinator.release("g", 0)
      yield* elapse(pass)
      const names = (["a", "b"] as const).filter((name) => woken[name] > 0)
      assert.strictEqual(names.length, 1)
      yield* (names[0] === "a" ? a : b).sync()
      assert.strictEqual((yield* coordinator.group("g")).owners[0]?.member, names[0])
    })
  )

  law(
    "an epoch may be taken of what is aside though the processor runs; what is granted later is above it",
    (coordinator) =>
      Effect.gen(function* () {
        const a = new FakeMember(coordinator, "a", { g: 2 }, slow)
        yield* a.sync()
        const old = a.grant("g/0")
        assert.isUndefined(yield* coordinator.takeEpoch("g", 0))
        yield* coordinator.quarantine(old, "a", entry)
        const taken = (yield* coordinator.takeEpoch("g", 0))!
        assert.isTrue(taken > old.epoch)
        assert.isUndefined(yield* coordinator.takeEpoch("g", 1))
        yield* a.sync()
        assert.deepStrictEqual(a.keys, ["g/1"])
        yield* coordinator.release("g", 0)
        yield* a.sync()
        assert.isTrue(a.grant("g/0").epoch > taken)
      })
  )

  law("a pause and a quarantine are two things: neither ends the other", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 2 }, slow)
      yield* a.sync()
      yield* coordinator.pause("g", true)
      yield* coordinator.quarantine(a.grant("g/0"), "a", entry)
      const paused = (yield* a.sync()).mine!
      assert.deepStrictEqual(
        paused.map((owned) => [owned.partition, owned.paused]),
        [[1, true]]
      )
      const taken = (yield* coordinator.takeEpoch("g", 0))!
      yield* coordinator.pause("g", false)
      yield* a.sync()
      assert.deepStrictEqual(a.keys, ["g/1"])
      yield* coordinator.pause("g", true)
      yield* coordinator.release("g", 0)
      const released = (yield* a.sync()).mine!
      assert.isTrue(released.length === 2 && released.every((owned) => owned.paused))
      assert.isTrue(a.grant("g/0").epoch > taken)
    })
  )

  law("another partition count is refused all the same; removing the group forgets what was aside", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 4 }, slow)
      yield* a.sync()
      yield* coordinator.quarantine(a.grant("g/3"), "a", entry)
      const other = new FakeMember(coordinator, "b", { g: 2 }, slow)
      assert.strictEqual((yield* Effect.flip(other.sync()))._tag, "EngineError")
      assert.deepStrictEqual(yield* asideIn(coordinator, "g"), [3])
      yield* a.leave
      assert.isTrue(yield* coordinator.removeGroup("g"))
      assert.deepStrictEqual(yield* asideIn(coordinator, "g"), [])
      assert.isFalse(yield* coordinator.release("g", 3))
      for (const [member, partitions] of [
        ["c", 2],
        ["d", 6]
      ] as const) {
        const fresh = new FakeMember(coordinator, member, { g: partitions }, slow)
        yield* fresh.sync()
        assert.deepStrictEqual(sizes(fresh), [partitions])
        yield* fresh.leave
        yield* coordinator.removeGroup("g")
      }
    })
  )

  law("an error text of any length is kept within bounds, and in any alphabet", (coordinator) =>
    Effect.gen(function* () {
      const a = new FakeMember(coordinator, "a", { g: 2 }, slow)
      yield* a.sync()
      yield* coordinator.quarantine(a.grant("g/0"), "a", { ...entry, error: "é".repeat(100_000) })
      yield* coordinator.quarantine(a.grant("g/1"), "a", {
        ...entry,
        reason: "crash loop",
        error: "日本 \u0000\n\"'\\"
      })
      const [first, second] = yield* coordinator.quarantined("g")
      assert.isAtMost(first!.error.length, 2_000)
      assert.isTrue(first!.error.startsWith("ééé") && first!.error.endsWith("…"))
      assert.strictEqual(second!.error, "日本 \u0000\n\"'\\")
      assert.strictEqual(second!.reason, "crash loop")
    })
  )
}
