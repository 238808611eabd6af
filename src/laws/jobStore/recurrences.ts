/** Laws of jobs that recur: set once, fired once for each slot, through lost answers and races. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import type { Firing, JobStore, NewRecurrence, Recurrence } from "../../JobStore.ts"
import { assertCounts, idsOf, type Laws, lawOf, open, text } from "./support.ts"

const template = { name: "work", priority: "medium", format: undefined, payload: "tick", headers: "" } as const

const recurrence = (first: number, more: Partial<NewRecurrence> = {}): NewRecurrence => ({
  name: "nightly",
  timing: "T",
  missed: "skip",
  job: template,
  first,
  ...more
})

const firing = ({ name, revision, slot }: Recurrence, next: number): Firing => ({
  name,
  revision,
  slot,
  next,
  run: { slot, job: { ...template, id: `${name}@${slot}` } }
})

const all = (store: JobStore["Service"], queue: string) =>
  Effect.map(store.recurrences(queue, "all"), ({ found }) => found)

const nowOf = (store: JobStore["Service"], queue: string) =>
  Effect.map(store.recurrences(queue, "due"), ({ now }) => now)

export const recurrenceLaws = (laws: Laws): void => {
  const law = lawOf(laws)
  const { elapse } = laws

  law("one that is set again is not doubled, keeps its slot under the same timing, and a pause", (queue, store) =>
    Effect.gen(function* () {
      yield* store.recur(queue, recurrence(5_000_000_000_000))
      const [first] = yield* all(store, queue)
      assert.deepInclude(first, {
        name: "nightly",
        timing: "T",
        paused: false,
        last: undefined,
        slot: 5_000_000_000_000
      })
      assert.deepInclude(first!.job, { name: "work", priority: "medium", headers: "" })
      yield* store.recur(queue, recurrence(6_000_000_000_000))
      assert.deepStrictEqual(yield* all(store, queue), [first])
      // Bytes stay bytes, whatever they are.
      const payload = Uint8Array.of(10, 0, 255, 10, 9, 10)
      yield* store.alter(queue, "nightly", "pause")
      yield* store.recur(queue, recurrence(6_000_000_000_000, { job: { ...template, payload } }))
      const [second] = yield* all(store, queue)
      assert.deepInclude(second, { paused: true, slot: 5_000_000_000_000 })
      assert.deepStrictEqual(Array.from(second!.job.payload as Uint8Array), Array.from(payload))
      assert.notStrictEqual(second!.revision, first!.revision)
      yield* store.recur(queue, recurrence(7_000_000_000_000, { timing: "other" }))
      const [third] = yield* all(store, queue)
      assert.deepInclude(third, { paused: true, slot: 7_000_000_000_000, timing: "other" })
      assert.strictEqual(text(third!.job.payload as Uint8Array), "tick")
      assert.include([...(yield* store.queues)], queue)
    })
  )

  law("each slot is enqueued once, however often and by whomever it is fired", (queue, store) =>
    Effect.gen(function* () {
      const now = yield* nowOf(store, queue)
      yield* store.recur(queue, recurrence(now - 10))
      const { found, next } = yield* store.recurrences(queue, "due")
      assert.strictEqual(next, now - 10)
      const one = firing(found[0]!, now + 60_000)
      const answers = yield* Effect.all(
        [store.fire(queue, [one]), store.fire(queue, [one]), store.fire(queue, [one])],
        {
          concurrency: 3
        }
      )
      for (const answer of answers) assert.strictEqual(answer.next, now + 60_000)
      const hand = yield* open(queue)
      const claimed = yield* hand.claim()
      assert.deepStrictEqual(idsOf(claimed), [`nightly@${now - 10}`])
      assert.strictEqual(text(claimed[0]!.payload), "tick")
      yield* hand.done(claimed, 0)
      // Forgotten as it is, its slot does not come again.
      yield* store.fire(queue, [one])
      yield* assertCounts(queue, {})
      assert.deepInclude((yield* all(store, queue))[0], { last: now - 10, slot: now + 60_000 })
    })
  )

  law("what is not due, paused, changed or gone is not fired", (queue, store) =>
    Effect.gen(function* () {
      const now = yield* nowOf(store, queue)
      for (const name of ["paused", "changed", "gone"]) yield* store.recur(queue, recurrence(now - 10, { name }))
      yield* store.recur(queue, recurrence(now + 60_000, { name: "early" }))
      const before = yield* all(store, queue)
      const { found } = yield* store.recurrences(queue, "due")
      assert.deepStrictEqual(found.map(({ name }) => name).toSorted(), ["changed", "gone", "paused"])
      assert.isTrue(yield* store.alter(queue, "paused", "pause"))
      assert.isTrue(yield* store.alter(queue, "gone", "remove"))
      yield* store.recur(queue, recurrence(now - 10, { name: "changed", missed: "last" }))
      yield* store.fire(
        queue,
        before.map((one) => firing(one, now + 120_000))
      )
      yield* assertCounts(queue, {})
      assert.deepStrictEqual(
        (yield* all(store, queue)).map(({ name, slot }) => [name, slot]),
        [
          ["changed", now - 10],
          ["early", now + 60_000],
          ["paused", now - 10]
        ]
      )
      assert.isFalse(yield* store.alter(queue, "gone", "pause"))
      // One that is not paused goes on where it was.
      assert.isTrue(yield* store.alter(queue, "early", { resume: 1 }))
      assert.isTrue(yield* store.alter(queue, "paused", { resume: now + 30_000 }))
      const slots = (yield* all(store, queue)).map(({ slot }) => slot)
      assert.deepStrictEqual(slots, [now - 10, now + 60_000, now + 30_000])
    })
  )

  law("slots can be passed over, and an exchange says when the next one is due", (queue, store) =>
    Effect.gen(function* () {
      const hand = yield* open(queue)
      assert.isUndefined((yield* hand.exchange()).slot)
      const now = yield* nowOf(store, queue)
      yield* store.recur(queue, recurrence(now + 50))
      yield* store.recur(queue, recurrence(now + 9_000, { name: "later" }))
      assert.strictEqual((yield* hand.exchange()).slot, now + 50)
      assert.deepStrictEqual((yield* store.recurrences(queue, "due")).found, [])
      yield* elapse(60)
      const [one] = (yield* store.recurrences(queue, "due")).found
      const answer = yield* store.fire(queue, [{ ...firing(one!, now + 80_000), run: undefined }])
      assert.strictEqual(answer.next, now + 9_000)
      assert.strictEqual((yield* hand.exchange()).slot, now + 9_000)
      yield* assertCounts(queue, {})
      assert.isUndefined((yield* all(store, queue))[1]!.last)
      yield* store.alter(queue, "later", "pause")
      assert.strictEqual((yield* hand.exchange()).slot, now + 80_000)
      yield* store.remove(queue)
      assert.deepStrictEqual(yield* all(store, queue), [])
    })
  )

  law("a slot's job keeps to the key and the group of its job", (queue, store) =>
    Effect.gen(function* () {
      const now = yield* nowOf(store, queue)
      const job = { ...template, group: "g", deduplicate: { key: "k", replace: false, restart: false } }
      yield* store.recur(queue, recurrence(now - 10, { job }))
      for (let n = 1; n <= 2; n++) {
        const [one] = (yield* store.recurrences(queue, "due")).found
        assert.deepStrictEqual(one!.job.deduplicate, job.deduplicate)
        const run = { slot: one!.slot, job: { ...one!.job, id: `nightly@${one!.slot}` } }
        yield* store.fire(queue, [{ ...firing(one!, now - 10 + n), run }])
      }
      // While the first one waits there is no second one.
      yield* assertCounts(queue, { ready: 1 })
    })
  )
}
