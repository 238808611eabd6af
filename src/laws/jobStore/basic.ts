/** Laws of enqueueing, claiming and settling. */
import { assert } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
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

export const basicLaws = (laws: Laws): void => {
  const law = lawOf(laws)
  const { elapse } = laws

  law("jobs are claimed in the order in which they were enqueued, with all that they came with", (queue, store) =>
    Effect.gen(function* () {
      const ids = range(250)
      for (let i = 0; i < 250; i += 50) yield* store.enqueue(queue, jobsOf(ids.slice(i, i + 50)))
      const bytes = Uint8Array.from({ length: 256 }, (_, i) => i)
      const odd = { id: "žluť 🐎", headers: `{"a":"ý"}`, format: "raw", payload: bytes }
      yield* store.enqueue(queue, [jobOf("odd", odd)])
      const hand = yield* open(queue)
      const claimed = [...(yield* hand.claim()), ...(yield* hand.claim()), ...(yield* hand.claim())]
      assert.deepStrictEqual(idsOf(claimed), [...ids, "žluť 🐎"])
      assert.strictEqual(text(claimed[3]!.payload), "payload of job0003")
      const last = claimed[250]!
      assert.deepStrictEqual(Array.from(last.payload), Array.from(bytes))
      assert.deepInclude(last, { name: "work", priority: "medium", format: "raw", headers: `{"a":"ý"}`, claim: 3 })
      assert.deepInclude(last, { failures: 0, lost: 0, group: undefined })
      yield* assertCounts(queue, { active: 251 })
    })
  )

  law(
    "an id that is taken is answered with the job that has it, also within one call, and when it is done",
    (queue, store) =>
      Effect.gen(function* () {
        const hand = yield* open(queue)
        const first = yield* store.enqueue(queue, jobsOf(["a", "b", "a"]))
        assert.deepStrictEqual(
          first.map(({ repeated }) => repeated),
          [false, false, true]
        )
        const [a, b] = yield* hand.claim()
        assert.deepStrictEqual(yield* store.enqueue(queue, jobsOf(["a", "c"])), [
          { id: "a", repeated: true },
          { id: "c", repeated: false }
        ])
        yield* hand.settle([
          { job: a!, outcome: doneWith("x", 300) },
          { job: b!, outcome: doneWith("x", 0) }
        ])
        const again = yield* store.enqueue(queue, jobsOf(["a", "b"]))
        assert.deepStrictEqual(
          again.map(({ repeated }) => repeated),
          [true, false]
        )
        // Its result is forgotten, and the id is free.
        yield* elapse(310)
        assert.isUndefined(yield* store.get(queue, "a", false))
        assert.isFalse((yield* store.enqueue(queue, jobsOf(["a"])))[0]!.repeated)
        assert.deepStrictEqual(idsOf(yield* hand.claim()), ["c", "b", "a"])
        assert.deepStrictEqual(idsOf(yield* hand.claim()), [])
      })
  )

  law("one that is claimed again while its old result is forgotten is not forgotten with it", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, jobsOf(["a"]))
      yield* hand.done(yield* hand.claim(), 100)
      yield* elapse(110)
      yield* store.enqueue(queue, jobsOf(["a", "b"]))
      const [a, b] = yield* hand.claim()
      yield* hand.done([b!])
      yield* hand.done([a!])
      assert.strictEqual(text((yield* store.get(queue, "a", false))!.data), "result of a")
    })
  )

  law("a result is there as long as asked for", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, jobsOf(["a", "b"]))
      const [a, b] = yield* hand.claim()
      const bytes = Uint8Array.of(0, 255, 10, 9)
      yield* hand.settle([
        { job: a!, outcome: { _tag: "Done", format: "raw", result: bytes, ttl: 5_000 } },
        { job: b!, outcome: doneWith("short", 200) }
      ])
      yield* assertCounts(queue, { done: 2 })
      const item = yield* store.get(queue, "a", false)
      assert.deepStrictEqual(Array.from(item!.data), Array.from(bytes))
      assert.deepInclude(item, { state: "done", name: "work", format: "raw", failures: 0 })
      assert.deepStrictEqual(idsOf(yield* listOf(queue, "done")).toSorted(), ["a", "b"])
      yield* elapse(210)
      assert.isUndefined(yield* store.get(queue, "b", false))
      assert.isDefined(yield* store.get(queue, "a", false))
    })
  )

  law("high comes before medium and low, each has its share, and what one leaves the others take", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      for (const priority of ["low", "medium", "high"] as const) {
        yield* store.enqueue(queue, jobsOf(range(20, priority[0]), { priority }))
      }
      const taken = yield* hand.claim({ count: 14, shares: [10, 3, 1] })
      const share = (letter: string) => taken.filter(({ id }) => id.startsWith(letter)).length
      assert.deepStrictEqual([share("h"), share("m"), share("l")], [10, 3, 1])
      const rest = yield* hand.claim({ count: 14, shares: [10, 3, 1] })
      assert.deepStrictEqual(
        idsOf(rest)
          .map((id) => id[0])
          .join(""),
        "hhhhhhhhhhmmml"
      )
      assert.strictEqual((yield* hand.claim({ count: 100, shares: [72, 21, 7] })).length, 32)
    })
  )

  law("names are claimed by who knows them, and share what is asked for", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, jobsOf(range(30, "x"), { name: "x" }))
      yield* store.enqueue(queue, jobsOf(range(5, "y"), { name: "y" }))
      assert.deepStrictEqual(yield* hand.claim({ rooms: [{ name: "z", count: 10 }] }), [])
      const rooms = [
        { name: "x", count: 100 },
        { name: "y", count: 100 }
      ]
      const both = idsOf(yield* hand.claim({ rooms, count: 10, shares: [0, 10, 0] }))
      assert.strictEqual(both.filter((id) => id.startsWith("y")).length, 5)
      assert.strictEqual(both.length, 10)
      const few = yield* hand.claim({ rooms: [{ name: "x", count: 3 }], count: 10 })
      assert.strictEqual(few.length, 3)
      assert.deepStrictEqual(idsOf(yield* listOf(queue, "ready", "x")).length, 22)
    })
  )

  law(
    "what is delayed is not ready before its time, then earliest first, and the same moment in order",
    (queue, store) =>
      Effect.gen(function* () {
        const hand = yield* open(queue)
        const now = (yield* hand.exchange()).now
        yield* store.enqueue(queue, [
          jobOf("late", { delay: 600 }),
          ...jobsOf(["same1", "same0", "same2"], { at: now + 400 }),
          jobOf("past", { at: 1 })
        ])
        const first = yield* hand.exchange()
        assert.deepStrictEqual(idsOf(first.claimed), ["past"])
        assert.closeTo(first.next! - first.now, 400, 200)
        yield* assertCounts(queue, { delayed: 4, active: 1 })
        assert.deepStrictEqual(idsOf(yield* listOf(queue, "delayed")).toSorted(), ["late", "same0", "same1", "same2"])
        assert.strictEqual((yield* store.get(queue, "late", false))!.state, "delayed")
        yield* elapse(650)
        yield* assertCounts(queue, { ready: 4, active: 1 })
        assert.deepStrictEqual(idsOf(yield* listOf(queue, "delayed")), [])
        assert.strictEqual((yield* listOf(queue, "ready")).length, 4)
        assert.deepStrictEqual(idsOf(yield* hand.claim()), ["same1", "same0", "same2", "late"])
      })
  )

  law("a delayed job that is promoted is ready now", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, [jobOf("a", { delay: 60_000 }), jobOf("b")])
      assert.isFalse(yield* store.promote(queue, "b"))
      assert.isFalse(yield* store.promote(queue, "none"))
      assert.isTrue(yield* store.promote(queue, "a"))
      assert.isFalse(yield* store.promote(queue, "a"))
      assert.deepStrictEqual(idsOf(yield* hand.claim()).toSorted(), ["a", "b"])
      yield* assertCounts(queue, { active: 2 })
    })
  )

  law("a retry is due after its delay, and knows its failures; one that does not count does not", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, jobsOf(["a", "b", "c"]))
      const [a, b, c] = yield* hand.claim()
      yield* hand.settle([
        { job: a!, outcome: retryIn(300) },
        { job: b!, outcome: retryIn(0) },
        { job: c!, outcome: retryIn(0, false) }
      ])
      const now = yield* hand.claim()
      assert.deepStrictEqual(
        now.map(({ id, failures }) => `${id}${failures}`),
        ["b1", "c0"]
      )
      assert.deepStrictEqual((yield* store.get(queue, "b", false))!.history, [`{"exit":"Failed"}`])
      yield* elapse(310)
      const [later] = yield* hand.claim()
      assert.deepInclude(later, { id: "a", failures: 1 })
      yield* hand.done([later!])
      const item = yield* store.get(queue, "a", false)
      assert.deepInclude(item, { state: "done", failures: 1 })
      assert.deepStrictEqual(item!.history, [`{"exit":"Failed"}`])
      assert.strictEqual(text(item!.data), "result of a")
    })
  )

  law("a ledger keeps its last twenty lines", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, jobsOf(["a"]))
      for (let i = 0; i < 25; i++) {
        const [a] = yield* hand.claim()
        yield* hand.settle([{ job: a!, outcome: { ...retryIn(0), entry: `{"n":${i}}` } }])
      }
      const item = (yield* store.get(queue, "a", false))!
      assert.deepStrictEqual(
        item.history,
        Array.from({ length: 20 }, (_, i) => `{"n":${i + 5}}`)
      )
      assert.strictEqual(item.failures, 25)
    })
  )

  law("a dead job keeps its error, is redriven as if new, or buried", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, jobsOf(["a", "b", "c"]))
      for (const job of yield* hand.claim()) {
        yield* hand.settle([{ job, outcome: retryIn(0) }])
      }
      const claimed = yield* hand.claim()
      yield* hand.settle(claimed.map((job) => ({ job, outcome: dead })))
      yield* assertCounts(queue, { dead: 3 })
      const items = yield* listOf(queue, "dead")
      assert.deepStrictEqual(idsOf(items), ["a", "b", "c"])
      assert.deepInclude(items[0], { reason: "Failed", failures: 1, state: "dead" })
      assert.strictEqual(items[0]!.history.length, 2)
      assert.isTrue((yield* store.enqueue(queue, jobsOf(["a"])))[0]!.repeated)
      assert.deepStrictEqual(yield* hand.claim(), [])
      assert.strictEqual(yield* store.redrive(queue, ["b", "none"]), 1)
      assert.strictEqual(yield* store.bury(queue, ["a"]), 1)
      const [b] = yield* hand.claim()
      assert.deepInclude(b, { id: "b", failures: 0, lost: 0 })
      assert.strictEqual(text(b!.payload), "payload of b")
      yield* assertCounts(queue, { dead: 1, active: 1 })
      assert.strictEqual(yield* store.redrive(queue, undefined), 1)
      assert.deepStrictEqual(idsOf(yield* hand.claim()), ["c"])
      assert.isUndefined(yield* store.get(queue, "a", false))
    })
  )

  law("dead jobs are kept as many as asked for", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.configure(queue, { keepDead: { count: 3 } })
      yield* store.enqueue(queue, jobsOf(range(6)))
      for (const job of yield* hand.claim()) yield* hand.settle([{ job, outcome: dead }])
      assert.deepStrictEqual(idsOf(yield* listOf(queue, "dead")), range(6).slice(3))
    })
  )

  law("finished jobs are kept as many as asked for", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.configure(queue, { keepDone: 10 })
      for (let i = 0; i < 8; i++) {
        yield* store.enqueue(queue, jobsOf(range(5, `r${i}-`)))
        yield* hand.done(yield* hand.claim())
        yield* elapse(2)
      }
      const kept = idsOf(yield* listOf(queue, "done"))
      assert.isAtMost(kept.length, 10)
      assert.includeMembers([...kept], range(5, "r7-"))
    })
  )

  law("while a queue is paused nothing is claimed, and what runs is settled", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, jobsOf(["a", "b"]))
      const [a] = yield* hand.claim({ count: 1 })
      yield* store.pause(queue, true)
      assert.isTrue(yield* store.isPaused(queue))
      assert.deepStrictEqual(yield* hand.claim(), [])
      assert.deepStrictEqual(yield* hand.done([a!]), [])
      yield* store.pause(queue, false)
      assert.deepStrictEqual(idsOf(yield* hand.claim()), ["b"])
    })
  )

  law("flush forgets what waits; remove forgets all, and running ones are refused", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, jobsOf(["a"]))
      const [a] = yield* hand.claim()
      yield* store.enqueue(queue, [
        ...jobsOf(range(700)),
        ...jobsOf(range(3, "d"), { delay: 60_000 }),
        ...jobsOf(range(3, "g"), { group: "one" }),
        jobOf("w", { after: ["a"] })
      ])
      yield* assertCounts(queue, { ready: 703, delayed: 3, waiting: 1, active: 1 })
      assert.strictEqual(yield* store.flush(queue), 707)
      yield* assertCounts(queue, { active: 1 })
      assert.deepStrictEqual(yield* hand.claim(), [])
      yield* store.enqueue(queue, jobsOf(["job0001", "g0001"]))
      assert.deepStrictEqual(idsOf(yield* hand.claim()), ["job0001", "g0001"])
      assert.include([...(yield* store.queues)], queue)
      yield* store.remove(queue)
      assert.notInclude([...(yield* store.queues)], queue)
      yield* assertCounts(queue, {})
      assert.strictEqual((yield* store.exchange(hand.request([{ job: a!, outcome: dead }], {}, 99)))._tag, "Unknown")
    })
  )

  law("enqueueing, what is due again, and the end of a job that is watched are told", (queue, store) =>
    Effect.scoped(
      Effect.gen(function* () {
        const hand = yield* open(queue)
        const heard = (tag: string) =>
          store.signals(queue).pipe(
            Stream.filter((signal) => signal._tag === tag),
            Stream.take(1),
            Stream.runDrain
          )
        yield* hand.claim()
        const working = yield* Effect.forkScoped(heard("Work"), { startImmediately: true })
        const settled = yield* Effect.forkScoped(heard("Settled"), { startImmediately: true })
        // Subscribing takes a moment, and a hint that is lost costs a look.
        for (let i = 0; working.pollUnsafe() === undefined; i++) {
          yield* store.enqueue(queue, jobsOf([`a${i}`]))
          yield* elapse(20)
          if (working.pollUnsafe() === undefined) yield* hand.done(yield* hand.claim())
          yield* hand.claim()
        }
        for (let i = 0; settled.pollUnsafe() === undefined; i++) {
          yield* store.enqueue(queue, jobsOf([`b${i}`]))
          const claimed = yield* hand.claim()
          for (const { id } of claimed) yield* store.get(queue, id, true)
          yield* hand.done(claimed)
          yield* elapse(20)
        }
        yield* Fiber.join(working)
        yield* Fiber.join(settled)
      })
    )
  )
}
