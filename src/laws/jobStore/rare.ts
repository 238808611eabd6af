/** Laws of what few jobs ask for: limits, deduplication, jobs that wait for others. */
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
  text
} from "./support.ts"

export const rareLaws = (laws: Laws): void => {
  const law = lawOf(laws)
  const { elapse } = laws

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
