/** Laws of sessions: what is sent again, what comes too late, and what becomes of the jobs of the dead. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import {
  assertCounts,
  doneWith,
  idsOf,
  jobsOf,
  type Laws,
  lawOf,
  lease,
  open,
  range,
  retryIn,
  text
} from "./support.ts"

export const sessionLaws = (laws: Laws): void => {
  const law = lawOf(laws)
  const { elapse } = laws

  law("the same number gets the same jobs and the same refusals, and changes nothing", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, jobsOf(range(10)))
      const first = yield* hand.claim({ count: 4 })
      const wrong = { ...first[0]!, claim: 77 }
      const settle = [
        { job: first[1]!, outcome: doneWith("x") },
        { job: first[2]!, outcome: retryIn(0) },
        { job: wrong, outcome: doneWith("y") }
      ]
      const answer = yield* hand.exchange(settle, { count: 3 })
      const again = yield* store.exchange(hand.request(settle, { count: 3 }, hand.number))
      assert.strictEqual(again._tag, "Exchanged")
      if (again._tag !== "Exchanged") return
      assert.deepStrictEqual(again.claimed, answer.claimed)
      assert.deepStrictEqual(again.refused, [first[0]!.id])
      assert.deepStrictEqual(answer.refused, [first[0]!.id])
      yield* assertCounts(queue, { ready: 4, active: 5, done: 1 })
      // A duplicate from long ago does nothing.
      assert.strictEqual((yield* store.exchange(hand.request([], {}, hand.number - 1)))._tag, "Unknown")
      yield* assertCounts(queue, { ready: 4, active: 5, done: 1 })
    })
  )

  law("only the claim in force settles a job", (queue, store) =>
    Effect.gen(function* () {
      const [one, two] = [yield* open(queue, 150), yield* open(queue)]
      yield* store.enqueue(queue, jobsOf(["a", "b"]))
      const mine = yield* one.claim()
      assert.deepStrictEqual(yield* two.done(mine), ["a", "b"])
      yield* elapse(160)
      assert.isTrue((yield* two.exchange()).expired)
      assert.strictEqual(yield* store.sweep(queue), 2)
      const theirs = yield* two.claim()
      assert.deepStrictEqual(
        theirs.map(({ id, lost }) => `${id}${lost}`),
        ["a1", "b1"]
      )
      assert.deepStrictEqual(yield* two.done([theirs[0]!]), [])
      // Its session is not known any more.
      assert.strictEqual(
        (yield* store.exchange(one.request([{ job: mine[1]!, outcome: doneWith("late") }], {}, 9)))._tag,
        "Unknown"
      )
      assert.deepStrictEqual(yield* two.done([theirs[1]!, theirs[0]!]), ["a"])
      assert.strictEqual(text((yield* store.get(queue, "b", false))!.data), "result of b")
    })
  )

  law("a crash between claim and settle loses nothing, and costs no retry", (queue, store) =>
    Effect.gen(function* () {
      const [one, two] = [yield* open(queue, 150), yield* open(queue)]
      yield* store.enqueue(queue, jobsOf(range(5)))
      yield* one.claim()
      assert.strictEqual(yield* store.sweep(queue), 0)
      yield* elapse(160)
      yield* store.enqueue(queue, jobsOf(["behind"]))
      assert.strictEqual(yield* store.sweep(queue), 5)
      const back = yield* two.claim()
      // At the place that they had.
      assert.deepStrictEqual(idsOf(back), [...range(5), "behind"])
      assert.deepStrictEqual(
        back.map(({ failures }) => failures),
        [0, 0, 0, 0, 0, 0]
      )
    })
  )

  law("one that twice lost its lease comes alone, to who has nothing in hand; the third is its end", (queue, store) =>
    Effect.gen(function* () {
      yield* store.enqueue(queue, jobsOf(["a", "b"]))
      yield* open(queue)
      for (const lost of [1, 2]) {
        const victim = yield* open(queue, 120)
        assert.strictEqual((yield* victim.claim()).length, 2, String(lost))
        yield* elapse(130)
        assert.strictEqual(yield* store.sweep(queue), 2)
      }
      yield* store.enqueue(queue, jobsOf(["c"]))
      const hand = yield* open(queue, 400)
      const beside = yield* hand.exchange()
      assert.deepStrictEqual(idsOf(beside.claimed), ["c"])
      assert.isTrue(beside.suspects)
      yield* hand.done(beside.claimed)
      const alone = yield* hand.claim({ alone: true })
      assert.deepStrictEqual(
        alone.map(({ id, lost }) => `${id}${lost}`),
        ["a2"]
      )
      yield* elapse(420)
      assert.strictEqual(yield* store.sweep(queue), 1)
      const item = yield* store.get(queue, "a", false)
      assert.deepInclude(item, { state: "dead", reason: "Lost", lost: 3 })
      assert.strictEqual(item!.history.length, 3)
      assert.strictEqual((yield* store.get(queue, "b", false))!.state, "ready")
      // As if new.
      assert.strictEqual(yield* store.redrive(queue, ["a"]), 1)
      const last = yield* open(queue)
      assert.deepStrictEqual(
        (yield* last.claim()).map(({ id, lost }) => `${id}${lost}`),
        ["a0"]
      )
    })
  )

  law("a lease that is extended holds; what is not in hand is ready again at once, and not counted", (queue, store) =>
    Effect.gen(function* () {
      const [one, two] = [yield* open(queue, 400), yield* open(queue)]
      yield* store.enqueue(queue, jobsOf(range(4)))
      const claimed = yield* one.claim()
      for (let i = 0; i < 4; i++) {
        yield* elapse(150)
        const answer = yield* store.extend(one.session, 400, one.number, claimed)
        assert.deepStrictEqual(answer, { lost: [], cancelled: [], expired: false })
      }
      assert.strictEqual(yield* store.sweep(queue), 0)
      // The answer to this one was lost: it does not know of these jobs, and did not get so far.
      yield* store.enqueue(queue, jobsOf(["x", "y"]))
      yield* one.claim()
      yield* store.extend(one.session, 400, one.number - 1, claimed)
      assert.deepStrictEqual(yield* two.claim(), [])
      yield* store.extend(one.session, 400, one.number, claimed.slice(1))
      const back = yield* two.claim()
      assert.deepStrictEqual(back.map(({ id, lost }) => `${id}${lost}`).toSorted(), ["job00000", "x0", "y0"])
      const answer = yield* store.extend(one.session, 400, one.number, claimed)
      assert.deepStrictEqual(answer === "Unknown" ? [] : answer.lost, ["job0000"])
    })
  )

  law("a session that ends gives back what it has at once, before all others and not counted", (queue, store) =>
    Effect.gen(function* () {
      const [one, two] = [yield* open(queue), yield* open(queue)]
      yield* store.enqueue(queue, jobsOf(range(6)))
      const [first, ...rest] = yield* one.claim({ count: 3 })
      yield* one.settle([{ job: first!, outcome: { _tag: "Back" } }])
      yield* store.close(one.session)
      yield* store.close(one.session)
      assert.strictEqual(yield* store.extend(one.session, lease, one.number, rest), "Unknown")
      assert.strictEqual((yield* store.exchange(one.request([], {}, 99)))._tag, "Unknown")
      const all = yield* two.claim()
      assert.deepStrictEqual(idsOf(all).slice(0, 3).toSorted(), range(3))
      assert.deepStrictEqual(idsOf(all).slice(3), range(6).slice(3))
      assert.isTrue(all.every(({ failures, lost }) => failures === 0 && lost === 0))
    })
  )

  law("when most leases end at once, it was the server that was away: nobody is swept at once", (queue, store) =>
    Effect.gen(function* () {
      const hands = [yield* open(queue, 100), yield* open(queue, 100), yield* open(queue, 100)]
      yield* store.enqueue(queue, jobsOf(["a"]))
      const claimed = yield* hands[0]!.claim()
      yield* elapse(120)
      assert.strictEqual(yield* store.sweep(queue), 0)
      assert.deepStrictEqual(yield* store.extend(hands[0]!.session, lease, 1, claimed), {
        lost: [],
        cancelled: [],
        expired: true
      })
      assert.deepStrictEqual(yield* hands[0]!.done(claimed), [])
    })
  )

  law("several sessions of one worker that end are one that is gone, and not a server that was away", (queue, store) =>
    Effect.gen(function* () {
      const [left, right] = [yield* open(queue, 100, "dead"), yield* open(queue, 100, "dead")]
      yield* open(queue)
      yield* open(queue)
      const third = yield* open(queue, 100, "dead")
      yield* store.enqueue(queue, jobsOf(["a", "b", "c"]))
      for (const hand of [left, right, third]) assert.strictEqual((yield* hand.claim({ count: 1 })).length, 1)
      yield* elapse(120)
      // Each sweep takes one of them, or all.
      let swept = 0
      for (let i = 0; i < 3; i++) swept += yield* store.sweep(queue)
      assert.strictEqual(swept, 3)
    })
  )

  law("a waiting job is cancelled at once, a running one is told, and one that is over is not", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, [...jobsOf(["a", "b", "c"]), ...jobsOf(["d"], { delay: 60_000 })])
      assert.isTrue(yield* store.cancel(queue, "b", 60_000))
      assert.isTrue(yield* store.cancel(queue, "d", 60_000))
      assert.isFalse(yield* store.cancel(queue, "b", 60_000))
      assert.isFalse(yield* store.cancel(queue, "none", 60_000))
      yield* assertCounts(queue, { ready: 2, done: 2 })
      const [a, c] = yield* hand.claim()
      assert.deepStrictEqual([a!.id, c!.id], ["a", "c"])
      assert.deepInclude(yield* store.get(queue, "b", false), { state: "cancelled", name: "work" })
      assert.isTrue((yield* store.enqueue(queue, jobsOf(["b"])))[0]!.repeated)
      assert.isTrue(yield* store.cancel(queue, "a", 60_000))
      const answer = yield* store.extend(hand.session, lease, hand.number, [a!, c!])
      assert.deepStrictEqual(answer === "Unknown" ? [] : answer.cancelled, ["a"])
      yield* hand.settle([{ job: a!, outcome: { _tag: "Cancelled", ttl: 60_000 } }])
      yield* hand.done([c!])
      assert.strictEqual((yield* store.get(queue, "a", false))!.state, "cancelled")
      assert.isFalse(yield* store.cancel(queue, "a", 60_000))
      assert.isFalse(yield* store.cancel(queue, "c", 60_000))
      yield* assertCounts(queue, { done: 4 })
    })
  )

  law("a cancelled job that is enqueued again runs once", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, jobsOf(["a", "b", "c"]))
      for (const id of ["a", "b"]) assert.isTrue(yield* store.cancel(queue, id, 0))
      yield* store.enqueue(queue, jobsOf(["a"]))
      yield* store.enqueue(queue, jobsOf(["b"], { priority: "high" }))
      yield* assertCounts(queue, { ready: 3 })
      assert.deepStrictEqual(idsOf(yield* hand.claim()).toSorted(), ["a", "b", "c"])
      assert.deepStrictEqual(yield* hand.claim(), [])
      yield* assertCounts(queue, { active: 3 })
    })
  )

  law("one that was to stop when its worker died does not run again", (queue, store) =>
    Effect.gen(function* () {
      const [one, two] = [yield* open(queue, 100), yield* open(queue)]
      yield* store.enqueue(queue, jobsOf(["a"]))
      yield* one.claim()
      assert.isTrue(yield* store.cancel(queue, "a", 60_000))
      yield* elapse(110)
      yield* store.sweep(queue)
      assert.deepStrictEqual(yield* two.claim(), [])
      yield* assertCounts(queue, {})
    })
  )

  law("progress is told by the claim in force only, and gone with the end", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, jobsOf(["a"]))
      const [a] = yield* hand.claim()
      assert.isTrue(yield* store.progress(hand.session, a!, "50"))
      assert.isFalse(yield* store.progress(hand.session, { ...a!, claim: 9 }, "60"))
      assert.deepInclude(yield* store.get(queue, "a", false), { state: "active", progress: "50" })
      yield* hand.done([a!])
      assert.isUndefined((yield* store.get(queue, "a", false))!.progress)
    })
  )
}
