/**
 * What a worker knows of parked events, against a plain engine that does what the port says: whatever happens between two
 * commits, both have the same lanes in the end, and the event that is tried is the first of its key.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Parking as Changes, Lane } from "../../src/Broker.ts"
import { bounds, laneOf, type Parkable, type Parked, Parking, stateOf } from "../../src/internal/run/parking.ts"
import { Choices } from "../../src/testing/choices.ts"

const event = (key: string | undefined, n: number): Parkable => ({
  topic: "t",
  offset: `${n}-0.0`,
  key,
  stored: () => ({ count: 1, fields: ["v", String(n)] })
})

const failure = (now: number, due: number, attempts = 1, capacity = bounds.lane): Parked => ({
  _tag: "Parked",
  error: `at ${now}`,
  now,
  due,
  attempts,
  capacity,
  steps: new Map()
})

/** Set aside, and passed by the offset at once. */
const park = (parking: Parking, event: Parkable, parked: Parked): void => {
  parking.park(event, parked)
  parking.stage(event)
}
const join = (parking: Parking, event: Parkable): void => {
  parking.join(event)
  parking.stage(event)
}

/** Lanes as an engine has them: drops, parks, removals, states. */
class Engine {
  readonly lanes = new Map<
    string,
    { events: Array<{ id: string; offset: string }>; state: Changes["states"][number] }
  >()
  private last = 0

  apply({ drop, park, remove, states }: Changes): void {
    for (const lane of drop) this.lanes.delete(lane)
    for (const { lane, offset } of park) {
      const one = this.lanes.get(lane) ?? { events: [], state: { lane, attempts: 0, due: 0, since: 0, error: "" } }
      this.lanes.set(lane, one)
      one.events.push({ id: String(++this.last), offset })
    }
    for (const { lane, id } of remove) {
      const { events } = this.lanes.get(lane)!
      assert.strictEqual(events.shift()!.id, id, "removed is the first of its lane")
      if (events.length === 0) this.lanes.delete(lane)
    }
    for (const state of states) {
      const one = this.lanes.get(state.lane)
      if (one !== undefined) one.state = state
    }
  }

  first(lane: string, after: string | undefined) {
    return this.lanes.get(lane)?.events.find(({ id }) => Number(id) > Number(after ?? 0))
  }

  get claimed(): ReadonlyArray<Lane> {
    return Array.from(this.lanes.values(), ({ events, state }) => ({
      ...state,
      head: events[0]!.id,
      count: events.length
    }))
  }
}

const sorted = (all: ReadonlyArray<{ readonly lane: string }>) =>
  all
    .map((one) => {
      const { attempts, count, due, error, lane, since } = one as Lane
      return { lane, attempts, count, due, error, since }
    })
    .toSorted((a, b) => (a.lane < b.lane ? -1 : 1))

describe("parked events of a partition", () => {
  it("hold their key, and no other, until the last one is done", () => {
    const parking = new Parking([])
    const first = event("a", 1)
    assert.isFalse(parking.holds(first))
    park(parking, first, failure(10, 20, 2))
    assert.deepStrictEqual([parking.holds(event("a", 2)), parking.holds(event("b", 3))], [true, false])
    assert.isFalse(parking.holds(event(undefined, 4)))
    join(parking, event("a", 2))
    assert.strictEqual(parking.events, 2)
    parking.cut()
    parking.committed()
    for (const id of ["1", "2"]) {
      assert.isTrue(parking.holds(event("a", 5)))
      parking.begin("key a")
      parking.succeeded("key a", id, 20)
    }
    assert.deepStrictEqual([parking.holds(event("a", 5)), parking.events], [false, 0])
  })

  it("a key cannot be taken for an event without one, nor one such event for another", () => {
    const keyless = event(undefined, 1)
    const names = [keyless, event(undefined, 2), event(laneOf(keyless), 3), event("", 4), event("event t", 5)].map(
      laneOf
    )
    assert.strictEqual(new Set(names).size, names.length)
    const parking = new Parking([])
    park(parking, keyless, failure(0, 1))
    assert.isFalse(parking.holds(event(laneOf(keyless), 3)))
    assert.isFalse(parking.holds(event(laneOf(keyless).slice(4), 3)))
  })

  it("are tried when they are due, the longest overdue first, and not twice at a time", () => {
    const parking = new Parking([])
    for (const [i, due] of [30, 10, 20].entries()) park(parking, event(`${i}`, i), failure(0, due))
    assert.isUndefined(parking.due, "the engine does not have them yet")
    parking.cut()
    assert.isUndefined(parking.next(99))
    parking.committed()
    assert.deepStrictEqual([parking.due, parking.next(9), parking.next(10)?.lane], [10, undefined, "key 1"])
    assert.strictEqual(parking.next(99)?.lane, "key 1")
    parking.begin("key 1")
    assert.deepStrictEqual([parking.next(99)?.lane, parking.due], ["key 2", 20])
    parking.cancel("key 1")
    assert.strictEqual(parking.next(99)?.lane, "key 1")
    parking.begin("key 1")
    parking.failed("key 1", failure(11, 40, 2))
    assert.deepStrictEqual([parking.next(99)?.lane, parking.next(25)?.lane], ["key 2", "key 2"])
    const states = parking.cut()!.states
    assert.deepStrictEqual(states, [{ lane: "key 1", attempts: 2, due: 40, since: 0, error: "2 at 11" }])
  })

  it("are bounded, by lane and in all", () => {
    const parking = new Parking([], { lane: 2, partition: 4 })
    assert.isTrue(parking.hasRoom(event("a", 1)))
    park(parking, event("a", 1), failure(0, 1, 1, 2))
    join(parking, event("a", 2))
    assert.deepStrictEqual([parking.hasRoom(event("a", 3)), parking.hasRoom(event("b", 3))], [false, true])
    // The policy that opens a lane says how much it holds.
    park(parking, event("c", 3), failure(0, 1, 1, 1))
    assert.deepStrictEqual([parking.hasRoom(event("c", 4)), parking.hasRoom(event("b", 4))], [false, true])
    park(parking, event(undefined, 5), failure(0, 1))
    assert.isFalse(parking.hasRoom(event("b", 6)))
    // A claim finds them as they are.
    const lane = { lane: "key a", head: "1", count: 2, attempts: 1, due: 0, since: 0, error: "1 Bad: a" }
    const claimed = new Parking([lane], { lane: 2, partition: 3 })
    assert.isFalse(claimed.hasRoom(event("a", 1)))
    assert.deepInclude(claimed.waiting()[0]!, { error: "Bad: a", rounds: 1, attempts: 1, count: 2 })
  })

  it("stand in no commit before the offset moves past them, and their lane is not tried until then", () => {
    const parking = new Parking([])
    const [first, second] = [event("a", 1), event("a", 2)]
    parking.park(first, failure(0, 1))
    parking.join(second)
    assert.deepStrictEqual([parking.holds(second), parking.active, parking.dirty], [true, true, false])
    assert.isUndefined(parking.cut())
    assert.isTrue(parking.active)
    parking.stage(first)
    assert.isTrue(parking.dirty)
    const changes = parking.cut()!
    assert.deepStrictEqual([changes.park.map(({ offset }) => offset), changes.states.length], [["1-0.0"], 1])
    assert.isUndefined(parking.next(99))
    parking.committed()
    parking.begin("key a")
    // The engine has no lane between the removal and the second event: its state waits for that.
    parking.succeeded("key a", "1", 5)
    assert.deepStrictEqual(parking.cut()!.states, [])
    assert.isTrue(parking.holds(second))
    parking.stage(second)
    assert.deepStrictEqual(
      parking.cut()!.states.map(({ attempts, due }) => [attempts, due]),
      [[0, 5]]
    )
    parking.committed()
    parking.begin("key a")
    parking.succeeded("key a", "2", 6)
    assert.deepStrictEqual([parking.holds(second), parking.active], [false, true], "the removal is to be committed")
    assert.isDefined(parking.cut())
    assert.isFalse(parking.active)
  })

  it("nothing changed, nothing to commit", () => {
    const parking = new Parking([{ lane: "key a", head: "1", count: 1, attempts: 1, due: 0, since: 0, error: "1 x" }])
    assert.isUndefined(parking.cut())
    park(parking, event("b", 1), failure(0, 1))
    assert.deepStrictEqual([parking.writes, parking.bytes], [1, 2])
    assert.isDefined(parking.cut())
    assert.deepStrictEqual([parking.cut(), parking.writes, parking.bytes], [undefined, 0, 0])
  })

  it("agree with the engine after every commit, and give each key's events in order", () => {
    for (let seed = 1; seed <= 300; seed++) {
      const random = new Choices(seed)
      const engine = new Engine()
      let parking = new Parking([])
      let inFlight: Changes | undefined
      const order = new Map<string, Array<string>>()
      let n = 0
      let trying: { readonly lane: string; readonly id: string } | undefined
      for (let now = 1; now <= 60; now++) {
        const step = random.below(6)
        if (step <= 1) {
          const one = event(random.pick(["a", "b", "c", undefined]), ++n)
          if (parking.holds(one)) join(parking, one)
          else park(parking, one, failure(now, now + random.below(5)))
          const lane = laneOf(one)
          order.set(lane, [...(order.get(lane) ?? []), one.offset])
        } else if (step === 2 && inFlight === undefined) {
          inFlight = parking.cut()
        } else if (step === 3 && inFlight !== undefined) {
          engine.apply(inFlight)
          parking.committed()
          inFlight = undefined
        } else if (step === 4 && trying === undefined) {
          const next = parking.next(now)
          if (next === undefined) continue
          const head = engine.first(next.lane, next.after)
          assert.strictEqual(head?.offset, order.get(next.lane)![0], `seed ${seed}, ${next.lane}`)
          parking.begin(next.lane)
          trying = { lane: next.lane, id: head!.id }
        } else if (step === 5 && trying !== undefined) {
          const { id, lane } = trying
          trying = undefined
          if (random.chance(0.4)) parking.failed(lane, failure(now, now + 1, 2))
          else {
            parking.succeeded(lane, id, now)
            order.get(lane)!.shift()
          }
        }
      }
      for (let last = 0; last < 2; last++) {
        if (inFlight !== undefined) {
          engine.apply(inFlight)
          parking.committed()
        }
        inFlight = parking.cut()
      }
      assert.isUndefined(inFlight)
      const stored = engine.claimed.map((lane) => ({ ...lane, ...stateOf(lane) }))
      assert.deepStrictEqual(sorted(parking.waiting()), sorted(stored), `seed ${seed}`)
      // A new owner knows the same from its claim.
      parking = new Parking(engine.claimed)
      assert.deepStrictEqual(sorted(parking.waiting()), sorted(stored))
      const left = Array.from(order.values()).flat().length
      assert.strictEqual(parking.events, left)
    }
  })
})
