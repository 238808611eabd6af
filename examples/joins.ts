/**
 * What belongs together in two topics: rides and what was paid for them within the hour, with the customer's city from a
 * table beside them. A ride that nothing was paid for is told of once, when its time is over; here that is long ago, so as
 * soon as both topics have been silent for a second.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, DateTime, Deferred, Effect, Option, Schema } from "effect"
import { Engine, Join, Processor, Table, Topic, Worker } from "../src/index.ts"

const Ride = Schema.Struct({ customer: Schema.String, ride: Schema.Int, minute: Schema.Int })
const Payment = Schema.Struct({ customer: Schema.String, amount: Schema.Int, minute: Schema.Int })
const Move = Schema.Struct({ customer: Schema.String, city: Schema.String })

// The same key and partition count: what belongs together has one owner.
const alike = {
  partitionBy: "customer",
  partitions: 4,
  timestamp: ({ minute }: { readonly minute: number }) => DateTime.makeUnsafe(Date.UTC(2020, 0, 1, 12, minute))
} as const
const rides = Topic.make("rides", { schema: Ride, ...alike })
const payments = Topic.make("payments", { schema: Payment, ...alike })
const moves = Topic.make("moves", { schema: Move, partitionBy: "customer", partitions: 4 })

const cities = Table.make("cities", { key: Schema.String, value: Schema.String, initial: () => "nowhere" })
const registry = Processor.make("registry", { topic: moves, tables: [cities] }, ({ city, customer }) =>
  Table.set(cities, customer, city)
)

const paid = Join.streams(rides, payments, { within: "1 hour", kind: "left", idle: "1 second" })
const told = Deferred.makeUnsafe<void>()
const checks = Processor.make(
  "checks",
  { topic: Join.table(paid, cities) },
  Effect.fnUntraced(function* ({ left: { left: ride, right: payment }, right: city }) {
    const of = `ride ${ride.ride} of ${ride.customer} in ${city}`
    if (Option.isSome(payment)) return yield* Console.log(`${of}: ${payment.value.amount} pounds`)
    yield* Console.log(`${of} was not paid in time`)
    yield* Deferred.succeed(told, undefined)
  })
)

const day = Effect.gen(function* () {
  yield* Topic.publish(moves, { customer: "ada", city: "London" })
  yield* Topic.publish(moves, { customer: "alan", city: "Wilmslow" })
  yield* Worker.idle
  yield* Topic.publish(rides, { customer: "ada", ride: 1, minute: 0 })
  yield* Topic.publish(rides, { customer: "alan", ride: 2, minute: 5 })
  yield* Topic.publish(payments, { customer: "ada", amount: 12, minute: 20 })
  yield* Deferred.await(told)
})

const engine = process.env.MILLRACE_URL ? Engine.layerConfig : Engine.layerMemory

day.pipe(Effect.provide(Worker.layer([registry, checks])), Effect.provide(engine), NodeRuntime.runMain)
