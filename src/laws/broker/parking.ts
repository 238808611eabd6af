/** Laws of lanes: their order and state, and that a commit changes them as one with everything else. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { Broker, maxLaneError, type Parking } from "../../Broker.ts"
import { byName, lane, lanesOf, owner, page, park, parking, state, valuesOf, wholeLane } from "./parkingSupport.ts"
import {
  after,
  claimed,
  commit,
  commitOf,
  eventsOf,
  fence,
  from,
  type Laws,
  range,
  read,
  register,
  single,
  stored,
  topicOf,
  unique
} from "./support.ts"

export const parkingLaws = (laws: Laws): void => {
  laneLaws(laws)
  judgementLaws(laws)
  endLaws(laws)
}

const laneLaws = ({ it }: Laws): void => {
  it.effect("lanes keep their events in order, whatever else is parked between them", () =>
    Effect.gen(function* () {
      const { change, processor } = yield* owner()
      yield* change({ park: [park("a", "a1"), park("b", "b1"), park("a", "a2")] })
      yield* change({ park: [park("c", "c1"), park("a", "a3"), park("b", "b2")] })
      assert.deepStrictEqual(yield* lane(processor, "a"), ["a1", "a2", "a3"])
      assert.deepStrictEqual(yield* lane(processor, "b"), ["b1", "b2"])
      assert.deepStrictEqual(yield* lane(processor, "c"), ["c1"])
      assert.deepStrictEqual(yield* lane(processor, "none"), [])
      const counts = (yield* lanesOf(processor)).map(({ count, lane }) => [lane, count])
      assert.deepStrictEqual(counts, [
        ["a", 3],
        ["b", 2],
        ["c", 1]
      ])
    })
  )

  it.effect("a claim tells every lane with head, count and state, also to a new owner after a crash", () =>
    Effect.gen(function* () {
      const { change, processor, topic } = yield* owner()
      yield* change({
        park: [park("a", "a1"), park("b", "b1"), park("a", "a2")],
        states: [state("a", 2, 1_900_000_000_000, "Declined: no\nmoney ", 1_800_000_000_000)]
      })
      const heads = yield* Effect.forEach(["a", "b"], (name) => page(processor, name, 1))
      const expected = [
        {
          ...state("a", 2, 1_900_000_000_000, "Declined: no\nmoney ", 1_800_000_000_000),
          head: heads[0]!.events[0]!.id,
          count: 2
        },
        { ...state("b", 0), head: heads[1]!.events[0]!.id, count: 1 }
      ]
      const { lanes } = yield* claimed(processor, [topic], fence(2, "two"))
      assert.deepStrictEqual(byName(lanes), expected)
      assert.deepStrictEqual(yield* lanesOf(processor), expected)
    })
  )

  it.effect(
    "the first event of a lane is removed with the state of the next, and the last one takes the lane with it",
    () =>
      Effect.gen(function* () {
        const { change, processor } = yield* owner()
        yield* change({ park: range(3).map((event) => park("a", event)), states: [state("a", 3, 7, "boom", 1)] })
        const [first, second, third] = yield* wholeLane(processor, "a")
        yield* change({ remove: [{ lane: "a", id: first!.id }], states: [state("a", 1, 9, "again", 1)] })
        assert.deepStrictEqual(yield* lanesOf(processor), [
          { ...state("a", 1, 9, "again", 1), head: second!.id, count: 2 }
        ])
        assert.deepStrictEqual(yield* lane(processor, "a"), ["e1", "e2"])
        const both = [second!, third!].map(({ id }) => ({ lane: "a", id }))
        yield* change({ remove: both, states: [state("a", 5)] })
        assert.deepStrictEqual(yield* lanesOf(processor), [])
        assert.deepStrictEqual(yield* lane(processor, "a"), [])
        yield* change({ park: [park("a", "anew")] })
        const [anew] = yield* lanesOf(processor)
        assert.deepInclude(anew, { ...state("a", 0), count: 1 })
      })
  )

  it.effect("an event parked in the commit that removes the first one stands behind it in the same lane", () =>
    Effect.gen(function* () {
      const { change, processor } = yield* owner()
      yield* change({ park: [park("a", "old")], states: [state("a", 4)] })
      const [old] = yield* wholeLane(processor, "a")
      yield* change({ remove: [{ lane: "a", id: old!.id }], park: [park("a", "new")] })
      assert.deepStrictEqual(yield* lane(processor, "a"), ["new"])
      assert.strictEqual((yield* lanesOf(processor))[0]!.attempts, 4)
    })
  )

  it.effect("a lane is dropped with all that it held, but nothing of that commit", () =>
    Effect.gen(function* () {
      const { change, processor } = yield* owner()
      yield* change({
        park: [...range(1_200).map((event) => park("a", event)), park("b", "b1")],
        states: [state("a", 3, 5, "boom")]
      })
      const [first] = (yield* page(processor, "a", 1)).events
      // It goes with its lane, and takes nothing along of what is parked now.
      const remove = [{ lane: "a", id: first!.id }]
      yield* change({ drop: ["a", "none"], park: [park("a", "new")], remove })
      assert.deepStrictEqual(yield* lane(processor, "a"), ["new"])
      assert.deepStrictEqual(yield* lane(processor, "b"), ["b1"])
      assert.deepInclude((yield* lanesOf(processor))[0], { ...state("a", 0), count: 1 })
      yield* change({ drop: ["a", "b"] })
      assert.deepStrictEqual(yield* lanesOf(processor), [])
    })
  )

  it.effect("the state of a lane that holds nothing is not kept", () =>
    Effect.gen(function* () {
      const { change, processor } = yield* owner()
      yield* change({ states: [state("a", 1, 2, "x")] })
      assert.deepStrictEqual(yield* lanesOf(processor), [])
    })
  )

  it.effect("pages follow each other, also when the events of the page before are gone", () =>
    Effect.gen(function* () {
      const { change, processor } = yield* owner()
      yield* change({ park: range(5).flatMap((event) => [park("a", event), park("b", `${event}b`)]) })
      const first = yield* page(processor, "a", 2)
      const second = yield* page(processor, "a", 2, first.next)
      const third = yield* page(processor, "a", 2, second.next)
      assert.deepStrictEqual(
        [first, second, third].map(({ events }) => valuesOf(events)),
        [["e0", "e1"], ["e2", "e3"], ["e4"]]
      )
      assert.isUndefined(third.next)
      assert.isUndefined((yield* page(processor, "a", 5)).next)
      yield* change({ remove: first.events.map(({ id }) => ({ lane: "a", id })) })
      assert.deepStrictEqual(valuesOf((yield* page(processor, "a", 2, first.next)).events), ["e2", "e3"])
      assert.deepStrictEqual(valuesOf((yield* page(processor, "a", 2, third.events[0]!.id)).events), [])
    })
  )

  it.effect("a lane may have any name, and partitions and processors have lanes of their own", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const partition = broker.shards
      const [topic, processor] = [topicOf(2 * broker.shards), unique("p")]
      const { processor: other } = yield* owner()
      yield* register(processor, [topic])
      const names = ["", " ", "a b", "a\nb", "a\0b", "{x}:y", "ключ 🙂", "0-0", "__proto__", "k".repeat(5_000)]
      for (const at of [0, partition]) {
        yield* claimed(processor, [topic], fence(1), at)
        const parks = names.flatMap((name) => [park(name, `${at}${name}`), park(name, "second")])
        const states = names.map((name) => state(name, 1, 2, name, 3))
        yield* commit(commitOf(processor, fence(1), 1, { partition: at, ...parking({ park: parks, states }) }))
      }
      for (const at of [0, partition]) {
        for (const name of names) assert.deepStrictEqual(yield* lane(processor, name, at), [`${at}${name}`, "second"])
        const found = (yield* lanesOf(processor, at)).map(({ count, error, lane }) => [lane, error, count])
        assert.deepStrictEqual(
          found,
          names.toSorted().map((name) => [name, name.slice(0, maxLaneError), 2])
        )
      }
      assert.deepStrictEqual(yield* lanesOf(other), [])
    })
  )

  it.effect("an error is cut", () =>
    Effect.gen(function* () {
      const { change, processor } = yield* owner()
      const error = "é🙂 ".repeat(maxLaneError)
      yield* change({ park: [park("a", "a1")], states: [state("a", 1, 0, error)] })
      assert.strictEqual((yield* lanesOf(processor))[0]!.error, error.slice(0, maxLaneError))
    })
  )
}

const judgementLaws = ({ it }: Laws): void => {
  it.effect("an old epoch, another incarnation and a wrong number park, remove and drop nothing", () =>
    Effect.gen(function* () {
      const { change, processor, topic } = yield* owner()
      const entries = [single("x")]
      const ids = yield* stored(topic, entries)
      yield* change({ park: [park("a", "a1")], states: [state("a", 1)] })
      const before = yield* lanesOf(processor)
      yield* claimed(processor, [topic], fence(2, "two"))
      const rest = {
        offsets: [after(topic, entries, ids)],
        ...parking({
          drop: ["a"],
          park: [park("b", "never")],
          remove: [{ lane: "a", id: before[0]!.head }],
          states: [state("a", 9)]
        })
      }
      const answers = [
        yield* commit(commitOf(processor, fence(1), 2, rest)),
        yield* commit(commitOf(processor, fence(2, "three"), 2, rest)),
        yield* commit(commitOf(processor, fence(2, "two"), 7, rest))
      ]
      assert.deepStrictEqual(answers.flat(), [
        { _tag: "Fenced", inForce: 2n },
        { _tag: "Fenced", inForce: 2n },
        { _tag: "WentBack", found: 2 }
      ])
      const { committed, lanes } = yield* claimed(processor, [topic], fence(2, "two"))
      assert.deepStrictEqual([lanes, committed[0]!.events], [before, 0])
      assert.deepStrictEqual(yield* lane(processor, "b"), [])
    })
  )

  it.effect("offset, rows, output and parked events are one commit, and a repeat of it parks no second copy", () =>
    Effect.gen(function* () {
      const [topic, output, processor] = [topicOf(), topicOf(), unique("p")]
      const entries = [single("x"), single("y")]
      const ids = yield* stored(topic, entries)
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(1))
      const one = commitOf(processor, fence(1), 1, {
        offsets: [after(topic, entries, ids)],
        rows: [{ table: "t", key: "k", value: "v" }],
        emits: [{ topic: output, partition: 0, entries: [single("once"), single("twice")] }],
        ...parking({ park: [park("a", "x"), park("a", "y")], states: [state("a", 1, 2, "boom")] })
      })
      assert.deepStrictEqual(yield* commit(one), [{ _tag: "Done" }])
      assert.deepStrictEqual(yield* commit(one), [{ _tag: "DoneBefore" }])
      assert.deepStrictEqual(yield* lane(processor, "a"), ["x", "y"])
      assert.deepStrictEqual(eventsOf(yield* read([from(output)])), ["once", "twice"])
      const [x, y] = yield* wholeLane(processor, "a")
      const two = commitOf(processor, fence(1), 2, parking({ remove: [{ lane: "a", id: x!.id }] }))
      assert.deepStrictEqual(yield* commit(two), [{ _tag: "Done" }])
      assert.deepStrictEqual(yield* commit(two), [{ _tag: "DoneBefore" }])
      const { committed, lanes, number } = yield* claimed(processor, [topic], fence(2))
      assert.deepStrictEqual([committed[0]!.events, number], [2, 3])
      assert.deepStrictEqual(lanes, [{ ...state("a", 1, 2, "boom"), head: y!.id, count: 1 }])
    })
  )

  it.effect("what is not the first of its lane is not removed: the engine has lost something", () =>
    Effect.gen(function* () {
      const { change, next, processor } = yield* owner()
      yield* change({ park: [...range(3).map((event) => park("a", event)), park("b", "b1")] })
      const [first, second, third] = yield* wholeLane(processor, "a")
      const [other] = yield* wholeLane(processor, "b")
      const wrong: ReadonlyArray<Parking["remove"]> = [
        [{ lane: "a", id: second!.id }],
        [{ lane: "a", id: other!.id }],
        [{ lane: "none", id: first!.id }],
        [
          { lane: "a", id: first!.id },
          { lane: "a", id: third!.id }
        ],
        [
          { lane: "b", id: other!.id },
          { lane: "b", id: other!.id }
        ]
      ]
      for (const remove of wrong) {
        const rest = {
          rows: [{ table: "t", key: "k", value: "never" }],
          ...parking({ remove, park: [park("c", "c1")] })
        }
        const answer = yield* commit(commitOf(processor, fence(1), next(), rest))
        assert.deepStrictEqual(answer, [{ _tag: "WentBack", found: next() }])
      }
      assert.deepStrictEqual(yield* lane(processor, "a"), range(3))
      assert.deepStrictEqual(
        (yield* lanesOf(processor)).map(({ lane }) => lane),
        ["a", "b"]
      )
      yield* change({ remove: [{ lane: "a", id: first!.id }] })
    })
  )

  it.effect("the partitions of one call park for themselves", () =>
    Effect.gen(function* () {
      const { shards } = yield* Broker
      const [topic, processor] = [topicOf(3 * shards), unique("p")]
      yield* register(processor, [topic])
      const partitions = [0, shards, 2 * shards]
      for (const partition of partitions) yield* claimed(processor, [topic], fence(1), partition)
      yield* claimed(processor, [topic], fence(2, "two"), shards)
      const commits = partitions.map((partition) =>
        commitOf(processor, fence(1), 1, {
          partition,
          rows: [{ table: "t", key: "k", value: "v" }],
          ...(partition === 0 ? {} : parking({ park: [park("a", `in ${partition}`), park("a", "more")] }))
        })
      )
      const answers = yield* commit(...commits)
      assert.deepStrictEqual(
        answers.map(({ _tag }) => _tag),
        ["Done", "Fenced", "Done"]
      )
      assert.deepStrictEqual(yield* Effect.forEach(partitions, (partition) => lane(processor, "a", partition)), [
        [],
        [],
        [`in ${2 * shards}`, "more"]
      ])
    })
  )
}

const endLaws = ({ it }: Laws): void => {
  it.effect("a seek keeps the lanes; with reset it empties them, and nobody else's", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const partition = broker.shards
      const [topic, processor] = [topicOf(2 * broker.shards), unique("p")]
      yield* register(processor, [topic])
      for (const at of [0, partition]) {
        yield* claimed(processor, [topic], fence(1), at)
        const parks = range(1_100).map((event) => park("a", event))
        yield* commit(commitOf(processor, fence(1), 1, { partition: at, ...parking({ park: parks }) }))
      }
      const seek = (number: number, reset: boolean) =>
        broker.seek({ ...fence(1), processor, partition: 0, number, topics: [topic], to: "earliest", reset })
      assert.deepStrictEqual(yield* seek(2, false), { _tag: "Done" })
      assert.strictEqual((yield* lane(processor, "a")).length, 1_100)
      assert.deepStrictEqual(yield* seek(3, true), { _tag: "Done" })
      const { lanes } = yield* claimed(processor, [topic], fence(2))
      assert.deepStrictEqual([lanes, yield* lane(processor, "a")], [[], []])
      assert.strictEqual((yield* lane(processor, "a", partition)).length, 1_100)
      // What is parked anew has nothing of the lane before.
      yield* commit(commitOf(processor, fence(2), 4, parking({ park: [park("a", "new"), park("a", "newer")] })))
      assert.deepStrictEqual(yield* lane(processor, "a"), ["new", "newer"])
    })
  )

  it.effect("a processor that is removed leaves no parked events", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const [topic, processor] = [topicOf(3), unique("p")]
      const parkIn = (partition: number) =>
        Effect.gen(function* () {
          const { lanes, number } = yield* claimed(processor, [topic], fence(1), partition)
          assert.deepStrictEqual([lanes, number], [[], 1])
          const rest = { partition, ...parking({ park: [park("a", "a1"), park("a", "a2"), park("b", "b1")] }) }
          yield* commit(commitOf(processor, fence(1), 1, rest))
        })
      for (let time = 0; time < 2; time++) {
        yield* register(processor, [topic])
        yield* Effect.forEach([0, 1, 2], parkIn)
        yield* broker.unregister(processor)
        for (const partition of [0, 1, 2]) assert.deepStrictEqual(yield* lanesOf(processor, partition), [])
        assert.deepStrictEqual(yield* lane(processor, "a", 2), [])
      }
    })
  )
}
