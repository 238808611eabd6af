/** Laws of ownership and commits: fences, numbers, offsets, rows, emits. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { Broker, type Commit } from "../../Broker.ts"
import { TableStore } from "../../TableStore.ts"
import {
  after,
  batch,
  claim,
  claimed,
  commit,
  commitAll,
  commitOf,
  eventsOf,
  fence,
  from,
  type Laws,
  pending,
  range,
  read,
  register,
  single,
  stored,
  text,
  topicOf,
  unique
} from "./support.ts"

const row = (processor: string, table: string, key: string, partition = 0) =>
  TableStore.use((tables) =>
    Effect.map(tables.readMany(processor, table, partition, [key]), (values) => text(values[0]))
  )

export const commitLaws = (laws: Laws): void => {
  claimLaws(laws)
  judgementLaws(laws)
  writeLaws(laws)
}

const claimLaws = ({ it }: Laws): void => {
  it.effect("a higher epoch is installed, the very same again is accepted, all else is refused", () =>
    Effect.gen(function* () {
      const [topic, processor] = [topicOf(), unique("p")]
      yield* register(processor, [topic])
      const first = yield* claimed(processor, [topic], fence(5))
      assert.strictEqual(first.number, 1)
      assert.deepStrictEqual(yield* claim(processor, [topic], fence(5)), first)
      assert.deepStrictEqual(yield* claim(processor, [topic], fence(4)), { _tag: "Refused", inForce: 5n })
      assert.deepStrictEqual(yield* claim(processor, [topic], fence(5, "two")), { _tag: "Refused", inForce: 5n })
      yield* claimed(processor, [topic], fence(6, "two"))
      assert.deepStrictEqual(yield* claim(processor, [topic], fence(5)), { _tag: "Refused", inForce: 6n })
    })
  )

  it.effect("epochs are compared as numbers, not as text", () =>
    Effect.gen(function* () {
      const [topic, processor] = [topicOf(), unique("p")]
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(9))
      yield* claimed(processor, [topic], fence(10))
      yield* claimed(processor, [topic], fence(1_900_000_000_000))
      assert.deepStrictEqual(yield* claim(processor, [topic], fence(2)), {
        _tag: "Refused",
        inForce: 1_900_000_000_000n
      })
    })
  )

  it.effect("a claim tells the facts of the log, and creates nothing", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const [topic, other, processor] = [topicOf(2), topicOf(2), unique("p")]
      const ids = yield* stored(topic, [single("a"), batch("b", "c")], 1)
      yield* register(processor, [topic])
      const answer = yield* claimed(processor, [topic], fence(1), 1)
      assert.deepStrictEqual(answer.logs, yield* broker.inspect(topic, [1]))
      assert.deepStrictEqual([answer.logs[0]!.first, answer.logs[0]!.last], [ids[0], ids[1]])
      yield* claimed(unique("nobody"), [other], fence(1), 1)
      // A group would hold the floor of this topic, and be answered as its holder.
      assert.deepStrictEqual(yield* broker.lag(processor), [
        { topic: topic.name, partition: 0, events: 0, entries: 0, oldest: undefined, committed: "0-0.0" },
        {
          topic: topic.name,
          partition: 1,
          events: 3,
          entries: 2,
          oldest: Number(ids[0]!.split("-")[0]),
          committed: "0-0.0"
        }
      ])
    })
  )

  it.effect("partitions have owners of their own", () =>
    Effect.gen(function* () {
      const [topic, processor] = [topicOf(2), unique("p")]
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(7), 0)
      yield* claimed(processor, [topic], fence(3), 1)
      assert.strictEqual((yield* claim(processor, [topic], fence(6), 0))._tag, "Refused")
    })
  )
}

const judgementLaws = ({ it }: Laws): void => {
  it.effect("after its epoch was raised, no commit of the old owner is accepted", () =>
    Effect.gen(function* () {
      const [topic, processor] = [topicOf(), unique("p")]
      const entries = [single("a"), single("b")]
      const ids = yield* stored(topic, entries)
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(1))
      yield* claimed(processor, [topic], fence(2, "two"))
      for (const number of [1, 2]) {
        const offsets = [after(topic, entries, ids)]
        assert.deepStrictEqual(yield* commit(commitOf(processor, fence(1), number, { offsets })), [
          { _tag: "Fenced", inForce: 2n }
        ])
      }
      const { committed } = yield* claimed(processor, [topic], fence(2, "two"))
      assert.deepStrictEqual(yield* pending(topic, committed[0]!), ["a", "b"])
    })
  )

  it.effect("another start of the same worker is another owner, also with the same epoch", () =>
    Effect.gen(function* () {
      const [topic, processor] = [topicOf(), unique("p")]
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(1, "one"))
      assert.deepStrictEqual(yield* commit(commitOf(processor, fence(1, "two"), 1)), [{ _tag: "Fenced", inForce: 1n }])
    })
  )

  it.effect("a commit that is sent again is answered as done before, and writes nothing", () =>
    Effect.gen(function* () {
      const [topic, output, processor] = [topicOf(), topicOf(), unique("p")]
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(1))
      const first = commitOf(processor, fence(1), 1, {
        rows: [{ table: "t", key: "k", value: "first" }],
        emits: [{ topic: output, partition: 0, entries: [single("once")] }]
      })
      assert.deepStrictEqual(yield* commit(first), [{ _tag: "Done" }])
      assert.deepStrictEqual(yield* commit(first), [{ _tag: "DoneBefore" }])
      yield* commit(commitOf(processor, fence(1), 2, { rows: [{ table: "t", key: "k", value: "second" }] }))
      assert.strictEqual(yield* row(processor, "t", "k"), "second")
      assert.deepStrictEqual(eventsOf(yield* read([from(output)])), ["once"])
    })
  )

  it.effect("a commit with another number is answered with the number that is expected", () =>
    Effect.gen(function* () {
      const [topic, processor] = [topicOf(), unique("p")]
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(1))
      const rows = [{ table: "t", key: "k", value: "wrong" }]
      assert.deepStrictEqual(yield* commit(commitOf(processor, fence(1), 2, { rows })), [
        { _tag: "WentBack", found: 1 }
      ])
      for (const number of [1, 2, 3]) yield* commit(commitOf(processor, fence(1), number))
      assert.deepStrictEqual(yield* commit(commitOf(processor, fence(1), 2, { rows })), [
        { _tag: "WentBack", found: 4 }
      ])
      assert.deepStrictEqual(yield* commit(commitOf(processor, fence(1), 9, { rows })), [
        { _tag: "WentBack", found: 4 }
      ])
      assert.strictEqual(yield* row(processor, "t", "k"), undefined)
    })
  )

  it.effect("a commit whose claim is not stored shows that the server went back", () =>
    Effect.gen(function* () {
      const [topic, processor] = [topicOf(), unique("p")]
      yield* register(processor, [topic])
      assert.deepStrictEqual(yield* commit(commitOf(processor, fence(3), 1)), [{ _tag: "WentBack", found: 0 }])
      yield* claimed(processor, [topic], fence(2))
      yield* commit(commitOf(processor, fence(2), 1))
      assert.deepStrictEqual(yield* commit(commitOf(processor, fence(3), 2)), [{ _tag: "WentBack", found: 2 }])
    })
  )

  it.effect("no offset goes beyond the end of its log: the engine has lost what was read from it", () =>
    Effect.gen(function* () {
      const [topic, other, processor] = [topicOf(), topicOf(), unique("p")]
      yield* register(processor, [topic, other])
      const entries = [single("a"), single("b")]
      const ids = yield* stored(topic, entries)
      yield* claimed(processor, [topic, other], fence(1))
      const beyond: Commit["offsets"][number] = {
        ...after(topic, entries, ids),
        offset: "99999999999999-5.0",
        entry: "99999999999999-5",
        entries: 3,
        events: 3
      }
      const rows = [{ table: "t", key: "k", value: "never" }]
      assert.deepStrictEqual(yield* commit(commitOf(processor, fence(1), 1, { offsets: [beyond], rows })), [
        { _tag: "Truncated", topic: topic.name, last: ids[1]! }
      ])
      // One of several topics is enough, and an entry that is done in part counts too.
      const inside = { ...beyond, layout: other, topic: other.name, entry: "0-0", entries: 0, events: 1 }
      assert.deepStrictEqual(
        yield* commit(commitOf(processor, fence(1), 1, { offsets: [after(topic, entries, ids), inside], rows })),
        [{ _tag: "Truncated", topic: other.name, last: "0-0" }]
      )
      yield* commitAll(processor, fence(1), 1, after(topic, entries, ids))
      const { committed } = yield* claimed(processor, [topic, other], fence(1))
      assert.deepStrictEqual(
        committed.map(({ offset }) => offset),
        [`${ids[1]}.0`, "0-0.0"]
      )
      const tables = yield* TableStore
      assert.deepStrictEqual(yield* tables.readMany(processor, "t", 0, ["k"]), [undefined])
    })
  )

  it.effect("commits are numbered on from one owner to the next", () =>
    Effect.gen(function* () {
      const [topic, processor] = [topicOf(), unique("p")]
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(1))
      yield* commit(commitOf(processor, fence(1), 1))
      yield* commit(commitOf(processor, fence(1), 2))
      assert.strictEqual((yield* claimed(processor, [topic], fence(2, "two"))).number, 3)
      assert.deepStrictEqual(yield* commit(commitOf(processor, fence(2, "two"), 3)), [{ _tag: "Done" }])
    })
  )

  it.effect("partitions of one call are judged one by one", () =>
    Effect.gen(function* () {
      const { shards } = yield* Broker
      const [topic, processor] = [topicOf(4 * shards), unique("p")]
      yield* register(processor, [topic])
      const partitions = [0, 1, 2, 3].map((partition) => partition * shards)
      for (const partition of partitions) yield* claimed(processor, [topic], fence(1), partition)
      yield* claimed(processor, [topic], fence(2, "two"), shards)
      const commits = partitions.map((partition, i) =>
        commitOf(processor, fence(1), i === 2 ? 5 : 1, {
          partition,
          rows: [{ table: "t", key: "k", value: `in ${partition}` }]
        })
      )
      assert.deepStrictEqual(yield* commit(...commits), [
        { _tag: "Done" },
        { _tag: "Fenced", inForce: 2n },
        { _tag: "WentBack", found: 1 },
        { _tag: "Done" }
      ])
      const found = yield* Effect.forEach(partitions, (partition) => row(processor, "t", "k", partition))
      assert.deepStrictEqual(found, ["in 0", undefined, undefined, `in ${3 * shards}`])
    })
  )
}

const writeLaws = ({ it }: Laws): void => {
  it.effect("a new owner goes on after the committed offset, also in the middle of an entry", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const [topic, processor] = [topicOf(), unique("p")]
      const entries = [batch("a", "b"), batch("c", "d", "e"), single("f")]
      const ids = yield* stored(topic, entries)
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(1))
      const middle = { ...after(topic, entries, ids, 1), offset: `${ids[1]}.0`, events: 3 }
      yield* commit(commitOf(processor, fence(1), 1, { offsets: [middle] }))
      const { committed } = yield* claimed(processor, [topic], fence(2))
      const { layout: _, ...place } = middle
      assert.deepStrictEqual(committed, [place])
      assert.deepStrictEqual(yield* pending(topic, committed[0]!), ["d", "e", "f"])
      const [lag] = yield* broker.lag(processor)
      assert.deepStrictEqual([lag!.events, lag!.entries], [3, 2])
    })
  )

  it.effect("the lag is exact in events and entries, names the oldest, and what is committed", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const [topic, processor] = [topicOf(), unique("p")]
      yield* register(processor, [topic])
      const entries = [single("a"), batch(...range(100)), batch("x", "y")]
      const ids = yield* stored(topic, entries)
      yield* claimed(processor, [topic], fence(1))
      const events = [103, 102, 2, 0]
      for (let done = 0; done <= 3; done++) {
        const offsets = [after(topic, entries, ids, done)]
        yield* commit(commitOf(processor, fence(1), done + 1, { offsets }))
        const [lag] = yield* broker.lag(processor)
        assert.deepStrictEqual([lag!.events, lag!.entries], [events[done], 3 - done])
        assert.strictEqual(lag!.oldest, done === 3 ? undefined : Number(ids[done]!.split("-")[0]))
        assert.strictEqual(lag!.committed, offsets[0]!.offset)
      }
    })
  )

  it.effect("rows are written and removed by the commit that moves the offset", () =>
    Effect.gen(function* () {
      const [topic, processor] = [topicOf(), unique("p")]
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(1))
      const first = ["a", "b", "c"].map((key) => ({ table: "t", key, value: `${key}1` }))
      yield* commit(commitOf(processor, fence(1), 1, { rows: [...first, { table: "u", key: "a", value: "other" }] }))
      const second = [
        { table: "t", key: "a", value: "a2" },
        { table: "t", key: "b", value: undefined },
        { table: "t", key: "none", value: undefined }
      ]
      yield* commit(commitOf(processor, fence(1), 2, { rows: second }))
      const found = yield* Effect.forEach(["a", "b", "c", "none"], (key) => row(processor, "t", key))
      assert.deepStrictEqual(found, ["a2", undefined, "c1", undefined])
      assert.strictEqual(yield* row(processor, "u", "a"), "other")
    })
  )

  it.effect("a refused commit leaves rows, output and offset as they were", () =>
    Effect.gen(function* () {
      const [topic, output, processor] = [topicOf(), topicOf(), unique("p")]
      const entries = [single("a")]
      const ids = yield* stored(topic, entries)
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(2))
      yield* commit(
        commitOf(processor, fence(1), 1, {
          offsets: [after(topic, entries, ids)],
          rows: [{ table: "t", key: "k", value: "never" }],
          emits: [{ topic: output, partition: 0, entries: [single("never")] }]
        })
      )
      assert.strictEqual(yield* row(processor, "t", "k"), undefined)
      assert.deepStrictEqual(yield* read([from(output)]), [])
      const { committed, number } = yield* claimed(processor, [topic], fence(2))
      assert.deepStrictEqual([number, yield* pending(topic, committed[0]!)], [1, ["a"]])
    })
  )

  it.effect("output is stored in order, in several topics and partitions, also beyond capacity", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const [topic, processor] = [topicOf(), unique("p")]
      const small = {
        ...topicOf(2 * broker.shards),
        retention: { _tag: "Consumed", capacity: 1, keep: 0, onFull: "wait" }
      }
      const output = small as ReturnType<typeof topicOf>
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(1))
      yield* commit(
        commitOf(processor, fence(1), 1, {
          emits: [
            { topic: output, partition: 0, entries: [single("a"), batch("b", "c")] },
            { topic: output, partition: broker.shards, entries: [single("d")] },
            { topic, partition: 0, entries: [single("to itself")] }
          ]
        })
      )
      yield* commit(
        commitOf(processor, fence(1), 2, { emits: [{ topic: output, partition: 0, entries: [single("e")] }] })
      )
      assert.deepStrictEqual(eventsOf(yield* read([from(output)])), ["a", "b", "c", "e"])
      assert.deepStrictEqual(eventsOf(yield* read([from(output, broker.shards)])), ["d"])
      assert.deepStrictEqual(eventsOf(yield* read([from(topic)])), ["to itself"])
      const [info] = yield* broker.inspect(output, [0])
      assert.deepStrictEqual([info!.added, info!.extra], [3, 1])
    })
  )

  it.effect("one commit takes 5,000 rows", () =>
    Effect.gen(function* () {
      const [topic, processor] = [topicOf(), unique("p")]
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(1))
      const rows = range(5_000, "k").map((key) => ({ table: "t", key, value: key }))
      assert.deepStrictEqual(yield* commit(commitOf(processor, fence(1), 1, { rows })), [{ _tag: "Done" }])
      const tables = yield* TableStore
      const values = yield* tables.readMany(processor, "t", 0, range(5_000, "k"))
      assert.deepStrictEqual(values.map(text), range(5_000, "k"))
    })
  )
}
