/**
 * Money that is never lost and never made: transfers between accounts, while the processes that book them are killed.
 * A transfer takes from one account and emits a credit for the other, which may be in another partition, at another
 * worker; the write and the credit are one unit of work. Whatever is killed in between, the balances come out right.
 *
 *     node examples/bank.ts                    5,000 transfers, 5 kills, on an embedded file of its own
 *     MILLRACE_URL=redis://localhost:6379 TRANSFERS=100000 KILLS=50 node examples/bank.ts
 */
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Config, Console, Effect, FileSystem, Random, Schema, Stream } from "effect"
import { Engine, Processor, Retention, Table, Topic, Worker } from "../src/index.ts"

const Transfer = Schema.Struct({ id: Schema.Int, from: Schema.String, to: Schema.String, amount: Schema.Int })
const Credit = Schema.Struct({ id: Schema.Int, account: Schema.String, amount: Schema.Int })

// Both by the account that they change, with one count of partitions: so each account has one owner for both.
const transfers = Topic.make("transfers", { schema: Transfer, partitionBy: "from", partitions: 16 })
const credits = Topic.make("credits", { schema: Credit, partitionBy: "account", partitions: 16 })
const receipts = Topic.make("receipts", {
  schema: Schema.Struct({ id: Schema.Int }),
  partitions: 16,
  retention: Retention.forever
})
const opening = 1_000
const balances = Table.make("balances", { key: Schema.String, value: Schema.Int, initial: () => opening })

const bank = Processor.make(
  "bank",
  { topic: [transfers, credits], tables: [balances] },
  Effect.fnUntraced(function* (event) {
    if ("from" in event) {
      yield* Table.update(balances, event.from, (balance) => balance - event.amount)
      yield* Topic.emit(credits, { id: event.id, account: event.to, amount: event.amount })
    } else {
      yield* Table.update(balances, event.account, (balance) => balance + event.amount)
      yield* Topic.emit(receipts, { id: event.id })
    }
  })
)

// A crash costs the rest of the lease, so here it is a short one.
const worker = Worker.run([bank], { lease: "1 second" })

/** This program once more, as a worker. */
const startWorker = (engine: Record<string, string>) =>
  spawn(process.execPath, [fileURLToPath(import.meta.url), "worker"], {
    env: { ...process.env, ...engine },
    stdio: ["ignore", "ignore", "inherit"]
  })

const program = Effect.fn(function* (engine: Record<string, string>) {
  const count = yield* Config.Int("TRANSFERS").pipe(Config.withDefault(5_000))
  const kills = yield* Config.Int("KILLS").pipe(Config.withDefault(5))
  const accounts = yield* Config.Int("ACCOUNTS").pipe(Config.withDefault(1_000))
  const account = Effect.map(Random.nextIntBetween(0, accounts, { halfOpen: true }), (n) => `account-${n}`)
  const transfer = (id: number) =>
    Effect.all({
      id: Effect.succeed(id),
      from: account,
      to: account,
      amount: Random.nextIntBetween(1, 100)
    })
  const all = yield* Effect.forEach(
    Array.from({ length: count }, (_, id) => id),
    transfer
  )

  const workers = yield* Effect.acquireRelease(
    Effect.sync(() => [startWorker(engine), startWorker(engine), startWorker(engine)]),
    (workers) => Effect.sync(() => workers.forEach((worker) => worker.kill("SIGKILL")))
  )
  // Joined, it is known, and what is published from now on is kept for it.
  while ((yield* Processor.lag("bank")).length === 0) yield* Effect.sleep("100 millis")
  for (let kill = 0; kill <= kills; kill++) {
    const share = Math.ceil(count / (kills + 1))
    yield* Topic.publishAll(transfers, all.slice(kill * share, (kill + 1) * share))
    if (kill === kills) break
    // In the middle of this share's work, usually.
    yield* Effect.sleep(yield* Random.nextIntBetween(0, 1_000))
    const victim = yield* Random.nextIntBetween(0, workers.length, { halfOpen: true })
    workers[victim]!.kill("SIGKILL")
    workers[victim] = startWorker(engine)
  }
  const booked = Effect.map(Processor.lag("bank"), (lags) => lags.every(({ events }) => events === 0))
  // First no transfer is left, and so no credit can come any more; then no credit is left.
  for (let passes = 0; passes < 2; passes++) while (!(yield* booked)) yield* Effect.sleep("100 millis")

  const expected = new Map<string, number>()
  const add = (account: string, amount: number) => expected.set(account, (expected.get(account) ?? opening) + amount)
  for (const { amount, from, to } of all) {
    add(from, -amount)
    add(to, amount)
  }
  const rows = yield* Stream.runCollect(Table.entries(balances))
  const wrong = rows.filter(([account, balance]) => expected.get(account) !== balance).length
  const money = rows.reduce((sum, [, balance]) => sum + balance, 0)
  const ids = (yield* Stream.runCollect(Topic.stream(receipts, { until: "now" }))).map(({ value }) => value.id)
  yield* Console.log(`${count} transfers between ${accounts} accounts; ${kills} times a worker was killed`)
  yield* Console.log(`receipts: ${ids.length}, of ${new Set(ids).size} transfers`)
  yield* Console.log(`accounts in use: ${rows.length} of ${expected.size}, ${wrong} with a wrong balance`)
  yield* Console.log(`money: ${money}, opened with ${rows.length * opening}`)
})

// What MILLRACE_URL names, or else a file that goes when the program ends.
const main = Effect.gen(function* () {
  const directory = yield* (yield* FileSystem.FileSystem).makeTempDirectoryScoped({ prefix: "millrace-" })
  const url = yield* Config.String("MILLRACE_URL").pipe(Config.withDefault(`file:${directory}/bank.db`))
  const namespace = yield* Config.String("MILLRACE_NAMESPACE").pipe(Config.withDefault("bank"))
  yield* Effect.provide(program({ MILLRACE_URL: url, MILLRACE_NAMESPACE: namespace }), Engine.layer({ url, namespace }))
}).pipe(Effect.scoped, Effect.provide(NodeServices.layer))

if (process.argv[2] === "worker") NodeRuntime.runMain(Effect.provide(worker, Engine.layerConfig))
else NodeRuntime.runMain(main)
