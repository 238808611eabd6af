/**
 * State and output, exactly once: what a handler writes to its table and emits to another topic is committed together
 * with "this event is done", or not at all. Here the handler dies in the middle of its unit of work, after it wrote and
 * emitted; the next start handles that event again, and the sums are exact.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Schema, Stream } from "effect"
import { Engine, Processor, Table, Topic, Worker } from "../src/index.ts"

const Transfer = Schema.Struct({ account: Schema.String, amount: Schema.Int })
const transfers = Topic.make("transfers", { schema: Transfer, partitionBy: "account", partitions: 4 })
const receipts = Topic.make("receipts", { schema: Transfer, partitionBy: "account", partitions: 4 })
const balances = Table.make("balances", { key: Schema.String, value: Schema.Int, initial: () => 0 })

const values = Array.from({ length: 1_000 }, (_, i) => ({ account: `account-${i % 10}`, amount: i }))
let crashes = 3

const ledger = Processor.make(
  "ledger",
  { topic: transfers, tables: [balances] },
  Effect.fnUntraced(function* (transfer) {
    yield* Table.update(balances, transfer.account, (balance) => balance + transfer.amount)
    yield* Topic.emit(receipts, transfer)
    if (crashes > 0 && transfer.amount === 1_000 - crashes * 250) {
      crashes--
      yield* Effect.die(new Error(`crashed at ${transfer.amount}`))
    }
  })
)

const program = Effect.gen(function* () {
  yield* Topic.publishAll(transfers, values)
  // A defect halts the worker; whatever starts it again (here a retry) goes on from what is committed.
  const crashing = Worker.run([ledger]).pipe(Effect.tapError((error) => Console.log(error.message)))
  yield* Effect.retry(crashing, { times: 2 }).pipe(Effect.ignore)

  yield* Worker.idle.pipe(Effect.provide(Worker.layer([ledger])))
  const rows = yield* Stream.runCollect(Table.entries(balances))
  const emitted = yield* Stream.runCollect(Topic.stream(receipts, { until: "now" }))
  yield* Console.log(`expected: 1000 transfers, sum ${values.reduce((sum, { amount }) => sum + amount, 0)}`)
  yield* Console.log(`balances: sum ${rows.reduce((sum, [, balance]) => sum + balance, 0)}`)
  yield* Console.log(`receipts: ${emitted.length}, sum ${emitted.reduce((sum, { value }) => sum + value.amount, 0)}`)
})

const engine = process.env.MILLRACE_URL ? Engine.layerConfig : Engine.layerMemory

program.pipe(Effect.provide(engine), NodeRuntime.runMain)
