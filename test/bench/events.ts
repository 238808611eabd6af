/**
 * The events of the bench: six fields, 200 bytes of JSON each, 1,000 customers over 16 partitions. They are made by
 * number, so every variant handles the same ones and its sum can be checked.
 */
import { Schema } from "effect"
import { Partitioner, Retention, Topic } from "../../src/index.ts"
import * as keys from "../../src/redis/keys.ts"

export const partitions = 16
const customers = 1_000
const bytes = 200

export const Order = Schema.Struct({
  orderId: Schema.Int,
  customer: Schema.String,
  amount: Schema.Finite,
  placedAt: Schema.Finite,
  status: Schema.String,
  note: Schema.String
})
export type Order = typeof Order.Type

const pad = "abcdefghijklmnopqrstuvwxyz ".repeat(10)

export const makeOrder = (number: number, placedAt = 1_700_000_000_000 + number): Order => {
  const order = {
    orderId: number,
    customer: `customer-${String((number * 7_919) % customers).padStart(6, "0")}`,
    amount: (number % 10_000) / 4,
    placedAt,
    status: "placed",
    note: ""
  }
  return { ...order, note: pad.slice(0, bytes - JSON.stringify(order).length) }
}

export const makeOrders = (count: number): ReadonlyArray<Order> => Array.from({ length: count }, (_, i) => makeOrder(i))

/** What all handlers together have seen. */
export const sumOf = (count: number): number => {
  let sum = 0
  for (let i = 0; i < count; i++) sum += (i % 10_000) / 4
  return sum
}

export const partitionOf = (order: Order): number => Partitioner.hash(order.customer, partitions)

/** Nothing is trimmed unless a variant is about that: one log serves all rounds. */
export const topic = (name: string, retention: Retention.Retention = Retention.forever) =>
  Topic.make(name, { schema: Order, partitionBy: "customer", partitions, retention })

export const namespace = "bench"

/** The streams of a topic, as anybody may write and read them. */
export const streamsOf = (name: string): ReadonlyArray<string> => {
  const tag = keys.shardTag(namespace, 0)
  return Array.from({ length: partitions }, (_, partition) => keys.log(tag, name, partition))
}
