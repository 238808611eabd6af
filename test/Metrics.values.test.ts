/** Every metric of the table at the head of `Metrics.ts` exists, with its type and attributes, and says what was done. */
import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Metric, Schedule, Schema } from "effect"
import { PrometheusMetrics } from "effect/observability"
import * as Agent from "../src/Agent.ts"
import * as Job from "../src/Job.ts"
import * as Metrics from "../src/Metrics.ts"
import * as Partitioner from "../src/Partitioner.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Queue from "../src/Queue.ts"
import * as Retention from "../src/Retention.ts"
import * as Scheduler from "../src/Scheduler.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, numbers, start, type TestEngine, until } from "./support/engines.ts"

interface Row {
  readonly type: string
  readonly attributes: ReadonlyArray<string>
}

const head = readFileSync(new URL("../src/Metrics.ts", import.meta.url), "utf8").split("*/")[0]!
const table = new Map(
  Array.from(
    head.matchAll(/^ \* \| `(millrace_\w+)` \| (\w+) \| ([\w, ]*)\| .+ \|$/gm),
    ([, name, type, attributes]): readonly [string, Row] => [
      name!,
      {
        type: type!,
        attributes: attributes!
          .split(",")
          .map((one) => one.trim())
          .filter((one) => one !== "")
          .toSorted()
      }
    ]
  )
)
const exported = Object.values(Metrics).filter(Metric.isMetric) as ReadonlyArray<Metric.Metric<any, any>>

/** What is in the registry by now, of a processor, topic or queue. */
const series = Effect.map(Metric.snapshot, (all) => all.filter(({ id }) => id.startsWith("millrace_")))

type Attributes = Readonly<Record<string, string>>
const valueOf = (metric: Metric.Metric<any, any>, attributes: Attributes) =>
  Effect.map(Metric.snapshot, (all) => {
    const found = all.filter(
      (one) =>
        one.id === metric.id && Object.entries(attributes).every(([name, value]) => one.attributes?.[name] === value)
    )
    // Several series of one question add up.
    return found.reduce((sum, { state, type }) => {
      const one = state as { count?: number; value?: number }
      return sum + (type === "Gauge" ? one.value! : one.count!)
    }, 0)
  })

const equal = Effect.fnUntraced(function* (metric: Metric.Metric<any, any>, attributes: Attributes, wanted: number) {
  assert.strictEqual(yield* valueOf(metric, attributes), wanted, `${metric.id} ${JSON.stringify(attributes)}`)
})

/** A worker hears of a pause by a wake, which nothing here can see. */
const heard = (engine: TestEngine) => engine.elapse(300)

describe("the table", () => {
  it("lists the metrics that are exported, with their types, and no others", () => {
    assert.isAbove(table.size, 25)
    assert.deepStrictEqual(exported.map(({ id }) => id).toSorted(), Array.from(table.keys()).toSorted())
    for (const { id, type } of exported) assert.strictEqual(type.toLowerCase(), table.get(id)!.type, id)
    for (const { description, id } of exported) assert.isNotEmpty(description, id)
  })
})

describe("a worker", () => {
  behaviour("measures what it does with events, and tables, and partitions", (engine) =>
    Effect.gen(function* () {
      const name = `values-${engine.name}`
      const source = Topic.make(`${name}-in`, { schema: Schema.Int, partitionBy: (n) => n, partitions: 2 })
      const out = Topic.make(`${name}-out`, { schema: Schema.Int, partitions: 1, retention: Retention.forever })
      const sums = Table.make(`${name}-sums`, { key: Schema.Int, value: Schema.Int, initial: () => 0 })
      let open = false
      const part = Processor.make(
        name,
        { topic: source, tables: [sums] },
        Effect.fnUntraced(function* (n: number) {
          if (n === 98) return yield* Effect.fail("ignored" as const)
          if (n === 99 && !open) return yield* Effect.fail("parked" as const)
          yield* Table.update(sums, n, (sum) => sum + n)
          yield* Topic.emit(out, n)
        })
      ).pipe(
        Processor.catch(
          Policy.choose((error) =>
            error === "ignored" ? Policy.ignore : Policy.park({ schedule: Schedule.spaced("1 hour") })
          )
        )
      )
      yield* Topic.publishAll(source, numbers(20))
      const worker = yield* start([part])
      yield* worker.idle
      const processor = name
      const topics = { topic: source.name }
      yield* equal(Metrics.received, { processor }, 20)
      yield* equal(Metrics.processed, { processor }, 20)
      yield* equal(Metrics.handlerSeconds, { processor }, 20)
      yield* equal(Metrics.emitted, { processor }, 20)
      yield* equal(Metrics.published, topics, 20)
      assert.isAtLeast(yield* valueOf(Metrics.appendSeconds, topics), 1)
      yield* equal(Metrics.appendFailures, topics, 0)
      assert.isAtLeast(yield* valueOf(Metrics.commitSeconds, { processor }), 1)
      yield* equal(Metrics.owned, { processor }, 2)
      yield* equal(Metrics.handovers, { processor, change: "claimed" }, 2)
      yield* equal(Metrics.handoverSeconds, { processor, change: "claimed" }, 2)

      // Paused, the lag is exact; and it is 0 again when all is done.
      yield* Processor.pause(name)
      yield* heard(engine)
      yield* Topic.publishAll(source, [1, 2, 3, 98, 99])
      yield* Metrics.refresh
      yield* equal(Metrics.lag, { processor, topic: source.name }, 5)
      yield* Processor.resume(name)
      yield* until(engine, "one is parked", () => Effect.map(Processor.parked(name), ({ length }) => length === 1))
      // The partition of the others may be read after that one.
      yield* worker.idle
      yield* equal(Metrics.aside, { processor }, 1)
      yield* equal(Metrics.ignored, { processor }, 1)
      yield* equal(Metrics.parked, { processor }, 1)
      yield* equal(Metrics.failures, { processor, outcome: "ignore" }, 1)
      open = true
      yield* Processor.release(name, Partitioner.hash("99", 2), { key: "99" })
      // To release it the partition is taken anew: for a moment nobody here has it, nor what waits aside in it.
      yield* until(engine, "it is tried again", () =>
        Effect.map(valueOf(Metrics.processed, { processor }), (n) => n === 24)
      )
      yield* worker.idle
      yield* equal(Metrics.aside, { processor }, 0)
      yield* Metrics.refresh
      yield* equal(Metrics.lag, { processor }, 0)
      yield* equal(Metrics.lagSeconds, { processor }, 0)
      yield* equal(Metrics.inQuarantine, { processor }, 0)
      yield* equal(Metrics.processed, { processor }, 24)

      yield* worker.stop
      // What it has counted stays; what is there no more is shown no more.
      yield* equal(Metrics.processed, { processor }, 24)
      assert.strictEqual(
        yield* valueOf(Metrics.handovers, { processor, change: "released" }),
        yield* valueOf(Metrics.handovers, { processor, change: "claimed" })
      )
      yield* worker.close
      yield* equal(Metrics.processed, { processor }, 24)
      const left = (yield* series).filter(
        ({ attributes, id }) =>
          attributes?.["processor"] === processor && [Metrics.lag.id, Metrics.owned.id, Metrics.aside.id].includes(id)
      )
      assert.deepStrictEqual(left, [])
    })
  )

  behaviour("measures the age of what waits, and what is in quarantine", (engine) =>
    Effect.gen(function* () {
      const name = `aside-${engine.name}`
      const source = Topic.make(`${name}-in`, { schema: Schema.Int, partitions: 1 })
      const part = Processor.make(name, { topic: source }, (n) =>
        n === 2 ? Effect.fail("two" as const) : Effect.void
      ).pipe(Processor.catch(Policy.quarantine))
      const other = Processor.make(`${name}-other`, { topic: source }, () => Effect.void)
      yield* start([part, other])
      yield* Topic.publishAll(source, [1, 2, 3])
      yield* until(engine, "it is put aside", () =>
        Effect.andThen(
          Metrics.refresh,
          Effect.map(valueOf(Metrics.inQuarantine, { processor: name }), (n) => n === 1)
        )
      )
      yield* equal(Metrics.quarantined, { processor: name }, 1)
      yield* equal(Metrics.owned, { processor: name }, 0)
      const paused = `${name}-other`
      yield* Processor.pause(paused)
      yield* heard(engine)
      yield* Topic.publish(source, 4)
      yield* engine.elapse(200)
      yield* Metrics.refresh
      assert.isAtLeast(yield* valueOf(Metrics.lagSeconds, { processor: paused }), 0.15)
    })
  )

  behaviour("counts a failure that halts it", (engine) =>
    Effect.gen(function* () {
      const name = `halting-${engine.name}`
      const source = Topic.make(`${name}-in`, { schema: Schema.Int, partitions: 1 })
      yield* Topic.publish(source, 1)
      const worker = yield* start([Processor.make(name, { topic: source }, () => Effect.die("no")) as never])
      yield* Effect.exit(worker.join)
      yield* equal(Metrics.failed, { processor: name }, 1)
      yield* equal(Metrics.failures, { processor: name, outcome: "halt" }, 1)
    })
  )

  behaviour("measures jobs, queues and ticks", (engine) =>
    Effect.gen(function* () {
      const queue = `values-${engine.name}`
      const job = Job.make(`job-${engine.name}`, { payload: Schema.Int, queue })
      const tick = `tick-${engine.name}`
      const worker = yield* start([
        Job.handler(job, (n) => (n === 3 ? Job.bury("three") : Effect.void)),
        Scheduler.task(tick, Effect.void)
      ])
      yield* Job.enqueueAll(job, [1, 2, 3])
      yield* Job.enqueue(job, 4, { delay: "1 hour" })
      yield* until(engine, "all have run", () =>
        Effect.map(valueOf(Metrics.jobs, { queue, job: job.name }), (n) => n === 3)
      )
      yield* equal(Metrics.jobs, { queue, outcome: "done" }, 2)
      yield* equal(Metrics.jobs, { queue, outcome: "dead" }, 1)
      yield* equal(Metrics.jobSeconds, { queue, job: job.name }, 3)
      yield* equal(Metrics.ticks, { schedule: tick, outcome: "done" }, 1)
      yield* Metrics.refresh
      const counts = yield* Queue.counts(queue)
      for (const [state, jobs] of Object.entries(counts)) yield* equal(Metrics.queueJobs, { queue, state }, jobs)
      yield* equal(Metrics.queueJobs, { queue, state: "dead" }, 1)
      yield* equal(Metrics.queueJobs, { queue, state: "delayed" }, 1)
      yield* worker.stop
    })
  )

  behaviour(
    "asks the engine for them again and again while somebody looks, and not before",
    (engine) =>
      Effect.gen(function* () {
        const name = `looking-${engine.name}`
        const source = Topic.make(`${name}-in`, { schema: Schema.Int, partitions: 1 })
        const part = Processor.make(name, { topic: source }, () => Effect.void)
        yield* start([part])
        yield* Topic.publish(source, 1)
        yield* engine.elapse(20_000)
        const known = () =>
          Effect.map(series, (all) =>
            all.some((one) => one.attributes?.["topic"] === source.name && one.id === Metrics.lag.id)
          )
        // This was the first look.
        assert.isFalse(yield* known())
        yield* engine.elapse(6_000)
        assert.isTrue(yield* known())
      }),
    { on: ["memory"] }
  )

  behaviour(
    "counts together with another worker of its process",
    (engine) =>
      Effect.gen(function* () {
        const name = `pair-${engine.name}`
        const source = Topic.make(`${name}-in`, { schema: Schema.Int, partitionBy: (n) => n, partitions: 8 })
        const part = Processor.make(name, { topic: source }, () => Effect.void)
        const one = yield* start([part], { member: "one" })
        yield* start([part], { member: "two" })
        const of = (metric: Metric.Metric<any, any>) => valueOf(metric, { processor: name })
        yield* until(engine, "they share", () =>
          Effect.map(valueOf(Metrics.handovers, { processor: name, change: "released" }), (n) => n >= 4)
        )
        yield* until(engine, "all are owned", () => Effect.map(of(Metrics.owned), (n) => n === 8))
        yield* Topic.publishAll(source, numbers(100))
        yield* until(engine, "all is done", () => Effect.map(of(Metrics.processed), (n) => n === 100))
        yield* one.close
        yield* until(engine, "the other has them", () => Effect.map(of(Metrics.owned), (n) => n === 8))
        assert.strictEqual(yield* of(Metrics.processed), 100)
        assert.isAtLeast(yield* valueOf(Metrics.handoverSeconds, { processor: name, change: "released" }), 8)
      }),
    { on: ["memory", "Redis"] }
  )

  behaviour(
    "times batches, lanes and the units of pipelines",
    (engine) =>
      Effect.gen(function* () {
        const source = Topic.make(`shapes-${engine.name}`, { schema: Schema.Int, partitions: 1 })
        yield* Topic.publishAll(source, numbers(64))
        const named = (shape: string) => `${shape}-${engine.name}`
        const worker = yield* start([
          Processor.batch(named("batch"), { topic: source, size: 10, within: "10 millis" }, () => Effect.void),
          Processor.make(named("lanes"), { topic: source, concurrency: { unordered: 4 } }, () => Effect.void)
        ])
        for (const shape of ["batch", "lanes"]) {
          const processor = named(shape)
          yield* until(engine, "all is done", () =>
            Effect.map(valueOf(Metrics.processed, { processor }), (n) => n === 64)
          )
          yield* equal(Metrics.handlerSeconds, { processor }, shape === "batch" ? 64 : 2)
        }
        yield* worker.stop
      }),
    { on: ["memory"] }
  )
})

describe("all of them", () => {
  behaviour(
    "have the attributes of the table, and are what Prometheus is told",
    (engine) =>
      Effect.gen(function* () {
        const echo = Agent.make("values-echo", { request: Schema.Int, reply: Schema.Int, partitions: 1 })
        yield* start([Agent.handler(echo, (n) => Effect.succeed(n))])
        const asked = yield* Effect.forkChild(Agent.ask(echo, 1))
        yield* until(engine, "it is answered", () => asked.pollUnsafe() !== undefined)
        yield* Metrics.refresh
        const all = yield* series
        assert.isAbove(new Set(all.map(({ id }) => id)).size, 20)
        for (const { attributes = {}, id } of all) {
          assert.deepStrictEqual(Object.keys(attributes).toSorted(), table.get(id)?.attributes, id)
        }
        const text = yield* PrometheusMetrics.format()
        assert.include(text, `millrace_events_processed_total{processor="values-echo"} 1\n`)
        assert.include(text, `millrace_lag_events{processor="values-echo",topic="values-echo",partition="0"} 0\n`)
        assert.match(text, /millrace_handler_seconds_bucket\{processor="values-echo",le="60"\} 1\n/)
        assert.match(text, /millrace_loop_delay_seconds\{quantile="0.99"\} [\d.]+\n/)
      }),
    { on: ["memory"] }
  )
})
