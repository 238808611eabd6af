/** Laws of starts: where a new processor begins, seeking, and the end of a processor. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { Broker, type Layout, type Start } from "../../Broker.ts"
import * as Retention from "../../Retention.ts"
import { TableStore } from "../../TableStore.ts"
import {
  after,
  batch,
  claimed,
  commit,
  commitAll,
  commitOf,
  fence,
  type Laws,
  pending,
  range,
  register,
  single,
  startsWith,
  stored,
  text,
  topicOf,
  unique
} from "./support.ts"

const seek = (
  processor: string,
  topics: ReadonlyArray<Layout>,
  its: ReturnType<typeof fence>,
  number: number,
  to: Start,
  reset = false
) => Broker.use((broker) => broker.seek({ ...its, processor, partition: 0, number, topics, to, reset }))

const lagOf = (processor: string) =>
  Broker.use((broker) => Effect.map(broker.lag(processor), (all) => [all[0]!.events, all[0]!.entries]))

export const startLaws = (laws: Laws): void => {
  registerLaws(laws)
  seekLaws(laws)
  removeLaws(laws)
}

const registerLaws = ({ elapse, it }: Laws): void => {
  it.effect("`earliest` begins with the first event, `latest` with the next one", () =>
    Effect.gen(function* () {
      const [topic, early, late] = [topicOf(), unique("early"), unique("late")]
      yield* stored(topic, [single("a"), batch("b", "c")])
      yield* register(early, [topic], "earliest")
      yield* register(late, [topic], "latest")
      yield* stored(topic, [single("d")])
      assert.deepStrictEqual(yield* startsWith(early, topic), ["a", "b", "c", "d"])
      assert.deepStrictEqual(yield* startsWith(late, topic), ["d"])
      assert.deepStrictEqual(
        [yield* lagOf(early), yield* lagOf(late)],
        [
          [4, 3],
          [1, 1]
        ]
      )
    })
  )

  it.effect("an empty log has a beginning and an end", () =>
    Effect.gen(function* () {
      const [topic, early, late] = [topicOf(), unique("early"), unique("late")]
      yield* register(early, [topic], "earliest")
      yield* register(late, [topic], "latest")
      const { committed } = yield* claimed(early, [topic], fence(1))
      assert.deepStrictEqual(committed, [{ topic: topic.name, offset: "0-0.0", entry: "0-0", entries: 0, events: 0 }])
      yield* stored(topic, [single("a")])
      assert.deepStrictEqual([yield* startsWith(early, topic), yield* startsWith(late, topic)], [["a"], ["a"]])
    })
  )

  it.effect("an offset begins at that very event, also within an entry", () =>
    Effect.gen(function* () {
      const topic = topicOf()
      const [a, b, c] = yield* stored(topic, [batch("a", "b"), batch("c", "d", "e"), single("f")])
      const cases: ReadonlyArray<readonly [string, ReadonlyArray<string>, number]> = [
        [`${a}.0`, ["a", "b", "c", "d", "e", "f"], 3],
        [`${a}.1`, ["b", "c", "d", "e", "f"], 3],
        [`${b}.0`, ["c", "d", "e", "f"], 2],
        [`${b}.2`, ["e", "f"], 2],
        [`${c}.0`, ["f"], 1]
      ]
      for (const [offset, events, entries] of cases) {
        const processor = unique("p")
        yield* register(processor, [topic], { offset })
        assert.deepStrictEqual(yield* startsWith(processor, topic), events, offset)
        assert.deepStrictEqual(yield* lagOf(processor), [events.length, entries], offset)
      }
    })
  )

  it.effect("an offset between entries begins with the next, one behind the end with what comes", () =>
    Effect.gen(function* () {
      const [topic, between, behind] = [topicOf(), unique("p"), unique("p")]
      yield* stored(topic, [single("a", "10-1"), single("b", "20-1")])
      yield* register(between, [topic], { offset: "15-0.3" })
      yield* register(behind, [topic], { offset: "30-0.0" })
      assert.deepStrictEqual(yield* startsWith(between, topic), ["b"])
      assert.deepStrictEqual(yield* startsWith(behind, topic), [])
      assert.deepStrictEqual(
        [yield* lagOf(between), yield* lagOf(behind)],
        [
          [1, 1],
          [0, 0]
        ]
      )
    })
  )

  it.effect("a time begins with the first event at or after it", () =>
    Effect.gen(function* () {
      const topic = topicOf()
      yield* stored(topic, [single("a", "1000-5"), batch("b", "c")].slice(0, 1))
      yield* stored(topic, [single("b", "2000-0"), single("c", "2000-1"), single("d", "3000-0")])
      const cases: ReadonlyArray<readonly [number, ReadonlyArray<string>]> = [
        [0, ["a", "b", "c", "d"]],
        [1_000, ["a", "b", "c", "d"]],
        [1_001, ["b", "c", "d"]],
        [2_000, ["b", "c", "d"]],
        [2_001, ["d"]],
        [3_001, []]
      ]
      for (const [time, events] of cases) {
        const processor = unique("p")
        yield* register(processor, [topic], { time })
        assert.deepStrictEqual(yield* startsWith(processor, topic), events, `${time}`)
        assert.strictEqual((yield* lagOf(processor))[0], events.length)
      }
    })
  )

  it.effect("times are those at which the engine stored the events", () =>
    Effect.gen(function* () {
      const [topic, processor] = [topicOf(), unique("p")]
      yield* stored(topic, [single("before")])
      yield* elapse(20)
      const [id] = yield* stored(topic, [single("after")])
      yield* register(processor, [topic], { time: Number(id!.split("-")[0]) })
      assert.deepStrictEqual(yield* startsWith(processor, topic), ["after"])
    })
  )

  it.effect("a start is fixed once: who registers again keeps its place", () =>
    Effect.gen(function* () {
      const [topic, processor] = [topicOf(2), unique("p")]
      const entries = [single("a"), single("b")]
      const ids = yield* stored(topic, entries)
      yield* register(processor, [topic], "earliest")
      yield* claimed(processor, [topic], fence(1))
      yield* commitAll(processor, fence(1), 1, after(topic, entries, ids, 1))
      for (const start of ["latest", "earliest", { time: 0 }] as const) yield* register(processor, [topic], start)
      assert.deepStrictEqual(yield* startsWith(processor, topic), ["b"])
    })
  )

  it.effect("the earliest event is the first that is left, and what was trimmed is not lag", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const [topic, processor] = [topicOf(1, Retention.maxLength(3)), unique("p")]
      yield* stored(topic, [batch("a", "b", "c"), ...range(5).map((event) => single(event))])
      yield* broker.trim(topic)
      yield* register(processor, [topic], "earliest")
      const { committed, logs } = yield* claimed(processor, [topic], fence(1))
      assert.strictEqual(committed[0]!.entries, logs[0]!.added - logs[0]!.length)
      assert.deepStrictEqual(yield* pending(topic, committed[0]!), range(5).slice(2))
      assert.deepStrictEqual(yield* lagOf(processor), [3, 3])
    })
  )

  it.effect("several topics are one processor, each with its own place", () =>
    Effect.gen(function* () {
      const [left, right, processor] = [topicOf(), topicOf(), unique("p")]
      yield* stored(left, [single("l")])
      yield* stored(right, [single("r1"), single("r2")])
      yield* register(processor, [left, right])
      const { committed, logs } = yield* claimed(processor, [left, right], fence(1))
      assert.deepStrictEqual(
        committed.map((place) => place.topic),
        [left.name, right.name]
      )
      assert.deepStrictEqual(
        logs.map((log) => log.added),
        [1, 2]
      )
      const lags = yield* Broker.use((broker) => broker.lag(processor))
      const byTopic = Object.fromEntries(lags.map((lag) => [lag.topic, lag.events]))
      assert.deepStrictEqual(byTopic, { [left.name]: 1, [right.name]: 2 })
    })
  )

  it.effect("a processor with other topics, or other partitions, is a layout mismatch", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const [topic, other, processor] = [topicOf(2), topicOf(2), unique("p")]
      yield* register(processor, [topic])
      for (const topics of [[topic, other], [other], [{ ...topic, partitions: 4 }]]) {
        const error = yield* Effect.flip(broker.register(processor, topics, "earliest"))
        assert(error._tag === "Misconfigured" && error.reason === "LayoutMismatch")
        assert.include(error.message, topic.name)
      }
    })
  )
}

const seekLaws = ({ it }: Laws): void => {
  it.effect("seek moves the committed offset under its fence, and is a numbered commit", () =>
    Effect.gen(function* () {
      const [topic, processor] = [topicOf(), unique("p")]
      const entries = [batch("a", "b"), batch("c", "d"), single("e")]
      const ids = yield* stored(topic, entries)
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(1))
      const cases: ReadonlyArray<readonly [Start, ReadonlyArray<string>, number]> = [
        ["latest", [], 0],
        ["earliest", ["a", "b", "c", "d", "e"], 3],
        [{ offset: `${ids[1]}.1` }, ["d", "e"], 2],
        [{ offset: `${ids[1]}.0` }, ["c", "d", "e"], 2],
        [{ time: 0 }, ["a", "b", "c", "d", "e"], 3]
      ]
      let number = 1
      for (const [to, events, lagging] of cases) {
        assert.deepStrictEqual(yield* seek(processor, [topic], fence(1), number++, to), { _tag: "Done" })
        const place = yield* claimed(processor, [topic], fence(1))
        assert.strictEqual(place.number, number)
        assert.deepStrictEqual(yield* pending(topic, place.committed[0]!), events)
        assert.deepStrictEqual(yield* lagOf(processor), [events.length, lagging])
      }
      assert.deepStrictEqual(yield* seek(processor, [topic], fence(1), number - 1, "latest"), { _tag: "DoneBefore" })
      assert.deepStrictEqual(yield* seek(processor, [topic], fence(1), 99, "latest"), {
        _tag: "WentBack",
        found: number
      })
      const refused = yield* seek(processor, [topic], fence(0, "other"), number, "latest")
      assert.deepStrictEqual(refused, { _tag: "Fenced", inForce: 1n })
    })
  )

  it.effect("what was in flight before a seek is refused", () =>
    Effect.gen(function* () {
      const [topic, processor] = [topicOf(), unique("p")]
      const entries = [single("a"), single("b")]
      const ids = yield* stored(topic, entries)
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(1))
      const inFlight = commitOf(processor, fence(1), 1, { offsets: [after(topic, entries, ids)] })
      yield* claimed(processor, [topic], fence(2, "tool"))
      assert.deepStrictEqual(yield* seek(processor, [topic], fence(2, "tool"), 1, "earliest"), { _tag: "Done" })
      assert.deepStrictEqual(yield* commit(inFlight), [{ _tag: "Fenced", inForce: 2n }])
      assert.deepStrictEqual(yield* startsWith(processor, topic, 3), ["a", "b"])
    })
  )

  it.effect("seek leaves the rows as they are, unless it is told to reset them", () =>
    Effect.gen(function* () {
      const tables = yield* TableStore
      const [topic, processor] = [topicOf(2), unique("p")]
      yield* stored(topic, [single("a")])
      yield* register(processor, [topic])
      for (const partition of [0, 1]) {
        yield* claimed(processor, [topic], fence(1), partition)
        const rows = ["t", "u"].map((table) => ({ table, key: "k", value: "v" }))
        yield* commit(commitOf(processor, fence(1), 1, { partition, rows }))
      }
      const rows = Effect.forEach(
        [
          ["t", 0],
          ["u", 0],
          ["t", 1]
        ] as const,
        ([table, partition]) =>
          Effect.map(tables.readMany(processor, table, partition, ["k"]), (values) => text(values[0]))
      )
      yield* seek(processor, [topic], fence(1), 2, "earliest")
      assert.deepStrictEqual(yield* rows, ["v", "v", "v"])
      yield* seek(processor, [topic], fence(1), 3, "earliest", true)
      assert.deepStrictEqual(yield* rows, [undefined, undefined, "v"])
      yield* commit(commitOf(processor, fence(1), 4, { rows: [{ table: "t", key: "k", value: "again" }] }))
      assert.deepStrictEqual(yield* rows, ["again", undefined, "v"])
    })
  )

  it.effect("seek to an event that was trimmed is answered with the first that is left, and moves nothing", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const [topic, processor] = [topicOf(1, Retention.maxLength(2)), unique("p")]
      const ids = yield* stored(
        topic,
        range(5).map((event) => single(event))
      )
      yield* register(processor, [topic], "latest")
      yield* broker.trim(topic)
      yield* claimed(processor, [topic], fence(1))
      const lost = yield* seek(processor, [topic], fence(1), 1, { offset: `${ids[1]}.0` })
      assert.deepStrictEqual(lost, { _tag: "Lost", topic: topic.name, first: ids[3]! })
      assert.strictEqual((yield* claimed(processor, [topic], fence(1))).number, 1)
      assert.deepStrictEqual(yield* seek(processor, [topic], fence(1), 1, { offset: `${ids[3]}.0` }), { _tag: "Done" })
      assert.deepStrictEqual(yield* startsWith(processor, topic), ["e3", "e4"])
    })
  )

  it.effect("seek forward past everything frees the log of a consumed topic", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const [topic, processor] = [topicOf(1, Retention.consumed({ capacity: 10 })), unique("p")]
      yield* register(processor, [topic])
      yield* stored(
        topic,
        range(10).map((event) => single(event))
      )
      yield* claimed(processor, [topic], fence(1))
      yield* seek(processor, [topic], fence(1), 1, "latest")
      assert.strictEqual((yield* broker.inspect(topic, [0]))[0]!.length, 0)
      yield* stored(
        topic,
        range(10).map((event) => single(event))
      )
    })
  )
}

const removeLaws = ({ it }: Laws): void => {
  it.effect("a processor that was removed is unknown: no lag, no rows, and its commits are not accepted", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const tables = yield* TableStore
      const [topic, processor] = [topicOf(), unique("p")]
      const entries = [single("a"), single("b")]
      const ids = yield* stored(topic, entries)
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(1))
      const rows = [{ table: "t", key: "k", value: "v" }]
      yield* commit(commitOf(processor, fence(1), 1, { rows, offsets: [after(topic, entries, ids, 1)] }))
      yield* broker.unregister(processor)
      yield* broker.unregister(processor)
      assert.deepStrictEqual(yield* broker.lag(processor), [])
      assert.deepStrictEqual(yield* tables.readMany(processor, "t", 0, ["k"]), [undefined])
      assert.deepStrictEqual(yield* commit(commitOf(processor, fence(1), 2, { rows })), [
        { _tag: "WentBack", found: 0 }
      ])
      yield* register(processor, [topic], "earliest")
      assert.deepStrictEqual(yield* startsWith(processor, topic), ["a", "b"])
    })
  )
}
