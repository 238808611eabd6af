/** Entries that cannot be decoded, and failures of the engine itself. */
import { assert, describe } from "@effect/vitest"
import { Cause, Effect, Schema } from "effect"
import { Broker } from "../src/Broker.ts"
import { EngineError } from "../src/Errors.ts"
import * as Event from "../src/Event.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, counts, halted, numbers, start, until } from "./support/engines.ts"
import { type Reading, reading, readings } from "./support/readings.ts"

const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })
const behind = Effect.map(Processor.lag("p"), (lags) => lags.reduce((sum, lag) => sum + lag.events, 0))

describe("entries that cannot be decoded", () => {
  const bad = (topic: Topic.Any, partition = 0) =>
    Broker.use((broker) =>
      broker.append(
        [
          {
            topic,
            partition,
            publisher: crypto.randomUUID(),
            number: 1,
            entries: [{ count: 1, fields: ["v", `{"key":"k1","n":"no number"}`, "k", "k1"] }]
          }
        ],
        "memory"
      )
    )

  const shapes = (topic: ReturnType<typeof readings>, seen: Array<number>) => {
    const note = (n: number) => Effect.sync(() => void seen.push(n))
    return {
      make: Processor.make("p", { topic }, ({ n }) => note(n)),
      perKey: Processor.make("p", { topic, concurrency: { perKey: 3 } }, ({ n }) => note(n)),
      batch: Processor.batch("p", { topic, size: 4, within: "10 millis" }, (values) =>
        Effect.forEach(values, ({ n }) => note(n))
      ),
      stream: Processor.stream(
        "p",
        { topic },
        Event.mapEffect(({ n }) => note(n))
      )
    }
  }

  for (const shape of ["make", "perKey", "batch", "stream"] as const) {
    behaviour(`meet the policy in ${shape}; the good ones are delivered`, (engine) =>
      Effect.gen(function* () {
        const topic = readings(1)
        yield* Topic.publishAll(
          topic,
          numbers(3).map((n) => reading(n))
        )
        yield* bad(topic)
        yield* Topic.publishAll(
          topic,
          numbers(3, 3).map((n) => reading(n))
        )
        const seen: Array<number> = []
        const part = shapes(topic, seen)[shape]
        const worker = yield* start([part.pipe(Processor.catchTag("DecodeError", Policy.ignore))])
        yield* until(engine, "the good ones are handled", () => seen.length === 6)
        yield* worker.idle
        const summary = yield* worker.stop
        assert.deepStrictEqual(seen.toSorted(), numbers(6))
        assert.deepStrictEqual(summary.parts.p, counts({ processed: 6, failed: 1, ignored: 1 }))
      })
    )

    behaviour(`halt without a policy in ${shape}, after the good ones before`, () =>
      Effect.gen(function* () {
        const topic = readings(1)
        yield* Topic.publishAll(
          topic,
          numbers(3).map((n) => reading(n))
        )
        yield* bad(topic)
        yield* Topic.publishAll(
          topic,
          numbers(3, 3).map((n) => reading(n))
        )
        const seen: Array<number> = []
        const failure = yield* halted([shapes(topic, seen)[shape]])
        const error = Cause.squash(failure.cause) as {
          _tag?: string
          bytes?: Uint8Array
          offset?: string
          message: string
        }
        assert.strictEqual(error._tag, "DecodeError")
        assert.strictEqual(error.offset, failure.offset)
        assert.include(new TextDecoder().decode(error.bytes), "no number")
        assert.include(error.message, "cannot be decoded (Schema)")
        if (shape !== "perKey") {
          assert.deepStrictEqual(seen, numbers(3))
          assert.strictEqual(yield* behind, 4)
        }
      })
    )
  }
})

describe("the engine's own failures", () => {
  behaviour(
    "in a handler are tried again, are no attempt, and no policy sees them",
    (engine) =>
      Effect.gen(function* () {
        const topic = readings(1, Retention.forever)
        yield* Topic.publishAll(
          topic,
          numbers(3).map((n) => reading(n))
        )
        const shapes = {
          make: (f: typeof handle) => Processor.make("make", { topic, tables: [totals] }, f),
          lanes: (f: typeof handle) => Processor.make("lanes", { topic, concurrency: { unordered: 2 } }, f),
          stream: (f: typeof handle) => Processor.stream("stream", { topic }, Event.mapEffect(f))
        }
        const attempts: Array<number> = []
        let failures = 0
        const handle = ({ n }: Reading, event: Event.Event<Reading>) =>
          Effect.suspend(() => {
            attempts.push(event.attempt)
            if (n === 1 && failures++ % 3 < 2) {
              return Effect.fail(new EngineError({ operation: "lookup", reason: "Unreachable", detail: "away" }))
            }
            return Effect.void
          })
        for (const shape of [shapes.make(handle), shapes.lanes(handle), shapes.stream(handle)]) {
          const worker = yield* start([
            shape.pipe(
              Processor.retry({ times: 5 }),
              Processor.catch(Policy.ignore),
              Processor.catchDefect(Policy.ignore)
            )
          ])
          const idle = yield* Effect.forkChild(worker.idle)
          yield* until(engine, "it went on", () => idle.pollUnsafe() !== undefined)
          const summary = yield* worker.stop
          assert.deepStrictEqual(summary.parts[shape.name], counts({ processed: 3, failed: 0, ignored: 0 }))
        }
        assert.deepStrictEqual(
          attempts,
          Array.from({ length: 15 }, () => 1)
        )
      }),
    { on: ["memory"] }
  )
})
