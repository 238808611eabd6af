/**
 * Laws of crash loops: when an offset is on probation, what counts as an owner's death there, and what ends the count.
 * An owner dies by being followed by another start of a worker, with nothing said.
 */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { Broker, type Fence, type Layout } from "../../Broker.ts"
import {
  after,
  batch,
  claim,
  claimed,
  commit,
  commitOf,
  fence,
  type Laws,
  register,
  single,
  stored,
  topicOf,
  unique
} from "./support.ts"

/** A processor with one event to handle, and the starts of a worker that follow each other there. */
const scene = (topics: ReadonlyArray<Layout> = [topicOf()]) =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const processor = unique("p")
    yield* register(processor, topics)
    const ids = yield* stored(topics[0]!, [single("a"), single("b")])
    let epoch = 0
    /** A new start of a worker. */
    const next = Effect.gen(function* () {
      const its = fence(++epoch, unique("start"))
      const { number, probation } = yield* claimed(processor, topics, its)
      return { its, number, probation }
    })
    /** A new start that hands the first event out, and dies. */
    const death = Effect.gen(function* () {
      const { its, probation } = yield* next
      assert.deepStrictEqual(yield* broker.mark(processor, 0, its), { _tag: "Done" })
      return probation
    })
    const mark = (its: Fence) => broker.mark(processor, 0, its)
    return { broker, processor, topics, ids, next, death, mark }
  })

const done = (topic: Layout, ids: ReadonlyArray<string>, entries: number) =>
  after(topic, [single("a"), single("b")], ids, entries)

export const probationLaws = (laws: Laws): void => {
  countLaws(laws)
  endLaws(laws)
  judgementLaws(laws)
}

const countLaws = ({ it }: Laws): void => {
  it.effect("deaths at one offset are counted from the first one with a marked event on", () =>
    Effect.gen(function* () {
      const { death, next } = yield* scene()
      // The first one was on no probation: it may have died of anything.
      const answers = [yield* death, yield* death, yield* death, yield* death, (yield* next).probation]
      assert.deepStrictEqual(answers, [undefined, 0, 1, 2, 3])
    })
  )

  it.effect("two deaths and a commit are no crash loop", () =>
    Effect.gen(function* () {
      const { death, ids, next, processor, topics } = yield* scene()
      assert.deepStrictEqual([yield* death, yield* death, yield* death], [undefined, 0, 1])
      const { its, number, probation } = yield* next
      assert.strictEqual(probation, 2)
      yield* commit(commitOf(processor, its, number, { offsets: [done(topics[0]!, ids, 1)] }))
      // A commit came after the claim: what follows begins anew.
      assert.deepStrictEqual([yield* death, yield* death, yield* death], [undefined, 0, 1])
    })
  )

  it.effect("an owner that dies with no event in hand is never counted, however often", () =>
    Effect.gen(function* () {
      const { death, next } = yield* scene()
      assert.isUndefined((yield* next).probation)
      for (let i = 0; i < 5; i++) assert.strictEqual((yield* next).probation, 0)
      assert.strictEqual(yield* death, 0)
      for (let i = 0; i < 5; i++) assert.strictEqual((yield* next).probation, 1)
    })
  )

  it.effect("a partition with nothing to handle is never on probation", () =>
    Effect.gen(function* () {
      const { ids, next, processor, topics } = yield* scene()
      const { its, number } = yield* next
      yield* commit(commitOf(processor, its, number, { offsets: [done(topics[0]!, ids, 2)] }))
      for (let i = 0; i < 5; i++) {
        const { its, probation } = yield* next
        assert.isUndefined(probation)
        yield* Broker.use((broker) => broker.mark(processor, 0, its))
      }
      yield* stored(topics[0]!, [single("c")])
      assert.strictEqual((yield* next).probation, 0)
    })
  )

  it.effect("the rest of an entry, any of several topics, and parked events are something to handle", () =>
    Effect.gen(function* () {
      const topics = [topicOf(), topicOf()]
      const { ids, next, processor } = yield* scene(topics)
      const { its, number } = yield* next
      yield* commit(commitOf(processor, its, number, { offsets: [done(topics[0]!, ids, 2)] }))
      assert.deepStrictEqual([(yield* next).probation, (yield* next).probation], [undefined, undefined])
      const entries = [batch("x", "y")]
      const [id] = yield* stored(topics[1]!, entries)
      const second = yield* next
      assert.strictEqual(second.probation, 0)
      const middle = { ...after(topics[1]!, entries, [id!], 0), offset: `${id}.0`, events: 1 }
      yield* commit(commitOf(processor, second.its, number + 1, { offsets: [middle] }))
      assert.deepStrictEqual([(yield* next).probation, (yield* next).probation], [undefined, 0])
      const third = yield* next
      const park = [{ lane: "k", topic: topics[1]!.name, offset: `${id}.1`, fields: ["v", "y"] }]
      yield* commit(
        commitOf(processor, third.its, number + 2, {
          offsets: [after(topics[1]!, entries, [id!])],
          parking: { drop: [], park, remove: [], states: [] }
        })
      )
      assert.deepStrictEqual([(yield* next).probation, (yield* next).probation], [undefined, 0])
    })
  )

  it.effect("partitions and processors are counted for themselves", () =>
    Effect.gen(function* () {
      const topic = topicOf(2)
      const { death, next, processor } = yield* scene([topic])
      yield* stored(topic, [single("c")], 1)
      assert.deepStrictEqual([yield* death, yield* death, (yield* next).probation], [undefined, 0, 1])
      assert.isUndefined((yield* claimed(processor, [topic], fence(1), 1)).probation)
      const other = unique("p")
      yield* register(other, [topic])
      assert.isUndefined((yield* claimed(other, [topic], fence(1))).probation)
    })
  )
}

const endLaws = ({ it }: Laws): void => {
  it.effect("who is released in order is not counted, and ends the count", () =>
    Effect.gen(function* () {
      const { broker, death, next, processor } = yield* scene()
      const first = yield* next
      yield* broker.release(processor, 0, first.its)
      assert.deepStrictEqual([yield* death, yield* death, yield* death], [undefined, 0, 1])
      const { its, probation } = yield* next
      assert.strictEqual(probation, 2)
      yield* broker.mark(processor, 0, its)
      yield* broker.release(processor, 0, its)
      assert.isUndefined((yield* next).probation)
      assert.strictEqual((yield* next).probation, 0)
    })
  )

  it.effect("a commit of nothing but rows or parked events ends the count too", () =>
    Effect.gen(function* () {
      const { death, next, processor } = yield* scene()
      assert.deepStrictEqual([yield* death, yield* death], [undefined, 0])
      const { its, number, probation } = yield* next
      assert.strictEqual(probation, 1)
      yield* commit(commitOf(processor, its, number, { rows: [{ table: "t", key: "k", value: "v" }] }))
      assert.isUndefined((yield* next).probation)
    })
  )

  it.effect("a seek ends the count, a refused one does not", () =>
    Effect.gen(function* () {
      const { broker, death, next, processor, topics } = yield* scene()
      assert.deepStrictEqual([yield* death, yield* death], [undefined, 0])
      const { its, number } = yield* next
      const request = { processor, partition: 0, topics, to: "earliest", reset: false } as const
      assert.strictEqual((yield* broker.seek({ ...request, ...its, number: number + 5 }))._tag, "WentBack")
      assert.strictEqual((yield* next).probation, 1)
      const last = yield* next
      assert.deepStrictEqual(yield* broker.seek({ ...request, ...last.its, number }), { _tag: "Done" })
      assert.isUndefined((yield* next).probation)
    })
  )

  it.effect("the same start of a worker that claims again has not died", () =>
    Effect.gen(function* () {
      const { mark, next, processor, topics } = yield* scene()
      yield* next
      const second = yield* next
      assert.strictEqual(second.probation, 0)
      yield* mark(second.its)
      // Its lease had ended, and it was granted the partition anew.
      const again = { ...second.its, epoch: second.its.epoch + 10n }
      assert.isUndefined((yield* claimed(processor, topics, again)).probation)
    })
  )

  it.effect("a removed processor begins anew", () =>
    Effect.gen(function* () {
      const { broker, death, processor, topics } = yield* scene()
      assert.deepStrictEqual([yield* death, yield* death], [undefined, 0])
      yield* broker.unregister(processor)
      yield* register(processor, topics)
      assert.isUndefined((yield* claimed(processor, topics, fence(1, "anew"))).probation)
    })
  )
}

const judgementLaws = ({ it }: Laws): void => {
  it.effect("a claim, a mark and a release that are sent twice count once", () =>
    Effect.gen(function* () {
      const { broker, mark, next, processor, topics } = yield* scene()
      const first = yield* next
      assert.isUndefined((yield* claimed(processor, topics, first.its)).probation)
      const second = yield* next
      for (let i = 0; i < 2; i++) {
        assert.strictEqual((yield* claimed(processor, topics, second.its)).probation, 0)
        assert.deepStrictEqual(yield* mark(second.its), { _tag: "Done" })
      }
      const third = yield* next
      assert.deepStrictEqual([third.probation, (yield* claimed(processor, topics, third.its)).probation], [1, 1])
      for (let i = 0; i < 2; i++) yield* broker.release(processor, 0, third.its)
      assert.isUndefined((yield* next).probation)
    })
  )

  it.effect("a mark that comes late, after the commit, does nothing", () =>
    Effect.gen(function* () {
      const { ids, mark, next, processor, topics } = yield* scene()
      yield* next
      const { its, number, probation } = yield* next
      assert.strictEqual(probation, 0)
      yield* mark(its)
      yield* commit(commitOf(processor, its, number, { offsets: [done(topics[0]!, ids, 1)] }))
      assert.deepStrictEqual(yield* mark(its), { _tag: "Done" })
      assert.isUndefined((yield* next).probation)
    })
  )

  it.effect("a mark without probation is none", () =>
    Effect.gen(function* () {
      const { death, next } = yield* scene()
      assert.deepStrictEqual([yield* death, (yield* next).probation], [undefined, 0])
    })
  )

  it.effect("an old epoch and another start mark, release and end nothing", () =>
    Effect.gen(function* () {
      const { broker, ids, mark, next, processor, topics } = yield* scene()
      const first = yield* next
      const second = yield* next
      assert.strictEqual(second.probation, 0)
      assert.deepStrictEqual(yield* mark(first.its), { _tag: "Fenced", inForce: second.its.epoch })
      const stranger = { ...second.its, incarnation: "stranger" }
      assert.deepStrictEqual(yield* mark(stranger), { _tag: "Fenced", inForce: second.its.epoch })
      yield* mark(second.its)
      yield* broker.release(processor, 0, first.its)
      yield* broker.release(processor, 0, stranger)
      const offsets = [done(topics[0]!, ids, 1)]
      yield* commit(commitOf(processor, first.its, first.number, { offsets }))
      yield* commit(commitOf(processor, second.its, second.number + 3, { offsets }))
      // A claim that is refused is no owner.
      assert.strictEqual((yield* claim(processor, topics, fence(1, "late")))._tag, "Refused")
      assert.strictEqual((yield* next).probation, 1)
    })
  )

  it.effect("a mark whose claim is not stored shows that the server went back", () =>
    Effect.gen(function* () {
      const { ids, mark, next, processor, topics } = yield* scene()
      const never = unique("never")
      const broker = yield* Broker
      assert.deepStrictEqual(yield* broker.mark(never, 0, fence(1)), { _tag: "WentBack", found: 0 })
      yield* broker.release(never, 0, fence(1))
      const { its, number } = yield* next
      yield* commit(commitOf(processor, its, number, { offsets: [done(topics[0]!, ids, 1)] }))
      assert.deepStrictEqual(yield* mark({ ...its, epoch: its.epoch + 1n }), { _tag: "WentBack", found: number + 1 })
    })
  )

  it.effect("a mark does not touch the number of the next commit", () =>
    Effect.gen(function* () {
      const { mark, next, processor } = yield* scene()
      yield* next
      const { its, number } = yield* next
      yield* mark(its)
      assert.deepStrictEqual(yield* commit(commitOf(processor, its, number)), [{ _tag: "Done" }])
      assert.deepStrictEqual(yield* commit(commitOf(processor, its, number)), [{ _tag: "DoneBefore" }])
    })
  )
}
