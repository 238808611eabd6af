/** Agents: asked, cast to, and answering in the commit of the request, on every engine. */
import { assert, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Queue, Schema, Stream } from "effect"
import * as Agent from "../src/Agent.ts"
import { Broker, type Commit } from "../src/Broker.ts"
import { EngineError } from "../src/Errors.ts"
import * as Event from "../src/Event.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { losingReply, recording, through } from "./support/brokers.ts"
import { behaviour, drain, halted, numbers, start, until } from "./support/engines.ts"

const Pair = Schema.Struct({ a: Schema.Int, b: Schema.Int })
class Odd extends Schema.TaggedError<Odd>()("Odd", { sum: Schema.Int }) {}

const adder = Agent.make("adder", {
  request: Pair,
  reply: Schema.Int,
  error: Odd,
  partitionBy: ({ a }) => a,
  partitions: 4
})

/** Odd sums below zero fail, others at a million are beyond it. */
const add = ({ a, b }: (typeof Pair)["Type"]) => {
  const sum = a + b
  if (sum > 1_000_000) return Effect.die(new Error("too much for me"))
  return sum % 2 === 0 ? Effect.succeed(sum) : Effect.fail(new Odd({ sum }))
}

behaviour("an ask gives the reply", () =>
  Effect.gen(function* () {
    yield* start([Agent.handler(adder, add)])
    assert.strictEqual(yield* Agent.ask(adder, { a: 3, b: 5 }), 8)
    assert.strictEqual(yield* Agent.ask(adder, { a: 1, b: 1 }, { headers: { trace: "x" } }), 2)
  })
)

behaviour("the request's entry carries reply address and correlation id in its headers", (engine) =>
  Effect.gen(function* () {
    yield* Effect.forkChild(Agent.ask(adder, { a: 3, b: 5 }, { headers: { trace: "x" } }), { startImmediately: true })
    let requests: ReadonlyArray<Event.Event<unknown>> = []
    yield* until(engine, "stored", () =>
      Effect.map(Stream.runCollect(Topic.stream(adder.topic, { until: "now" })), (all) => {
        requests = all
        return all.length > 0
      })
    )
    const { headers } = requests[0]!
    assert.match(headers[Agent.headers.replyTo]!, /^inbox:[a-f0-9-]{36}$/)
    assert.match(headers[Agent.headers.correlationId]!, /^\d+$/)
    assert.strictEqual(headers.trace, "x")
  })
)

behaviour("a cast is handled, and nothing is written to any inbox", () =>
  Effect.gen(function* () {
    const calls: Array<ReadonlyArray<Commit>> = []
    yield* Agent.cast(adder, { a: 3, b: 5 })
    const summary = yield* drain([Agent.handler(adder, add)]).pipe(through(recording(calls)))
    assert.strictEqual(summary.parts.adder!.processed, 1)
    assert.isTrue(calls.flat().every(({ replies }) => replies === undefined))
  })
)

behaviour("events that anybody publishes to a given topic count as casts", () =>
  Effect.gen(function* () {
    const sums: Array<number> = []
    const topic = Topic.make("pairs", { schema: Pair, partitions: 2 })
    const agent = Agent.make("reader", { request: Pair, reply: Schema.Int, topic })
    const handler = Agent.handler(agent, ({ a, b }) => Effect.succeed(a + b)).pipe(
      Agent.sink((sum) => void sums.push(sum))
    )
    yield* Topic.publish(topic, { a: 1, b: 2 })
    yield* drain([handler])
    assert.deepStrictEqual(sums, [3])
  })
)

behaviour("a declared error, a defect and an undeclared failure reach the asker, and the agent goes on", () =>
  Effect.gen(function* () {
    const undeclared = Agent.make("undeclared", { request: Schema.Int, reply: Schema.Int })
    const worker = yield* start([
      Agent.handler(adder, add),
      Agent.handler(undeclared, (n) => Effect.fail(new Odd({ sum: n }))).pipe(Processor.catch(Policy.ignore))
    ])
    const odd = yield* Effect.flip(Agent.ask(adder, { a: 1, b: 2 }))
    assert.instanceOf(odd, Odd)
    assert.strictEqual((odd as Odd).sum, 3)
    const defect = yield* Effect.flip(Agent.ask(adder, { a: 1_000_000, b: 2 }))
    assert.strictEqual(defect._tag, "AgentDefect")
    assert.match(defect.message, /adder.*too much for me/)
    const other = yield* Effect.flip(Agent.ask(undeclared, 7))
    assert.strictEqual(other._tag, "AgentDefect")
    assert.match(other.message, /Odd/)
    assert.strictEqual(yield* Agent.ask(adder, { a: 1, b: 1 }), 2)
    const summary = yield* worker.stop
    assert.deepInclude(summary.parts.adder, { processed: 1, failed: 2 })
  })
)

behaviour("a failure is answered and acknowledged, with nothing else of its unit", () =>
  Effect.gen(function* () {
    const log = Topic.make("log", { schema: Schema.Int, partitions: 1 })
    const agent = Agent.make("writer", { request: Schema.Int, reply: Schema.Int, error: Odd, partitions: 1 })
    const written = Table.make("written", { key: Schema.Int, value: Schema.Int, initial: () => 0, scope: "partition" })
    const handler = Agent.handler(
      agent,
      Effect.fnUntraced(function* (n: number) {
        yield* Topic.emit(log, n)
        yield* Table.set(written, 0, n)
        return n % 2 === 0 ? n : yield* new Odd({ sum: n })
      }),
      { tables: [written] }
    )
    const worker = yield* start([handler.pipe(Processor.catch(Policy.ignore))])
    assert.strictEqual(yield* Agent.ask(agent, 2), 2)
    // Who has the reply knows that the effects are durable.
    assert.strictEqual(yield* Table.lookup(written, 0, { partition: 0 }), 2)
    assert.strictEqual((yield* Effect.flip(Agent.ask(agent, 3)))._tag, "Odd")
    yield* worker.idle
    assert.strictEqual(yield* Table.lookup(written, 0, { partition: 0 }), 2)
    const logged = yield* Stream.runCollect(Topic.stream(log, { until: "now" }))
    assert.deepStrictEqual(
      logged.map(({ value }) => value),
      [2]
    )
    assert.isTrue((yield* Processor.lag("writer")).every(({ events }) => events === 0))
  })
)

behaviour("without anybody who waits a failure goes to the policies", () =>
  Effect.gen(function* () {
    yield* Agent.cast(adder, { a: 1, b: 2 })
    const handler = Agent.handler(adder, add).pipe(
      Processor.retry({ times: 2 }),
      Processor.catchTag("Odd", Policy.deadLetter())
    )
    const summary = yield* drain([handler])
    assert.deepInclude(summary.parts.adder, { processed: 0, retried: 2, deadLettered: 1 })
  })
)

behaviour("a request that cannot be decoded is answered, and does not halt the agent", () =>
  Effect.gen(function* () {
    // Somebody with an older contract.
    const old = Agent.make("versions", { request: Schema.String, reply: Schema.Int })
    const agent = Agent.make("versions", { request: Schema.Int, reply: Schema.Int })
    yield* start([Agent.handler(agent, (n) => Effect.succeed(n + 1))])
    const error = yield* Effect.flip(Agent.ask(old, "one"))
    assert.strictEqual(error._tag, "AgentDefect")
    assert.match(error.message, /DecodeError/)
    assert.strictEqual(yield* Agent.ask(agent, 1), 2)
  })
)

behaviour("a reply that does not fit the contract is a defect for the asker", () =>
  Effect.gen(function* () {
    const agent = Agent.make("wrong", { request: Schema.Int, reply: Schema.Int })
    yield* start([Agent.handler(agent, () => Effect.succeed("no number" as never))])
    const error = yield* Effect.flip(Agent.ask(agent, 1))
    assert.strictEqual(error._tag, "AgentDefect")
    assert.match(error.message, /EncodeError/)
  })
)

behaviour("without a worker an ask times out, is handled later all the same, and its reply harms nobody", (engine) =>
  Effect.gen(function* () {
    const asking = yield* Effect.forkChild(Effect.flip(Agent.ask(adder, { a: 2, b: 2 }, { timeout: "300 millis" })), {
      startImmediately: true
    })
    yield* engine.elapse(400)
    const error = yield* Fiber.join(asking)
    assert.strictEqual(error._tag, "AgentTimeout")
    assert.match(error.message, /adder.*300 ms/)
    const worker = yield* start([Agent.handler(adder, add)])
    yield* worker.idle
    assert.strictEqual(yield* Agent.ask(adder, { a: 2, b: 4 }), 6)
    const summary = yield* worker.stop
    assert.strictEqual(summary.parts.adder!.processed, 2)
  })
)

behaviour("asks that were interrupted leave the others their replies", (engine) =>
  Effect.gen(function* () {
    const gate = Agent.make("gate", { request: Schema.Int, reply: Schema.Int, partitions: 1 })
    let open = false
    yield* start([
      Agent.handler(gate, (n) =>
        Effect.as(
          until(engine, "open", () => open),
          n
        )
      )
    ])
    const fibers = yield* Effect.forEach(numbers(10), (n) =>
      Effect.forkChild(Agent.ask(gate, n), { startImmediately: true })
    )
    yield* engine.elapse(20)
    for (const n of numbers(10)) if (n % 2 === 1) yield* Fiber.interrupt(fibers[n]!)
    open = true
    for (const n of numbers(10)) {
      const exit = yield* Fiber.await(fibers[n]!)
      if (n % 2 === 0) assert.deepStrictEqual(exit, Exit.succeed(n))
      else assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
    }
  })
)

behaviour("hundreds of asks at once over one inbox: none lost, none mixed up", () =>
  Effect.gen(function* () {
    const echo = Agent.make("echo", { request: Schema.Int, reply: Schema.Int, partitions: 8 })
    yield* start([Agent.handler(echo, (n) => Effect.succeed(n * 2), { concurrency: { unordered: 4 } })])
    const replies = yield* Agent.join(echo, numbers(500))
    assert.deepStrictEqual(
      replies,
      numbers(500).map((n) => n * 2)
    )
  })
)

behaviour("a commit whose answer is lost replies once", (engine) =>
  Effect.gen(function* () {
    const { change, state } = losingReply(({ replies }) => replies !== undefined)
    yield* Effect.gen(function* () {
      yield* start([Agent.handler(adder, add)])
      const first = yield* Effect.forkChild(Agent.ask(adder, { a: 2, b: 2 }), { startImmediately: true })
      yield* until(engine, "lost", () => state.lost === 1)
      yield* engine.elapse(100)
      assert.strictEqual(yield* Fiber.join(first), 4)
      assert.strictEqual(yield* Agent.ask(adder, { a: 2, b: 4 }), 6)
    }).pipe(Effect.scoped, through(change))
    assert.strictEqual(state.lost, 1)
  })
)

behaviour("map gives replies as they come, of an endless input, with a bounded number open", () =>
  Effect.gen(function* () {
    const echo = Agent.make("echo", { request: Schema.Int, reply: Schema.Int, partitions: 4 })
    let most = 0
    let sent = 0
    let answered = 0
    yield* start([Agent.handler(echo, (n) => Effect.succeed(n))])
    const endless = Stream.fromEffectRepeat(Effect.sync(() => sent++))
    const replies = yield* Agent.map(echo, endless, { inFlight: 8 }).pipe(
      Stream.tap(() =>
        Effect.sync(() => {
          answered++
          most = Math.max(most, sent - answered)
        })
      ),
      Stream.take(100),
      Stream.runCollect
    )
    assert.lengthOf(new Set(replies), 100)
    assert.isAtMost(most, 40)
  })
)

behaviour("kvmap and kvjoin put each request into its key's partition", () =>
  Effect.gen(function* () {
    const where = Agent.make("where", { request: Schema.Int, reply: Schema.String, partitions: 8 })
    yield* start([Agent.handler(where, (n, event) => Effect.succeed(`${n} ${event.key} ${event.partition}`))])
    const pairs = numbers(30).map((n) => [`key ${n % 5}`, n] as const)
    const expected = pairs.map(([key, n]) => `${n} ${key} ${where.topic.partitioner(key, 8)}`)
    assert.deepStrictEqual(yield* Agent.kvjoin(where, pairs), expected)
    const mapped = yield* Stream.runCollect(Agent.kvmap(where, pairs))
    assert.deepStrictEqual(mapped.toSorted(), expected.toSorted())
  })
)

behaviour("join gives all replies in the order of the input, or the first failure; of nothing, nothing", () =>
  Effect.gen(function* () {
    yield* start([Agent.handler(adder, add)])
    assert.deepStrictEqual(yield* Agent.join(adder, []), [])
    const pairs = numbers(20).map((n) => ({ a: n, b: n }))
    assert.deepStrictEqual(
      yield* Agent.join(adder, pairs),
      pairs.map(({ a, b }) => a + b)
    )
    assert.strictEqual((yield* Effect.flip(Agent.join(adder, [...pairs, { a: 1, b: 2 }])))._tag, "Odd")
  })
)

behaviour("sinks get each reply in the order added, an effect awaited; topic and agent within the commit", () =>
  Effect.gen(function* () {
    const order: Array<string> = []
    const sums = Topic.make("sums", { schema: Schema.Int, partitions: 2 })
    const printer = Agent.make("printer", { request: Schema.Int })
    const queue = yield* Queue.unbounded<number>()
    const handler = Agent.handler(adder, add).pipe(
      Agent.sink((sum: number) => void order.push(`function ${sum}`)),
      Agent.sink((sum: number) =>
        Effect.delay(
          Effect.sync(() => order.push(`effect ${sum}`)),
          0
        )
      ),
      Agent.sink(sums),
      Agent.sink(printer),
      Agent.sink(queue)
    )
    const prints = Agent.handler(printer, (sum) => Effect.sync(() => order.push(`agent ${sum}`)))
    const caught = handler.pipe(Processor.catch(Policy.ignore))
    const worker = yield* start([caught, prints.pipe(Processor.catch(Policy.ignore))])
    assert.strictEqual(yield* Agent.ask(adder, { a: 2, b: 2 }), 4)
    yield* Effect.flip(Agent.ask(adder, { a: 1, b: 2 }))
    yield* worker.idle
    assert.deepStrictEqual(order, ["function 4", "effect 4", "agent 4"])
    assert.deepStrictEqual(yield* Queue.takeAll(queue), [4])
    const stored = yield* Stream.runCollect(Topic.stream(sums, { until: "now" }))
    assert.deepStrictEqual(
      stored.map(({ value }) => value),
      [4]
    )
  })
)

behaviour("a sink that fails leaves nothing in topic sinks, and the asker hears of it", () =>
  Effect.gen(function* () {
    const sums = Topic.make("sums", { schema: Schema.Int, partitions: 2 })
    const handler = Agent.handler(adder, add).pipe(
      Agent.sink(sums),
      Agent.sink((sum: number) => Effect.fail(new Error(`no place for ${sum}`)))
    )
    yield* start([handler.pipe(Processor.catch(Policy.ignore))])
    const error = yield* Effect.flip(Agent.ask(adder, { a: 2, b: 2 }))
    assert.match(error.message, /no place for 4/)
    assert.lengthOf(yield* Stream.runCollect(Topic.stream(sums, { until: "now" })), 0)
  })
)

behaviour("send has the reply go to a topic, with its correlation id and the key of the request", () =>
  Effect.gen(function* () {
    const sums = Topic.make("sums", { schema: Schema.Int, partitions: 4 })
    const worker = yield* start([Agent.handler(adder, add).pipe(Processor.catch(Policy.ignore))])
    yield* Agent.send(adder, { a: 2, b: 2 }, { replyTo: sums, correlationId: "mine" })
    yield* Agent.send(adder, { a: 2, b: 4 }, { replyTo: sums, replyKey: "other" })
    // A failure is none of that topic's business.
    yield* Agent.send(adder, { a: 2, b: 1 }, { replyTo: sums })
    yield* worker.idle
    const stored = yield* Stream.runCollect(Topic.stream(sums, { until: "now" }))
    assert.deepStrictEqual(
      stored
        .map(({ headers, key, value }) => [value, key, headers[Agent.headers.correlationId] ?? "none"] as const)
        .toSorted(([a], [b]) => a - b),
      [
        [4, "2", "mine"],
        [6, "other", "none"]
      ]
    )
    assert.deepInclude((yield* worker.stop).parts.adder, { processed: 2, ignored: 1 })
  })
)

behaviour("send has the reply handled by a second agent", () =>
  Effect.gen(function* () {
    const got: Array<string> = []
    const second = Agent.make("second", { request: Schema.Int, partitions: 2 })
    const worker = yield* start([
      Agent.handler(adder, add),
      Agent.handler(second, (sum, event) => Effect.sync(() => got.push(`${sum} ${event.key}`)))
    ])
    yield* Agent.send(adder, { a: 2, b: 2 }, { replyTo: second })
    yield* worker.idle
    assert.deepStrictEqual(got, ["4 2"])
  })
)

behaviour("send refuses a target whose partitions are others, or that places by a function; nothing is stored", () =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const sums = Topic.make("sums", { schema: Schema.Int, partitions: 4 })
    yield* broker.declare([sums])
    const wrong = Topic.variant(sums, "sums", { partitions: 8 })
    const keyed = Topic.make("keyed", { schema: Schema.Int, partitionBy: (n) => n })
    const mismatch = yield* Effect.flip(Agent.send(adder, { a: 2, b: 2 }, { replyTo: wrong }))
    assert.match(mismatch.message, /sums.*4 partitions/)
    const unplaced = yield* Effect.flip(Agent.send(adder, { a: 2, b: 2 }, { replyTo: keyed }))
    assert.match(unplaced.message, /replyKey/)
    yield* broker.declare([adder.topic])
    const logs = yield* broker.inspect(adder.topic, numbers(4))
    assert.isTrue(logs.every(({ added }) => added === 0))
  })
)

behaviour("an address that is none, or names a topic that is otherwise, is reported and answers nobody", () =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const sums = Topic.make("sums", { schema: Schema.Int, partitions: 4 })
    yield* broker.declare([sums])
    const addresses = [
      "nowhere",
      "inbox:{x}:y",
      "topic:nonsense",
      `topic:${JSON.stringify({ topic: "a:b", partitions: 1, retention: { _tag: "Forever" } })}`,
      `topic:${JSON.stringify({ topic: "sums", partitions: 9, retention: { _tag: "Forever" } })}`
    ]
    for (const replyTo of addresses) {
      const headers = { [Agent.headers.replyTo]: replyTo, [Agent.headers.correlationId]: "1" }
      yield* Topic.publish(adder.topic, { a: 2, b: 2 }, { headers })
    }
    const summary = yield* drain([Agent.handler(adder, add)])
    assert.strictEqual(summary.parts.adder!.processed, addresses.length)
    assert.lengthOf(yield* Stream.runCollect(Topic.stream(sums, { until: "now" })), 0)
  })
)

behaviour("a cast in a handler is part of its unit of work; an agent may cast to itself", () =>
  Effect.gen(function* () {
    const seen: Array<number> = []
    const down = Agent.make("down", { request: Schema.Int, partitions: 1 })
    const counting = Agent.handler(
      down,
      Effect.fnUntraced(function* (n: number, event) {
        if (n > 0) yield* Agent.cast(down, n - 1)
        // The first try leaves nothing.
        if (event.attempt === 1) return yield* Effect.fail("again" as const)
        seen.push(n)
      })
    )
    yield* Agent.cast(down, 3)
    yield* drain([counting.pipe(Processor.retry({ times: 1 }), Processor.catch(Policy.ignore))])
    assert.deepStrictEqual(seen, [3, 2, 1, 0])
  })
)

behaviour("an ask from a handler to its own partition is refused; another agent answers it", () =>
  Effect.gen(function* () {
    const loop: Agent.Agent<number, string, never> = Agent.make("loop", {
      request: Schema.Int,
      reply: Schema.String,
      partitions: 1
    })
    const handler = Agent.handler(
      loop,
      Effect.fnUntraced(function* (n: number) {
        if (n > 0) return String(yield* Agent.ask(adder, { a: n, b: n }))
        return (yield* Effect.flip(Agent.ask(loop, 1)))._tag
      })
    )
    yield* start([handler.pipe(Processor.catch(Policy.ignore)), Agent.handler(adder, add)])
    assert.strictEqual(yield* Agent.ask(loop, 0), "AskCycle")
    assert.strictEqual(yield* Agent.ask(loop, 4), "8")
  })
)

behaviour(
  "a stream answers each request in order, in batches too",
  () =>
    Effect.gen(function* () {
      const doubler = Agent.make("doubler", { request: Schema.Int, reply: Schema.Int, partitions: 2 })
      const handler = Agent.stream(doubler, (requests) =>
        requests.pipe(
          Stream.groupedWithin(10, "10 millis"),
          Stream.flatMap((batch) => Stream.fromIterable(batch.map(({ value }) => value * 2)))
        )
      )
      yield* start([handler])
      assert.deepStrictEqual(
        yield* Agent.join(doubler, numbers(40)),
        numbers(40).map((n) => n * 2)
      )
    }),
  { on: ["file", "Redis"] }
)

behaviour("a stream's units write tables; events answer their own requests, and their failures are answered", () =>
  Effect.gen(function* () {
    const counter = Agent.make("counter", {
      request: Schema.String,
      reply: Schema.Int,
      error: Odd,
      partitionBy: (k) => k
    })
    const counts = Table.make("counts", { key: Schema.String, value: Schema.Int, initial: () => 0 })
    const handler = Agent.stream(
      counter,
      (requests) =>
        requests.pipe(
          Event.mapEffect(
            Effect.fnUntraced(function* (key: string) {
              if (key === "odd") return yield* new Odd({ sum: 1 })
              yield* Table.update(counts, key, (n) => n + 1)
              return yield* Table.get(counts, key)
            })
          ),
          Event.map((n) => n!)
        ),
      { tables: [counts] }
    )
    yield* start([handler.pipe(Processor.catch(Policy.ignore))])
    assert.deepStrictEqual(yield* Agent.join(counter, ["a", "b", "a", "a"]), [1, 1, 2, 3])
    assert.strictEqual((yield* Effect.flip(Agent.ask(counter, "odd")))._tag, "Odd")
    assert.strictEqual(yield* Agent.ask(counter, "b"), 2)
    assert.strictEqual(yield* Table.lookup(counts, "a"), 3)
  })
)

behaviour("a stream that gives more replies than there are requests halts, with the request's offset", () =>
  Effect.gen(function* () {
    const twice = Agent.make("twice", { request: Schema.Int, reply: Schema.Int, partitions: 1 })
    const values = Agent.stream(twice, (requests) => Stream.flatMap(requests, ({ value }) => Stream.make(value, value)))
    const events = Agent.stream(twice, (requests) => Stream.flatMap(requests, (event) => Stream.make(event, event)))
    for (const [handler, why] of [
      [values, /no request is left for, after the request at \d+-\d+\.0/],
      [events, /second reply to the request at \d+-\d+\.0/]
    ] as const) {
      yield* Agent.cast(twice, 1)
      const { cause } = yield* halted([handler])
      assert.match(String(Cause.squash(cause)), why)
      yield* drain([Agent.handler(twice, (n) => Effect.succeed(n))])
    }
  })
)

it("wrong contracts are refused at definition", () => {
  assert.throws(() => Agent.make("no name!", { request: Schema.Int }), /agent name/)
  const topic = Topic.make("pairs", { schema: Pair })
  assert.throws(() => Agent.make("a", { request: Pair, topic, partitions: 3 }), /pairs has its own partitions/)
  assert.throws(() => Agent.make("a", { request: Pair, error: Odd }), /reply schema/)
})

behaviour("more asks than may wait at once wait for their turn", () =>
  Effect.gen(function* () {
    const echo = Agent.make("echo", { request: Schema.Int, reply: Schema.Int, partitions: 4 })
    yield* start([Agent.handler(echo, (n) => Effect.succeed(n))])
    const asks = numbers(1_500).map((n) => Agent.ask(echo, n))
    assert.deepStrictEqual(yield* Effect.all(asks, { concurrency: "unbounded" }), numbers(1_500))
  })
)

behaviour(
  "the reply to a request of a handler's second try is one reply, with the effects of that try",
  () =>
    Effect.gen(function* () {
      const tries: Array<number> = []
      const agent = Agent.make("trying", { request: Schema.Int, reply: Schema.Int, partitions: 1 })
      // The engine is away: no failure of the request, so it is tried again and nobody is told.
      const handler = Agent.handler(agent, (n, event) =>
        Effect.suspend(() => {
          tries.push(event.attempt)
          return tries.length === 1
            ? Effect.fail(new EngineError({ operation: "test", reason: "Unreachable", detail: "away" }))
            : Effect.succeed(n + tries.length)
        })
      )
      yield* start([handler])
      assert.strictEqual(yield* Agent.ask(agent, 40), 42)
      assert.deepStrictEqual(tries, [1, 1])
    }),
  { on: ["file", "Redis"] }
)
