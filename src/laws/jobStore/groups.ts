/** Laws of groups: in order, so many at a time, whatever becomes of their jobs. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import type { Claimed } from "../../JobStore.ts"
import { Choices } from "../../testing/choices.ts"
import {
  assertCounts,
  dead,
  doneWith,
  type Hand,
  idsOf,
  jobOf,
  jobsOf,
  type Laws,
  lawOf,
  open,
  range,
  retryIn
} from "./support.ts"

const grouped = (concurrency: number, limit?: { readonly count: number; readonly per: number }) => ({
  rooms: [{ name: "work", count: 1_000, group: { concurrency, limit } }]
})

/** What a queue of groups should hold: who waits, in order, and who runs. */
class Model {
  readonly waiting = new Map<string, Array<string>>()
  readonly running = new Map<string, number>()
  active = 0
  ofGroup(group: string): Array<string> {
    let ids = this.waiting.get(group)
    if (ids === undefined) this.waiting.set(group, (ids = []))
    return ids
  }
  get ready(): number {
    return [...this.waiting.values()].reduce((sum, ids) => sum + ids.length, 0)
  }
  take({ group, id }: Claimed, concurrency: number): void {
    const ids = this.ofGroup(group!)
    assert.include(ids, id)
    if (concurrency === 1) assert.strictEqual(ids[0], id)
    ids.splice(ids.indexOf(id), 1)
    const running = (this.running.get(group!) ?? 0) + 1
    assert.isAtMost(running, concurrency)
    this.running.set(group!, running)
    this.active++
  }
  leave({ group, id }: Claimed, back: boolean): void {
    this.running.set(group!, this.running.get(group!)! - 1)
    this.active--
    if (back) this.ofGroup(group!).unshift(id)
  }
}

/** Some steps of a few workers; then they run all that is left. */
const play = (queue: string, random: Choices) =>
  Effect.gen(function* () {
    const concurrency = 1 + random.below(3)
    const model = new Model()
    const hands: Array<{ hand: Hand; held: Array<Claimed> }> = []
    for (let i = 0; i < 3; i++) hands.push({ hand: yield* open(queue), held: [] })
    const store = hands[0]!.hand.store
    let [ids, deaths] = [0, 0]
    const settle = (at: (typeof hands)[number], jobs: ReadonlyArray<Claimed>, count: number, well: boolean) =>
      Effect.gen(function* () {
        const outcomes = jobs.map((job) => {
          const kind = well ? 0 : random.below(6)
          model.leave(job, kind === 1 || kind === 2)
          if (kind === 3) deaths++
          const outcome =
            kind === 1 ? retryIn(0) : kind === 2 ? ({ _tag: "Back" } as const) : kind === 3 ? dead : doneWith("x", 0)
          return { job, outcome }
        })
        at.held = at.held.filter((job) => !jobs.includes(job))
        const answer = yield* at.hand.exchange(outcomes, { ...grouped(concurrency), count })
        assert.deepStrictEqual(answer.refused, [])
        for (const job of answer.claimed) model.take(job, concurrency)
        at.held.push(...answer.claimed)
      })
    for (let step = 0; step < 60; step++) {
      const at = random.pick(hands)
      const what = random.below(20)
      if (what < 6) {
        const jobs = Array.from({ length: 1 + random.below(6) }, () => {
          const group = random.pick(["a", "b", "c", "d", "e"])
          const id = `job${ids++}`
          model.ofGroup(group).push(id)
          return jobOf(id, { group })
        })
        yield* store.enqueue(queue, jobs)
      } else if (what < 10) {
        yield* settle(at, [], 1 + random.below(6), false)
      } else if (what < 17) {
        // One after the other where order shows: several that go back at once may stand in either order.
        const some = at.held.filter(() => random.chance(0.5)).slice(0, concurrency === 1 ? 9 : 1)
        yield* settle(at, some, random.below(5), false)
      } else if (what === 17) {
        const group = random.pick(["a", "b", "c", "d", "e"])
        const of = model.ofGroup(group)
        if (of.length > 0) {
          const [id] = of.splice(random.below(of.length), 1)
          assert.isTrue(yield* store.cancel(queue, id!, 0))
        }
      } else if (what === 18) {
        yield* store.close(at.hand.session)
        for (const job of at.held.toReversed()) model.leave(job, true)
        at.held = []
        at.hand = yield* open(queue)
      } else if (random.chance(0.2)) {
        assert.strictEqual(yield* store.flush(queue), model.ready)
        for (const ids of model.waiting.values()) ids.length = 0
      }
      yield* assertCounts(queue, { ready: model.ready, active: model.active, dead: deaths })
    }
    // Each look settles what is held, so nothing keeps anything from running; a turn may go to a lane that has nothing.
    for (let look = 0; look < 60 && model.ready + model.active > 0; look++) {
      for (const at of hands) yield* settle(at, at.held, 5, true)
    }
    yield* assertCounts(queue, { dead: deaths })
    assert.deepStrictEqual([model.ready, model.active], [0, 0])
  })

export const groupLaws = (laws: Laws): void => {
  const law = lawOf(laws)
  const { elapse } = laws

  law("jobs of a group run in order, so many at a time; groups take turns", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, jobsOf(range(4, "a"), { group: "a" }))
      yield* store.enqueue(queue, jobsOf(range(4, "b"), { group: "b" }))
      yield* store.enqueue(queue, jobsOf(["free"]))
      yield* assertCounts(queue, { ready: 9 })
      const order: Array<string> = []
      for (let round = 0; round < 4; round++) {
        const claimed = yield* hand.claim(grouped(1))
        order.push(...idsOf(claimed))
        const groups = claimed.flatMap(({ group }) => group ?? [])
        assert.deepStrictEqual(groups.toSorted(), ["a", "b"])
        assert.deepStrictEqual(yield* hand.claim(grouped(1)), [])
        yield* hand.settle(
          claimed.map((job) => ({ job, outcome: doneWith("x") })),
          grouped(1)
        )
      }
      for (const group of ["a", "b"])
        assert.deepStrictEqual(
          order.filter((id) => id[0] === group),
          range(4, group)
        )
      assert.include(order, "free")
      yield* assertCounts(queue, { done: 9 })
      // Two at a time.
      yield* store.enqueue(queue, jobsOf(range(5, "c"), { group: "a" }))
      assert.deepStrictEqual(idsOf(yield* hand.claim(grouped(2))), range(2, "c"))
      yield* assertCounts(queue, { ready: 3, active: 2, done: 9 })
    })
  )

  law("who knows nothing of the groups of a name takes their jobs one at a time, in order", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, [...jobsOf(range(3, "a"), { group: "a" }), ...jobsOf(range(3, "b"), { group: "b" })])
      const order: Array<string> = []
      for (let round = 0; round < 3; round++) {
        const claimed = yield* hand.claim()
        assert.lengthOf(claimed, 2)
        order.push(...idsOf(claimed))
        yield* hand.done(claimed)
      }
      for (const group of ["a", "b"])
        assert.deepStrictEqual(
          order.filter((id) => id[0] === group),
          range(3, group)
        )
      yield* assertCounts(queue, { done: 6 })
    })
  )

  law("a group waits for the retry of its first, and keeps its order", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, [...jobsOf(range(3, "a"), { group: "a" }), jobOf("b", { group: "b" })])
      const claimed = yield* hand.claim(grouped(1))
      assert.deepStrictEqual(idsOf(claimed).toSorted(), ["a0000", "b"])
      const first = claimed.find(({ id }) => id === "a0000")!
      yield* hand.settle([{ job: first, outcome: retryIn(300) }], grouped(1))
      const before = yield* hand.exchange([], grouped(1))
      assert.deepStrictEqual(before.claimed, [])
      assert.isDefined((yield* hand.exchange([], grouped(1))).next)
      yield* elapse(310)
      const [again] = yield* hand.claim(grouped(1))
      assert.deepInclude(again, { id: "a0000", failures: 1 })
      yield* hand.settle([{ job: again!, outcome: { _tag: "Back" } }], grouped(1))
      assert.deepStrictEqual(idsOf(yield* hand.claim(grouped(1))), ["a0000"])
    })
  )

  law("a dead worker's jobs of a group are the first of it again", (queue, store) =>
    Effect.gen(function* () {
      const [one, two] = [yield* open(queue, 100), yield* open(queue)]
      yield* store.enqueue(queue, jobsOf(range(3, "a"), { group: "a" }))
      assert.deepStrictEqual(idsOf(yield* one.claim(grouped(1))), ["a0000"])
      assert.isTrue(yield* store.cancel(queue, "a0001", 60_000))
      yield* elapse(110)
      yield* store.sweep(queue)
      const first = yield* two.claim(grouped(1))
      assert.deepStrictEqual(idsOf(first), ["a0000"])
      yield* two.settle([{ job: first[0]!, outcome: dead }], grouped(1))
      const third: Array<string> = []
      for (let look = 0; look < 3; look++) third.push(...idsOf(yield* two.claim(grouped(1))))
      assert.deepStrictEqual(third, ["a0002"])
    })
  )

  law("a dead job of a group that was not used since runs when it is redriven", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, jobsOf(["a"], { group: "a" }))
      const [job] = yield* hand.claim(grouped(1, { count: 5, per: 100 }))
      yield* hand.settle([{ job: job!, outcome: dead }], grouped(1))
      yield* elapse(120)
      yield* store.extend(hand.session, 60_000, hand.number, [])
      assert.strictEqual(yield* store.redrive(queue, undefined), 1)
      assert.deepStrictEqual(idsOf(yield* hand.claim(grouped(1))), ["a"])
    })
  )

  law("a group that was flushed is in use again with its next job, whatever of it was running", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, [
        ...jobsOf(range(900, "a"), { group: "a" }),
        ...jobsOf(range(3, "b"), { group: "b" }),
        ...jobsOf(range(3, "c"), { group: "c" })
      ])
      const claimed = yield* hand.claim({ ...grouped(1), count: 3 })
      assert.deepStrictEqual(idsOf(claimed), ["a0000", "b0000", "c0000"])
      // One group is in its list with nothing running, one runs, and one is in neither state for good.
      yield* hand.settle([{ job: claimed[0]!, outcome: doneWith("x") }], grouped(1))
      yield* hand.settle([{ job: claimed[2]!, outcome: { _tag: "Back" } }], grouped(1))
      assert.strictEqual(yield* store.flush(queue), 904)
      yield* assertCounts(queue, { active: 1, done: 1 })
      yield* store.enqueue(queue, [
        jobOf("a", { group: "a" }),
        jobOf("b", { group: "b" }),
        jobOf("c", { group: "c" }),
        jobOf("d", { group: "c" })
      ])
      yield* assertCounts(queue, { ready: 4, active: 1, done: 1 })
      const next: Array<Claimed> = []
      for (let look = 0; look < 3; look++) next.push(...(yield* hand.claim(grouped(1))))
      assert.deepStrictEqual(idsOf(next).toSorted(), ["a", "c"])
      yield* hand.settle(
        [claimed[1]!, ...next].map((job) => ({ job, outcome: doneWith("x") })),
        grouped(1)
      )
      const last: Array<Claimed> = []
      for (let look = 0; look < 3; look++) last.push(...(yield* hand.claim(grouped(1))))
      assert.deepStrictEqual(idsOf(last).toSorted(), ["b", "d"])
    })
  )

  law("a cancelled job of a group is counted no more, and those behind it run", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, jobsOf(["a", "b", "c", "d"], { group: "a" }))
      for (const id of ["b", "c"]) assert.isTrue(yield* store.cancel(queue, id, 0))
      yield* assertCounts(queue, { ready: 2 })
      // One of them comes again.
      yield* store.enqueue(queue, jobsOf(["b"], { group: "a" }))
      yield* assertCounts(queue, { ready: 3 })
      const order: Array<string> = []
      for (let look = 0; look < 9; look++) {
        const claimed = yield* hand.claim(grouped(1))
        order.push(...idsOf(claimed))
        yield* hand.settle(
          claimed.map((job) => ({ job, outcome: doneWith("x", 0) })),
          grouped(1)
        )
      }
      assert.deepStrictEqual(order.toSorted(), ["a", "b", "d"])
      assert.isBelow(order.indexOf("a"), order.indexOf("d"))
      yield* assertCounts(queue, {})
      // Into another group: there, and not where it was.
      yield* store.enqueue(queue, jobsOf(["e", "f"], { group: "a" }))
      assert.isTrue(yield* store.cancel(queue, "f", 0))
      yield* store.enqueue(queue, jobsOf(["f"], { group: "b" }))
      yield* assertCounts(queue, { ready: 2 })
      const both = yield* hand.claim(grouped(1))
      assert.deepStrictEqual(both.map(({ group, id }) => `${id} of ${group}`).toSorted(), ["e of a", "f of b"])
      yield* hand.settle(
        both.map((job) => ({ job, outcome: doneWith("x", 0) })),
        grouped(1)
      )
      for (let look = 0; look < 3; look++) assert.deepStrictEqual(yield* hand.claim(grouped(1)), [])
      yield* assertCounts(queue, {})
    })
  )

  law("many groups of one job each, in turns of a few", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      const groups = range(300, "g")
      yield* store.enqueue(
        queue,
        groups.map((group) => jobOf(group, { group }))
      )
      const order: Array<string> = []
      for (let look = 0; look < 200 && order.length < 300; look++) {
        const claimed = yield* hand.claim({ ...grouped(1), count: 7 })
        order.push(...idsOf(claimed))
        yield* hand.settle(
          claimed.map((job) => ({ job, outcome: doneWith("x", 0) })),
          grouped(1)
        )
      }
      assert.deepStrictEqual(order, groups)
      // What is left of the groups is met by whoever looks next, and hides none of a new one.
      yield* store.enqueue(queue, jobsOf(["new"], { group: "new" }))
      yield* assertCounts(queue, { ready: 1 })
      let found: ReadonlyArray<string> = []
      for (let look = 0; look < 100 && found.length === 0; look++) found = idsOf(yield* hand.claim(grouped(1)))
      assert.deepStrictEqual(found, ["new"])
    })
  )

  law("a group gives out so many in a time, and holds up no other", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      const limit = { count: 2, per: 400 }
      yield* store.enqueue(queue, jobsOf(range(4, "a"), { group: "a" }))
      const claimed: Array<string> = []
      for (let look = 0; look < 4; look++) claimed.push(...idsOf(yield* hand.claim(grouped(10, limit))))
      assert.deepStrictEqual(claimed, range(2, "a"))
      yield* store.enqueue(queue, jobsOf(["b"], { group: "b" }))
      assert.deepStrictEqual(idsOf(yield* hand.claim(grouped(10, limit))), ["b"])
      yield* assertCounts(queue, { ready: 2, active: 3 })
      yield* elapse(410)
      for (let look = 0; look < 3; look++) claimed.push(...idsOf(yield* hand.claim(grouped(10, limit))))
      assert.deepStrictEqual(claimed, range(4, "a"))
    })
  )

  law("whatever becomes of its jobs, a group runs in order, so many at a time, and to its end", (queue) =>
    Effect.forEach(
      Array.from({ length: 20 }, (_, seed) => seed),
      (seed) =>
        Effect.catchCause(play(`${queue}-${seed}`, new Choices(seed)), (cause) =>
          Effect.die(new Error(`seed ${seed}`, { cause }))
        ),
      { discard: true }
    )
  )
}
