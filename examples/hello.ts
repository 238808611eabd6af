/** The smallest program: a topic, a table, a processor. Run it with `node examples/hello.ts`; it needs no server. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Schema } from "effect"
import { Engine, Processor, Table, Topic, Worker } from "../src/index.ts"

const Order = Schema.Struct({ customer: Schema.String, amount: Schema.Finite })
const orders = Topic.make("orders", { schema: Order, partitionBy: "customer" })
const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })

// The orders of a customer arrive in order, and each is counted exactly once, whatever crashes.
const billing = Processor.make(
  "billing",
  { topic: orders, tables: [totals] },
  Effect.fnUntraced(function* (order) {
    const total = yield* Table.update(totals, order.customer, (sum) => sum + order.amount)
    yield* Console.log(`${order.customer} owes ${total}`)
  })
)

const program = Effect.gen(function* () {
  yield* Topic.publish(orders, { customer: "ada", amount: 10 })
  yield* Topic.publish(orders, { customer: "grace", amount: 5 })
  yield* Topic.publish(orders, { customer: "ada", amount: 32 })
  yield* Worker.run([billing], { limit: 3 }) // without a limit it runs until it is told to stop
  yield* Console.log(`committed: ${yield* Table.lookup(totals, "ada")}`)
})

// The same program on Redis, or on a file: MILLRACE_URL=redis://localhost:6379, MILLRACE_URL=file:./orders.db
const engine = process.env.MILLRACE_URL ? Engine.layerConfig : Engine.layerMemory

program.pipe(Effect.provide(engine), NodeRuntime.runMain)
