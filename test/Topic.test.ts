/** Publishing: where events land, what they carry, what is refused, many at once. */
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Schema, Stream } from "effect"
import { Broker } from "../src/Broker.ts"
import * as Retention from "../src/Retention.ts"
import * as Serializer from "../src/Serializer.ts"
import * as Topic from "../src/Topic.ts"
import { countingAppends } from "./support/brokers.ts"
import { behaviour, numbers } from "./support/engines.ts"
import { assertRising, collect, Reading, reading, readings, Seen } from "./support/readings.ts"

const events = <A>(topic: Topic.Topic<A, any>, options?: Parameters<typeof Topic.stream>[1]) =>
  Stream.runCollect(Topic.stream(topic, { until: "now", ...options }))

describe("where an event lands", () => {
  behaviour("the position that publish gives is the one that is read", () =>
    Effect.gen(function* () {
      const topic = readings()
      const positions = yield* Effect.forEach(numbers(20), (n) => Topic.publish(topic, reading(n)))
      const found = yield* events(topic)
      for (const position of positions) {
        assert.isFalse(position.repeated)
        const event = found.find((event) => event.partition === position.partition && event.offset === position.offset)
        assert.strictEqual(event?.topic, position.topic)
      }
      assert.strictEqual(new Set(positions.map((position) => `${position.partition}/${position.offset}`)).size, 20)
    })
  )

  behaviour("one key, one partition: by function, by field, by option, as text, number or bigint", () =>
    Effect.gen(function* () {
      const byFunction = readings(8)
      const byField = Topic.make("field", { schema: Reading, partitionBy: "key", partitions: 8 })
      const byOption = Topic.make("option", { schema: Reading, partitions: 8 })
      const places = new Set<number>()
      for (const n of [1, 11, 21]) {
        places.add((yield* Topic.publish(byFunction, reading(n))).partition)
        places.add((yield* Topic.publish(byField, reading(n))).partition)
        places.add((yield* Topic.publish(byOption, reading(n), { key: "k1" })).partition)
      }
      assert.strictEqual(places.size, 1)
      const numeric = new Set<number>()
      for (const key of [12345678901, "12345678901", 12345678901n]) {
        numeric.add((yield* Topic.publish(byOption, reading(0), { key })).partition)
      }
      assert.strictEqual(numeric.size, 1)
      assert.deepStrictEqual([...new Set((yield* events(byOption)).map((event) => event.key))].toSorted(), [
        "12345678901",
        "k1"
      ])
    })
  )

  behaviour("without a key events are spread evenly and carry none", () =>
    Effect.gen(function* () {
      const topic = Topic.make("spread", { schema: Schema.Int })
      yield* Topic.publishAll(topic, numbers(1_600))
      const counts = new Map<number, number>()
      for (const event of yield* events(topic)) {
        assert.isUndefined(event.key)
        counts.set(event.partition, (counts.get(event.partition) ?? 0) + 1)
      }
      assert.deepStrictEqual(
        [...counts.values()],
        Array.from({ length: 16 }, () => 100)
      )
    })
  )

  behaviour("an explicit partition beats a key; one out of range is refused", () =>
    Effect.gen(function* () {
      const topic = readings(4)
      for (const partition of numbers(4)) {
        assert.strictEqual((yield* Topic.publish(topic, reading(1), { partition })).partition, partition)
      }
      for (const partition of [4, -1, 1.5]) {
        const error = yield* Effect.flip(Topic.publish(topic, reading(1), { partition }))
        assert.strictEqual(
          error.message,
          `a value for readings was refused (Key): partition ${partition} does not exist: the topic has partitions 0 to 3`
        )
      }
    })
  )

  behaviour("headers and times come back, of single events and of batches", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const at = DateTime.makeUnsafe(1_600_000_000_123)
      yield* Topic.publish(topic, reading(0), { headers: { a: "ä", b: "" }, timestamp: at })
      yield* Topic.publish(topic, reading(1))
      yield* Topic.publishAll(
        topic,
        numbers(3, 2).map((n) => reading(n)),
        { headers: { c: "1" }, timestamp: at }
      )
      const own = Topic.make("own", {
        schema: Reading,
        timestamp: ({ n }) => new Date(n),
        partitions: 1
      })
      yield* Topic.publishAll(own, [reading(7), reading(8)])
      const found = yield* events(topic)
      assert.deepStrictEqual(
        found.map((event) => event.headers),
        [{ a: "ä", b: "" }, {}, { c: "1" }, { c: "1" }, { c: "1" }]
      )
      const times = found.map((event) => DateTime.toEpochMillis(event.timestamp))
      assert.deepStrictEqual([times[0], times[2], times[4]], [1_600_000_000_123, 1_600_000_000_123, 1_600_000_000_123])
      assert.strictEqual(times[1], Number(found[1]!.offset.split("-")[0]))
      assert.deepStrictEqual(
        (yield* events(own)).map((event) => DateTime.toEpochMillis(event.timestamp)),
        [7, 8]
      )
    })
  )
})

describe("refused, with nothing stored", () => {
  behaviour("a value that its schema refuses lists every problem", () =>
    Effect.gen(function* () {
      const topic = Topic.make("strict", {
        schema: Schema.Struct({ a: Schema.Int, b: Schema.String, c: Schema.Boolean }),
        partitions: 1
      })
      const error = yield* Effect.flip(Topic.publish(topic, { a: 1.5, b: 2, c: "no" } as never))
      assert.strictEqual(error._tag, "EncodeError")
      for (const path of ["a", "b", "c"]) assert.include(error.message, `["${path}"]`)
      const many = yield* Effect.flip(Topic.publishAll(topic, [{ a: 1, b: "", c: true }, { a: "x" } as never]))
      assert.propertyVal(many, "reason", "Schema")
      assert.deepStrictEqual(yield* events(topic), [])
    })
  )

  behaviour("a key function that throws, a time that is none, a payload that is too large", () =>
    Effect.gen(function* () {
      const make = (options: object) => Topic.make("t", { schema: Schema.String, partitions: 1, ...options })
      const wrong: ReadonlyArray<readonly [object, string]> = [
        [
          {
            partitionBy: () => {
              throw new Error("no customer")
            }
          },
          "(Key): partitionBy threw: no customer"
        ],
        [{ timestamp: () => new Date(Number.NaN) }, "(Key): timestamp threw: timestamp gave"],
        [{ maxBytes: 10 }, "(TooLarge): the payload is 22 bytes, the limit is 10 (option maxBytes of the topic)"]
      ]
      for (const [options, message] of wrong) {
        const topic = make(options)
        const error = yield* Effect.flip(Topic.publish(topic, "a long enough value."))
        assert.strictEqual(error._tag, "EncodeError")
        assert.include(error.message, message)
        const all = yield* Effect.flip(Topic.publishAll(topic, ["a long enough value."]))
        assert.strictEqual(all.message, error.message)
        assert.deepStrictEqual(yield* events(topic), [])
      }
    })
  )
})

describe("many at once", () => {
  behaviour("1,000 concurrent publishes keep the order of each fiber, and share entries", () =>
    Effect.gen(function* () {
      const topic = readings(4)
      // Ten publishers, each awaiting its own publishes; a key belongs to one publisher.
      yield* Effect.forEach(
        numbers(10),
        (k) => Effect.forEach(numbers(100), (n) => Topic.publish(topic, { key: `k${k}`, n }), { discard: true }),
        { concurrency: "unbounded", discard: true }
      )
      // And a thousand at the same moment, of one key.
      yield* Effect.forEach(numbers(1_000), (n) => Topic.publish(topic, { key: "same", n }), {
        concurrency: "unbounded",
        discard: true
      })
      const seen = new Seen()
      const entries = new Set<string>()
      for (const event of yield* events(topic)) {
        seen.add(event.value.key, event.value.n)
        if (event.value.key === "same") entries.add(event.offset.split(".")[0]!)
      }
      assert.strictEqual(seen.all.length, 2_000)
      assert.deepStrictEqual(seen.lists.get("same"), numbers(1_000))
      assertRising(seen.lists.values())
      assert.isAtMost(entries.size, 50)
    })
  )

  behaviour("publishAll gives the positions in the order of the values", () =>
    Effect.gen(function* () {
      const topic = readings(4)
      const positions = yield* Topic.publishAll(
        topic,
        numbers(1_234).map((n) => reading(n))
      )
      const byPlace = new Map(
        (yield* events(topic)).map((event) => [`${event.partition}/${event.offset}`, event.value.n])
      )
      assert.deepStrictEqual(
        positions.map(({ offset, partition }) => byPlace.get(`${partition}/${offset}`)),
        numbers(1_234)
      )
      assert.deepStrictEqual(yield* Topic.publishAll(topic, []), [])
    })
  )

  behaviour(
    "200,000 values from a stream: counted, in order per key, with a bounded number on their way",
    () =>
      Effect.gen(function* () {
        const topic = Topic.make("readings", {
          schema: Reading,
          retention: Retention.forever,
          partitionBy: ({ key }) => {
            ahead = Math.max(ahead, ++encoded - stored)
            return key
          }
        })
        const counting = countingAppends((events) => void (stored += events))(yield* Broker)
        let [encoded, stored, ahead] = [0, 0, 0]
        // In chunks larger than what may be on its way.
        const values = Stream.range(0, 199_999, 50_000).pipe(Stream.map((n) => reading(n, 100)))
        assert.strictEqual(yield* Effect.provideService(Topic.publishAll(topic, values), Broker, counting), 200_000)
        assert.strictEqual(stored, 200_000)
        assert.isAtMost(ahead, 10_000)
        const last = new Map<string, number>()
        yield* Stream.runForEachArray(Topic.stream(topic, { until: "now" }), (chunk) =>
          Effect.sync(() => {
            for (const { value } of chunk) {
              if (value.n <= (last.get(value.key) ?? -1))
                assert.fail(`${value.key}: ${value.n} after ${last.get(value.key)}`)
              last.set(value.key, value.n)
            }
          })
        )
        assert.strictEqual(
          [...last.values()].reduce((sum, n) => sum + n, 0),
          numbers(100, 199_900).reduce((sum, n) => sum + n, 0)
        )
      }),
    { timeout: 60_000 }
  )

  behaviour(
    "large values, from a stream or a generator: with a bounded number of bytes on their way",
    () =>
      Effect.gen(function* () {
        const bytes = 500_000
        const counting = countingAppends((events) => void (stored += events))(yield* Broker)
        let [encoded, stored, ahead] = [0, 0, 0]
        const topic = Topic.make("large", {
          schema: Schema.String,
          partitions: 2,
          partitionBy: (text) => {
            ahead = Math.max(ahead, ++encoded - stored)
            return text.slice(0, 4)
          }
        })
        const large = (n: number): string => `${1_000 + n}`.padEnd(bytes, "x")
        // The first of all, and where it is known how large they are.
        for (const values of [Stream.range(1, 60), Stream.range(61, 120, 50)]) {
          const publish = Topic.publishAll(topic, Stream.map(values, large))
          assert.strictEqual(yield* Effect.provideService(publish, Broker, counting), 60)
        }
        const generated = (function* () {
          for (let n = 121; n <= 180; n++) yield large(n)
        })()
        yield* Effect.provideService(Topic.publishAll(topic, generated), Broker, counting)
        assert.strictEqual(stored, 180)
        assert.isAtMost(ahead * bytes, 12_000_000)
        // Small ones again: at first as few, then as many as ever.
        ahead = 0
        const small = Stream.range(1, 20_000, 50_000).pipe(Stream.map(String))
        assert.strictEqual(yield* Effect.provideService(Topic.publishAll(topic, small), Broker, counting), 20_000)
        assert.isAtLeast(ahead, 1_000)
      }),
    { on: ["memory", "Redis"] }
  )

  behaviour("a stream that fails, and a sink", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const failing = Stream.concat(
        Stream.fromIterable(numbers(3).map((n) => reading(n))),
        Stream.fail("broken" as const)
      )
      assert.strictEqual(yield* Effect.flip(Topic.publishAll(topic, failing)), "broken")
      const refused = Stream.make(reading(3), { key: 1 } as never)
      assert.propertyVal(yield* Effect.flip(Topic.publishAll(topic, refused)), "_tag", "EncodeError")
      const count = yield* Stream.run(Stream.fromIterable(numbers(5, 10).map((n) => reading(n))), Topic.sink(topic))
      assert.strictEqual(count, 5)
      assert.includeMembers(yield* collect(topic), numbers(5, 10))
    })
  )
})

describe("explicit offsets", () => {
  behaviour("stand in the log; one that is not above the last is refused, and nothing of its partition is stored", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const ids = ["5-1", "5-2", "9-0"]
      const positions = yield* Topic.publishAll(
        topic,
        numbers(3).map((n) => reading(n)),
        { offsets: ids }
      )
      assert.deepStrictEqual(
        positions.map((position) => position.offset),
        ids.map((id) => `${id}.0`)
      )
      assert.deepStrictEqual(
        (yield* events(topic)).map((event) => event.offset),
        ids.map((id) => `${id}.0`)
      )
      const conflict = yield* Effect.flip(
        Topic.publishAll(topic, [reading(3), reading(4)], { offsets: ["10-0", "9-0"] })
      )
      assert.strictEqual(conflict._tag, "OffsetConflict")
      assert.deepStrictEqual(yield* collect(topic), [0, 1, 2])
      const lower = yield* Effect.flip(Topic.publishAll(topic, [reading(3)], { offsets: ["9-0"] }))
      assert.strictEqual(
        lower.message,
        "readings/0: an explicit offset must be above the last one, 9-0; nothing was stored there"
      )
      yield* Topic.publish(topic, reading(5))
      assert.deepStrictEqual(yield* collect(topic), [0, 1, 2, 5])
    })
  )

  behaviour("that are none, or not one per value, are refused", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      for (const [offsets, detail] of [
        [["1"], `offset "1": use "<millis>-<seq>", two whole numbers, above 0-0`],
        [["0-0"], `offset "0-0": use`],
        [["1-1.3"], `offset "1-1.3": use`],
        [["1-1", "1-2"], "1 values and 2 offsets were given"]
      ] as const) {
        const error = yield* Effect.flip(Topic.publishAll(topic, [reading(0)], { offsets }))
        assert.include(error.message, detail)
      }
      assert.deepStrictEqual(yield* collect(topic), [])
    })
  )
})

describe("numbered producers", () => {
  behaviour("a number not above the last is dropped and reported, with the place of the first", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const send = (n: number, sequence: bigint, producer = "meter") =>
        Topic.publish(topic, reading(n), { producer, sequence })
      const first = yield* send(0, 10n)
      assert.isFalse(first.repeated)
      assert.deepStrictEqual(yield* send(0, 10n), { ...first, repeated: true })
      assert.isFalse((yield* send(1, 12n)).repeated)
      const old = yield* send(9, 10n)
      assert.isTrue(old.repeated)
      assert.isFalse((yield* send(2, 1n, "other")).repeated)
      assert.deepStrictEqual(yield* collect(topic), [0, 1, 2])
    })
  )
})

describe("definitions", () => {
  it("take the defaults of withDefaults where they say nothing else", () => {
    const half = (key: string, partitions: number): number => key.length % partitions
    const make = Topic.withDefaults({
      partitions: 4,
      retention: Retention.forever,
      partitioner: half,
      serializer: Serializer.text,
      maxBytes: 1_000
    })
    const plain = make("plain", { schema: Schema.String, partitionBy: (text) => text })
    const fields = ({ maxBytes, partitioner, partitions, retention, serializer }: Topic.Any) => {
      return { maxBytes, partitioner, partitions, retention, serializer }
    }
    const defaults = fields(plain)
    assert.deepStrictEqual(defaults, {
      maxBytes: 1_000,
      partitioner: half,
      partitions: 4,
      retention: Retention.forever,
      serializer: Serializer.text
    })
    const own = make("own", { schema: Schema.String, partitions: 2, maxBytes: undefined, serializer: Serializer.json })
    assert.deepStrictEqual(fields(own), { ...defaults, partitions: 2, serializer: Serializer.json })
    const flat = make("flat", { schema: Schema.Struct({ id: Schema.String }), encoding: "flat", partitionBy: "id" })
    assert.deepStrictEqual(fields(flat), { ...defaults, serializer: undefined })
    assert.isTrue(flat.flat)
    assert.throws(
      () => Topic.withDefaults({ partitions: 0 })("none", { schema: Schema.String }),
      /topic none: partitions/
    )
  })

  it("touch no engine, have 16 partitions, and a variant is a topic of its own", () => {
    const topic = Topic.make("t", { schema: Reading })
    assert.strictEqual(topic.partitions, 16)
    assert.strictEqual(topic.retention._tag, "Consumed")
    const variant = topic.pipe(Topic.variant("u", { partitions: 3, retention: Retention.forever }))
    assert.deepStrictEqual([variant.name, variant.partitions, variant.retention._tag], ["u", 3, "Forever"])
    assert.strictEqual(variant.schema, topic.schema)
  })
})
