/**
 * Money in simulated trouble: a transfer takes from one account and emits a credit for another, and a credit emits a
 * receipt, while workers crash, hang and lose answers. The sum never changes, every balance is that of a plain loop, and
 * every receipt is there once. `SEEDS` as in `simulation.test.ts`, of which this takes one in forty.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema, Stream } from "effect"
import type * as Engine from "../src/Engine.ts"
import type { Part } from "../src/Part.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { Simulation, TestProcessor } from "../src/testing/index.ts"
import { numbers } from "./support/engines.ts"

const Transfer = Schema.Struct({ id: Schema.Int, from: Schema.String, to: Schema.String, amount: Schema.Int })
type Transfer = typeof Transfer.Type
const Credit = Schema.Struct({ id: Schema.Int, account: Schema.String, amount: Schema.Int })
type Credit = typeof Credit.Type

const opening = 1_000
const accounts = numbers(7).map((n) => `account-${n}`)
const transfers = Topic.make("transfers", { schema: Transfer, partitionBy: "from", partitions: 3 })
const credits = Topic.make("credits", { schema: Credit, partitionBy: "account", partitions: 3 })
const receipts = Topic.make("receipts", { schema: Schema.Int, partitions: 3, retention: Retention.forever })
const balancesOf = <const Name extends string>(name: Name) =>
  Table.make(name, { key: Schema.String, value: Schema.Int, initial: () => opening })
type Balances<Name extends string> = Table.Table<Name, string, number>

const all = numbers(30).map(
  (id): Transfer => ({
    id,
    from: accounts[id % accounts.length]!,
    // Now and then to itself.
    to: accounts[(id * 5 + 3) % accounts.length]!,
    amount: 1 + ((id * 37) % 90)
  })
)

const expected = new Map(accounts.map((account) => [account, opening]))
for (const { amount, from, to } of all) {
  expected.set(from, expected.get(from)! - amount)
  expected.set(to, expected.get(to)! + amount)
}

/** `send`: how a credit is sent on; with anything but `emit` money is made or lost. */
const book = <Name extends string, E, R>(
  balances: Balances<Name>,
  event: Transfer | Credit,
  send: (credit: Credit) => Effect.Effect<unknown, E, R>
) =>
  Effect.gen(function* () {
    if ("from" in event) {
      yield* Table.update(balances, event.from, (balance) => balance - event.amount)
      yield* send({ id: event.id, account: event.to, amount: event.amount })
    } else {
      yield* Table.update(balances, event.account, (balance) => balance + event.amount)
      yield* Topic.emit(receipts, event.id)
    }
  })

const topic = [transfers, credits] as const
const emitted = (credit: Credit) => Topic.emit(credits, credit)

const [one, keyed, batched, torn] = [
  balancesOf("one"),
  balancesOf("keyed"),
  balancesOf("batched"),
  balancesOf("torn")
] as const

const banks = [
  {
    balances: one,
    part: Processor.make("one", { topic, tables: [one] }, (event) => book(one, event, emitted))
  },
  {
    balances: keyed,
    part: Processor.make("keyed", { topic, tables: [keyed], concurrency: { perKey: 3 }, maxUncommitted: 6 }, (event) =>
      Effect.andThen(Effect.yieldNow, book(keyed, event, emitted))
    )
  },
  {
    balances: batched,
    part: Processor.batch("batched", { topic, tables: [batched], size: 4, within: "200 millis" }, (events) =>
      Effect.forEach(events, (event) => book(batched, event, emitted), { discard: true })
    )
  }
]

const tornBank = {
  balances: torn,
  part: Processor.make("torn", { topic, tables: [torn] }, (event) =>
    book(torn, event, (credit) => Effect.orDie(Topic.publish(credits, credit)))
  )
}

const checkOf = (balances: Balances<string>) =>
  Effect.gen(function* () {
    const rows = new Map(yield* Stream.runCollect(Table.entries(balances)))
    const wrong = accounts.flatMap((account) => {
      const balance = rows.get(account) ?? opening
      return balance === expected.get(account) ? [] : [`${account} has ${balance}, not ${expected.get(account)}`]
    })
    const ids = (yield* Stream.runCollect(Topic.stream(receipts, { until: "now" }))).map(({ value }) => value)
    const once = ids.toSorted((a, b) => a - b).join() === all.map(({ id }) => id).join()
    return once ? wrong : [...wrong, `receipts ${ids.join()}`]
  })

const events = all.map((transfer) => TestProcessor.event(transfers, transfer))

const play = (seed: number, { balances, part }: (typeof banks)[number] | typeof tornBank) =>
  Simulation.run(seed, {
    parts: [part as Part<unknown, Engine.Services>],
    events,
    check: checkOf(balances as Balances<string>)
  })

const seeds = Math.ceil(Number(process.env["SEEDS"] ?? 2_000) / 40)

describe("money, whatever goes wrong", () => {
  for (const [i, bank] of banks.entries()) {
    it(`is neither made nor lost: ${bank.part.name}`, async () => {
      for (let seed = i; seed < seeds; seed += banks.length) {
        const { steps, violations } = await Effect.runPromise(play(seed, bank))
        assert.isEmpty(violations, `seed ${seed}\n${violations.join("\n")}\n${steps.join("\n")}`)
      }
    }, 1_000_000)
  }

  it("is made or lost where a credit is published and not emitted", async () => {
    let red = 0
    for (let seed = 0; seed < 10; seed++) {
      const { violations } = await Effect.runPromise(play(seed, tornBank))
      if (violations.length > 0) red++
    }
    assert.isAbove(red, 2)
  }, 60_000)
})
