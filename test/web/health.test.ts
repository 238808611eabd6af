/** What supervisors are told: each status in its case. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Schema } from "effect"
import * as Engine from "../../src/Engine.ts"
import * as Processor from "../../src/Processor.ts"
import * as Topic from "../../src/Topic.ts"
import { Faults } from "../../src/testing/index.ts"
import { behaviour, start, until } from "../support/engines.ts"
import { freePort } from "../support/redis.ts"
import { ask } from "../support/web.ts"

const numbersTopic = (name = "numbers") => Topic.make(name, { schema: Schema.Int, partitions: 2 })
const port = Effect.promise(freePort)

describe("health", () => {
  // First, so that no other server is going away meanwhile.
  it.live("opens no port unless it is asked for", () =>
    Effect.gen(function* () {
      const servers = () => process.getActiveResourcesInfo().filter((name) => name === "TCPServerWrap").length
      const before = servers()
      yield* start([Processor.make("p", { topic: numbersTopic() }, () => Effect.void)])
      assert.strictEqual(servers(), before)
      yield* start([Processor.make("q", { topic: numbersTopic() }, () => Effect.void)], { web: { port: 0 } })
      assert.strictEqual(servers(), before + 1)
    }).pipe(Effect.scoped, Effect.provide(Engine.layerMemory))
  )

  behaviour("is up in a worker that runs, and answers through a rebalance; other paths are not there", (engine) =>
    Effect.gen(function* () {
      const topic = numbersTopic()
      const part = () => Processor.make("p", { topic }, () => Effect.sleep(1))
      const at = yield* port
      yield* start([part()], { member: "a", web: { port: at } })
      const get = ask(at)
      const live = yield* get("/health/live")
      assert.deepStrictEqual([live.status, live.json], [200, { status: "up" }])
      assert.deepStrictEqual((yield* get("/health/ready")).json, { status: "up" })
      for (const path of ["/health", "/health/other", "/nope", "/api", "/api/nope", "/assets/", "/assets/../Web.ts"]) {
        const { json, status } = yield* get(path)
        assert.deepStrictEqual([path, status, json?._tag], [path, 404, "NotFound"])
      }
      assert.strictEqual((yield* get("/health/live", { method: "HEAD" })).status, 200)
      // Another one comes and goes meanwhile.
      const statuses = new Set<number>()
      const asking = yield* Effect.forkChild(
        Effect.forever(
          Effect.map(Effect.all([get("/health/ready"), get("/api/processors")]), (answers) => {
            for (const { status } of answers) statuses.add(status)
          })
        )
      )
      const owners = Effect.map(get("/api/processors/p"), ({ json }) =>
        json.owners.map((owner: { member: string } | null) => owner?.member).toSorted()
      )
      const other = yield* start([part()], { member: "b" })
      yield* until(engine, "they share", () => Effect.map(owners, (names) => names.join() === "a,b"))
      yield* other.stop
      yield* until(engine, "it has all again", () => Effect.map(owners, (names) => names.join() === "a,a"))
      assert.isUndefined(asking.pollUnsafe())
      assert.deepStrictEqual([...statuses], [200])
    })
  )

  behaviour(
    "tells that a part has died: neither live nor ready, without what its handler said",
    (engine) =>
      Effect.gen(function* () {
        const topic = numbersTopic()
        const part = Processor.make("p", { topic }, () => Effect.die(new Error("a secret of the handler")))
        const at = yield* port
        const worker = yield* start([part as never], { web: { port: at } })
        const get = ask(at)
        yield* Topic.publish(topic, 1)
        yield* until(engine, "it is down", () => Effect.map(get("/health/live"), ({ status }) => status === 503))
        yield* Effect.exit(worker.join)
        for (const path of ["/health/live", "/health/ready"]) {
          const { json, status, text } = yield* get(path)
          assert.strictEqual(status, 503)
          assert.match(json.reason, /^processor p halted at partition \d, offset \d+-\d+\.0$/)
          assert.notInclude(text, "secret")
        }
      }),
    { on: ["memory", "file"] }
  )

  behaviour("tells that it shuts down: live, and not ready, until what is in hand is done", (engine) =>
    Effect.gen(function* () {
      const topic = numbersTopic()
      const [begun, gate] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const part = Processor.make("p", { topic }, () =>
        Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(gate))
      )
      const at = yield* port
      const worker = yield* start([part], { web: { port: at }, grace: "1 hour" })
      yield* Topic.publish(topic, 1)
      yield* Deferred.await(begun)
      const stopping = yield* Effect.forkChild(worker.stop)
      const get = ask(at)
      yield* until(engine, "it is not ready", () =>
        Effect.map(get("/health/ready"), ({ json, status }) => status === 503 && /shutting down/.test(json.reason))
      )
      assert.strictEqual((yield* get("/health/live")).status, 200)
      yield* Deferred.succeed(gate, undefined)
      yield* until(engine, "it has stopped", () => stopping.pollUnsafe() !== undefined)
    })
  )

  it.live("tells that the engine is away, and is live; the API says so, and both come back", () => {
    let away = false
    const faults = Faults.layer((_, method) => (away && method !== "sync" ? { _tag: "Fail" } : undefined))
    return Effect.gen(function* () {
      const at = yield* port
      yield* start([Processor.make("p", { topic: numbersTopic() }, () => Effect.void)], { web: { port: at } })
      const get = ask(at)
      assert.strictEqual((yield* get("/health/ready")).status, 200)
      away = true
      // What it found out is remembered for a second.
      yield* Effect.sleep(1_050)
      const ready = yield* get("/health/ready")
      assert.deepStrictEqual([ready.status, ready.json.reason], [503, "the engine does not answer"])
      assert.strictEqual((yield* get("/health/live")).status, 200)
      const topics = yield* get("/api/topics")
      assert.deepStrictEqual([topics.status, topics.json._tag], [503, "Unavailable"])
      away = false
      yield* Effect.sleep(1_050)
      assert.strictEqual((yield* get("/health/ready")).status, 200)
      assert.strictEqual((yield* get("/api/topics")).status, 200)
    }).pipe(Effect.scoped, Effect.provide(faults.pipe(Layer.provideMerge(Engine.layerMemory))))
  })
})
