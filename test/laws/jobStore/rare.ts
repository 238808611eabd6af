/** Laws of what few jobs ask for: groups, limits, deduplication, jobs that wait for others. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import {
  assertCounts,
  dead,
  doneWith,
  idsOf,
  jobOf,
  jobsOf,
  type Laws,
  lawOf,
  listOf,
  open,
  range,
  retryIn,
  text
} from "./support.ts"

export const rareLaws = (laws: Laws): void => {
  const law = lawOf(laws)
  const { elapse } = laws
  const grouped = (concurrency: number, limit?: { readonly count: number; readonly per: number }) => ({
    rooms: [{ name: "work", count: 1_000, group: { concurrency, limit } }]
  })

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

  law("a queue gives out so many in a time", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.configure(queue, { limit: { count: 3, per: 400 } })
      yield* store.enqueue(queue, jobsOf(range(10)))
      assert.deepStrictEqual(idsOf(yield* hand.claim()), range(3))
      const none = yield* hand.exchange()
      assert.deepStrictEqual(none.claimed, [])
      assert.isAtMost(none.next! - none.now, 400)
      yield* elapse(410)
      assert.deepStrictEqual(idsOf(yield* hand.claim()), range(6).slice(3))
      yield* store.configure(queue, {})
      assert.deepStrictEqual(idsOf(yield* hand.claim()), range(10).slice(6))
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

  law("under a key there is one job that is not over", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      const keyed = (id: string) => jobOf(id, { deduplicate: { key: "k", replace: false, restart: false } })
      assert.deepStrictEqual(yield* store.enqueue(queue, [keyed("a"), keyed("b")]), [
        { id: "a", repeated: false },
        { id: "a", repeated: true }
      ])
      const claimed = yield* hand.claim()
      assert.deepStrictEqual(idsOf(claimed), ["a"])
      assert.deepStrictEqual(yield* store.enqueue(queue, [keyed("c")]), [{ id: "a", repeated: true }])
      yield* hand.done(claimed)
      assert.deepStrictEqual(yield* store.enqueue(queue, [keyed("d")]), [{ id: "d", repeated: false }])
      assert.deepStrictEqual(idsOf(yield* hand.claim()), ["d"])
    })
  )

  law("under a key with a time there is one in that time, whatever became of it", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      const throttled = (id: string) =>
        jobOf(id, { deduplicate: { key: "k", within: 300, replace: false, restart: false } })
      yield* store.enqueue(queue, [throttled("a")])
      yield* hand.done(yield* hand.claim(), 0)
      assert.deepStrictEqual(yield* store.enqueue(queue, [throttled("b")]), [{ id: "a", repeated: true }])
      yield* elapse(310)
      assert.deepStrictEqual(yield* store.enqueue(queue, [throttled("c")]), [{ id: "c", repeated: false }])
    })
  )

  law("a delayed one under a key takes the new payload, and the new delay if asked for", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      const debounced = (payload: string) =>
        jobOf(payload, { payload, delay: 400, deduplicate: { key: "k", replace: true, restart: true } })
      yield* store.enqueue(queue, [debounced("first")])
      yield* elapse(250)
      assert.deepStrictEqual(yield* store.enqueue(queue, [debounced("second")]), [{ id: "first", repeated: true }])
      yield* elapse(250)
      assert.deepStrictEqual(yield* hand.claim(), [])
      yield* elapse(200)
      const [job] = yield* hand.claim()
      assert.strictEqual(job!.id, "first")
      assert.strictEqual(text(job!.payload), "second")
      // It runs: what comes now is dropped, and changes nothing.
      assert.deepStrictEqual(yield* store.enqueue(queue, [debounced("third")]), [{ id: "first", repeated: true }])
    })
  )

  law("a job that comes after others is ready when the last of them is done", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      const rooms = [
        { name: "work", count: 10 },
        { name: "sum", count: 10 }
      ]
      yield* store.enqueue(queue, [...jobsOf(["a", "b"]), jobOf("s", { name: "sum", after: ["a", "b"] })])
      yield* assertCounts(queue, { ready: 2, waiting: 1 })
      assert.deepStrictEqual(idsOf(yield* listOf(queue, "waiting")), ["s"])
      const [a, b] = yield* hand.claim({ rooms })
      yield* hand.settle([{ job: a!, outcome: doneWith("1") }], { rooms })
      assert.deepStrictEqual(yield* hand.claim({ rooms }), [])
      // One worker ends it who does not know the name of those that wait for it.
      yield* hand.settle([{ job: b!, outcome: doneWith("2") }])
      const [sum] = yield* hand.claim({ rooms })
      assert.deepInclude(sum, { id: "s", name: "sum" })
      assert.deepStrictEqual([...sum!.after], ["a", "b"])
      // What is done already is not waited for.
      yield* store.enqueue(queue, [jobOf("t", { name: "sum", after: ["a"] })])
      assert.deepStrictEqual(idsOf(yield* hand.claim({ rooms })), ["t"])
    })
  )

  law("a job that comes after one that dies, is cancelled or is not there dies too", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, [
        ...jobsOf(["a", "b"]),
        jobOf("s", { after: ["a"] }),
        jobOf("t", { after: ["s"] }),
        jobOf("u", { after: ["b"] }),
        jobOf("v", { after: ["nobody"] })
      ])
      assert.isTrue(yield* store.cancel(queue, "b", 60_000))
      const [a] = yield* hand.claim()
      yield* hand.settle([{ job: a!, outcome: dead }])
      const all = yield* listOf(queue, "dead")
      assert.deepStrictEqual(all.map(({ id, reason }) => `${id} ${reason}`).toSorted(), [
        "a Failed",
        "s Child",
        "t Child",
        "u Child",
        "v Child"
      ])
      assert.deepStrictEqual(yield* hand.claim(), [])
      yield* assertCounts(queue, { dead: 5, done: 1 })
      assert.strictEqual(yield* store.redrive(queue, ["s"]), 1)
      assert.deepStrictEqual(idsOf(yield* hand.claim()), ["s"])
    })
  )

  law("what is said of jobs is kept by name, as it was said last, and outlasts the queue", (queue, store) =>
    Effect.gen(function* () {
      const none = { payload: [], success: [], progress: [] }
      const pay = { name: "pay", payload: ["/card/*", "/a b"], success: [""], progress: [] }
      const mail = { ...none, name: "mail", progress: ["/to"] }
      assert.deepStrictEqual(yield* store.facts(queue), [])
      yield* store.declare(queue, [pay, mail, { ...none, name: "open" }])
      assert.deepStrictEqual(yield* store.facts(queue), [mail, pay])
      assert.notInclude(yield* store.queues, queue)
      yield* store.declare(queue, [
        { ...none, name: "mail" },
        { ...pay, success: [] }
      ])
      yield* store.enqueue(queue, jobsOf(["a"]))
      yield* store.remove(queue)
      assert.deepStrictEqual(yield* store.facts(queue), [{ ...pay, success: [] }])
      assert.deepStrictEqual(yield* store.facts(`${queue}.other`), [])
    })
  )
}
