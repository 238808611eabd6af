/** Everything that can be seen and done from outside, by a program that has no definition of anything. */
import { assert, describe } from "@effect/vitest"
import { Deferred, Effect, Schedule, Schema } from "effect"
import * as Admin from "../src/Admin.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Topic from "../src/Topic.ts"
import { eventually, fits, refusal } from "./support/admin.ts"
import { behaviour, numbers, start, until } from "./support/engines.ts"

const Order = Schema.Struct({ id: Schema.Int, who: Schema.String })

class Bad extends Schema.TaggedError<Bad>()("Bad", { id: Schema.Int }) {}

const order = (id: number, who = `who${id}`) => ({ id, who })

describe("topics and processors", () => {
  behaviour("are listed with what they hold, who runs them and how far they are", (engine) =>
    Effect.gen(function* () {
      const orders = Topic.make("orders", {
        schema: Order,
        partitionBy: (one) => one.who,
        partitions: 4,
        retention: Retention.consumed({ capacity: 1_000, keep: 500 })
      })
      const gate = yield* Deferred.make<void>()
      const billing = Processor.make("billing", { topic: orders }, () => Deferred.await(gate))
      assert.deepStrictEqual(yield* Admin.topics, [])
      assert.deepStrictEqual(yield* Admin.processors, [])
      yield* Topic.publishAll(
        orders,
        numbers(20).map((id) => order(id))
      )
      const worker = yield* start([billing], { member: "m" })
      const held = yield* eventually(engine, "all is owned", Admin.processors, ([one]) =>
        one!.owners.every((owner) => owner !== null)
      )
      fits(Schema.Array(Admin.Processor), held)
      assert.deepInclude(held[0], {
        name: "billing",
        topics: ["orders"],
        partitions: 4,
        paused: false,
        members: ["m"],
        quarantined: []
      })
      assert.deepStrictEqual(
        held[0]!.owners.map((owner) => owner?.member),
        ["m", "m", "m", "m"]
      )
      const [topic] = fits(Schema.Array(Admin.Topic), yield* Admin.topics)
      assert.deepInclude(topic, { name: "orders", partitions: 4, events: 20, eventsAdded: 20, letters: false })
      assert.deepStrictEqual(topic!.retention, { _tag: "Consumed", capacity: 1_000, keep: 500, onFull: "wait" })
      assert.deepStrictEqual(topic!.processors, ["billing"])
      const { logs } = fits(Admin.TopicLogs, yield* Admin.topic("orders"))
      assert.deepStrictEqual(
        logs.map(({ partition }) => partition),
        [0, 1, 2, 3]
      )
      assert.strictEqual(
        logs.reduce((sum, log) => sum + log.events, 0),
        20
      )
      yield* engine.elapse(1_500)
      const behind = fits(Admin.Lag, yield* Admin.lag("billing"))
      assert.deepInclude(behind, { processor: "billing", events: 20 })
      assert.isAbove(behind.seconds, 1)
      assert.strictEqual(behind.partitions.length, 4)
      yield* Deferred.succeed(gate, undefined)
      yield* worker.idle
      const [done] = fits(Schema.Array(Admin.Lag), yield* Admin.lags)
      assert.deepInclude(done, { events: 0, entries: 0, seconds: 0, oldest: null })

      // Of the worker that it hears from.
      // What it counts is told every five seconds, which only a virtual clock need not wait for.
      const [told] = yield* eventually(
        engine,
        "the worker tells",
        Admin.workers,
        ([one]) => !engine.virtual || one!.report!.parts.some(({ processed }) => processed === 20)
      )
      fits(Admin.Worker, told!)
      assert.deepStrictEqual(told!.processors, ["billing"])
      assert.strictEqual(told!.report!.pid, process.pid)
      // On average: one event of each partition waited for the gate, the others did not.
      if (engine.virtual) assert.isAbove(told!.report!.parts[0]!.millis ?? 0, 100)
      assert.deepStrictEqual(
        told!.report!.partitions.map(({ partition, processor }) => [processor, partition]),
        numbers(4).map((partition) => ["billing", partition])
      )
      yield* worker.stop
      assert.deepStrictEqual(yield* Admin.workers, [])
      const [left] = yield* Admin.processors
      assert.deepStrictEqual(left!.owners, [null, null, null, null])
    })
  )

  behaviour("are paused, moved and resumed by name", (engine) =>
    Effect.gen(function* () {
      const orders = Topic.make("orders", { schema: Order, partitions: 2, retention: Retention.forever })
      const seen: Array<number> = []
      const part = Processor.make("billing", { topic: orders }, ({ id }) => Effect.sync(() => void seen.push(id)))
      const positions = yield* Topic.publishAll(
        orders,
        numbers(6).map((id) => order(id))
      )
      const worker = yield* start([part])
      yield* worker.idle
      assert.match(yield* refusal(Admin.seek("billing", "earliest")), /^Misconfigured: .*billing is running; pause it/)
      yield* Admin.pause("billing")
      assert.isTrue((yield* Admin.processor("billing")).paused)
      yield* Admin.seek("billing", "earliest")
      assert.strictEqual((yield* Admin.lag("billing")).events, 6)
      yield* Admin.seek("billing", { time: "2001-01-01T00:00:00Z" })
      yield* Admin.seek("billing", { offset: positions[0]!.offset })
      assert.match(yield* refusal(Admin.seek("billing", { offset: "never" })), /no offset/)
      assert.match(yield* refusal(Admin.seek("billing", { time: "never" })), /no time/)
      let moved = 0
      yield* Admin.seek("billing", "earliest", { moved: () => moved++ })
      assert.strictEqual(moved, (yield* Admin.processor("billing")).partitions)
      yield* Admin.resume("billing")
      yield* until(engine, "all is handled again", () => seen.length === 12)
      yield* worker.stop
    })
  )

  behaviour("that nobody knows are told as such, with those that there are", () =>
    Effect.gen(function* () {
      const orders = Topic.make("orders", { schema: Order, partitions: 2 })
      const worker = yield* start([Processor.make("billing", { topic: orders }, () => Effect.void)])
      const missing = [
        [Admin.topic("nope"), /NotFound: there is no topic "nope"; there are orders/],
        [Admin.processor("nope"), /no processor "nope"; there are billing/],
        [Admin.lag("nope"), /no processor "nope"/],
        [Admin.pause("nope"), /no processor "nope"/],
        [Admin.seek("nope", "latest"), /no processor "nope"/],
        [Admin.quarantined("nope"), /no processor "nope"/],
        [Admin.parked("nope"), /no processor "nope"/],
        [Admin.release("nope", 0), /no processor "nope"/],
        [Admin.deadLetters("orders"), /no dead-letter topic "orders"/],
        [Admin.redrive("nope"), /no dead-letter topic/],
        [Admin.rows("nope"), /no table "nope"/],
        [Admin.row("nope", "k"), /no table "nope"/],
        [Admin.queue("nope"), /no queue "nope"/],
        [Admin.flushQueue("nope"), /no queue "nope"/],
        [Admin.job("nope", "id"), /no queue "nope"/]
      ] as const
      for (const [effect, message] of missing) {
        assert.match(yield* refusal(effect as Effect.Effect<unknown, Admin.Failure, Admin.Services>), message)
      }
      // Nothing came to be by asking.
      assert.deepStrictEqual(
        (yield* Admin.processors).map(({ name }) => name),
        ["billing"]
      )
      assert.match(yield* refusal(Admin.release("billing", 0)), /not quarantined/)
      assert.match(yield* refusal(Admin.parked("billing", { cursor: "what" })), /the "next" of the page before/)
      yield* worker.stop
    })
  )
})

describe("what was put aside", () => {
  behaviour("is listed, released and skipped: partitions and keys", (engine) =>
    Effect.gen(function* () {
      const orders = Topic.make("orders", { schema: Order, partitionBy: (one) => one.who, partitions: 2 })
      const broken = new Set(["aside", "wait"])
      const seen: Array<number> = []
      const handler = ({ id, who }: typeof Order.Type) =>
        broken.has(who) ? Effect.fail(new Bad({ id })) : Effect.sync(() => void seen.push(id))
      const parking = Processor.make("parking", { topic: orders }, handler).pipe(
        Processor.catchTag("Bad", Policy.park({ schedule: Schedule.spaced("10 days") }))
      )
      const puts = Processor.make("quarantining", { topic: orders }, handler).pipe(
        Processor.catchTag("Bad", Policy.quarantine)
      )
      yield* Topic.publishAll(orders, [order(1, "wait"), order(2, "wait"), order(3, "ok"), order(4, "wait")])
      const worker = yield* start([parking, puts], { member: "m" })
      const aside = yield* eventually(engine, "it is aside", Admin.quarantined(), (all) => all.length === 1)
      fits(Schema.Array(Admin.Quarantined), aside)
      assert.deepInclude(aside[0], { processor: "quarantining", reason: "failure", member: "m" })
      assert.include(aside[0]!.error, "Bad")
      const waiting = yield* eventually(
        engine,
        "it waits",
        Admin.parked("parking"),
        ({ items }) => items[0]?.count === 3
      )
      fits(Admin.pageOf(Admin.Parked), waiting)
      const [one] = waiting.items
      assert.deepInclude(one, { processor: "parking", key: "wait", topic: null, count: 3 })
      assert.include(one!.error, "Bad")
      yield* Admin.skipParked("parking", one!.partition, one!)
      const fewer = yield* Admin.parked("parking")
      assert.strictEqual(fewer.items[0]!.count, 2)
      broken.clear()
      yield* Admin.releaseParked("parking", one!.partition, one!)
      yield* eventually(engine, "it is done", Admin.parked("parking"), ({ items }) => items.length === 0)
      const { partition } = aside[0]!
      yield* Admin.skip("quarantining", partition)
      yield* worker.idle
      assert.deepStrictEqual(yield* Admin.quarantined("quarantining"), [])
      assert.strictEqual((yield* Admin.lag("quarantining")).events, 0)
      yield* worker.stop
    })
  )
})
