/** Each hook is called once per step, its end with the state of its begin; one that throws is logged and harms nothing. */
import { assert, describe } from "@effect/vitest"
import { Effect, Exit, Logger, Schedule, Schema } from "effect"
import * as Agent from "../src/Agent.ts"
import * as Job from "../src/Job.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Sensor from "../src/Sensor.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, drain, numbers, start, until } from "./support/engines.ts"

interface Step {
  readonly hook: string
  readonly begin: any
  exit: Exit.Exit<unknown, unknown> | undefined
}

/** Every hook, kept step by step; the end fills in the very step that the begin has made. */
const recording = (steps: Array<Step>): Sensor.Hooks => {
  const hook = (name: string) => (begin: unknown) => {
    const step: Step = { hook: name, begin, exit: undefined }
    steps.push(step)
    return (exit: Exit.Exit<unknown, unknown>) => {
      assert.isUndefined(step.exit, `${name} ended twice`)
      step.exit = exit
    }
  }
  const kinds = ["handle", "commit", "publish", "table", "rebalance", "job", "request"] as const
  return Object.fromEntries(kinds.map((kind) => [kind, hook(kind)]))
}

describe("hooks", () => {
  behaviour("are called when a step begins, and when it ends, of every kind", (engine) => {
    const steps: Array<Step> = []
    const of = (hook: string) => steps.filter((step) => step.hook === hook)
    return Effect.gen(function* () {
      const topic = Topic.make(`sensed-${engine.name}`, { schema: Schema.Int, partitionBy: (n) => n, partitions: 2 })
      const out = Topic.make(`sensed-out-${engine.name}`, { schema: Schema.Int, partitions: 1 })
      const sums = Table.make(`sensed-sums-${engine.name}`, { key: Schema.Int, value: Schema.Int, initial: () => 0 })
      const echo = Agent.make(`sensed-echo-${engine.name}`, { request: Schema.Int, reply: Schema.Int, partitions: 1 })
      const job = Job.make(`sensed-job-${engine.name}`, { payload: Schema.Int, queue: `sensed-${engine.name}` })
      let first = true
      const part = Processor.make(
        "sensed",
        { topic, tables: [sums] },
        Effect.fnUntraced(function* (n: number) {
          if (n === 7 && first) {
            first = false
            return yield* Effect.fail("once" as const)
          }
          yield* Table.update(sums, n, (sum) => sum + 1)
          yield* Topic.emit(out, n)
          if (n === 0) yield* Job.enqueue(job, 1)
        })
      ).pipe(Processor.retry({ times: 1, schedule: Schedule.spaced(1) }), Processor.catch(Policy.ignore))
      yield* Topic.publishAll(topic, numbers(10))
      const worker = yield* start([
        part as never,
        Agent.handler(echo, (n) => Effect.succeed(n)),
        Job.handler(job, () => Effect.die("no"))
      ])
      const asked = yield* Effect.forkChild(Agent.ask(echo, 5))
      yield* until(engine, "it is answered", () => asked.pollUnsafe() !== undefined)
      yield* until(engine, "the job has run", () => of("job").some(({ exit }) => exit !== undefined))
      yield* worker.idle
      yield* worker.stop
      for (const { exit, hook } of steps) assert.isDefined(exit, hook)

      const handled = of("handle").filter(({ begin }) => begin.processor === "sensed")
      assert.lengthOf(handled, 11)
      const failed = handled.filter(({ exit }) => Exit.isFailure(exit!))
      assert.deepStrictEqual(
        failed.map(({ begin }) => begin.events[0].value),
        [7]
      )
      const values = handled.map(({ begin }) => begin.events[0].value).toSorted((a, b) => a - b)
      assert.deepStrictEqual(values, [0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 9])
      const commits = of("commit").filter(({ begin }) => begin.processor === "sensed")
      const sum = (field: string) => commits.reduce((sum, { begin }) => sum + begin[field], 0)
      assert.deepStrictEqual([sum("emitted"), sum("rows"), sum("jobs")], [10, 10, 1])
      const published = of("publish").filter(({ begin }) => begin.topic === topic.name)
      assert.strictEqual(
        published.reduce((sum, { begin }) => sum + begin.events, 0),
        10
      )
      assert.isNotEmpty(of("table").filter(({ begin }) => begin.table === sums.name))
      const moves = of("rebalance").filter(({ begin }) => begin.processor === "sensed")
      assert.deepStrictEqual(moves.map(({ begin }) => `${begin.change} ${begin.partition}`).toSorted(), [
        "claimed 0",
        "claimed 1",
        "released 0",
        "released 1"
      ])
      assert.deepStrictEqual(
        of("job").map(({ begin, exit }) => [begin.job, begin.attempt, Exit.isFailure(exit!)]),
        [[job.name, 1, true]]
      )
      assert.deepStrictEqual(
        of("request").map(({ begin, exit }) => [begin.agent, exit]),
        [[echo.name, Exit.succeed(5)]]
      )
    }).pipe(Effect.provide(Sensor.layer(recording(steps))))
  })

  behaviour(
    "that throw are logged, once a minute, and the others are called all the same",
    (engine) => {
      const steps: Array<Step> = []
      const lines: Array<string> = []
      const fail = (): never => {
        throw new Error("a hook")
      }
      const throwing = Sensor.layer({ handle: fail, commit: () => fail, publish: fail, rebalance: () => fail })
      return Effect.gen(function* () {
        const topic = Topic.make(`thrown-${engine.name}`, { schema: Schema.Int, partitions: 1 })
        yield* Topic.publishAll(topic, numbers(50))
        const summary = yield* drain([Processor.make("thrown", { topic }, () => Effect.void)])
        assert.strictEqual(summary.parts["thrown"]!.processed, 50)
        assert.lengthOf(
          steps.filter(({ hook }) => hook === "handle"),
          50
        )
        const said = lines.filter((line) => line.includes("a hook of Sensor.layer failed"))
        assert.deepStrictEqual(
          ["handle", "commit", "publish", "rebalance"].map((kind) => said.filter((line) => line.includes(kind)).length),
          [1, 1, 1, 1]
        )
      }).pipe(
        Effect.provide(throwing),
        Effect.provide(Sensor.layer(recording(steps))),
        Effect.provide(Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))]))
      )
    },
    { on: ["memory"] }
  )

  behaviour(
    "of batches and lanes are told of what a handler is given",
    (engine) => {
      const given = new Map<string, Array<ReadonlyArray<unknown>>>()
      const told: Sensor.Hooks = {
        handle: ({ events, processor }) => {
          const values = events.map(({ value }) => value)
          given.set(processor, [...(given.get(processor) ?? []), values])
        }
      }
      return Effect.gen(function* () {
        const topic = Topic.make(`given-${engine.name}`, { schema: Schema.Int, partitions: 1 })
        yield* Topic.publishAll(topic, numbers(6))
        yield* drain([
          Processor.batch("batches", { topic, size: 3, within: "1 second" }, () => Effect.void),
          Processor.make("lanes", { topic, concurrency: { unordered: 2 } }, () => Effect.void)
        ])
        assert.deepStrictEqual(given.get("batches"), [
          [0, 1, 2],
          [3, 4, 5]
        ])
        assert.deepStrictEqual(given.get("lanes"), [[0], [1], [2], [3], [4], [5]])
      }).pipe(Effect.provide(Sensor.layer(told)))
    },
    { on: ["memory"] }
  )
})
