/** The simulation itself: what users see of it, that a seed decides all of it, and that it finds bugs. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Schema, Stream } from "effect"
import { Coordinator } from "../src/Coordinator.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { Simulation, TestProcessor } from "../src/testing/index.ts"
import { numbers } from "./support/engines.ts"
import { simulate } from "./support/simulation.ts"

const Order = Schema.Struct({ customer: Schema.String, id: Schema.Int })
const orders = Topic.make("orders", { schema: Order, partitionBy: "customer", partitions: 2 })
const counts = Table.make("counts", { key: Schema.String, value: Schema.Int, initial: () => 0 })
const events = numbers(20).map((id) => TestProcessor.event(orders, { customer: `c${id % 4}`, id }))

class Mails extends Context.Service<Mails, { readonly send: (id: number) => Effect.Effect<void> }>()("test/Mails") {}

class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}

const seeds = numbers(12)

/** Seeds until one of them shows it. */
const found = <A>(run: (seed: number) => Effect.Effect<A>, holds: (found: A) => boolean): Effect.Effect<A> =>
  Effect.gen(function* () {
    for (const seed of numbers(60)) {
      const report = yield* run(seed)
      if (holds(report)) return report
    }
    return yield* Effect.die(new Error("no seed shows it"))
  })

describe("a simulation", () => {
  const sent = new Map<number, number>()
  const mails = Layer.succeed(Mails, {
    send: (id) => Effect.sync(() => void sent.set(id, (sent.get(id) ?? 0) + 1))
  })

  it.live("runs processors with services of their own, and gives what they did", () =>
    Effect.gen(function* () {
      const mailing = Processor.make("mailing", { topic: orders, tables: [counts] }, (order) =>
        Effect.gen(function* () {
          yield* (yield* Mails).send(order.id)
          yield* Table.update(counts, order.customer, (count) => count + 1)
        })
      )
      const check = Effect.map(Stream.runCollect(Table.entries(counts)), (rows) =>
        rows.filter(([, count]) => count !== 5).map(([customer, count]) => `${customer} has ${count}`)
      )
      let repeated = 0
      for (const seed of seeds) {
        sent.clear()
        const report = yield* Simulation.run(seed, { parts: [mailing], events, check })
        assert.deepStrictEqual(report.violations, [], report.steps.join("\n"))
        assert.deepInclude(report, { seed, lost: 0, reordered: 0, stale: 0 })
        assert.strictEqual(sent.size, 20)
        // What leaves the engine may happen again; the report counts every beginning, also of one that came to nothing.
        const again = [...sent.values()].reduce((sum, times) => sum + times - 1, 0)
        assert.isAtMost(again, report.repeated)
        assert.isAbove(report.commits.length, 0)
        assert.match(report.steps[0]!, /^ +0\.000 worker-1#1 starts$/)
        repeated += report.repeated
      }
      assert.isAbove(repeated, 0)
    }).pipe(Effect.provide(mails))
  )

  it.live("is decided by its seed, and another seed is another run", () =>
    Effect.gen(function* () {
      for (const serverWentBack of [false, true]) {
        const [first, second] = [yield* simulate(5, { serverWentBack }), yield* simulate(5, { serverWentBack })]
        assert.deepStrictEqual(second, first)
        assert.notDeepEqual((yield* simulate(9, { serverWentBack })).steps, first.steps)
      }
    })
  )

  it.live("puts back to work what the cluster has put aside, once nothing goes wrong any more", () =>
    Effect.gen(function* () {
      let asides = 0
      const part = Processor.make("aside", { topic: orders }, (_, { epoch, offset, partition, topic }) =>
        Effect.gen(function* () {
          if (asides++ > 0) return
          const coordinator = yield* Coordinator
          const { member } = (yield* coordinator.group("aside")).owners[partition]!
          const positions = [{ topic, first: offset, last: offset }]
          const entry = { reason: "failure", error: "planned", positions } as const
          yield* coordinator.quarantine({ processor: "aside", partition, epoch }, member, entry)
        })
      )
      const report = yield* Simulation.run(2, { parts: [part], events, workers: 1 })
      assert.deepStrictEqual(report.violations, [], report.steps.join("\n"))
      assert.isTrue(
        report.steps.some((step) => /^ +\d+\.\d+ aside\/\d, which was quarantined, is released$/.test(step))
      )
    })
  )

  it.effect("has its own time: the clock of the program around it stands still", () =>
    Effect.gen(function* () {
      const report = yield* simulate(1)
      assert.isAbove(Number.parseFloat(report.steps.at(-1)!), 3)
    })
  )
})

describe("a simulation finds", () => {
  it.live("state that is kept outside of the engine and counts twice", () =>
    Effect.gen(function* () {
      const outside = new Map<string, number>()
      const part = Processor.make("outside", { topic: orders }, ({ customer }) =>
        Effect.sync(() => void outside.set(customer, (outside.get(customer) ?? 0) + 1))
      )
      const check = Effect.sync(() => [...outside].filter(([, count]) => count !== 5).map(([customer]) => customer))
      const run = (seed: number) =>
        Effect.andThen(
          Effect.sync(() => outside.clear()),
          Simulation.run(seed, { parts: [part], events, check })
        )
      const report = yield* found(run, ({ violations }) => violations.length > 0)
      assert.isAbove(report.repeated, 0)
      assert.strictEqual(report.lost, 0)
    })
  )

  it.live("events that a pipeline drops without saying so: they are never committed", () =>
    Effect.gen(function* () {
      const part = Processor.stream(
        "dropping",
        { topic: orders },
        Stream.filter((event) => event.value.id !== 7)
      )
      const report = yield* Simulation.run(1, { parts: [part], events })
      assert.isAbove(report.lost, 0)
      assert.isTrue(report.violations.some((text) => /events are not committed/.test(text)))
    })
  )

  it.live("a processor that halts: what it left is lost, whoever is started after it", () =>
    Effect.gen(function* () {
      const part = Processor.make("halting", { topic: orders }, ({ id }) => (id === 7 ? new Refused() : Effect.void))
      const report = yield* Simulation.run(1, { parts: [part], events })
      assert.isAbove(report.lost, 0)
      assert.isTrue(report.steps.some((step) => /has failed: processor "halting" halted/.test(step)))
      const settled = part.pipe(Processor.catchTag("Refused", Policy.ignore))
      assert.deepStrictEqual((yield* Simulation.run(1, { parts: [settled], events })).violations, [])
    })
  )

  it.live("a handler that goes round and round", () =>
    Effect.gen(function* () {
      const part = Processor.make("busy", { topic: orders }, () => Effect.forever(Effect.yieldNow))
      const report = yield* Simulation.run(1, { parts: [part], events })
      assert.match(report.violations[0]!, /^worker-\d#\d.* went round and round without waiting for anything$/)
    })
  )

  it.live("a check that fails", () =>
    Effect.gen(function* () {
      const part = Processor.make("fine", { topic: orders }, () => Effect.void)
      const report = yield* Simulation.run(1, { parts: [part], events, check: new Refused() })
      assert.match(report.violations.join(), /^the check failed: Refused/)
    })
  )
})
