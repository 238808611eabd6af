/** Laws of parked events: lanes, their order and state, and that a commit changes them as one with everything else. */
import { assert } from "@effect/vitest"
import { Effect, Schema } from "effect"
import {
  Broker,
  type Fence,
  type Lane,
  maxLaneError,
  type Park,
  type Parked,
  type Parking
} from "../../../src/Broker.ts"
import { codecOf } from "../../../src/internal/record/record.ts"
import * as Serializer from "../../../src/Serializer.ts"
import * as Topic from "../../../src/Topic.ts"
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
  text,
  topicOf,
  unique
} from "./support.ts"

/** A parked event with this text as its value, and as its place. */
const park = (lane: string, event: string): Park => ({ lane, topic: "source", offset: event, fields: ["v", event] })

const parking = (rest: Partial<Parking>): { readonly parking: Parking } => ({
  parking: { drop: [], park: [], remove: [], states: [], ...rest }
})

const state = (lane: string, attempts: number, due = 0, error = "", since = 0) => ({
  lane,
  attempts,
  due,
  since,
  error
})

const byName = (lanes: ReadonlyArray<Lane>): ReadonlyArray<Lane> =>
  lanes.toSorted((a, b) => (a.lane < b.lane ? -1 : a.lane > b.lane ? 1 : 0))

const lanesOf = (processor: string, partition = 0) =>
  Broker.use((broker) => Effect.map(broker.lanes(processor, partition), byName))

const page = (processor: string, lane: string, count = 100, behind?: string, partition = 0) =>
  Broker.use((broker) => broker.parked({ processor, partition, lane, after: behind, count }))

/** All events of a lane, read in pages. */
const wholeLane = (processor: string, lane: string, partition = 0) =>
  Effect.gen(function* () {
    const all: Array<Parked> = []
    let next: string | undefined
    do {
      const found = yield* page(processor, lane, 100, next, partition)
      all.push(...found.events)
      next = found.next
    } while (next !== undefined)
    return all
  })

const valuesOf = (events: ReadonlyArray<Parked>) => events.map(({ fields }) => text(fields[1]))

const lane = (processor: string, name: string, partition = 0) =>
  Effect.map(wholeLane(processor, name, partition), valuesOf)

/** An owner of partition 0, and its commits in a row. */
const owner = (its: Fence = fence(1)) =>
  Effect.gen(function* () {
    const [topic, processor] = [topicOf(), unique("p")]
    yield* register(processor, [topic])
    let { number } = yield* claimed(processor, [topic], its)
    const change = (rest: Partial<Parking>) =>
      Effect.map(commit(commitOf(processor, its, number, parking(rest))), ([answer]) => {
        assert.deepStrictEqual(answer, { _tag: "Done" })
        number++
      })
    return { topic, processor, change, next: () => number }
  })

export const parkingLaws = (laws: Laws): void => {
  laneLaws(laws)
  contentLaws(laws)
  judgementLaws(laws)
  endLaws(laws)
  modelLaw(laws)
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

const contentLaws = ({ it }: Laws): void => {
  it.effect("fields come back byte for byte, with the place they came from", () =>
    Effect.gen(function* () {
      const { change, processor } = yield* owner()
      const all = Uint8Array.from({ length: 256 }, (_, i) => i)
      const large = Uint8Array.from({ length: 1_100_000 }, (_, i) => (i * 31) % 256)
      const contents: ReadonlyArray<ReadonlyArray<string | Uint8Array>> = [
        ["v", all],
        [all, all, "", ""],
        // Names that entries and parked events use themselves.
        ["n", "3", "v", "[1,2,3]", "~lane", "x", "~topic", "y", "~offset", "z", "lane", "w"],
        ["v", large],
        range(7_000)
      ]
      yield* change({
        park: contents.map((fields, i) => ({ lane: "a", topic: `topic.${i}`, offset: `${i}-1.${i}`, fields }))
      })
      const found = yield* wholeLane(processor, "a")
      assert.strictEqual(found.length, contents.length)
      for (const [i, { fields, offset, topic }] of found.entries()) {
        assert.deepStrictEqual([topic, offset], [`topic.${i}`, `${i}-1.${i}`])
        const expected = contents[i]!.map((field) => Buffer.from(field as string))
        assert.strictEqual(fields.length, expected.length)
        assert.isTrue(
          expected.every((field, j) => field.equals(fields[j]!)),
          `fields of ${i}`
        )
      }
    })
  )

  const Value = Schema.Struct({ key: Schema.String, place: Schema.Int, bytes: Schema.Uint8ArrayFromBase64 })
  const Flat = Schema.Struct({ key: Schema.String, place: Schema.Int, bytes: Schema.Uint8Array })
  const topics: ReadonlyArray<readonly [string, Topic.Any]> = [
    ["JSON", Topic.make("json", { schema: Value, partitionBy: (value) => value.key })],
    ["MessagePack", Topic.make("packed", { schema: Value, serializer: Serializer.msgpack })],
    ["flat", Topic.make("flat", { schema: Flat, encoding: "flat", partitionBy: (value) => value.key })]
  ]
  for (const [name, topic] of topics) {
    it.effect(`an event of a ${name} topic, alone or one of a batch, is the same when it comes back`, () =>
      Effect.gen(function* () {
        const { change, processor } = yield* owner()
        const codec = codecOf(topic, Serializer.json)
        const origin = { drop: () => {}, unit: () => assert.fail("no units here") }
        const encoded = ["a", "b", "c"].map((key, n) =>
          codec.encode({ key, place: n, bytes: Uint8Array.of(0, 255, n) }, { headers: { n: String(n) } }, () => 0)
        )
        const entries = codec.maxEvents === 1 ? encoded.map((event) => codec.pack([event])) : [codec.pack(encoded)]
        const log = topicOf()
        yield* stored(log, entries)
        const [batch] = yield* read([from(log)])
        const events = batch!.entries.flatMap((entry) => codec.unpack(entry, 0, 0, origin, 1n))
        assert.strictEqual(events.length, 3)
        yield* change({
          park: events.map((event) => ({ lane: "a", topic: event.topic, offset: event.offset, ...event.stored() }))
        })
        const found = yield* wholeLane(processor, "a")
        for (const [i, { fields, offset }] of found.entries()) {
          const [again] = codec.unpack({ id: offset.split(".")[0]!, count: 1, fields }, 0, 0, origin, 1n)
          const { headers, key, timestamp, value } = events[i]!
          assert.deepStrictEqual([again!.value, again!.key, again!.headers], [value, key, headers])
          assert.deepStrictEqual([again!.timestamp, again!.failure], [timestamp, undefined])
        }
        assert.strictEqual(found.length, 3)
      })
    )
  }

  it.effect("one commit parks 5,000 events, and another removes them", () =>
    Effect.gen(function* () {
      const { change, processor } = yield* owner()
      yield* change({ park: range(5_000).map((event, i) => park(`lane ${i % 1_250}`, event)) })
      const lanes = yield* lanesOf(processor)
      assert.deepStrictEqual([lanes.length, new Set(lanes.map(({ count }) => count))], [1_250, new Set([4])])
      assert.deepStrictEqual(yield* lane(processor, "lane 7"), ["e7", "e1257", "e2507", "e3757"])
      const remove = yield* Effect.forEach(lanes, ({ lane }) =>
        Effect.map(page(processor, lane), ({ events }) => events.map(({ id }) => ({ lane, id })))
      )
      yield* change({ remove: remove.flat() })
      assert.deepStrictEqual(yield* lanesOf(processor), [])
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

const Names = Schema.Literals(["a", "b", "c"])
const Step = Schema.Struct({
  drop: Schema.Array(Names).check(Schema.isMaxLength(1)),
  park: Schema.Array(Names).check(Schema.isMaxLength(6)),
  /** How many of each lane. */
  remove: Schema.Struct({ a: Schema.Literals([0, 1, 2]), b: Schema.Literals([0, 1]), c: Schema.Literals([0, 1, 9]) }),
  states: Schema.Array(Names).check(Schema.isMaxLength(2))
})

const modelLaw = ({ it }: Laws): void => {
  it.effect.prop(
    "random parks, removals, drops and states agree with a plain model",
    [Schema.Array(Step).check(Schema.isMinLength(3))],
    ([steps]) =>
      Effect.gen(function* () {
        const { change, processor } = yield* owner()
        const model = new Map<string, { events: Array<string>; attempts: number }>()
        let serial = 0
        for (const step of steps) {
          const found = new Map<string, ReadonlyArray<Parked>>()
          for (const name of ["a", "b", "c"]) found.set(name, yield* wholeLane(processor, name))
          const dropped = new Set<string>(step.drop)
          const remove = (["a", "b", "c"] as const)
            .filter((name) => !dropped.has(name))
            .flatMap((name) =>
              found
                .get(name)!
                .slice(0, step.remove[name])
                .map(({ id }) => ({ lane: name as string, id }))
            )
          const parks = step.park.map((name) => park(name, `${name}${serial++}`))
          const states = Array.from(new Set(step.states), (name) => state(name, ++serial))
          yield* change({ drop: step.drop, park: parks, remove, states })
          for (const name of dropped) model.delete(name)
          for (const { lane, offset } of parks) {
            const one = model.get(lane) ?? { events: [], attempts: 0 }
            model.set(lane, one)
            one.events.push(offset)
          }
          for (const { lane } of remove) model.get(lane)!.events.shift()
          for (const [name, { events }] of model) if (events.length === 0) model.delete(name)
          for (const { attempts, lane } of states) if (model.has(lane)) model.get(lane)!.attempts = attempts
        }
        for (const name of ["a", "b", "c"]) {
          assert.deepStrictEqual(yield* lane(processor, name), model.get(name)?.events ?? [])
        }
        const lanes = (yield* lanesOf(processor)).map(({ attempts, count, lane }) => [lane, count, attempts])
        const expected = Array.from(model, ([name, { attempts, events }]) => [name, events.length, attempts])
        assert.deepStrictEqual(lanes, expected.toSorted())
      }),
    { arbitrary: { runs: 40, size: 30 } }
  )
}
