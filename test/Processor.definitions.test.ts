/** What is refused before anything runs: by the definition itself, or by the worker's start, with nothing handled. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Misconfigured } from "../src/Errors.ts"
import type { Part } from "../src/Part.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Topic from "../src/Topic.ts"
import * as Worker from "../src/Worker.ts"
import { behaviour, drain, numbers } from "./support/engines.ts"
import { Reading, reading, readings } from "./support/readings.ts"

const topic = readings()
const nothing = () => Effect.void
const make = (options: object, name = "p") =>
  Processor.make(name, { topic, ...options } as { topic: typeof topic }, nothing)
const batch = (options: object) =>
  Processor.batch(
    "p",
    { topic, size: 1, within: 1, ...options } as { topic: typeof topic; size: number; within: number },
    nothing
  )
const defineTopic = (options: object, name = "t") => Topic.make(name, { schema: Reading, ...options })
const nameRule = `use 1 to 128 letters, digits, ".", "_" or "-", beginning with a letter or digit`

const refused: ReadonlyArray<readonly [string, () => unknown, string]> = [
  ["a brace in a name", () => defineTopic({}, "a}b"), `topic name "a}b": ${nameRule}`],
  ["an empty name", () => make({}, ""), `processor name "": ${nameRule}`],
  ["129 letters", () => make({}, "x".repeat(129)), `processor name "${"x".repeat(129)}": ${nameRule}`],
  ["a name that begins with a dot", () => Topic.variant(topic, ".hidden"), `topic name ".hidden": ${nameRule}`],
  [
    "no partitions",
    () => defineTopic({ partitions: 0 }),
    "topic t: partitions must be a whole number from 1 to 65536, not 0"
  ],
  [
    "half a partition",
    () => defineTopic({ partitions: 1.5 }),
    "topic t: partitions must be a whole number from 1 to 65536, not 1.5"
  ],
  [
    "a variant without partitions",
    () => Topic.variant(topic, "v", { partitions: -1 }),
    "topic v: partitions must be a whole number from 1 to 65536, not -1"
  ],
  [
    "an encoding nobody knows",
    () => defineTopic({ encoding: "csv" }),
    `topic t: encoding is "flat" or left out, not "csv"`
  ],
  [
    "a flat topic with a serializer",
    () => defineTopic({ encoding: "flat", serializer: {} }),
    "topic t: a flat topic stores fields and has no serializer; leave out one of the two"
  ],
  ["no bytes", () => defineTopic({ maxBytes: 0 }), "topic t: maxBytes must be a whole number of at least 1, not 0"],
  [
    "no capacity",
    () => Retention.consumed({ capacity: 0 }),
    "retention: capacity must be a whole number of at least 1, not 0"
  ],
  [
    "less than nothing kept",
    () => Retention.consumed({ keep: -1 }),
    "retention: keep must be a whole number of at least 0, not -1"
  ],
  [
    "an onFull nobody knows",
    () => Retention.consumed({ onFull: "drop" as never }),
    `retention: onFull is "wait" or "fail", not drop`
  ],
  [
    "a length of nothing",
    () => Retention.maxLength(0),
    "retention: maxLength must be a whole number of at least 1, not 0"
  ],
  [
    "an age of nothing",
    () => Retention.maxAge(0),
    "retention: maxAge in milliseconds must be a whole number of at least 1, not 0"
  ],
  ["no topic", () => make({ topic: [] }), "processor p: give it a topic"],
  [
    "a source that is no topic",
    () => make({ topic: { name: "join", partitions: 4 } }),
    "processor p: join is neither a topic nor a join"
  ],
  ["one topic twice", () => make({ topic: [topic, topic] }), "processor p: a topic is named twice"],
  [
    "topics of different counts",
    () => make({ topic: [topic, Topic.variant(topic, "wide", { partitions: 8 })] }),
    "processor p reads readings with 4 partitions and wide with 8: give them the same count, or re-key one with Processor.repartition"
  ],
  [
    "an acknowledgement nobody knows",
    () => make({ acknowledge: "never" }),
    `processor p: acknowledge is "after" or "before", not "never"`
  ],
  [
    "before, at once",
    () => make({ acknowledge: "before", concurrency: { perKey: 2 } }),
    `processor p: acknowledge "before" goes with one event at a time; leave out concurrency`
  ],
  [
    "no lanes",
    () => make({ concurrency: { perKey: 0 } }),
    "processor p: concurrency.perKey must be a whole number from 1 to 10000, not 0"
  ],
  [
    "no order, no lanes",
    () => make({ concurrency: { unordered: 0 } }),
    "processor p: concurrency.unordered must be a whole number from 1 to 10000, not 0"
  ],
  [
    "nothing uncommitted",
    () => make({ maxUncommitted: 0 }),
    "processor p: maxUncommitted must be a whole number of at least 1, not 0"
  ],
  [
    "nothing ahead",
    () => make({ prefetch: { events: 0 } }),
    "processor p: prefetch.events must be a whole number of at least 1, not 0"
  ],
  [
    "no bytes ahead",
    () => make({ prefetch: { bytes: 0.5 } }),
    "processor p: prefetch.bytes must be a whole number of at least 1, not 0.5"
  ],
  ["slow at once", () => make({ slowAfter: 0 }), "processor p: slowAfter must be longer than nothing"],
  ["an onLost nobody knows", () => make({ onLost: "panic" }), `processor p: onLost is "halt" or "resume"`],
  [
    "a start nobody knows",
    () => make({ startFrom: "yesterday" }),
    `processor p: "yesterday" is no start: use "earliest", "latest", { time } or { offset: "<millis>-<seq>.<index>" }`
  ],
  ["a start at no offset", () => make({ startFrom: { offset: "x" } }), `processor p: {"offset":"x"} is no start`],
  ["an empty batch", () => batch({ size: 0 }), "processor p: size must be a whole number of at least 1, not 0"],
  ["a batch at once", () => batch({ within: 0 }), "processor p: within must be longer than nothing"],
  [
    "a stream acknowledged by nobody",
    () => Processor.stream("p", { topic, acknowledge: "all" as never }, (events) => events),
    `processor p: acknowledge is "emitted" or "upTo", not "all"`
  ],
  [
    "a repartition onto itself",
    () => Processor.repartition("p", { topic, to: topic }),
    "processor p: a topic cannot be repartitioned onto itself"
  ],
  [
    "middleware before lanes",
    () => make({ concurrency: { perKey: 2 } }).pipe(Processor.middleware((events) => events)),
    "processor p: middleware goes with one event at a time, batches and streams; use Processor.around"
  ],
  [
    "around a stream",
    () => Processor.stream("p", { topic }, (events) => events).pipe(Processor.around((handle) => handle)),
    "processor p: a stream has no handler to stand around; use Processor.middleware"
  ]
]

describe("refused by the definition", () => {
  it.each(refused)("%s", (_, define, detail) => {
    try {
      define()
    } catch (error) {
      assert.instanceOf(error, Misconfigured)
      assert.include((error as Misconfigured).detail, detail)
      return
    }
    assert.fail("it was not refused")
  })
})

describe("refused by the worker's start, with nothing handled", () => {
  const handled: Array<number> = []
  const counting = (name: string, source: Topic.Topic<typeof Reading.Type, any> = topic) =>
    Processor.make(name, { topic: source }, ({ n }) => Effect.sync(() => void handled.push(n)))
  const refusedBy = (parts: ReadonlyArray<Part<unknown, never>>, options?: Worker.Options) =>
    Effect.gen(function* () {
      handled.length = 0
      yield* Topic.publishAll(
        topic,
        numbers(5).map((n) => reading(n))
      )
      const error = yield* Effect.flip(
        Worker.run(parts as never, options) as Effect.Effect<unknown, Worker.Failure<unknown>, never>
      )
      assert.strictEqual(error._tag, "Misconfigured")
      assert.deepStrictEqual(handled, [])
      return error.message
    })

  behaviour("two parts of one name", () =>
    Effect.gen(function* () {
      assert.strictEqual(
        yield* refusedBy([counting("p"), counting("p")]),
        "DuplicateName: two parts are named p; the name is the consumer group, give each its own"
      )
      yield* drain([counting("p"), counting("q")])
      assert.strictEqual(handled.length, 10)
    })
  )

  behaviour("one topic with two counts, and a count that is not the stored one", () =>
    Effect.gen(function* () {
      const wide = Topic.make("readings", { schema: Reading, partitionBy: "key", partitions: 8 })
      assert.strictEqual(
        yield* refusedBy([counting("p"), counting("q", wide)]),
        "PartitionsMismatch: topic readings is defined with 4 and with 8 partitions"
      )
      const message = yield* refusedBy([counting("q", wide)])
      assert.match(message, /^LayoutMismatch: .*readings.* 4 .*8/)
      // Nothing was changed by it.
      yield* drain([counting("q")])
      assert.strictEqual(handled.length, 10)
      const published = yield* Effect.flip(Topic.publish(wide, reading(1)))
      assert.strictEqual(published._tag, "EngineError")
      assert.match(published.message, /readings.* 4 .*8/)
    })
  )

  behaviour("a processor that is stored with other topics", () =>
    Effect.gen(function* () {
      yield* drain([counting("p")])
      const message = yield* refusedBy([counting("p", Topic.variant(topic, "others"))])
      assert.match(message, /^LayoutMismatch: .*"p".*(readings|others)/)
    })
  )

  behaviour("options of the worker", () =>
    Effect.gen(function* () {
      for (const [options, message] of [
        [{ limit: 0 }, "InvalidOption: limit must be a whole number of at least 1, not 0"],
        [{ member: "a b" }, `InvalidOption: member name "a b": ${nameRule}`],
        [{ processors: ["q"] }, "InvalidOption: processors: there is no part named q; there are p"],
        [{ lease: 5 }, "InvalidOption: Worker.run: lease is 5: give a duration of at least 100 millis"]
      ] as const) {
        assert.include(yield* refusedBy([counting("p")], options), message)
      }
    })
  )

  behaviour("only the named processors run", () =>
    Effect.gen(function* () {
      handled.length = 0
      yield* Topic.publish(topic, reading(1))
      const summary = yield* drain([counting("p"), counting("q")], { processors: ["q"] })
      assert.deepStrictEqual(Object.keys(summary.parts), ["q"])
      assert.deepStrictEqual(handled, [1])
    })
  )
})
