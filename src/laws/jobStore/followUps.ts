/** Laws of jobs that a job enqueues: there with what settles it, or not at all, once, whatever answers are lost. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { type Claimed, JobStore, type NewJob } from "../../JobStore.ts"
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
  unique
} from "./support.ts"

const doneAnd = (
  job: Claimed,
  jobs: ReadonlyArray<{ readonly queue: string; readonly job: NewJob }>,
  ttl?: number
) => ({
  job,
  outcome: { ...doneWith(`result of ${job.id}`, ttl), jobs }
})

/** Jobs that come to another shard come soon. */
const ready = (queue: string, ids: ReadonlyArray<string>, elapse: Laws["elapse"]) =>
  Effect.gen(function* () {
    for (let look = 0; look < 200 && (yield* listOf(queue, "ready")).length < ids.length; look++) yield* elapse(10)
    assert.deepStrictEqual(idsOf(yield* listOf(queue, "ready")).toSorted(), ids.toSorted())
  })

export const followUpLaws = (laws: Laws): void => {
  const law = lawOf(laws)
  const { elapse } = laws

  law(
    "what a job enqueues is there when it is done, in its own queue and in others, and wakes who waits there",
    (queue, store) =>
      Effect.gen(function* () {
        const others = [unique("other"), unique("other"), unique("other")]
        const hand = yield* open(queue)
        yield* store.enqueue(queue, jobsOf(["a", "b"]))
        const [a, b] = yield* hand.claim()
        const bytes = Uint8Array.of(0, 10, 255)
        const jobs = [
          { queue, job: jobOf("own") },
          { queue, job: jobOf("delayed", { name: "new", delay: 3_600_000, payload: bytes }) },
          ...others.map((other, i) => ({ queue: other, job: jobOf(`to-${i}`, { priority: "high", payload: bytes }) }))
        ]
        assert.deepStrictEqual(yield* hand.settle([doneAnd(a!, jobs), { job: b!, outcome: doneWith("b") }]), [])
        yield* assertCounts(queue, { ready: 1, delayed: 1, done: 2 })
        assert.deepStrictEqual(Array.from((yield* store.get(queue, "delayed", false))!.data), Array.from(bytes))
        for (const [i, other] of others.entries()) {
          yield* ready(other, [`to-${i}`], elapse)
          assert.deepStrictEqual(Array.from((yield* store.get(other, `to-${i}`, false))!.data), Array.from(bytes))
          assert.include([...(yield* store.queues)], other)
        }
        assert.deepStrictEqual(idsOf(yield* hand.claim()), ["own"])
      })
  )

  law("an exchange that is sent again enqueues nothing again, also what is done and forgotten", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, jobsOf(["a"]))
      const [a] = yield* hand.claim()
      const request = hand.request([doneAnd(a!, [{ queue, job: jobOf("next") }], 0)], {}, ++hand.number)
      const first = yield* store.exchange(request)
      const second = yield* store.exchange(request)
      if (first._tag !== "Exchanged" || second._tag !== "Exchanged") return assert.fail("the session is not known")
      assert.deepStrictEqual(second.claimed, first.claimed)
      const [next] = first.claimed
      assert.strictEqual(next?.id, "next")
      yield* hand.done([next!], 0)
      yield* store.exchange(request)
      yield* assertCounts(queue, {})
    })
  )

  law("a settlement that comes too late enqueues nothing; beside it others are stored", (queue, store) =>
    Effect.gen(function* () {
      const other = unique("other")
      const [slow, live] = [yield* open(queue, 50), yield* open(queue)]
      yield* store.enqueue(queue, jobsOf(["a"]))
      const [a] = yield* slow.claim()
      yield* elapse(60)
      yield* store.sweep(queue)
      const [again] = yield* live.claim()
      assert.strictEqual(again!.id, "a")
      const jobs = [
        { queue, job: jobOf("own") },
        { queue: other, job: jobOf("far") }
      ]
      const stolen = { ...a!, claim: a!.claim + 7 }
      assert.deepStrictEqual(yield* live.settle([doneAnd(stolen, jobs)]), ["a"])
      yield* assertCounts(queue, { active: 1 })
      assert.deepStrictEqual(yield* live.settle([doneAnd(again!, jobs)]), [])
      yield* assertCounts(queue, { ready: 1, done: 1 })
      yield* ready(other, ["far"], elapse)
    })
  )

  law("follow-ups keep to ids, keys, groups and the jobs they wait for", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      yield* store.enqueue(queue, jobsOf(["a", "b", "taken"]))
      const [a, b, taken] = yield* hand.claim()
      const key = { key: "k", replace: false, restart: false }
      const jobs = [
        { queue, job: jobOf("taken") },
        { queue, job: jobOf("one", { deduplicate: key }) },
        { queue, job: jobOf("two", { deduplicate: key }) },
        { queue, job: jobOf("after", { after: ["b"] }) },
        { queue, job: jobOf("late", { after: ["taken"] }) }
      ]
      yield* hand.settle([doneAnd(a!, jobs)])
      yield* assertCounts(queue, { ready: 1, waiting: 2, active: 2, done: 1 })
      yield* hand.settle([
        { job: b!, outcome: doneWith("b") },
        { job: taken!, outcome: dead }
      ])
      assert.deepStrictEqual(idsOf(yield* hand.claim()).toSorted(), ["after", "one"])
      assert.deepInclude(yield* store.get(queue, "late", false), { state: "dead", reason: "Child" })
    })
  )

  law("many jobs with many follow-ups each, in one exchange", (queue, store) =>
    Effect.gen(function* () {
      const [hand, other] = [yield* open(queue), unique("other")]
      yield* store.enqueue(queue, jobsOf(range(50)))
      const claimed = yield* hand.claim()
      yield* hand.settle(
        claimed.map((job, n) =>
          doneAnd(
            job,
            range(20, `${n}-`).map((id, i) => ({
              queue: i % 2 === 0 ? queue : other,
              job: jobOf(id, { name: `n${n % 5}` })
            }))
          )
        )
      )
      yield* assertCounts(queue, { ready: 500, done: 50 })
      for (let look = 0; look < 200 && (yield* (yield* JobStore).counts(other)).ready < 500; look++) yield* elapse(10)
      yield* assertCounts(other, { ready: 500 })
    })
  )
}
