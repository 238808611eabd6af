/** Batches whose failure is split: each event alone, so that only bad ones meet the policy. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Schema } from "effect"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, counts, drain, halted, numbers } from "./support/engines.ts"
import { collect, reading, readings } from "./support/readings.ts"

class Bad extends Schema.TaggedError<Bad>()("Bad", { n: Schema.Int }) {}

const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })

/** Counts and emits every value of a batch, and fails at the bad ones. */
const loader = (
  topic: ReturnType<typeof readings>,
  target: typeof topic,
  bad: ReadonlyArray<number>,
  runs: Array<unknown>
) =>
  Processor.batch(
    "p",
    { topic, tables: [totals], size: 5, within: "1 hour", onFailure: "split" },
    Effect.fnUntraced(function* (values, events) {
      runs.push([values.map(({ n }) => n), events[0].attempt])
      for (const value of values) {
        yield* Table.update(totals, value.key, (total) => total + 1)
        yield* Topic.emit(target, value)
        if (bad.includes(value.n)) return yield* new Bad({ n: value.n })
      }
    })
  )

describe("split", () => {
  behaviour("only the bad event meets the policy; the good ones are committed once, in order", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const target = Topic.variant(topic, "target")
      yield* Topic.publishAll(
        topic,
        numbers(10).map((n) => reading(n, 1))
      )
      const runs: Array<unknown> = []
      const summary = yield* drain([
        loader(topic, target, [2], runs).pipe(Processor.catchTag("Bad", Policy.deadLetter()))
      ])
      assert.deepStrictEqual(runs, [
        [[0, 1, 2, 3, 4], 1],
        [[0], 2],
        [[1], 2],
        [[2], 2],
        [[3], 2],
        [[4], 2],
        [[5, 6, 7, 8, 9], 1]
      ])
      assert.deepStrictEqual(
        yield* collect(target),
        numbers(10).filter((n) => n !== 2)
      )
      assert.deepStrictEqual(yield* collect(Topic.dead(topic)), [2])
      assert.strictEqual(yield* Table.lookup(totals, "k0"), 9)
      assert.deepStrictEqual(summary.parts.p, counts({ processed: 9, failed: 2, retried: 5, deadLettered: 1 }))
    })
  )

  behaviour("retries count for each event alone, also where a middleware stands around them", () =>
    Effect.gen(function* () {
      for (const around of [false, true]) {
        const topic = Topic.variant(readings(1), `readings-${around}`)
        const target = Topic.variant(topic, `target-${around}`)
        yield* Topic.publishAll(
          topic,
          numbers(5).map((n) => reading(n, 1))
        )
        const runs: Array<readonly [ReadonlyArray<number>, number]> = []
        const part = loader(topic, target, [1, 3], runs as Array<unknown>).pipe(
          Processor.retry({ times: 2 }),
          Processor.catchTag("Bad", Policy.ignore)
        )
        const summary = yield* drain([around ? part.pipe(Processor.around((handle) => handle)) : part])
        assert.deepStrictEqual(
          runs.map(([values]) => values.join("")),
          ["01234", "0", "1", "1", "1", "2", "3", "3", "3", "4"]
        )
        assert.deepStrictEqual(yield* collect(target), [0, 2, 4])
        assert.deepStrictEqual(summary.parts.p, counts({ processed: 3, failed: 7, retried: 9, ignored: 2 }))
        yield* Processor.remove("p")
      }
    })
  )

  behaviour("what no policy takes halts at the bad event, and the good ones before it are committed", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const target = Topic.variant(topic, "target")
      const positions = yield* Topic.publishAll(
        topic,
        numbers(5).map((n) => reading(n, 1))
      )
      const failure = yield* halted([loader(topic, target, [3], [])])
      assert.deepStrictEqual(Cause.squash(failure.cause), new Bad({ n: 3 }))
      assert.strictEqual(failure.offset, positions[3]!.offset)
      assert.deepStrictEqual(yield* collect(target), [0, 1, 2])
      assert.strictEqual((yield* Processor.lag("p"))[0]!.events, 2)
      yield* Topic.publishAll(
        topic,
        numbers(3, 5).map((n) => reading(n, 1))
      )
      yield* drain([loader(topic, target, [], [])])
      assert.deepStrictEqual(yield* collect(target), numbers(8))
    })
  )

  behaviour("a batch that fails only together goes through event by event", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(6).map((n) => reading(n))
      )
      const sizes: Array<number> = []
      const part = Processor.batch("p", { topic, size: 3, within: "1 hour", onFailure: "split" }, (values) => {
        sizes.push(values.length)
        return values.length > 1 ? Effect.die("too many") : Effect.void
      })
      const summary = yield* drain([part])
      assert.deepStrictEqual(sizes, [3, 1, 1, 1, 3, 1, 1, 1])
      assert.deepStrictEqual(summary.parts.p, counts({ processed: 6, failed: 2, retried: 6 }))
    })
  )

  it("knows two ways", () => {
    const options = { topic: readings(1), size: 3, within: "1 hour", onFailure: "half" } as const
    assert.throws(() => Processor.batch("p", options as never, () => Effect.void), /"whole" or "split", not "half"/)
  })
})
