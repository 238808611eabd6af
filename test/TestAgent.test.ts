/** The testing kit of agents: step by step, to the end, by agent; what became of each request; agents that use each other. */
import { assert, it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, Fiber, Layer, Option, Schedule, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Agent, Event, Policy, Processor, Table, Topic } from "../src/index.ts"
import { TestAgent } from "../src/testing/index.ts"

class Unknown extends Schema.TaggedError<Unknown>()("Unknown", { item: Schema.String }) {}
class Prices extends Context.Service<Prices, { readonly of: (item: string) => number }>()("test/Prices") {}

const price = Agent.make("price", { request: Schema.String, reply: Schema.Int, error: Unknown })
const bill = Agent.make("bill", { request: Schema.Array(Schema.String), reply: Schema.Int, partitions: 1 })
const note = Agent.make("note", { request: Schema.String, partitions: 1 })
const sums = Table.make("sums", { key: Schema.String, value: Schema.Int, initial: () => 0 })

const pricing = Agent.handler(price, (item) =>
  Effect.gen(function* () {
    const prices = yield* Prices
    return item === "air" ? yield* new Unknown({ item }) : prices.of(item)
  })
)
const billing = Agent.handler(
  bill,
  (items) =>
    Effect.gen(function* () {
      const all = yield* Effect.forEach(items, (item) => Agent.ask(price, item, { key: item }))
      const sum = all.reduce((a, b) => a + b, 0)
      yield* Table.update(sums, "all", (before) => before + sum)
      yield* Agent.cast(note, `billed ${sum}`)
      return sum
    }),
  { tables: [sums] }
)
const noting = Agent.handler(note, () => Effect.void)
const prices = Layer.succeed(Prices, { of: (item) => item.length })

const short = ({ agent, request, status }: TestAgent.Handled<unknown, unknown, unknown>) => [agent, request, status]

it.effect("one by one, the oldest first, and the rest waits untouched", () =>
  TestAgent.run([noting, pricing], (agents) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* agents.step(), Option.none())
      yield* Agent.cast(price, "tea", { key: "x" })
      yield* Agent.cast(note, "first")
      yield* Agent.cast(price, "coffee", { key: "y" })
      yield* Agent.cast(price, "milk", { key: "x" })
      const tea = Option.getOrThrow(yield* agents.step())
      assert.deepInclude(tea, { agent: "price", request: "tea", asked: false, status: "done", reply: Option.some(3) })
      assert.strictEqual(tea.event.key, "x")
      assert.strictEqual(yield* agents.waiting(), 3)
      // Typed by the agent.
      const coffee: TestAgent.Handled<string, number, Unknown> = Option.getOrThrow(yield* agents.step(price))
      assert.deepStrictEqual([coffee.request, coffee.reply], ["coffee", Option.some(6)])
      assert.strictEqual(yield* agents.waiting(note), 1)
      assert.deepStrictEqual((yield* agents.run()).map(short).toSorted(), [
        ["note", "first", "done"],
        ["price", "milk", "done"]
      ])
      assert.strictEqual(yield* agents.waiting(), 0)
      assert.deepStrictEqual(
        agents.handled(price).map(({ request }) => request),
        ["tea", "coffee", "milk"]
      )
    })
  ).pipe(Effect.provide(prices))
)

it.effect("requests that were stored together are stepped through alone", () =>
  TestAgent.run([pricing], (agents) =>
    Effect.gen(function* () {
      yield* Effect.forEach(["a", "bb", "ccc"], (item) => Agent.cast(price, item, { key: "k" }), { concurrency: 3 })
      const one = Option.getOrThrow(yield* agents.step())
      assert.strictEqual(one.request, "a")
      assert.strictEqual(yield* agents.waiting(), 2)
      assert.strictEqual(Option.getOrThrow(yield* agents.step()).request, "bb")
      assert.strictEqual(yield* agents.waiting(), 1)
    })
  ).pipe(Effect.provide(prices))
)

it.effect("an ask is answered by its step: with the reply, the declared error, or a defect", () =>
  TestAgent.run([pricing], (agents) =>
    Effect.gen(function* () {
      const [tea, air] = [yield* agents.ask(price, "tea"), yield* agents.ask(price, "air")]
      assert.isUndefined(tea.pollUnsafe())
      const first = Option.getOrThrow(yield* agents.step())
      assert.deepInclude(first, { request: "tea", asked: true, status: "done" })
      assert.strictEqual(yield* Fiber.join(tea), 3)
      assert.isUndefined(air.pollUnsafe())
      const second = Option.getOrThrow(yield* agents.step(price))
      assert.deepInclude(second, {
        status: "failed",
        reply: Option.none(),
        error: Option.some(new Unknown({ item: "air" }))
      })
      assert.deepStrictEqual(yield* Effect.flip(Fiber.join(air)), new Unknown({ item: "air" }))
    })
  ).pipe(Effect.provide(prices))
)

it.effect("what a handler asks is handled within its step, and what it casts waits", () =>
  TestAgent.run([billing, noting, pricing], (agents) =>
    Effect.gen(function* () {
      // Before what is asked, in its own partition.
      yield* Agent.cast(price, "salt", { key: "tea" })
      const asking = yield* agents.ask(bill, ["tea", "milk"])
      const billed = Option.getOrThrow(yield* agents.step(bill))
      assert.deepInclude(billed, { agent: "bill", status: "done", reply: Option.some(7) })
      assert.strictEqual(yield* Fiber.join(asking), 7)
      assert.deepStrictEqual(yield* Table.lookup(sums, "all"), 7)
      assert.deepStrictEqual(agents.handled().map(short), [
        ["bill", ["tea", "milk"], "done"],
        ["price", "salt", "done"],
        ["price", "tea", "done"],
        ["price", "milk", "done"]
      ])
      assert.deepStrictEqual([yield* agents.waiting(note), yield* agents.waiting()], [1, 1])
      assert.deepStrictEqual((yield* agents.run()).map(short), [["note", "billed 7", "done"]])
    })
  ).pipe(Effect.provide(prices))
)

it.effect("a cast that fails meets its policies; a halt leaves it the next of its partition", () => {
  const ignoring = pricing.pipe(Processor.catchTag("Unknown", Policy.ignore))
  return Effect.gen(function* () {
    const [status, cause] = yield* TestAgent.run([ignoring], (agents) =>
      Effect.gen(function* () {
        yield* Agent.cast(price, "air")
        const one = Option.getOrThrow(yield* agents.step(price))
        return [one.status, one.error] as const
      })
    )
    assert.deepStrictEqual([status, cause], ["ignore", Option.some(new Unknown({ item: "air" }))])
    yield* TestAgent.run([pricing, noting], (agents) =>
      Effect.gen(function* () {
        yield* Agent.cast(price, "air")
        yield* Agent.cast(note, "n")
        const one = Option.getOrThrow(yield* agents.step())
        assert.deepInclude(one, { request: "air", status: "halted", reply: Option.none() })
        assert.deepInclude(Cause.squash(Option.getOrThrow(one.cause)) as Unknown, { _tag: "Unknown" })
        assert.strictEqual(yield* agents.waiting(price), 1)
        assert.deepStrictEqual((yield* agents.run(note)).map(short), [["note", "n", "done"]])
        assert.deepStrictEqual((yield* agents.run(price)).map(short), [["price", "air", "halted"]])
      })
    )
  }).pipe(Effect.provide(prices))
})

it.effect("quarantine puts a partition aside; parked requests come back when their time comes", () => {
  let broken = true
  const failing = Agent.handler(note, (text) => (broken && text === "bad" ? Effect.fail("no" as const) : Effect.void))
  return Effect.gen(function* () {
    yield* TestAgent.run([failing.pipe(Processor.catch(Policy.quarantine))], (agents) =>
      Effect.gen(function* () {
        yield* Agent.cast(note, "bad")
        yield* Agent.cast(note, "good")
        assert.deepStrictEqual(
          (yield* agents.step()).pipe(Option.map(short)),
          Option.some(["note", "bad", "quarantine"])
        )
        assert.deepStrictEqual(yield* agents.step(), Option.none())
        yield* Processor.skip("note", 0)
        assert.deepStrictEqual((yield* agents.run()).map(short), [["note", "good", "done"]])
      })
    )
    const parking = failing.pipe(Processor.catch(Policy.park({ schedule: Schedule.spaced("1 minute") })))
    yield* TestAgent.run([parking], (agents) =>
      Effect.gen(function* () {
        yield* Agent.cast(note, "bad", { key: "a" })
        yield* Agent.cast(note, "later", { key: "a" })
        yield* Agent.cast(note, "good", { key: "b" })
        assert.deepStrictEqual((yield* agents.step()).pipe(Option.map(short)), Option.some(["note", "bad", "park"]))
        // That of the same key waits behind it.
        assert.deepStrictEqual((yield* agents.step()).pipe(Option.map(short)), Option.some(["note", "good", "done"]))
        assert.strictEqual(yield* agents.waiting(), 0)
        broken = false
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual((yield* agents.run()).map(short), [
          ["note", "bad", "done"],
          ["note", "later", "done"]
        ])
      })
    )
  })
})

it.effect("retries are part of their step, and their delays pass by the program's clock", () => {
  let tries = 0
  const flaky = Agent.handler(note, () => (++tries < 3 ? Effect.fail("flaky" as const) : Effect.void)).pipe(
    Processor.retry({ schedule: Schedule.spaced("1 second"), times: 5 })
  )
  return TestAgent.run([flaky], (agents) =>
    Effect.gen(function* () {
      yield* Agent.cast(note, "n")
      const step = yield* Effect.forkChild(agents.step(note))
      yield* TestClock.adjust("5 seconds")
      const one = Option.getOrThrow(yield* Fiber.join(step))
      assert.deepInclude(one, { status: "done", cause: Option.none() })
      assert.strictEqual(tries, 3)
    })
  )
})

it.effect("streams answer one by one too, casts included; what they drop has no reply", () => {
  const upper = Agent.make("upper", { request: Schema.String, reply: Schema.String, partitions: 2 })
  const shouting = Agent.stream(upper, (requests) =>
    requests.pipe(
      Event.filter((text) => text !== ""),
      Event.mapEffect((text) => (text === "no" ? Effect.fail("refused" as const) : Effect.succeed(text.toUpperCase())))
    )
  )
  return TestAgent.run([shouting.pipe(Processor.catch(Policy.ignore))], (agents) =>
    Effect.gen(function* () {
      const asking = yield* agents.ask(upper, "a", { key: "k" })
      for (const text of ["b", "", "no", "c"]) yield* Agent.cast(upper, text, { key: "k" })
      assert.deepInclude(Option.getOrThrow(yield* agents.step(upper)), { asked: true, reply: Option.some("A") })
      assert.strictEqual(yield* Fiber.join(asking), "A")
      assert.strictEqual(yield* agents.waiting(), 4)
      assert.deepStrictEqual(
        (yield* agents.run(upper)).map(({ reply, request, status }) => [request, status, Option.getOrNull(reply)]),
        [
          ["b", "done", "B"],
          ["", "done", null],
          ["no", "ignore", null],
          ["c", "done", "C"]
        ]
      )
    })
  )
})

it.effect("engines of two runs never meet, and what is no agent is refused", () =>
  Effect.gen(function* () {
    const count = TestAgent.run([noting], (agents) => Effect.andThen(Agent.cast(note, "a"), agents.run()))
    assert.lengthOf(yield* count, 1)
    assert.lengthOf(yield* count, 1)
    const topic = Topic.make("t", { schema: Schema.Int, partitions: 1 })
    const processor = Processor.make("p", { topic }, () => Effect.void)
    const exit = yield* Effect.exit(TestAgent.run([processor], () => Effect.void))
    assert.isTrue(Exit.hasDies(exit))
    const replies = yield* TestAgent.run([pricing], (agents) =>
      Effect.gen(function* () {
        const to = Topic.make("replies", { schema: Schema.Int, partitions: 1 })
        yield* Agent.send(price, "tea", { replyTo: to })
        yield* agents.run()
        return yield* Stream.runCollect(Topic.stream(to, { until: "now" }))
      })
    )
    assert.deepStrictEqual(
      replies.map(({ value }) => value),
      [3]
    )
  }).pipe(Effect.provide(prices))
)
