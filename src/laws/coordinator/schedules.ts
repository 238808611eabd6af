/**
 * Ownership under random schedules: members that join, sync, release late, lose answers, start anew, leave and die in
 * any order, and partitions that are put aside and released meanwhile. No partition ever has two owners, epochs only
 * grow, and when it is quiet everything is owned and balanced.
 */
import { assert } from "@effect/vitest"
import { Clock, Effect } from "effect"
import type { Coordinator, Grant } from "../../Coordinator.ts"
import { Choices } from "../../testing/choices.ts"
import type { Chosen } from "../suite.ts"
import { FakeMember, keyOf, type Timing } from "./fakeMember.ts"
import type { Law } from "./support.ts"

const groups = { g: 7, h: 4 }
const steps = 250

export const randomSchedules = (law: Law, options: Chosen): void => {
  // Real time is dear: there leases are short, and little of it passes between steps.
  const timing: Timing = { lease: options.live ? 240 : 3_000, settle: options.live ? 20 : 50 }
  for (let seed = 0; seed < options.seeds; seed++) {
    law(
      `no partition has two owners under a random schedule, and all is owned when it is quiet (seed ${seed})`,
      (coordinator) =>
        Effect.gen(function* () {
          const world = new World(coordinator, new Choices(seed), timing)
          for (let step = 0; step < steps; step++) {
            yield* world.step
            yield* world.check
            if (world.random.chance(0.3)) yield* options.elapse(world.random.below(timing.lease / 12))
            if (world.random.chance(0.01)) yield* options.elapse(timing.lease * 1.1)
          }
          yield* world.quiet(options.elapse)
        })
    )
  }
}

class World {
  readonly coordinator: Coordinator["Service"]
  readonly random: Choices
  readonly timing: Timing
  alive: Array<FakeMember> = []
  /** Ended without a word; they go on working until their leases end. */
  dead: Array<FakeMember> = []
  readonly epochs = new Map<string, bigint>()
  readonly releases: Array<Grant> = []
  /** What is quarantined. */
  readonly aside = new Set<string>()
  started = 0

  constructor(coordinator: Coordinator["Service"], random: Choices, timing: Timing) {
    this.coordinator = coordinator
    this.random = random
    this.timing = timing
  }

  get step(): Effect.Effect<unknown, unknown> {
    const { random } = this
    if (this.alive.length === 0 || (this.alive.length < 6 && random.chance(0.06))) return this.join()
    const member = random.pick(this.alive)
    if (random.chance(0.02)) return this.remove(member, member.leave)
    if (random.chance(0.02))
      return this.remove(
        member,
        Effect.sync(() => this.dead.push(member))
      )
    if (random.chance(0.02)) return this.restart(member)
    if (random.chance(0.1)) return member.syncLost()
    if (random.chance(0.03) && member.running.size > 0) return this.quarantine(member)
    if (random.chance(0.05) && this.aside.size > 0) return this.release(random.pick([...this.aside]))
    return this.sync(member)
  }

  join(): Effect.Effect<unknown, unknown> {
    const name = `m${this.started++}`
    const runs = this.random.pick([groups, { g: groups.g }, groups])
    const member = new FakeMember(this.coordinator, name, runs, this.timing)
    this.alive.push(member)
    return this.sync(member)
  }

  remove(member: FakeMember, how: Effect.Effect<unknown, unknown>): Effect.Effect<unknown, unknown> {
    this.alive = this.alive.filter((one) => one !== member)
    return how
  }

  /** The same name again, while the old start still works until it hears of it. */
  restart(member: FakeMember): Effect.Effect<unknown, unknown> {
    const world = this
    return Effect.gen(function* () {
      const runs = Object.fromEntries(member.groups)
      const incarnation = `${member.incarnation}+`
      const fresh = new FakeMember(world.coordinator, member.name, runs, world.timing, incarnation)
      world.alive = world.alive.map((one) => (one === member ? fresh : one))
      // Both start under one name: the old one is fenced by epochs, not by the lease, so it stops being counted here.
      member.running.clear()
      yield* world.sync(fresh)
      const error = yield* Effect.flip(member.syncLost())
      assert.strictEqual((error as { readonly _tag: string })._tag, "MemberReplaced")
    })
  }

  /** It counts if the member's grant is still the one in the books. */
  quarantine(member: FakeMember): Effect.Effect<unknown, unknown> {
    const world = this
    const grant = this.random.pick([...member.running.values()])
    return Effect.gen(function* () {
      const { owners } = yield* world.coordinator.group(grant.processor)
      const owner = owners[grant.partition]
      yield* world.coordinator.quarantine(grant, member.name, { reason: "failure", error: "no", positions: [] })
      member.running.delete(keyOf(grant))
      if (owner?.member === member.name && owner.epoch === grant.epoch) world.aside.add(keyOf(grant))
      else assert.deepStrictEqual(yield* world.quarantined, [...world.aside].sort())
    })
  }

  release(key: string): Effect.Effect<unknown, unknown> {
    const [group, partition] = key.split("/") as [string, string]
    this.aside.delete(key)
    return Effect.map(this.coordinator.release(group, Number(partition)), (released) => assert.isTrue(released, key))
  }

  get quarantined(): Effect.Effect<ReadonlyArray<string>, unknown> {
    return Effect.map(
      Effect.forEach(Object.keys(groups), (group) => this.coordinator.group(group)),
      (all) => all.flatMap(({ processor, quarantined }) => quarantined.map((p) => `${processor}/${p}`)).sort()
    )
  }

  sync(member: FakeMember): Effect.Effect<unknown, unknown> {
    const { random } = this
    const world = this
    return Effect.gen(function* () {
      const late = random.chance(0.2)
      // Now and then it stopped something by itself, or repeats a release of long ago.
      if (random.chance(0.1) && member.running.size > 0) {
        const stopped = random.pick([...member.running.values()])
        member.running.delete(keyOf(stopped))
        member.release.push(stopped)
      }
      const released = [...member.release]
      if (random.chance(0.1) && world.releases.length > 0) released.push(random.pick(world.releases))
      const refused =
        random.chance(0.03) && released.length > 0
          ? [{ ...released[0]!, epoch: released[0]!.epoch + BigInt(random.below(1_000)) }]
          : []
      const kept = late ? member.release : []
      const before = new Map([...member.running].map(([key, owned]) => [key, owned.epoch]))
      yield* member.sync({ released: late ? [] : released, refused: late ? [] : refused })
      if (!late) world.releases.push(...released)
      for (const grant of kept)
        if (!member.release.some((one) => keyOf(one) === keyOf(grant))) member.release.push(grant)
      for (const [key, owned] of member.running) {
        if (before.get(key) === owned.epoch) continue
        assert.isFalse(world.aside.has(key), `${key} was granted to ${member.name}, though it is aside`)
        const last = world.epochs.get(key) ?? 0n
        assert.isTrue(owned.epoch >= last, `${key}: epoch ${owned.epoch} after ${last}`)
        world.epochs.set(key, owned.epoch)
      }
    })
  }

  /** One owner at a time, among all whose lease has not ended by their own count. */
  get check(): Effect.Effect<void> {
    return Effect.map(Clock.currentTimeMillis, (now) => {
      const owners = new Map<string, string>()
      for (const member of [...this.alive, ...this.dead]) {
        if (member.leaseEnd <= now) continue
        for (const key of member.running.keys()) {
          assert.isUndefined(owners.get(key), `${key} is run by ${owners.get(key)} and ${member.name}`)
          owners.set(key, member.name)
        }
      }
    })
  }

  quiet(elapse: (millis: number) => Effect.Effect<void>): Effect.Effect<void, unknown> {
    const world = this
    return Effect.gen(function* () {
      if (world.alive.length === 0) yield* world.join()
      // The dead are dropped after their leases, and a third of one more if they were many; the living sync meanwhile.
      for (let round = 0; round < 16; round++) {
        for (const member of world.alive) yield* member.sync()
        yield* world.check
        yield* elapse(Math.ceil(world.timing.lease / 8))
      }
      assert.deepStrictEqual(yield* world.quarantined, [...world.aside].sort())
      for (const [group, partitions] of Object.entries(groups)) {
        const runners = world.alive.filter((member) => member.groups.has(group))
        if (runners.length === 0) continue
        const aside = [...world.aside].filter((key) => key.startsWith(`${group}/`))
        const counts = runners.map((member) => member.keys.filter((key) => key.startsWith(`${group}/`)).length)
        assert.strictEqual(
          counts.reduce((sum, count) => sum + count, 0),
          partitions - aside.length,
          `${group}: ${counts}`
        )
        assert.isAtMost(Math.max(...counts) - Math.min(...counts), 1, `${group}: ${counts}`)
        const { members, owners } = yield* world.coordinator.group(group)
        assert.deepStrictEqual([...members].sort(), runners.map((member) => member.name).sort())
        for (let partition = 0; partition < partitions; partition++) {
          if (world.aside.has(`${group}/${partition}`)) {
            assert.isUndefined(owners[partition])
            continue
          }
          const owner = runners.find((member) => member.name === owners[partition]!.member)!
          assert.strictEqual(owner.grant(`${group}/${partition}`).epoch, owners[partition]!.epoch)
        }
      }
    })
  }
}
