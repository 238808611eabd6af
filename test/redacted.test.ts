/** What a schema has as redacted is stored, and reaches handlers, but is not shown to who looks from outside. */
import { assert, describe } from "@effect/vitest"
import { Effect, Option, Redacted, Schema } from "effect"
import * as Admin from "../src/Admin.ts"
import { Broker } from "../src/Broker.ts"
import * as Job from "../src/Job.ts"
import { JobStore } from "../src/JobStore.ts"
import * as Join from "../src/Join.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Serializer from "../src/Serializer.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { eventually } from "./support/admin.ts"
import { behaviour, drain, start } from "./support/engines.ts"
import { freePort } from "./support/redis.ts"
import { ask, token } from "./support/web.ts"

const secret = "hunter2"
const mask = "<redacted>"
const Login = Schema.Struct({ id: Schema.Int, user: Schema.String, password: Schema.RedactedFromValue(Schema.String) })
const login = (id: number) => ({ id, user: "ada", password: Redacted.make(secret) })
const shown = { user: "ada", password: mask }

class Bad extends Schema.TaggedError<Bad>()("Bad", { password: Schema.Redacted(Schema.String) }) {}

const hidesIn = (...found: ReadonlyArray<unknown>): void => {
  assert.isNotEmpty(found)
  const text = JSON.stringify(found)
  assert.notInclude(text, secret)
  assert.notInclude(text, Buffer.from(`"${secret}"`).toString("base64").slice(2, -3))
}

/** All pages of a list: one may be empty and not the last. */
const listed = (state: Admin.State) =>
  Effect.gen(function* () {
    const all: Array<Admin.Job> = []
    let cursor: string | undefined
    do {
      const page: Admin.Page<Admin.Job> = yield* Admin.jobs("checks", state, { cursor })
      all.push(...page.items)
      cursor = page.next ?? undefined
    } while (cursor !== undefined)
    return all
  })

describe("redacted fields", () => {
  behaviour("of dead letters are not shown, and the handler gets them", () =>
    Effect.gen(function* () {
      const logins = Topic.make("logins", { schema: Login, partitionBy: "user", partitions: 2 })
      const seen: Array<string> = []
      const failing = Processor.make("p", { topic: logins }, ({ password }) => {
        seen.push(Redacted.value(password))
        return Effect.fail(new Bad({ password }))
      }).pipe(Processor.catchTag("Bad", Policy.deadLetter()))
      yield* Topic.publishAll(logins, [login(1), login(2)])
      yield* drain([failing])
      assert.deepStrictEqual(seen, [secret, secret])
      const { items } = yield* Admin.deadLetters("logins.dead")
      assert.deepStrictEqual(
        items.map(({ payload }) => payload.value),
        [1, 2].map((id) => ({ id, ...shown }))
      )
      const one = yield* Admin.deadLetter("logins.dead", items[0]!.partition, items[0]!.offset)
      hidesIn(items, one)
      // What stands in the topic is whole, so it can be put back.
      assert.strictEqual(yield* Admin.redrive("logins.dead"), 2)
      yield* drain([failing])
      assert.strictEqual(seen.length, 4)
      // Tools that declare it without its schema forget nothing of it.
      hidesIn((yield* Admin.deadLetters("logins.dead")).items)
      const known = (yield* Broker.use((broker) => broker.topics())).find(({ name }) => name === "logins.dead")
      assert.deepInclude(known, { letters: true, redacted: ["/password"] })
    })
  )

  behaviour("of letters from several topics in one are hidden, whichever of them was declared last", () =>
    Effect.gen(function* () {
      const topicOf = (name: string) =>
        Topic.make(name, { partitions: 1, schema: Schema.Struct({ [name]: Schema.RedactedFromValue(Schema.String) }) })
      const topics = [topicOf("pin"), topicOf("code")] as const
      const failing = Processor.make("p", { topic: topics }, () =>
        Effect.fail(new Bad({ password: Redacted.make(secret) }))
      ).pipe(Processor.catchTag("Bad", Policy.deadLetter({ topic: "all.dead" })))
      for (const topic of topics) yield* Topic.publish(topic, { [topic.name]: Redacted.make(secret) })
      yield* drain([failing])
      const { items } = yield* Admin.deadLetters("all.dead")
      assert.lengthOf(items, 2)
      for (const { payload, source } of items) assert.deepStrictEqual(payload.value, { [source.topic]: mask })
      hidesIn(items)
    })
  )

  behaviour("are in no bytes and no problem of a letter that cannot be read", () =>
    Effect.gen(function* () {
      const plain = { partitions: 1, serializer: Serializer.json }
      const raw = Topic.make("logins", { ...plain, schema: Schema.Unknown })
      yield* Topic.publish(raw, { id: "no number", user: "ada", password: secret })
      const broker = yield* Broker
      yield* broker.append(
        [
          {
            topic: raw,
            partition: 0,
            publisher: "broken",
            number: 1,
            entries: [{ count: 1, fields: ["v", `{${secret}`] }]
          }
        ],
        "memory"
      )
      const logins = Topic.make("logins", { ...plain, schema: Login })
      const reading = Processor.make("p", { topic: logins }, () => Effect.void).pipe(
        Processor.catchTag("DecodeError", Policy.deadLetter())
      )
      yield* drain([reading])
      const { items } = yield* Admin.deadLetters("logins.dead")
      assert.deepStrictEqual(
        items.map(({ payload: { base64, value } }) => ({ base64, value })),
        [
          { base64: null, value: { id: "no number", ...shown } },
          { base64: null, value: null }
        ]
      )
      assert.match(items[1]!.payload.problem!, /redacted/)
      hidesIn(items.map(({ payload }) => payload))
    })
  )

  behaviour("of rows are not shown, and tables read them", () =>
    Effect.gen(function* () {
      const logins = Topic.make("logins", { schema: Login, partitionBy: "user", partitions: 2 })
      const last = Table.make("last", { key: Schema.String, value: Schema.NullOr(Login), initial: () => null })
      const secrets = Table.sets("secrets", { key: Schema.String, member: Schema.Redacted(Schema.String) })
      const storing = Processor.make("p", { topic: logins, tables: [last, secrets] }, (one) =>
        Effect.andThen(Table.set(last, one.user, one), Table.add(secrets, one.user, one.password))
      )
      yield* Topic.publish(logins, login(1))
      yield* drain([storing])
      const row = yield* Admin.row("last", "ada")
      assert.deepStrictEqual(row.payload.value, { id: 1, ...shown })
      const set = yield* Admin.row("secrets", "ada")
      assert.strictEqual(set.payload.value, mask)
      hidesIn(row, set, yield* Admin.rows("last"), yield* Admin.rows("secrets"))
      const found = yield* Table.lookup(last, "ada")
      assert.strictEqual(Redacted.value(found!.password), secret)
    })
  )

  behaviour("of events that a join holds are not shown", () =>
    Effect.gen(function* () {
      const options = { schema: Login, partitionBy: "user", partitions: 1 } as const
      const [left, right] = [Topic.make("left", options), Topic.make("right", options)]
      const joined = Join.streams(left, right, { within: "1 hour" })
      yield* Topic.publish(left, login(1))
      yield* drain([Processor.make("p", { topic: joined }, () => Effect.void)])
      const held = (yield* Admin.tables).filter(({ processor }) => processor === "p")
      assert.isNotEmpty(held)
      for (const { name } of held) {
        const { items } = yield* Admin.rows(name)
        assert.lengthOf(items, 1)
        hidesIn(items)
      }
    })
  )

  behaviour("of jobs are not shown: payload, result, progress and error", (engine) =>
    Effect.gen(function* () {
      const Secret = Schema.Redacted(Schema.String)
      const job = Job.make("check", {
        payload: Login,
        success: Schema.Struct({ token: Secret }),
        progress: Schema.Struct({ step: Schema.Int, token: Secret }),
        error: Bad,
        queue: "checks"
      })
      const token = Redacted.make(secret)
      // Before any worker has said what they are, and staged in a handler as well.
      yield* Job.enqueue(job, login(1), { id: "one" })
      const waiting = yield* Admin.job("checks", "one")
      assert.deepStrictEqual(waiting.payload.value, { id: 1, ...shown })
      const ready = yield* listed("ready")
      assert.lengthOf(ready, 1)
      hidesIn(waiting, ready)

      const seen: Array<string> = []
      const told = Promise.withResolvers<void>()
      const handler = Job.handler(job, ({ id, password }) =>
        Effect.gen(function* () {
          seen.push(Redacted.value(password))
          yield* Job.progress(job, { step: 1, token })
          if (id === 2) return yield* new Bad({ password })
          if (id === 3) yield* Effect.promise(() => told.promise)
          return { token }
        })
      )
      yield* Job.enqueue(job, login(2), { id: "two" })
      yield* Job.enqueue(job, login(3), { id: "three" })
      const worker = yield* start([handler])
      const running = yield* eventually(
        engine,
        "the job tells how far it is",
        Admin.job("checks", "three"),
        ({ progress }) => progress !== null
      )
      assert.include(running.progress, mask)
      assert.include(running.progress, "step")
      hidesIn(running)
      told.resolve()
      yield* worker.stop
      assert.deepStrictEqual(seen, [secret, secret, secret])
      const done = yield* Admin.job("checks", "one")
      assert.deepStrictEqual([done.state, done.payload.value], ["done", { token: mask }])
      const dead = yield* Admin.job("checks", "two")
      assert.deepStrictEqual([dead.state, dead.payload.value], ["dead", { id: 2, ...shown }])
      const over = [...(yield* listed("done")), ...(yield* listed("dead"))]
      assert.lengthOf(over, 3)
      hidesIn(done, dead, over)
      const result = Option.getOrThrow(yield* Job.result(job, "one"))
      assert.strictEqual(Redacted.value(result.token), secret)
    })
  )

  behaviour("of a job that a handler enqueues are not shown before anybody handles it", () =>
    Effect.gen(function* () {
      const job = Job.make("check", { payload: Login, queue: "checks" })
      const topic = Topic.make("numbers", { schema: Schema.Int, partitions: 1 })
      yield* Topic.publish(topic, 1)
      yield* drain([Processor.make("p", { topic }, (id) => Job.enqueue(job, login(id), { id: "one" }))])
      hidesIn(yield* Admin.job("checks", "one"))
      assert.deepStrictEqual(yield* JobStore.use((store) => store.facts("checks")), [
        { name: "check", payload: ["/password"], success: [], progress: [] }
      ])
      yield* Job.every(Job.make("often", { payload: Login, queue: "checks" }), "hourly", {
        every: "1 hour",
        payload: login(1)
      })
      assert.strictEqual((yield* JobStore.use((store) => store.facts("checks"))).length, 2)
    })
  )

  behaviour(
    "are in no answer of the API",
    () =>
      Effect.gen(function* () {
        const logins = Topic.make("logins", { schema: Login, partitionBy: "user", partitions: 1 })
        const last = Table.make("last", { key: Schema.String, value: Schema.NullOr(Login), initial: () => null })
        const job = Job.make("check", { payload: Login, queue: "checks" })
        const storing = Processor.make("p", { topic: logins, tables: [last] }, (one) =>
          Effect.gen(function* () {
            yield* Table.set(last, one.user, one)
            if (one.id === 2) return yield* new Bad({ password: one.password })
          })
        ).pipe(Processor.catchTag("Bad", Policy.deadLetter()))
        const port = yield* Effect.promise(freePort)
        const worker = yield* start([storing], { web: { port, token: Redacted.make(token) } })
        yield* Job.enqueue(job, login(3), { id: "three", delay: "1 hour" })
        yield* Topic.publishAll(logins, [login(1), login(2)])
        yield* worker.idle
        const get = ask(port)
        const [letter] = (yield* Admin.deadLetters("logins.dead")).items
        for (const path of [
          "/dead/logins.dead",
          `/dead/logins.dead/${letter!.partition}/${letter!.offset}`,
          "/tables/last",
          "/tables/last/ada",
          "/queues/checks/jobs?state=delayed",
          "/queues/checks/jobs/three"
        ]) {
          const answer = yield* get(`/api${path}`)
          assert.strictEqual(answer.status, 200, path)
          assert.include(answer.text, mask, path)
          assert.notInclude(answer.text, secret, path)
        }
      }),
    { on: ["file", "Redis"] }
  )
})
