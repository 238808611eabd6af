/** Whatever becomes of a failed event can be seen: counted by a metric, and said with its place and what to do next. */
import { assert, describe } from "@effect/vitest"
import { Context, Effect, Logger, Metric, References, Schedule, Schema } from "effect"
import * as Metrics from "../src/Metrics.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, halted, numbers, start, until } from "./support/engines.ts"
import { type Reading, reading, readings } from "./support/readings.ts"

class Bad extends Schema.TaggedError<Bad>()("Bad", { n: Schema.Int }) {}

interface Line {
  readonly level: string
  readonly text: string
  readonly [annotation: string]: unknown
}

const saying = (lines: Array<Line>) =>
  Logger.layer([
    Logger.make(({ fiber, logLevel, message }) => {
      lines.push({ ...fiber.getRef(References.CurrentLogAnnotations), level: logLevel, text: String(message) })
    })
  ])

const valueOf = (metric: Metric.Counter<number>, attributes: Record<string, string>) =>
  Effect.map(Metric.value(Metric.withAttributes(metric, attributes)), ({ count }) => count)

interface Case {
  readonly outcome: string
  /** Its counter, if it has one beside the failures. */
  readonly counter?: Metric.Counter<number>
  readonly level: string
  /** What the line says to do, or what is done. */
  readonly next: string
  readonly part: (
    name: string,
    topic: ReturnType<typeof readings>,
    handle: (value: Reading) => Effect.Effect<void, Bad>
  ) => Processor.Processor<any, never>
}

const handling =
  (policy: Policy.Policy): Case["part"] =>
  (name, topic, handle) =>
    Processor.make(name, { topic }, handle).pipe(Processor.catchTag("Bad", policy))

const cases: ReadonlyArray<Case> = [
  {
    outcome: "retry",
    counter: Metrics.retried,
    level: "Debug",
    next: "tried again in 0 ms",
    part: (name, topic, handle) => Processor.make(name, { topic }, handle).pipe(Processor.retry({ times: 1 }))
  },
  {
    outcome: "split",
    counter: Metrics.retried,
    level: "Debug",
    next: "tried event by event",
    part: (name, topic, handle) =>
      Processor.batch(name, { topic, size: 3, within: "1 second", onFailure: "split" }, (values) =>
        Effect.forEach(values, handle, { discard: true })
      )
  },
  {
    outcome: "ignore",
    counter: Metrics.ignored,
    level: "Debug",
    next: "ignored a failed event",
    part: handling(Policy.ignore)
  },
  {
    outcome: "deadLetter",
    counter: Metrics.deadLettered,
    level: "Warn",
    next: "put it back with Topic.redrive",
    part: handling(Policy.deadLetter())
  },
  {
    outcome: "quarantine",
    counter: Metrics.quarantined,
    level: "Error",
    next: "release it with Processor.release, or skip it with Processor.skip",
    part: handling(Policy.quarantine)
  },
  {
    outcome: "park",
    counter: Metrics.parked,
    level: "Warn",
    next: "retry it now with Processor.release, drop it with Processor.skip",
    part: handling(Policy.park({ schedule: Schedule.spaced("1 day") }))
  },
  {
    outcome: "halt",
    level: "Error",
    next: "give the processor a policy for it",
    part: (name, topic, handle) => Processor.make(name, { topic }, handle)
  }
]

describe("a failed event", () => {
  for (const { counter, level, next, outcome, part } of cases) {
    behaviour(`is counted and told of: ${outcome}`, (engine) =>
      Effect.gen(function* () {
        const topic = readings(1, Retention.forever)
        const offsets = (yield* Topic.publishAll(
          topic,
          numbers(3).map((n) => reading(n))
        )).map(({ offset }) => offset)
        const processor = `visible-${outcome}-${engine.name}`
        // The second try goes well: what retries is done with it.
        let failures = 1
        const made = part(processor, topic, ({ n }) =>
          n === 1 && failures-- > 0 ? Effect.fail(new Bad({ n })) : Effect.void
        )
        const lines: Array<Line> = []
        const run = (
          outcome === "halt"
            ? Effect.flatMap(Effect.forkChild(halted([made])), (fiber) =>
                until(engine, "it halts", () => fiber.pollUnsafe() !== undefined)
              )
            : Effect.andThen(start([made]), () => Effect.void)
        ).pipe(Effect.provide(saying(lines)), Effect.provideService(References.MinimumLogLevel, "Debug"))
        yield* run
        const failed = (outcome: string) => valueOf(Metrics.failures, { processor, outcome, tag: "Bad" })
        const counted = Effect.gen(function* () {
          const own = counter === undefined ? 1 : yield* valueOf(counter, { processor })
          return own > 0 && (yield* failed(outcome)) > 0 && (yield* valueOf(Metrics.failed, { processor })) === 1
        })
        yield* until(engine, "it is counted", () => counted)
        // Of a split batch all three are tried again.
        assert.strictEqual(yield* failed(outcome), outcome === "split" ? 3 : 1)
        const said = lines.filter((line) => line.text.includes(next))
        assert.strictEqual(said.length, 1, JSON.stringify(lines))
        const offset = offsets[outcome === "split" ? 2 : 1]
        assert.deepInclude(said[0]!, { level, processor, topic: "readings", partition: 0, offset })
      })
    )
  }

  behaviour("for want of a service is told that, and not of policies", () =>
    Effect.gen(function* () {
      class Payments extends Context.Service<Payments, Effect.Effect<void>>()("Payments") {}
      const topic = readings(1)
      yield* Topic.publish(topic, reading(1))
      const lines: Array<Line> = []
      // The command line runs parts whose types it cannot see.
      const part = Processor.make("needy", { topic }, () => Effect.flatten(Payments)) as Processor.Processor<
        never,
        never
      >
      yield* Effect.provide(halted([part]), saying(lines))
      assert.lengthOf(
        lines.filter(({ text }) => text.includes("since a service is missing") && !text.includes("a policy for it")),
        1
      )
    })
  )

  behaviour(
    "that is one of many fills no log: the first is told of, the others are counted until a minute is over",
    (engine) =>
      Effect.gen(function* () {
        const topic = readings(2)
        const lines: Array<Line> = []
        const part = (name: string, policy: Policy.Policy) =>
          Processor.make(name, { topic }, ({ n }) => Effect.fail(new Bad({ n }))).pipe(
            Processor.catchTag("Bad", policy)
          )
        const parts = [
          part("visible-dead", Policy.deadLetter()),
          part("visible-parked", Policy.park({ schedule: Schedule.spaced("1 day") }))
        ]
        yield* Effect.provide(start(parts), saying(lines))
        const publish = (length: number, from: number) =>
          Topic.publishAll(
            topic,
            numbers(length, from).map((n) => reading(n, 1_000))
          )
        const told = (text: string) => lines.filter((line) => line.level === "Warn" && line.text.includes(text))
        const dead = (count: number) =>
          until(engine, `${count} are counted`, () =>
            Effect.gen(function* () {
              const letters = yield* valueOf(Metrics.deadLettered, { processor: "visible-dead" })
              return letters === count && (yield* valueOf(Metrics.parked, { processor: "visible-parked" })) === count
            })
          )
        yield* publish(50, 0)
        yield* dead(50)
        assert.strictEqual(told("goes to readings.dead").length, 1)
        assert.strictEqual(told("waits aside").length, 1)
        yield* engine.elapse(61_000)
        yield* publish(1, 50)
        yield* dead(51)
        for (const text of ["goes to readings.dead", "waits aside"]) {
          assert.deepStrictEqual(
            told(text).map((line) => line["moreSinceTheLast"]),
            [undefined, 49]
          )
        }
      }),
    { on: ["memory"] }
  )
})
