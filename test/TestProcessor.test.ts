import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Effect, Layer, Option, Schema } from "effect"
import { Join, Policy, Processor, Table, Topic } from "../src/index.ts"
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
})
