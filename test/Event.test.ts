/** Events outside of the plain handler: further down, changed, and where there are no books to keep. */
import { assert, describe } from "@effect/vitest"
import { Cause, DateTime, Effect, Stream } from "effect"
import * as Event from "../src/Event.ts"
import * as Processor from "../src/Processor.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, drain, halted, numbers } from "./support/engines.ts"
import { reading, readings } from "./support/readings.ts"

const memory = { on: ["memory"] } as const

describe("Event.current", () => {
  behaviour(
    "is the event in hand in every shape; in a batch the last one",
    () =>
      Effect.gen(function* () {
        const topic = readings(1)
        yield* Topic.publishAll(
          topic,
          numbers(4).map((n) => reading(n))
        )
        const seen: Record<string, Array<unknown>> = { one: [], lanes: [], batch: [], stream: [] }
        const note = (name: string) =>
          Effect.map(Event.current, (event) => void seen[name]!.push((event.value as { n: number }).n))
        yield* drain([
          Processor.make("one", { topic }, () => note("one")),
          Processor.make("lanes", { topic, concurrency: { perKey: 2 } }, () => note("lanes")),
          Processor.batch("batch", { topic, size: 2, within: "1 hour" }, () => note("batch")),
          Processor.stream(
            "stream",
            { topic },
            Event.mapEffect(() => note("stream"))
          )
        ])
        assert.deepStrictEqual(seen, { one: [0, 1, 2, 3], lanes: [0, 1, 2, 3], batch: [1, 3], stream: [0, 1, 2, 3] })
      }),
    memory
  )
})

describe("a changed event", () => {
  behaviour(
    "has another value and is the same event: place, key, headers, time",
    () =>
      Effect.gen(function* () {
        const topic = readings(1)
        const timestamp = DateTime.makeUnsafe(5)
        const position = yield* Topic.publish(topic, reading(3), { headers: { h: "1" }, timestamp })
        const [event] = yield* Stream.runCollect(Topic.stream(topic, { until: "now" }))
        const changed = event!.withValue("other").withValue(7)
        assert.strictEqual(changed.value, 7)
        for (const same of [event!, changed]) {
          const { attempt, epoch, headers, key, offset, partition, topic } = same
          assert.deepStrictEqual(
            { attempt, epoch, headers, key, offset, partition, topic },
            {
              attempt: 1,
              epoch: 0n,
              headers: { h: "1" },
              key: "k3",
              offset: position.offset,
              partition: 0,
              topic: "readings"
            }
          )
          assert.strictEqual(DateTime.toEpochMillis(same.timestamp), 5)
        }
        assert.deepStrictEqual(JSON.parse(JSON.stringify(changed)), {
          topic: "readings",
          partition: 0,
          offset: position.offset,
          key: "k3",
          attempt: 1,
          value: 7
        })
      }),
    memory
  )
})

describe("where there are no books", () => {
  behaviour(
    "filter and map work on a tail; units of work do not, and say so",
    () =>
      Effect.gen(function* () {
        const topic = readings(1)
        yield* Topic.publishAll(
          topic,
          numbers(4).map((n) => reading(n))
        )
        const tail = Topic.stream(topic, { until: "now" })
        const odd = tail.pipe(
          Event.filter(({ n }) => n % 2 === 1),
          Event.map(({ n }) => n)
        )
        assert.deepStrictEqual(
          (yield* Stream.runCollect(odd)).map((event) => event.value),
          [1, 3]
        )
        const exit = yield* Effect.exit(Stream.runDrain(tail.pipe(Event.mapEffect(() => Effect.void))))
        assert.include(
          String(exit),
          "Event.mapEffect and mapBatch are for Processor.stream; use Stream.mapEffect on a Topic.stream"
        )
      }),
    memory
  )

  behaviour(
    "a batch that gives back another number of values halts, and says so",
    () =>
      Effect.gen(function* () {
        const topic = readings(1)
        yield* Topic.publishAll(
          topic,
          numbers(4).map((n) => reading(n))
        )
        const failure = yield* halted([
          Processor.stream("p", { topic }, (events) =>
            events.pipe(
              Stream.grouped(2),
              Event.mapBatch(() => Effect.succeed([1]))
            )
          )
        ])
        assert.include(String(Cause.squash(failure.cause)), "Event.mapBatch: 2 events went in, 1 values came out")
      }),
    memory
  )
})
