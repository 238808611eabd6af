/** Laws of appending: order and ids, publishers that send again, producers, explicit ids. */

import { randomUUID } from "node:crypto"
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { Broker } from "../../Broker.ts"
import * as EntryId from "../../internal/entryId.ts"
import { append, batch, eventsOf, from, type Laws, range, read, single, stored, topicOf, unique } from "./support.ts"

export const appendLaws = ({ it }: Laws): void => {
  it.effect("entries are read as they were written, in order, whatever their bytes", () =>
    Effect.gen(function* () {
      const topic = topicOf()
      const bytes = Uint8Array.from({ length: 256 }, (_, index) => index)
      const entries = [
        { count: 1, fields: ["v", bytes, "k", ""] },
        { count: 3, fields: ["n", "3", "v", "[1,2,3]", "h", new Uint8Array(0)] },
        { count: 1, fields: ["v", "žluťoučký 🐎", "long", "x".repeat(70_000), "last", "y".repeat(200)] }
      ]
      const ids = yield* stored(topic, entries)
      const [found] = yield* read([from(topic)])
      assert.strictEqual(found!.topic, topic.name)
      assert.strictEqual(found!.partition, 0)
      assert.deepStrictEqual(
        found!.entries.map((entry) => entry.id),
        ids
      )
      assert.deepStrictEqual(
        found!.entries.map((entry) => entry.count),
        [1, 3, 1]
      )
      const wanted = entries.map(({ fields }) => fields.map((field) => Buffer.from(field as string)))
      const got = found!.entries.map(({ fields }) => fields.map((field) => Buffer.from(field)))
      assert.deepStrictEqual(got, wanted)
    })
  )

  it.effect("ids rise from entry to entry and from append to append", () =>
    Effect.gen(function* () {
      const topic = topicOf()
      const ids: Array<string> = []
      for (let i = 0; i < 20; i++)
        ids.push(
          ...(yield* stored(
            topic,
            range(7).map((event) => single(event))
          ))
        )
      for (let i = 1; i < ids.length; i++) assert.isBelow(EntryId.compare(ids[i - 1]!, ids[i]!), 0)
    })
  )

  it.effect("partitions are logs of their own: one call fills 64 of them", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const topic = topicOf(64)
      yield* broker.declare([topic])
      const publisher = randomUUID()
      const byShard = Map.groupBy(range(64), (_, partition) => partition % broker.shards)
      for (const shard of byShard.keys()) {
        const partitions = [...Array(64).keys()].filter((partition) => partition % broker.shards === shard)
        const appends = partitions.map((partition) => ({
          topic,
          partition,
          publisher,
          number: 1,
          entries: [single(`in ${partition}`)]
        }))
        const answers = yield* broker.append(appends, "memory")
        assert.deepStrictEqual(
          answers.map((answer) => answer._tag),
          partitions.map(() => "Stored")
        )
      }
      const infos = yield* broker.inspect(topic, [...Array(64).keys()])
      assert.deepStrictEqual(
        infos.map((info) => [info.partition, info.length]),
        [...Array(64).keys()].map((p) => [p, 1])
      )
      assert.deepStrictEqual(eventsOf(yield* read([from(topic, 63)])), ["in 63"])
    })
  )

  it.effect("an append that is sent again is stored once and answered with its ids", () =>
    Effect.gen(function* () {
      const topic = topicOf()
      const publisher = randomUUID()
      const entries = [single("a"), batch("b", "c"), single("d")]
      const first = yield* append(topic, entries, { publisher })
      assert(first._tag === "Stored" && !first.repeated)
      const again = yield* append(topic, entries, { publisher })
      assert.deepStrictEqual(again, { _tag: "Stored", ids: first.ids, repeated: true })
      assert.deepStrictEqual(eventsOf(yield* read([from(topic)])), ["a", "b", "c", "d"])
    })
  )

  it.effect("the last five numbers of a publisher are remembered, an older one is refused", () =>
    Effect.gen(function* () {
      const topic = topicOf()
      const publisher = randomUUID()
      const ids: Array<ReadonlyArray<string>> = []
      for (let number = 1; number <= 7; number++) {
        const answer = yield* append(topic, [single(`${number}`)], { publisher, number })
        assert(answer._tag === "Stored")
        ids.push(answer.ids)
      }
      for (let number = 3; number <= 7; number++) {
        const answer = yield* append(topic, [single(`${number}`)], { publisher, number })
        assert.deepStrictEqual(answer, { _tag: "Stored", ids: ids[number - 1]!, repeated: true })
      }
      for (const number of [1, 2]) {
        assert.deepStrictEqual(yield* append(topic, [single("old")], { publisher, number }), { _tag: "Gap", last: 7 })
      }
      assert.deepStrictEqual(eventsOf(yield* read([from(topic)])), ["1", "2", "3", "4", "5", "6", "7"])
    })
  )

  it.effect("a gap in a publisher's numbers is refused, and an unknown publisher begins with 1", () =>
    Effect.gen(function* () {
      const topic = topicOf()
      const publisher = randomUUID()
      assert.deepStrictEqual(yield* append(topic, [single("a")], { publisher, number: 2 }), { _tag: "Gap", last: 0 })
      yield* append(topic, [single("a")], { publisher, number: 1 })
      assert.deepStrictEqual(yield* append(topic, [single("c")], { publisher, number: 3 }), { _tag: "Gap", last: 1 })
      const next = yield* append(topic, [single("b")], { publisher, number: 2 })
      assert.strictEqual(next._tag, "Stored")
      assert.deepStrictEqual(eventsOf(yield* read([from(topic)])), ["a", "b"])
    })
  )

  it.effect("a publisher's numbers are counted by topic and partition, and each append is judged for itself", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const topic = topicOf(4 * broker.shards)
      const other = topicOf(4 * broker.shards)
      const publisher = randomUUID()
      const p = broker.shards
      const answers = yield* broker.append(
        [
          { topic, partition: 0, publisher, number: 1, entries: [single("a")] },
          { topic, partition: p, publisher, number: 4, entries: [single("gap")] },
          { topic, partition: 2 * p, publisher, number: 1, entries: [single("b"), single("c")] },
          { topic: other, partition: 0, publisher, number: 1, entries: [single("d")] },
          { topic, partition: 0, publisher, number: 2, entries: [single("e")] }
        ],
        "memory"
      )
      assert.deepStrictEqual(
        answers.map((answer) => answer._tag),
        ["Stored", "Gap", "Stored", "Stored", "Stored"]
      )
      const batches = yield* read([from(topic), from(topic, p), from(topic, 2 * p), from(other)])
      assert.deepStrictEqual(
        batches.map((batch) => [batch.topic, batch.partition, eventsOf([batch])]),
        [
          [topic.name, 0, ["a", "e"]],
          [topic.name, 2 * p, ["b", "c"]],
          [other.name, 0, ["d"]]
        ]
      )
    })
  )

  it.effect("a producer's sequence is stored once, and one below the last is dropped as a repeat", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const topic = topicOf()
      const send = (sequence: bigint, event: string) =>
        Effect.map(
          broker.append(
            [
              {
                topic,
                partition: 0,
                publisher: randomUUID(),
                number: 1,
                entries: [single(event)],
                producer: { id: "import", sequence }
              }
            ],
            "memory"
          ),
          (answers) => answers[0]!
        )
      const first = yield* send(1n, "one")
      assert(first._tag === "Stored" && !first.repeated)
      assert.deepStrictEqual(yield* send(1n, "one"), { _tag: "Stored", ids: first.ids, repeated: true })
      const second = yield* send(2n, "two")
      assert(second._tag === "Stored" && !second.repeated)
      const old = yield* send(1n, "one")
      assert(old._tag === "Stored" && old.repeated)
      // Its own id, or empty if that is forgotten; never another event's.
      assert.include(["", first.ids[0]], old.ids[0])
      const third = yield* send(3n, "three")
      assert(third._tag === "Stored" && !third.repeated)
      assert.deepStrictEqual(eventsOf(yield* read([from(topic)])), ["one", "two", "three"])
    })
  )

  it.effect("explicit ids are kept, and one that is not above the last is a conflict that stores nothing", () =>
    Effect.gen(function* () {
      const topic = topicOf()
      const publisher = randomUUID()
      const ids = ["5-1", "5-2", "7-0"]
      const first = yield* append(
        topic,
        ids.map((id) => single(id, id)),
        { publisher, number: 1 }
      )
      assert.deepStrictEqual(first, { _tag: "Stored", ids, repeated: false })
      for (const wrong of [["7-0"], ["6-9"], ["8-0", "7-9"], ["9-0", "9-0"], ["10-0", "9-0"]]) {
        const answer = yield* append(
          topic,
          wrong.map((id) => single(id, id)),
          { publisher, number: 2 }
        )
        assert.deepStrictEqual(answer, { _tag: "Conflict", last: "7-0" })
      }
      // The number of a refused append is free.
      const next = yield* append(topic, [single("7-1", "7-1")], { publisher, number: 2 })
      assert.strictEqual(next._tag, "Stored")
      assert.deepStrictEqual(eventsOf(yield* read([from(topic)])), ["5-1", "5-2", "7-0", "7-1"])
    })
  )

  it.effect("ids are compared as numbers, part by part, also above 2^53", () =>
    Effect.gen(function* () {
      const topic = topicOf()
      const ids = ["9-9", "9-10", "10-1", "9007199254740993-1", "9007199254740993-9007199254740993"]
      for (const id of ids) assert.deepStrictEqual(yield* stored(topic, [single(id, id)]), [id])
      const lower = yield* append(topic, [single("x", "9007199254740993-9007199254740992")])
      assert.deepStrictEqual(lower, { _tag: "Conflict", last: ids[4]! })
      const [given] = yield* stored(topic, [single("given")])
      assert.isAbove(EntryId.compare(given!, ids[4]!), 0)
      const [found] = yield* read([from(topic, 0, "9007199254740993-1", 4)])
      assert.deepStrictEqual(
        found!.entries.map((entry) => entry.id),
        [ids[4]!, given!]
      )
    })
  )

  it.effect("what is known of a log counts entries and events", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const topic = topicOf(2)
      const ids = yield* stored(topic, [single("a"), batch("b", "c", "d"), batch("e", "f")])
      const [info, other] = yield* broker.inspect(topic, [0, 1])
      assert.deepStrictEqual(info, {
        topic: topic.name,
        partition: 0,
        first: ids[0]!,
        last: ids[2]!,
        length: 3,
        added: 3,
        extra: 3,
        events: 6
      })
      const empty = {
        topic: topic.name,
        partition: 1,
        first: "0-0",
        last: "0-0",
        length: 0,
        added: 0,
        extra: 0,
        events: 0
      }
      assert.deepStrictEqual(other, empty)
    })
  )

  it.effect("a topic declared with other partitions is a layout mismatch, and the same again is not", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const topic = { ...topicOf(4), name: unique("declared") }
      yield* broker.declare([topic])
      yield* broker.declare([topic, topicOf(2)])
      const error = yield* Effect.flip(broker.declare([{ ...topic, partitions: 8 }]))
      assert(error._tag === "Misconfigured" && error.reason === "LayoutMismatch")
      assert.include(error.message, topic.name)
      for (const partitions of ["4", "8"]) assert.include(error.message, partitions)
    })
  )
}
