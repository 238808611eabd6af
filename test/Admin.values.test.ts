/** Values that nobody here has a schema of: dead letters, rows, jobs; and the schedules of workers. */
import { assert, describe } from "@effect/vitest"
import { Effect, type Layer, Schema } from "effect"
import * as Admin from "../src/Admin.ts"
import { Broker } from "../src/Broker.ts"
import * as Job from "../src/Job.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Queue from "../src/Queue.ts"
import * as Scheduler from "../src/Scheduler.ts"
import * as Serializer from "../src/Serializer.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { eventually, fits, refusal } from "./support/admin.ts"
import { behaviour, drain, numbers, start } from "./support/engines.ts"

const Order = Schema.Struct({ id: Schema.Int, who: Schema.String })
const order = (id: number, who = `who${id}`) => ({ id, who })

class Bad extends Schema.TaggedError<Bad>()("Bad", { id: Schema.Int }) {}

/** All pages of a list. */
const all = <A, E, R>(page: (cursor: string | undefined) => Effect.Effect<Admin.Page<A>, E, R>) =>
  Effect.gen(function* () {
    const items: Array<A> = []
    let pages = 0
    for (let cursor: string | undefined; ; pages++) {
      const { items: some, next }: Admin.Page<A> = yield* page(cursor)
      items.push(...some)
      if (next === null) return { items, pages: pages + 1 }
      cursor = next
    }
  })

describe("dead letters", () => {
  const failing = (topic: Topic.Topic<typeof Order.Type, string>) =>
    Processor.make("billing", { topic }, ({ id }) => Effect.fail(new Bad({ id }))).pipe(
      Processor.catchTag("Bad", Policy.deadLetter())
    )

  behaviour("are counted, paged with what they hold, and put back: some, then all", () =>
    Effect.gen(function* () {
      const orders = Topic.make("orders", { schema: Order, partitionBy: (one) => one.who, partitions: 3 })
      yield* Topic.publishAll(
        orders,
        numbers(250).map((id) => order(id)),
        { headers: { a: "b" } }
      )
      yield* drain([failing(orders)])
      assert.deepStrictEqual(fits(Schema.Array(Admin.DeadTopic), yield* Admin.deadTopics), [
        { topic: "orders.dead", partitions: 3, letters: 250, dropped: 0 }
      ])
      const { items, pages } = yield* all((cursor) => Admin.deadLetters("orders.dead", { cursor }))
      assert.deepStrictEqual([items.length, pages], [250, 3])
      assert.strictEqual(new Set(items.map(({ offset, partition }) => `${partition}@${offset}`)).size, 250)
      const [first] = items
      fits(Admin.DeadLetter, first!)
      assert.deepInclude(first, { topic: "orders.dead", attempts: 1, processor: "billing", headers: { a: "b" } })
      assert.deepInclude(first!.error, { tag: "Bad" })
      assert.strictEqual(first!.source.topic, "orders")
      const value = first!.payload.value as typeof Order.Type
      assert.strictEqual(first!.key, value.who)
      const alone = yield* Admin.deadLetter("orders.dead", first!.partition, first!.offset)
      assert.deepStrictEqual(alone, first)
      assert.match(yield* refusal(Admin.deadLetter("orders.dead", 0, "1-1.0")), /NotFound/)
      assert.match(yield* refusal(Admin.deadLetter("orders.dead", 9, first!.offset)), /NotFound/)

      // Two of them, by their places; then the others.
      const two = [items[0]!, items[249]!].map(({ offset, partition }) => ({ partition, offset }))
      assert.strictEqual(yield* Admin.redrive("orders.dead", two), 2)
      assert.strictEqual((yield* Admin.deadTopics)[0]!.letters, 248)
      const rest = yield* all((cursor) => Admin.deadLetters("orders.dead", { cursor }))
      assert.strictEqual(rest.items.length, 248)
      assert.strictEqual(yield* Admin.redrive("orders.dead"), 248)
      assert.strictEqual((yield* Admin.deadTopics)[0]!.letters, 0)
      assert.deepStrictEqual((yield* Admin.deadLetters("orders.dead")).items, [])
      // They are events of the topic again, and the group that did it is nobody's processor.
      assert.strictEqual((yield* Admin.lag("billing")).events, 250)
      assert.deepStrictEqual(
        (yield* Admin.processors).map(({ name }) => name),
        ["billing"]
      )
    })
  )

  behaviour("of several topics are put back each to its own, in one walk over them", () =>
    Effect.gen(function* () {
      const sources = ["one", "two", "three"].map((name) =>
        Topic.make(name, { schema: Order, partitionBy: (one) => one.who, partitions: 2 })
      )
      for (const [at, topic] of sources.entries()) {
        yield* Topic.publishAll(
          topic,
          numbers(40, at * 100).map((id) => order(id, `who${id % 4}`))
        )
        const part = Processor.make(`burying-${topic.name}`, { topic }, ({ id }) => Effect.fail(new Bad({ id }))).pipe(
          Processor.catchTag("Bad", Policy.deadLetter({ topic: "shared.dead" }))
        )
        yield* drain([part])
      }
      const broker = yield* Broker
      const [{ entries = 0 } = {}] = (yield* Admin.topics).filter(({ name }) => name === "shared.dead")
      let read = 0
      const counting = Broker.of({
        ...broker,
        reader: (shard) =>
          Effect.map(broker.reader(shard), (reader) => ({
            ...reader,
            read: (positions, options) =>
              Effect.tap(reader.read(positions, options), (batches) =>
                Effect.sync(() => {
                  for (const batch of batches) read += batch.entries.length
                })
              )
          }))
      })
      assert.strictEqual(yield* Effect.provideService(Admin.redrive("shared.dead"), Broker, counting), 120)
      assert.strictEqual(read, entries)
      assert.strictEqual((yield* Admin.deadTopics)[0]!.letters, 0)
      for (const [at, topic] of sources.entries()) {
        const seen: Array<number> = []
        yield* drain([
          Processor.make(`burying-${topic.name}`, { topic }, ({ id }) => Effect.sync(() => void seen.push(id)))
        ])
        assert.deepStrictEqual(
          seen.toSorted((a, b) => a - b),
          numbers(40, at * 100)
        )
      }
    })
  )

  behaviour("of flat topics show their fields, and come back as they were", () =>
    Effect.gen(function* () {
      const orders = Topic.make("orders", {
        schema: Order,
        partitionBy: (one) => one.who,
        partitions: 2,
        encoding: "flat"
      })
      yield* Topic.publish(orders, order(1, "a"))
      yield* drain([failing(orders)])
      const { items } = yield* Admin.deadLetters("orders.dead")
      assert.deepInclude(items[0]!.payload, { format: "flat", value: { id: "1", who: "a" }, problem: null })
      assert.strictEqual(yield* Admin.redrive("orders.dead"), 1)
      const seen: Array<unknown> = []
      yield* drain([Processor.make("billing", { topic: orders }, (one) => Effect.sync(() => void seen.push(one)))])
      assert.deepStrictEqual(seen, [order(1, "a")])
    })
  )

  behaviour(
    "that this program cannot read show why and how they begin, and are put back whole",
    () =>
      Effect.gen(function* () {
        const own = Serializer.make({
          format: "rot",
          encode: (value) => Buffer.from(JSON.stringify(value)).map((byte) => byte ^ 7),
          decode: (bytes) => JSON.parse(Buffer.from(bytes.map((byte) => byte ^ 7)).toString())
        })
        const orders = Topic.make("orders", { schema: Order, partitionBy: (one) => one.who, serializer: own })
        yield* Topic.publish(orders, order(1, "a"))
        yield* drain([failing(orders)])
        const { items } = yield* Admin.deadLetters("orders.dead")
        assert.deepInclude(items[0]!.payload, { format: "rot", value: null })
        assert.match(items[0]!.payload.problem ?? "", /rot/)
        assert.isNotNull(items[0]!.payload.base64)
        assert.strictEqual(yield* Admin.redrive("orders.dead"), 1)
        const seen: Array<unknown> = []
        yield* drain([Processor.make("billing", { topic: orders }, (one) => Effect.sync(() => void seen.push(one)))])
        assert.deepStrictEqual(seen, [order(1, "a")])
      }),
    { on: ["memory"] }
  )
})

describe("tables", () => {
  behaviour("are listed, and their rows found by key and in pages, in whatever format", () =>
    Effect.gen(function* () {
      const orders = Topic.make("orders", { schema: Order, partitionBy: (one) => one.who, partitions: 3 })
      const last = Table.make("last", { key: Schema.String, value: Order, initial: () => order(0) })
      const parity = Table.make("parity", {
        key: Schema.String,
        value: Schema.Int,
        initial: () => 0,
        scope: "partition",
        timeToLive: "1 hour"
      })
      const part = Processor.make("billing", { topic: orders, tables: [last, parity] }, (one) =>
        Effect.andThen(
          Table.set(last, one.who, one),
          Table.update(parity, one.id % 2 === 0 ? "even" : "odd", (count) => count + 1)
        )
      )
      yield* Topic.publishAll(
        orders,
        numbers(300).map((id) => order(id, `who/${id} ž`))
      )
      yield* drain([part])
      assert.deepStrictEqual(
        fits(Schema.Array(Admin.Table), yield* Admin.tables).map(({ hashed, name, partitions }) => [
          name,
          partitions,
          hashed
        ]),
        [
          ["last", 3, true],
          ["parity", 3, true]
        ]
      )
      const row = fits(Admin.Row, yield* Admin.row("last", "who/7 ž"))
      assert.deepStrictEqual(row.payload.value, order(7, "who/7 ž"))
      assert.match(yield* refusal(Admin.row("last", "nobody")), /NotFound: there is no row of table last "nobody"/)
      // It is in the partition of another key.
      assert.isAbove(Number((yield* Admin.row("parity", "even")).payload.value), 0)
      const of0 = yield* Admin.row("parity", "odd", { partition: 0 })
      assert.strictEqual(of0.partition, 0)
      assert.match(yield* refusal(Admin.row("parity", "odd", { partition: 3 })), /NotFound/)
      const every = yield* all((cursor) => Admin.rows("last", { cursor }))
      assert.strictEqual(new Set(every.items.map(({ key }) => key)).size, 300)
      fits(Schema.Array(Admin.Row), every.items.slice(0, 5))
      const only = yield* all((cursor) => Admin.rows("last", { cursor, partition: 1 }))
      assert.isTrue(only.items.length > 0 && only.items.every(({ partition }) => partition === 1))
      assert.match(yield* refusal(Admin.rows("last", { cursor: "?" })), /the "next" of the page before/)
    })
  )

  behaviour(
    "of another serializer are read by its format",
    () =>
      Effect.gen(function* () {
        const orders = Topic.make("orders", { schema: Order, partitions: 1 })
        const last = Table.make("last", { key: Schema.String, value: Order, initial: () => order(0) })
        const who = "a".repeat(300)
        yield* Topic.publish(orders, order(1, who))
        yield* drain([Processor.make("p", { topic: orders, tables: [last] }, (one) => Table.set(last, "k", one))])
        const { payload } = yield* Admin.row("last", "k")
        assert.deepInclude(payload, { format: "msgpack+gzip", value: order(1, who), problem: null })
      }).pipe(
        Effect.provide(
          Serializer.layer(Serializer.compressed(Serializer.msgpack, { with: "gzip", above: 1 })) as Layer.Layer<never>
        )
      ),
    { on: ["memory"] }
  )
})

describe("queues and jobs", () => {
  behaviour("are listed, shown, tried again, cancelled, paused and flushed", (engine) =>
    Effect.gen(function* () {
      class Refused extends Schema.TaggedError<Refused>()("Refused", { at: Schema.Int }) {}
      const mail = Job.make("mail", { payload: Order, error: Refused, queue: "post" })
      let broken = true
      const part = Job.handler(mail, ({ id }) => (broken ? Effect.fail(new Refused({ at: id })) : Effect.void))
      assert.deepStrictEqual(yield* Admin.queues, [])
      const { id } = yield* Job.enqueue(mail, order(1), { headers: { a: "b" } })
      yield* drain([part])
      assert.deepStrictEqual(fits(Schema.Array(Admin.Queue), yield* Admin.queues), [
        { name: "post", paused: false, counts: { ready: 0, delayed: 0, waiting: 0, active: 0, dead: 1, done: 0 } }
      ])
      const { items } = fits(Admin.pageOf(Admin.Job), yield* Admin.jobs("post", "dead"))
      assert.strictEqual(items.length, 1)
      const job = fits(Admin.Job, yield* Admin.job("post", id))
      assert.deepStrictEqual(job, items[0])
      assert.deepInclude(job, { id, name: "mail", state: "dead", reason: "Failed", headers: { a: "b" } })
      assert.deepStrictEqual(job.payload.value, order(1))
      assert.strictEqual(job.history.length, 1)
      assert.include(job.error ?? "", "Refused")
      assert.deepStrictEqual((yield* Admin.jobs("post", "dead", { name: "other" })).items, [])
      assert.match(yield* refusal(Admin.job("post", "none")), /NotFound/)
      assert.match(yield* refusal(Admin.cancelJob("post", id)), /it is dead; what is over cannot be cancelled/)

      yield* Admin.retryJob("post", id)
      assert.match(yield* refusal(Admin.retryJob("post", id)), /it is ready; what can be tried again/)
      broken = false
      yield* drain([part])
      assert.strictEqual((yield* Admin.job("post", id)).state, "done")

      const later = yield* Job.enqueue(mail, order(2), { delay: "1 hour" })
      yield* Admin.retryJob("post", later.id)
      assert.strictEqual((yield* Admin.job("post", later.id)).state, "ready")
      yield* Admin.cancelJob("post", later.id)
      assert.strictEqual((yield* Admin.job("post", later.id)).state, "cancelled")
      yield* Admin.pauseQueue("post")
      assert.isTrue((yield* Admin.queue("post")).paused)
      assert.isTrue(yield* Queue.isPaused("post"))
      yield* Admin.resumeQueue("post")
      assert.isFalse((yield* Admin.queue("post")).paused)
      yield* Job.enqueueAll(mail, [order(3), order(4)])
      assert.strictEqual(yield* Admin.flushQueue("post"), 2)
      broken = true
      yield* Job.enqueueAll(mail, [order(5), order(6)])
      yield* drain([part])
      assert.strictEqual(yield* Admin.redriveQueue("post"), 2)
      assert.strictEqual((yield* Admin.queue("post")).counts.ready, 2)
      assert.isTrue(engine.name.length > 0)
    })
  )
})

describe("jobs that recur", () => {
  behaviour("are listed, paused, resumed and removed", () =>
    Effect.gen(function* () {
      const mail = Job.make("mail", { payload: Order, queue: "post" })
      yield* Job.every(mail, "often", { every: "1 hour", payload: order(1) })
      yield* Job.cron(mail, "daily", { expression: "0 3 * * *", timezone: "Europe/Vienna", payload: order(2) })
      const [daily, often, ...others] = fits(Schema.Array(Admin.JobSchedule), yield* Admin.jobSchedules)
      assert.deepStrictEqual(others, [])
      assert.deepInclude(daily, { queue: "post", name: "daily", job: "mail", every: null, timezone: "Europe/Vienna" })
      assert.deepInclude(often, { name: "often", every: 3_600_000, expression: null, paused: false, last: null })
      assert.strictEqual(daily!.next.length, 3)
      yield* Admin.pauseSchedule("post", "often")
      assert.deepInclude((yield* Admin.jobSchedules)[1], { paused: true, next: [] })
      yield* Admin.resumeSchedule("post", "often")
      assert.isFalse((yield* Admin.jobSchedules)[1]!.paused)
      yield* Admin.removeSchedule("post", "often")
      assert.match(yield* refusal(Admin.pauseSchedule("post", "often")), /NotFound: .*"often"; there are daily/)
      assert.match(yield* refusal(Admin.removeSchedule("none", "often")), /no queue "none"/)
    })
  )
})

describe("schedules", () => {
  behaviour("are listed with who leads, the last tick and the next", (engine) =>
    Effect.gen(function* () {
      const orders = Topic.make("orders", { schema: Order, partitions: 1 })
      const parts = [
        Processor.make("billing", { topic: orders }, () => Effect.void),
        Scheduler.timer("tick", { every: "300 millis", onLeader: true }, Effect.void),
        Scheduler.cron("daily", { expression: "0 0 * * *" }, Effect.void)
      ]
      const worker = yield* start(parts, { member: "m" })
      const known = yield* eventually(
        engine,
        "it has ticked",
        Admin.schedules,
        (some) => some.length === 2 && some.every(({ next }) => next !== null) && some[1]!.last !== null
      )
      fits(Schema.Array(Admin.Schedule), known)
      assert.deepInclude(known[0], {
        name: "daily",
        kind: "cron",
        onLeader: false,
        leader: null,
        last: null,
        workers: ["m"]
      })
      assert.deepInclude(known[1], { name: "tick", kind: "timer", onLeader: true, leader: "m", workers: ["m"] })
      assert.match(known[0]!.next ?? "", /T00:00:00\.000Z$/)
      yield* worker.stop
      const [left, ...others] = yield* Admin.schedules
      assert.deepStrictEqual(others, [])
      assert.deepInclude(left, { name: "tick", kind: null, leader: null, workers: [] })
      fits(Admin.Overview, yield* Admin.overview)
    })
  )
})
