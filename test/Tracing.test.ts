/** A trace goes on from whoever publishes to handlers and jobs, and costs nothing where nobody asked for it. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Option, Random, Schema, Stream, Tracer } from "effect"
import type { Engine } from "../src/index.ts"
import { Agent, Event, Job, Policy, Processor, Retention, Settings, Topic, Tracing } from "../src/index.ts"
import { behaviour, drain, numbers, start, type TestEngine, until } from "./support/engines.ts"
import { type Kept, keeping } from "./support/spans.ts"
import { inner, outer } from "./support/traced.thread.ts"

const on = { tracing: { sample: 1 } }

const traced =
  (kept: Array<Kept>, sample = 1) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    effect.pipe(
      Effect.provide(Settings.layer({ tracing: { sample } })),
      Effect.provideService(Tracer.Tracer, keeping(kept))
    )

const named = (kept: ReadonlyArray<Kept>, name: string): Kept => {
  const found = kept.filter((span) => span.name === name)
  assert.lengthOf(found, 1, `spans named ${name} of ${kept.map((span) => span.name).join(", ")}`)
  return found[0]!
}

const topicOf = (engine: TestEngine, name: string) =>
  Topic.make(`${name}-${engine.name}`, { schema: Schema.Int, partitions: 2, retention: Retention.forever })

const headersIn = (topic: Topic.Topic<number>) =>
  Stream.runCollect(Topic.stream(topic, { until: "now" })).pipe(
    Effect.map((events) => events.map(({ headers }) => headers))
  )

describe("with tracing", () => {
  behaviour(
    "publish, process, emit, process, ask, reply, job: one trace, each the child of what came before",
    (engine) => {
      const kept: Array<Kept> = []
      return Effect.gen(function* () {
        const first = topicOf(engine, "first")
        const second = topicOf(engine, "second")
        const doubling = Agent.make(`doubling-${engine.name}`, {
          request: Schema.Int,
          reply: Schema.Int,
          partitions: 1
        })
        const job = Job.make(`last-${engine.name}`, { payload: Schema.Int, queue: `traces-${engine.name}` })
        const ran = yield* Deferred.make<Readonly<Record<string, string>>>()
        yield* start([
          Processor.make("one", { topic: first }, (n) => Topic.emit(second, n)),
          Processor.make("two", { topic: second }, (n) =>
            Effect.flatMap(Agent.ask(doubling, n), (twice) => Job.enqueue(job, twice)).pipe(Effect.orDie)
          ),
          Agent.handler(doubling, (n) => Effect.succeed(n * 2)),
          Job.handler(job, (_, run) => Deferred.succeed(ran, run.headers))
        ])
        yield* Effect.withSpan(Topic.publish(first, 21), "publisher")
        yield* until(engine, "the job has run", () => kept.some(({ name }) => name === `run ${job.name}`))
        const publisher = named(kept, "publisher")
        const one = named(kept, "process one")
        const two = named(kept, "process two")
        const reply = named(kept, `process ${doubling.name}`)
        const run = named(kept, `run ${job.name}`)
        assert.deepStrictEqual(
          [one, two, reply, run].map(({ parent }) => parent),
          [publisher.spanId, one.spanId, two.spanId, two.spanId]
        )
        for (const { traceId } of [one, two, reply, run]) assert.strictEqual(traceId, publisher.traceId)
        assert.strictEqual((yield* Deferred.await(ran))[Tracing.header], `00-${two.traceId}-${two.spanId}-01`)
        assert.include(one.attributes, {
          "messaging.system": "millrace",
          "messaging.destination.name": first.name,
          "messaging.consumer.group.name": "one"
        })
        assert.match(String(one.attributes["millrace.offset"]), /^\d+-\d+\.0$/)
        assert.include(run.attributes, { "millrace.job": job.name, "messaging.destination.name": job.queue })
      }).pipe(traced(kept))
    }
  )

  behaviour(
    "a job in a thread has a span there, the child of its run, and what it enqueues goes on from that",
    () => {
      const kept: Array<Kept> = []
      return Effect.gen(function* () {
        const ran = yield* Deferred.make<Readonly<Record<string, string>>>()
        const url = new URL("./support/traced.thread.ts", import.meta.url)
        yield* start([
          Job.handlerInThread(outer, url, { threads: 1 }),
          Job.handler(inner, (_, run) => Deferred.succeed(ran, run.headers))
        ])
        const there = yield* Effect.withSpan(Job.execute(outer, 1), "enqueuer")
        const headers = yield* Deferred.await(ran)
        const run = named(kept, "run outer")
        assert.strictEqual(run.parent, named(kept, "enqueuer").spanId)
        assert.deepInclude(there, { name: "run outer in a thread", traceId: run.traceId, parent: run.spanId })
        assert.strictEqual(headers[Tracing.header], `00-${run.traceId}-${there!.spanId}-01`)
      }).pipe(traced(kept))
    },
    { on: ["file"], timeout: 60_000 }
  )

  behaviour(
    "a job in a thread that nobody traces has none",
    () =>
      Effect.gen(function* () {
        const url = new URL("./support/traced.thread.ts", import.meta.url)
        yield* start([Job.handlerInThread(outer, url, { threads: 1 })])
        assert.isNull(yield* Effect.withSpan(Job.execute(outer, 1), "enqueuer"))
      }).pipe(traced([], 0)),
    { on: ["file"], timeout: 60_000 }
  )

  behaviour("each try is a span of the same parent, and a dead letter keeps it, through a redrive", (engine) => {
    const kept: Array<Kept> = []
    return Effect.gen(function* () {
      const topic = topicOf(engine, "trying")
      let well = false
      const part = Processor.make("tries", { topic }, () => (well ? Effect.void : Effect.fail("bad" as const))).pipe(
        Processor.retry({ times: 2 }),
        Processor.catch(Policy.deadLetter())
      )
      yield* Effect.withSpan(Topic.publish(topic, 1), "publisher")
      yield* drain([part])
      const publisher = named(kept, "publisher")
      const tries = kept.filter(({ name }) => name === "process tries")
      assert.lengthOf(tries, 3)
      for (const { failed, parent } of tries) assert.deepStrictEqual([failed, parent], [true, publisher.spanId])
      assert.deepStrictEqual(
        tries.map(({ attributes }) => attributes["millrace.attempt"]),
        [undefined, 2, 3]
      )
      const [letter] = yield* headersIn(Topic.dead(topic))
      const header = `00-${publisher.traceId}-${publisher.spanId}-01`
      assert.strictEqual(letter![Tracing.header], header)
      // A handler of letters goes on with it too.
      yield* drain([Processor.make("letters", { topic: Topic.dead(topic) }, () => Effect.void)])
      assert.strictEqual(named(kept, "process letters").parent, publisher.spanId)
      well = true
      assert.strictEqual(yield* Topic.redrive(topic), 1)
      yield* drain([part])
      const again = kept.filter(({ name }) => name === "process tries")[3]!
      assert.deepStrictEqual([again.failed, again.parent], [false, publisher.spanId])
    }).pipe(traced(kept))
  })

  behaviour("a job keeps its trace through retries", (engine) => {
    const kept: Array<Kept> = []
    return Effect.gen(function* () {
      const job = Job.make(`retried-${engine.name}`, { payload: Schema.Int, retries: 1, backoff: () => 1 })
      yield* start([Job.handler(job, (_, { attempt }) => (attempt === 1 ? Effect.die("first") : Effect.void))])
      yield* Effect.withSpan(Job.enqueueAll(job, [1]), "publisher")
      const runs = () => kept.filter(({ name }) => name === `run ${job.name}`)
      yield* until(engine, "it has run twice", () => runs().length === 2)
      const publisher = named(kept, "publisher")
      assert.deepStrictEqual(
        runs().map(({ attributes, failed, parent }) => [attributes["millrace.attempt"], failed, parent]),
        [
          [1, true, publisher.spanId],
          [2, false, publisher.spanId]
        ]
      )
    }).pipe(traced(kept))
  })

  behaviour("a batch is one span with links to its publishers; a unit of a pipeline is one, too", (engine) => {
    const kept: Array<Kept> = []
    return Effect.gen(function* () {
      const topic = Topic.make(`batched-${engine.name}`, { schema: Schema.Int, partitions: 1 })
      yield* Effect.withSpan(Topic.publish(topic, 1), "a")
      yield* Effect.withSpan(Topic.publishAll(topic, [2, 3]), "b")
      yield* Topic.publish(topic, 4)
      yield* drain([
        Processor.batch("batches", { topic, size: 4, within: "10 seconds" }, () => Effect.void),
        Processor.stream("units", { topic }, (events) => events.pipe(Event.mapEffect(() => Effect.void)))
      ])
      const [a, b] = [named(kept, "a").spanId, named(kept, "b").spanId]
      const batch = named(kept, "process batches")
      assert.deepStrictEqual([batch.parent, batch.links], [undefined, [a, b, b]])
      assert.strictEqual(batch.attributes["messaging.batch.message_count"], 4)
      const units = kept.filter(({ name }) => name === "process units")
      assert.deepStrictEqual(
        units.map(({ parent }) => parent),
        [a, b, b, undefined]
      )
    }).pipe(traced(kept))
  })

  behaviour(
    "what was published without a span is traced as often as asked for, and each begins a trace of its own",
    (engine) => {
      const kept: Array<Kept> = []
      return Effect.gen(function* () {
        const topic = topicOf(engine, "sampled")
        const unsampled = { [Tracing.header]: `00-${"1".repeat(32)}-${"2".repeat(16)}-00` }
        yield* Topic.publishAll(topic, numbers(400))
        // Whoever published decided against it.
        yield* Topic.publishAll(topic, numbers(100), { headers: unsampled })
        // None of these names a span.
        for (const header of ["", "00-x-y-01", `00-${"0".repeat(32)}-${"2".repeat(16)}-01`]) {
          yield* Topic.publish(topic, 1, { headers: { [Tracing.header]: header } })
        }
        // The span that a worker is started in is nobody's parent.
        const worker = drain([Processor.make("samples", { topic }, () => Effect.void)])
        yield* Effect.withSpan(worker, "the worker's own")
        const spans = kept.filter(({ name }) => name === "process samples")
        assert.isAtLeast(spans.length, 60)
        assert.isAtMost(spans.length, 140)
        assert.strictEqual(new Set(spans.map(({ traceId }) => traceId)).size, spans.length)
        for (const { parent } of spans) assert.isUndefined(parent)
      }).pipe(traced(kept, 0.25), Random.withSeed("sampled"))
    },
    { on: ["memory"] }
  )

  behaviour("what whoever publishes says about the trace counts", (engine) => {
    const kept: Array<Kept> = []
    return Effect.gen(function* () {
      const topic = topicOf(engine, "told")
      const header = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`
      yield* Effect.withSpan(Topic.publish(topic, 1, { headers: { [Tracing.header]: header, own: "1" } }), "publisher")
      yield* Effect.withSpan(Topic.publish(topic, 2, { headers: { own: "2" } }), "publisher 2")
      const events = yield* Stream.runCollect(Topic.stream(topic, { until: "now" }))
      const told = events.find(({ value }) => value === 1)!
      assert.deepStrictEqual(told.headers, { [Tracing.header]: header, own: "1" })
      assert.strictEqual(Option.getOrThrow(Tracing.parentOf(told)).spanId, "b".repeat(16))
      const other = events.find(({ value }) => value === 2)!
      assert.strictEqual(other.headers["own"], "2")
      assert.strictEqual(Option.getOrThrow(Tracing.parentOf(other)).spanId, named(kept, "publisher 2").spanId)
      assert.deepStrictEqual(yield* Tracing.headers, {})
    }).pipe(traced(kept))
  })
})

describe("without tracing", () => {
  behaviour("there is no span and no header, whatever span there is", (engine) => {
    const kept: Array<Kept> = []
    const program: Effect.Effect<void, unknown, Engine.Services> = Effect.gen(function* () {
      const topic = topicOf(engine, "untraced")
      const out = topicOf(engine, "untraced-out")
      const job = Job.make(`untraced-${engine.name}`, { payload: Schema.Int })
      const ran: Array<unknown> = []
      yield* Topic.publishAll(topic, numbers(3))
      yield* Topic.publish(topic, 3)
      yield* Topic.publish(topic, 4, { headers: { [Tracing.header]: `00-${"a".repeat(32)}-${"b".repeat(16)}-01` } })
      yield* drain([
        Processor.make("untraced", { topic }, (n) =>
          Effect.andThen(Topic.emit(out, n), Effect.orDie(Job.enqueue(job, n)))
        ),
        Job.handler(job, (_, { headers }) => Effect.sync(() => ran.push(headers)))
      ])
      for (const headers of yield* headersIn(out)) assert.deepStrictEqual(headers, {})
      const published = yield* headersIn(topic)
      assert.deepStrictEqual(published.filter((headers) => Object.keys(headers).length > 0).length, 1)
      assert.deepStrictEqual(ran, [{}, {}, {}, {}, {}])
    }).pipe(Effect.withSpan("outside"), Effect.provideService(Tracer.Tracer, keeping(kept)))
    return Effect.andThen(
      program,
      Effect.sync(() =>
        assert.deepStrictEqual(
          kept.map(({ name }) => name),
          ["outside"]
        )
      )
    )
  })

  behaviour(
    "a worker's own option traces its handlers, and what these emit",
    (engine) => {
      const kept: Array<Kept> = []
      return Effect.gen(function* () {
        const topic = topicOf(engine, "optional")
        const out = topicOf(engine, "optional-out")
        yield* Effect.withSpan(Topic.publish(topic, 1), "outside")
        yield* drain([Processor.make("optional", { topic }, (n) => Topic.emit(out, n))], on)
        // Its publisher does not trace, so this is where the trace begins.
        const span = named(kept, "process optional")
        assert.isUndefined(span.parent)
        const [headers] = yield* headersIn(out)
        assert.strictEqual(headers![Tracing.header], `00-${span.traceId}-${span.spanId}-01`)
      }).pipe(Effect.provideService(Tracer.Tracer, keeping(kept)))
    },
    { on: ["memory"] }
  )
})

it("a share that is none is refused", () => {
  assert.throws(() => Settings.layer({ tracing: { sample: 1.5 } }), /tracing.sample is 1.5: give a number from 0 to 1/)
})
