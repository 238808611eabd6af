/**
 * What the snippets of the README and of `docs` take for granted: the topics, services and values of a shop. Names that a
 * snippet defines itself are its own.
 */
import { Context, DateTime, Effect, Layer, Redacted, Schema, Stream } from "effect"
import { Agent, Engine, Job, Policy, Processor, Table, Topic } from "../../src/index.ts"

export type { DecodeError, EncodeError, UnitTooLarge } from "../../src/Errors.ts"

export const Order = Schema.Struct({ customer: Schema.String, amount: Schema.Finite, at: Schema.DateTimeUtcFromString })
export type Order = typeof Order.Type
const Payment = Schema.Struct({ customer: Schema.String, cents: Schema.Int })
const Receipt = Schema.Struct({ customer: Schema.String })
const Change = Schema.Struct({ item: Schema.String, change: Schema.Int })

export const orders = Topic.make("orders", { schema: Order, partitionBy: "customer", timestamp: (order) => order.at })
export const payments = Topic.make("payments", { schema: Payment, partitionBy: "customer" })
export const receipts = Topic.make("receipts", { schema: Receipt, partitionBy: "customer" })
export const reports = Topic.make("reports", { schema: Schema.Struct({ id: Schema.String }) })
export const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })
export const limits = Table.make("limits", { key: Schema.String, value: Schema.Finite, initial: () => 100 })
export const items = Table.make("items", { key: Schema.String, value: Schema.Int, initial: () => 0 })

export const order: Order = { customer: "ada", amount: 5, at: DateTime.makeUnsafe("2026-05-01T12:00:00Z") }
export const millionOrders: ReadonlyArray<Order> = [order]
export const source: Stream.Stream<Order> = Stream.make(order)
export const encryptionKey = Redacted.make(new Uint8Array(32))

export class Payments extends Context.Service<
  Payments,
  { readonly charge: (order: Order, id: string) => Effect.Effect<void> }
>()("docs/Payments") {
  static readonly layer = Layer.succeed(Payments, { charge: () => Effect.void })
}

export class Declined extends Schema.TaggedError<Declined>()("Declined", { customer: Schema.String }) {}
export class SoldOut extends Schema.TaggedError<SoldOut>()("SoldOut", { left: Schema.Int }) {}
export class NoSuchImage extends Schema.TaggedError<NoSuchImage>()("NoSuchImage", { image: Schema.String }) {}

export const insertAll = (_: ReadonlyArray<Order>): Effect.Effect<void> => Effect.void
export const check = (order: Order, _: string | undefined): Effect.Effect<Order> => Effect.succeed(order)
export const shrink = (image: string): Effect.Effect<string, NoSuchImage> =>
  image === "" ? Effect.fail(new NoSuchImage({ image })) : Effect.succeed(`${image}.small`)
export const warmUp = Effect.void
export const fetchRates = Effect.void

export const billing = Processor.make(
  "billing",
  { topic: orders, tables: [totals] },
  Effect.fnUntraced(function* (order) {
    if (order.amount < 0) return yield* new Declined({ customer: order.customer })
    yield* Table.update(totals, order.customer, (total) => total + order.amount)
  })
)
export const safe = billing.pipe(Processor.catchTag("Declined", Policy.deadLetter()))
export const loader = Processor.batch("loader", { topic: orders, size: 500, within: "2 seconds" }, insertAll)
export const audit = Processor.stream("audit", { topic: orders }, (events) => events)
export const stock = Agent.make("stock", {
  request: Change,
  reply: Schema.Int,
  error: SoldOut,
  partitionBy: ({ item }) => item
})
export const keeper = Agent.handler(stock, ({ change }) => Effect.succeed(change))
export const thumbnail = Job.make("thumbnail", {
  payload: Schema.Struct({ image: Schema.String }),
  success: Schema.String,
  error: NoSuchImage
})
export const parts = [safe]
export const engine = Engine.layerMemory
