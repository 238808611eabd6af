import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, Layer, Option, Schema } from "effect"
import { Agent, Job, Join, Policy, Processor, Table, Topic } from "../src/index.ts"
import { TestProcessor } from "../src/testing/index.ts"

const Order = Schema.Struct({ id: Schema.Int, customer: Schema.String, amount: Schema.Finite })
const orders = Topic.make("orders", { schema: Order, partitionBy: "customer", partitions: 4 })
const receipts = Topic.make("receipts", { schema: Schema.String, partitions: 4 })
const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })

class Declined extends Schema.TaggedError<Declined>()("Declined", { id: Schema.Int }) {}

class Fees extends Context.Service<Fees, { readonly of: (amount: number) => number }>()("test/Fees") {}

const billing = Processor.make(
  "billing",
  { topic: orders, tables: [totals] },
  Effect.fnUntraced(function* (order) {
    yield* Table.update(totals, order.customer, (total) => total + order.amount)
    yield* Topic.emit(receipts, `receipt ${order.id}`)
    if (order.amount < 0) return yield* new Declined({ id: order.id })
    const fees = yield* Fees
    yield* Table.update(totals, order.customer, (total) => total + fees.of(order.amount))
  })
)

const input = (id: number, customer: string, amount: number) => TestProcessor.event(orders, { id, customer, amount })

const fees = Layer.succeed(Fees, { of: (amount) => amount / 10 })

describe("TestProcessor", () => {
  it.effect("gives outputs and tables as they are committed", () =>
    Effect.gen(function* () {
      const result = yield* TestProcessor.run(billing, [input(1, "a", 10), input(2, "b", 20), input(3, "a", 30)])
      assert.deepStrictEqual([...result.emitted(receipts)].sort(), ["receipt 1", "receipt 2", "receipt 3"])
      assert.deepStrictEqual(
        new Map([...result.table(totals)].sort()),
        new Map([
          ["a", 44],
          ["b", 22]
        ])
      )
      assert.isTrue(Option.isNone(result.halted))
    }).pipe(Effect.provide(fees))
  )

  it.effect("shows what a policy settled, without what the handler staged", () =>
    Effect.gen(function* () {
      const safe = billing.pipe(Processor.catchTag("Declined", Policy.ignore))
      const result = yield* TestProcessor.run(safe, [input(1, "a", 10), input(2, "a", -5), input(3, "a", 20)])
      assert.deepStrictEqual([...result.emitted(receipts)].sort(), ["receipt 1", "receipt 3"])
      assert.deepStrictEqual(result.table(totals), new Map([["a", 33]]))
      assert.strictEqual(result.settled.length, 1)
      assert.strictEqual(result.settled[0]!.policy, "ignore")
      assert.deepInclude(Cause.squash(result.settled[0]!.cause) as Declined, { _tag: "Declined", id: 2 })
    }).pipe(Effect.provide(fees))
  )

  it.effect("shows where and why the processor halted", () =>
    Effect.gen(function* () {
      const result = yield* TestProcessor.run(billing, [input(1, "a", 10), input(2, "a", -5), input(3, "a", 20)])
      const halted = Option.getOrThrow(result.halted)
      assert.strictEqual(halted.processor, "billing")
      const error = Option.getOrThrow(Cause.findErrorOption(halted.cause))
      assert.deepInclude(error, { _tag: "Declined", id: 2 })
      assert.deepStrictEqual(result.table(totals), new Map([["a", 11]]))
    }).pipe(Effect.provide(fees))
  )

  it.effect("runs a processor that reads a join", () =>
    Effect.gen(function* () {
      const Payment = Schema.Struct({ customer: Schema.String, of: Schema.Int })
      const payments = Topic.make("payments", { schema: Payment, partitionBy: "customer", partitions: 4 })
      const paid = Processor.make(
        "paid",
        { topic: Join.streams(orders, payments, { within: "1 hour" }), tables: [totals] },
        ({ left, right }) => Table.update(totals, left.customer, (total) => total + left.amount * right.of)
      )
      const result = yield* TestProcessor.run(paid, [
        input(1, "a", 10),
        TestProcessor.event(payments, { customer: "a", of: 2 }),
        TestProcessor.event(payments, { customer: "b", of: 3 })
      ])
      assert.deepStrictEqual(result.table(totals), new Map([["a", 20]]))
    })
  )

  it.effect("gives the payloads of the jobs that are enqueued, typed, by job; of a unit that failed none", () =>
    Effect.gen(function* () {
      const Page = Schema.Struct({ customer: Schema.String, at: Schema.Date })
      const print = Job.make("print", { payload: Page, queue: "paper" })
      const mail = Job.make("mail", { payload: Schema.String })
      const at = new Date(86_400_000)
      const sending = Processor.make(
        "sending",
        { topic: orders },
        Effect.fnUntraced(function* (order) {
          yield* Job.enqueue(print, { customer: order.customer, at }, { delay: "1 hour" })
          yield* Job.enqueueAll(mail, [`to ${order.customer}`, `again ${order.customer}`])
          if (order.amount < 0) return yield* new Declined({ id: order.id })
        })
      ).pipe(Processor.catchTag("Declined", Policy.ignore))
      const given = [input(1, "a", 1), input(2, "a", -1), input(3, "a", 1)]
      const result = yield* TestProcessor.run(sending, given)
      assert.deepStrictEqual(result.enqueued(print), [
        { customer: "a", at },
        { customer: "a", at }
      ])
      assert.deepStrictEqual(result.enqueued(mail), ["to a", "again a", "to a", "again a"])
      assert.deepStrictEqual(result.enqueued(Job.make("mail", { payload: Schema.String, queue: "other" })), [])
      assert.deepStrictEqual(result.replies(Agent.make("nobody", { request: Schema.Int, reply: Schema.Int })), [])
    })
  )

  it.effect("gives what an agent's handler replied to what was asked: values, its own errors, defects", () =>
    Effect.gen(function* () {
      const half = Agent.make("half", { request: Schema.Int, reply: Schema.Date, error: Declined, partitions: 2 })
      const halving = Agent.handler(
        half,
        Effect.fnUntraced(function* (n) {
          if (n === 0) return yield* Effect.die(new Error("nothing to halve"))
          if (n % 2 === 1) return yield* new Declined({ id: n })
          yield* Topic.emit(receipts, `halved ${n}`)
          return new Date(n / 2)
        })
      ).pipe(Processor.catchTag("Declined", Policy.ignore))
      const result = yield* TestProcessor.run(halving, [
        TestProcessor.ask(half, 4),
        TestProcessor.ask(half, 5, { key: "k", headers: { from: "a test" } }),
        TestProcessor.event(half.topic, 6),
        TestProcessor.event(half.topic, 7),
        TestProcessor.ask(half, 0),
        TestProcessor.ask(half, 8)
      ])
      const [four, five, zero, eight, ...more] = result.replies(half)
      assert.deepStrictEqual(
        [four, five, eight],
        [Exit.succeed(new Date(2)), Exit.fail(new Declined({ id: 5 })), Exit.succeed(new Date(4))]
      )
      const defect = Option.getOrThrow(Exit.findErrorOption(zero!))
      assert.deepInclude(defect, { _tag: "AgentDefect", agent: "half" })
      assert.include(String((defect as { readonly cause: unknown }).cause), "nothing to halve")
      assert.isEmpty(more)
      // A failure is told to whoever asked; that of a cast meets the policies.
      assert.deepStrictEqual(
        result.settled.map(({ policy, value }) => [policy, value]),
        [["ignore", 7]]
      )
      assert.deepStrictEqual([...result.emitted(receipts)].sort(), ["halved 4", "halved 6", "halved 8"])
      assert.isTrue(Option.isNone(result.halted))
    })
  )
})
