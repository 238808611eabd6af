/** The API is `Admin` over HTTP: the same values, the same operations, the same answer from every worker. */
import { assert, describe } from "@effect/vitest"
import { Ajv } from "ajv"
import { Effect, Redacted, Schedule, Schema } from "effect"
import * as Admin from "../../src/Admin.ts"
import * as Job from "../../src/Job.ts"
import * as Policy from "../../src/Policy.ts"
import * as Processor from "../../src/Processor.ts"
import * as Retention from "../../src/Retention.ts"
import * as Table from "../../src/Table.ts"
import * as Topic from "../../src/Topic.ts"
import { Web } from "../../src/web/index.ts"
import { behaviour, drain, numbers, start, until } from "../support/engines.ts"
import { freePort } from "../support/redis.ts"
import { ask, bearer, firstOf, token } from "../support/web.ts"

const Order = Schema.Struct({ id: Schema.Int, who: Schema.String })
class Bad extends Schema.TaggedError<Bad>()("Bad", { id: Schema.Int }) {}

const orders = Topic.make("orders", {
  schema: Order,
  partitionBy: (one) => one.who,
  partitions: 2,
  retention: Retention.forever
})
const counts = Table.make("counts", { key: Schema.String, value: Schema.Int, initial: () => 0 })
const mail = Job.make("mail", { payload: Order, error: Bad, queue: "post" })
const broken = ({ id, who }: typeof Order.Type) => (who === "ok" ? Effect.void : Effect.fail(new Bad({ id })))

/** Something of everything. */
const parts = () => [
  Processor.make("counting", { topic: orders, tables: [counts] }, ({ who }) => Table.update(counts, who, (n) => n + 1)),
  Processor.make("burying", { topic: orders }, broken).pipe(Processor.catchTag("Bad", Policy.deadLetter())),
  Processor.make("parking", { topic: orders }, broken).pipe(
    Processor.catchTag("Bad", Policy.park({ schedule: Schedule.spaced("10 days") }))
  ),
  Processor.make("putting", { topic: orders }, broken).pipe(Processor.catchTag("Bad", Policy.quarantine)),
  Job.handler(mail, broken)
]

type Get = ReturnType<typeof ask>

/** A path, and what it must be. */
const looks = (
  dead: Admin.DeadLetter,
  job: string
): ReadonlyArray<readonly [string, Effect.Effect<unknown, unknown, Admin.Services>]> => [
  ["/topics", Admin.topics],
  ["/topics/orders", Admin.topic("orders")],
  ["/processors", Admin.processors],
  ["/processors/putting", Admin.processor("putting")],
  ["/processors/counting/lag", Admin.lag("counting")],
  ["/quarantine", Admin.quarantined()],
  ["/quarantine?processor=putting", Admin.quarantined("putting")],
  ["/processors/parking/parked", Admin.parked("parking")],
  ["/dead", Admin.deadTopics],
  ["/dead/orders.dead", Admin.deadLetters("orders.dead")],
  [`/dead/orders.dead/${dead.partition}/${dead.offset}`, Admin.deadLetter("orders.dead", dead.partition, dead.offset)],
  ["/tables", Admin.tables],
  ["/tables/counts", Admin.rows("counts")],
  ["/tables/counts?partition=1", Admin.rows("counts", { partition: 1 })],
  [`/tables/counts/${encodeURIComponent("a/b ?ž")}`, Admin.row("counts", "a/b ?ž")],
  ["/queues", Admin.queues],
  ["/queues/post", Admin.queue("post")],
  ["/queues/post/jobs?state=dead", Admin.jobs("post", "dead")],
  ["/queues/post/jobs?state=dead&job=other", Admin.jobs("post", "dead", { name: "other" })],
  [`/queues/post/jobs/${job}`, Admin.job("post", job)],
  ["/job-schedules", Admin.jobSchedules],
  ["/schedules", Admin.schedules]
]

describe("the API", () => {
  behaviour("gives what Admin gives, from each worker, and does what it does", (engine) =>
    Effect.gen(function* () {
      yield* Topic.publishAll(orders, [
        { id: 1, who: "a/b ?ž" },
        { id: 2, who: "ok" },
        { id: 3, who: "a/b ?ž" }
      ])
      const { id } = yield* Job.enqueue(mail, { id: 4, who: "x" })
      const [one, two] = yield* Effect.all([Effect.promise(freePort), Effect.promise(freePort)])
      const web = (port: number) => ({ web: { port, token: Redacted.make(token) } })
      yield* start(parts(), { member: "one", ...web(one) })
      yield* start(parts(), { member: "two", ...web(two) })
      const gets: ReadonlyArray<Get> = [one, two].map(ask)
      const get = gets[0]!
      const settled = Effect.gen(function* () {
        const { json } = yield* get("/api/overview")
        const lags = new Map(json.lags.map((lag: Admin.Lag) => [lag.processor, lag.events]))
        return (
          json.quarantined.length === 1 &&
          json.queues[0]?.counts.dead === 1 &&
          ["counting", "burying", "parking"].every((name) => lags.get(name) === 0) &&
          json.processors.every(({ owners }: Admin.Processor) => owners.filter((owner) => owner !== null).length >= 1)
        )
      })
      yield* until(engine, "all is done that can be", () => settled)
      const [dead] = (yield* Admin.deadLetters("orders.dead")).items
      for (const [path, expected] of looks(dead!, id)) {
        for (const get of gets) {
          // Partitions may still be dealt out: what changes meanwhile is asked for again.
          yield* until(engine, `${path} is at rest`, () =>
            Effect.gen(function* () {
              const before = JSON.stringify(yield* Effect.orDie(expected))
              const { json, status } = yield* get(`/api${path}`)
              const value = yield* Effect.orDie(expected)
              if (JSON.stringify(value) !== before) return false
              assert.deepStrictEqual([path, status], [path, 200])
              assert.deepStrictEqual(json, value, path)
              return true
            })
          )
        }
      }
      const { json: workers } = yield* get("/api/workers")
      assert.deepStrictEqual(
        workers.map(({ member }: Admin.Worker) => member),
        ["one", "two"]
      )
      for (const path of ["/tables/counts/none", "/tables/none/k", "/topics/none", "/queues/post/jobs/none"]) {
        const { json, status } = yield* get(`/api${path}`)
        assert.deepStrictEqual([path, status, json._tag], [path, 404, "NotFound"])
      }

      // What changes something, at either of them.
      const post = (path: string, body?: unknown) =>
        gets[1]!(`/api${path}`, {
          method: "POST",
          headers: body === undefined ? bearer : { ...bearer, "content-type": "application/json" },
          body: body === undefined ? undefined : JSON.stringify(body)
        })
      const done = function* (path: string, body?: unknown) {
        const { status, text } = yield* post(path, body)
        assert.deepStrictEqual([path, status, text], [path, 204, ""])
      }
      yield* done("/processors/counting/pause")
      assert.isTrue((yield* Admin.processor("counting")).paused)
      const refused = yield* post("/processors/burying/seek", { to: "earliest" })
      assert.deepStrictEqual([refused.status, refused.json._tag], [409, "Refused"])
      assert.match(refused.json.message, /is running; pause it/)
      yield* done("/processors/counting/seek", { to: "earliest", resetTables: true })
      assert.strictEqual((yield* Admin.lag("counting")).events, 3)
      yield* done("/processors/counting/resume")
      yield* until(engine, "it is counted again", () =>
        Effect.map(get("/api/processors/counting/lag"), ({ json }) => json.events === 0)
      )
      const [parked] = (yield* Admin.parked("parking")).items
      const lane = { key: parked!.key, topic: null, offset: null }
      const at = `/processors/parking/partitions/${parked!.partition}/parked`
      yield* done(`${at}/release`, lane)
      yield* done(`${at}/skip`, { ...lane, all: true })
      assert.deepStrictEqual((yield* Admin.parked("parking")).items, [])
      const [aside] = yield* Admin.quarantined()
      yield* done(`/processors/putting/partitions/${aside!.partition}/skip`)
      yield* until(engine, "it meets the next one", () =>
        Effect.map(get("/api/quarantine"), ({ json }) => json[0]?.offset > aside!.offset)
      )
      yield* done(`/processors/putting/partitions/${aside!.partition}/release`)
      const again = yield* post("/dead/orders.dead/redrive", {
        letters: [{ partition: dead!.partition, offset: dead!.offset }]
      })
      assert.deepStrictEqual([again.status, again.json], [200, { count: 1 }])
      yield* done(`/queues/post/jobs/${id}/retry`)
      yield* done("/queues/post/pause")
      assert.isTrue((yield* Admin.queue("post")).paused)
      yield* done("/queues/post/resume")
      const { id: later } = yield* Job.enqueue(mail, { id: 5, who: "ok" }, { delay: "1 hour" })
      yield* done(`/queues/post/jobs/${later}/cancel`)
      assert.strictEqual((yield* Admin.job("post", later)).state, "cancelled")
      yield* Job.enqueue(mail, { id: 6, who: "ok" }, { delay: "1 hour" })
      assert.deepStrictEqual((yield* post("/queues/post/flush")).json, { count: 1 })
      yield* until(engine, "it is dead again", () =>
        Effect.map(get("/api/queues/post"), ({ json }) => json.counts.dead === 1)
      )
      assert.deepStrictEqual((yield* post("/queues/post/redrive")).json, { count: 1 })
      yield* done("/queues/bulk/declare", { limit: { count: 5, millis: 1_000 }, keepDone: 10, keepDead: { count: 3 } })
      assert.strictEqual((yield* Admin.queue("bulk")).counts.ready, 0)
      assert.strictEqual((yield* post("/queues/bulk/declare", { limit: { count: 0, millis: 1 } })).status, 400)
      assert.strictEqual((yield* post("/queues/no%20name/declare", {})).status, 409)
      yield* done("/queues/bulk/remove")
      assert.strictEqual((yield* post("/queues/bulk/remove")).status, 404)
      assert.strictEqual((yield* post("/processors/counting/remove")).json._tag, "Refused")
      const gone = Processor.make("gone", { topic: orders }, () => Effect.void)
      yield* drain([gone])
      yield* done("/processors/gone/remove")
      assert.strictEqual((yield* get("/api/processors/gone")).status, 404)
    })
  )

  behaviour(
    "describes every path that it has, and metrics are those of the program",
    () =>
      Effect.gen(function* () {
        const at = yield* Effect.promise(freePort)
        const topic = Topic.make("described", { schema: Schema.Int, partitions: 1 })
        const worker = yield* start([Processor.make("describing", { topic }, () => Effect.void)], { web: { port: at } })
        const get = ask(at)
        const { json } = yield* get("/api/openapi.json")
        const declared = Object.values(Web.Api.groups).flatMap((group) =>
          Object.values(group.endpoints).map(
            (endpoint) => `${endpoint.method} ${endpoint.path.replace(/:(\w+)/g, "{$1}")}`
          )
        )
        const described = Object.entries(json.paths as Record<string, object>).flatMap(([path, methods]) =>
          Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`)
        )
        assert.deepStrictEqual(described.toSorted(), declared.toSorted())
        assert.isAtLeast(declared.length, 35)
        // The stream of events too, with what it says.
        const { schema } = json.paths["/api/events"].get.responses["200"].content["text/event-stream"]
        const forms: ReadonlyArray<any> = schema.anyOf
        assert.deepStrictEqual(
          forms.map(({ properties }) => properties.event.enum),
          [["overview"], ["problem"]]
        )
        const [, event, data] = /^event: (.*)\ndata: (.*)\n\n/.exec(yield* firstOf(at, "/api/events"))!
        assert.strictEqual(event, "overview")
        const form = forms[0].properties.data.contentSchema
        const ajv = new Ajv({ strict: false, validateFormats: false })
        assert.isTrue(ajv.validate(form, JSON.parse(data!)), ajv.errorsText())
        assert.isFalse(ajv.validate(form, { message: "away" }))
        yield* Topic.publishAll(topic, numbers(7))
        yield* worker.idle
        const { headers, text } = yield* get("/metrics")
        assert.match(headers["content-type"] ?? "", /^text\/plain; version=0\.0\.4/)
        assert.match(text, /^millrace_events_processed_total\{processor="describing"\} 7$/m)
      }),
    { on: ["file"] }
  )
})
