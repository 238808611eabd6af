/**
 * Questions and answers: an agent that keeps the stock of a shop. The contract (`stock`) is all that a client needs to
 * import; the handler is a part like any other. A reply comes with the commit of its request, so what it says is stored; a
 * failure that the contract declares reaches the asker with its own type.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Schema } from "effect"
import { Agent, Engine, Policy, Processor, Table, Worker } from "../src/index.ts"

class SoldOut extends Schema.TaggedError<SoldOut>()("SoldOut", { item: Schema.String, left: Schema.Int }) {}

const stock = Agent.make("stock", {
  request: Schema.Struct({ item: Schema.String, change: Schema.Int }),
  reply: Schema.Int,
  error: SoldOut,
  partitionBy: ({ item }) => item,
  partitions: 4
})

const items = Table.make("items", { key: Schema.String, value: Schema.Int, initial: () => 0 })

const keeper = Agent.handler(
  stock,
  Effect.fnUntraced(function* ({ change, item }) {
    const left = yield* Table.get(items, item)
    if (left + change < 0) return yield* new SoldOut({ item, left })
    yield* Table.set(items, item, left + change)
    return left + change
  }),
  { tables: [items] }
).pipe(
  // For those that nobody waits for: asks are answered with the failure.
  Processor.catchTag("SoldOut", Policy.ignore)
)

const shop = Effect.gen(function* () {
  yield* Agent.cast(stock, { item: "loom", change: 3 })
  const left = yield* Agent.ask(stock, { item: "loom", change: -2 })
  yield* Console.log(`looms left: ${left}`)

  const refused = yield* Effect.flip(Agent.ask(stock, { item: "loom", change: -2 }))
  yield* Console.log(refused._tag === "SoldOut" ? `sold out: ${refused.left} left` : refused.message)

  const others = yield* Agent.join(
    stock,
    ["mill", "race", "wheel"].map((item, i) => ({ item, change: i + 1 }))
  )
  yield* Console.log(`delivered: ${others.join(", ")}`)
})

const engine = process.env.MILLRACE_URL ? Engine.layerConfig : Engine.layerMemory

shop.pipe(Effect.provide(Worker.layer([keeper])), Effect.provide(engine), NodeRuntime.runMain)
