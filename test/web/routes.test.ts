/** Routes beside ours, our routes in a server of somebody else, and the stream of looks. */
import { createServer, get as httpGet } from "node:http"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted, Schema } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { Broker } from "../../src/Broker.ts"
import * as Engine from "../../src/Engine.ts"
import * as Processor from "../../src/Processor.ts"
import * as Topic from "../../src/Topic.ts"
import * as Worker from "../../src/Worker.ts"
import { Web } from "../../src/web/index.ts"
import { start, until } from "../support/engines.ts"
import { freePort } from "../support/redis.ts"
import { ask, bearer, servedPort, token } from "../support/web.ts"

const topic = Topic.make("numbers", { schema: Schema.Int, partitions: 2 })
const part = () => Processor.make("p", { topic }, () => Effect.void)
const file = { name: "file", virtual: false, elapse: (millis: number) => Effect.sleep(millis) } as const

describe("routes of one's own", () => {
  const routes = Layer.mergeAll(
    HttpRouter.add(
      "GET",
      "/hello/:name",
      Effect.map(HttpRouter.params, ({ name }) => HttpServerResponse.text(`hello ${name}`))
    ),
    HttpRouter.add(
      "GET",
      "/topics",
      Effect.map(Effect.orDie(Broker.use((broker) => broker.topics())), (all) =>
        HttpServerResponse.text(`${all.length}`)
      )
    ),
    HttpRouter.add("POST", "/hook", HttpServerResponse.text("done")),
    HttpRouter.add("GET", "/dies", Effect.die(new Error("a secret of the route")))
  )

  it.live("answer beside ours, behind the same guard; one that dies tells nothing", () =>
    Effect.gen(function* () {
      const port = yield* Effect.promise(freePort)
      yield* start([part()], { web: { port, routes, token: Redacted.make(token) } })
      const get = ask(port)
      assert.strictEqual((yield* get("/hello/you")).text, "hello you")
      assert.strictEqual((yield* get("/topics")).text, "1")
      assert.strictEqual((yield* get("/api/topics")).json.length, 1)
      assert.strictEqual((yield* get("/hook", { method: "POST" })).status, 401)
      assert.strictEqual((yield* get("/hook", { method: "POST", headers: bearer })).text, "done")
      assert.strictEqual((yield* get("/hello/you", { headers: { origin: "http://evil.example" } })).status, 403)
      const died = yield* get("/dies")
      assert.strictEqual(died.status, 500)
      assert.notInclude(died.text, "secret")
    }).pipe(Effect.scoped, Effect.provide(Engine.layerMemory))
  )

  it.live("may have ours beside them: guarded, and theirs are left alone", () => {
    const app = Layer.mergeAll(
      Web.routes({ token: Redacted.make(token), page: "/millrace" }),
      HttpRouter.add("GET", "/", HttpServerResponse.text("theirs")),
      HttpRouter.add("POST", "/hook", HttpServerResponse.text("done"))
    )
    const server = HttpRouter.serve(app, { disableLogger: true, disableListenLog: true }).pipe(
      Layer.provideMerge(
        NodeHttpServer.layer(() => createServer(), { port: 0, host: "127.0.0.1", gracefulShutdownTimeout: "1 second" })
      ),
      Layer.provideMerge(Worker.layer([part()])),
      Layer.provideMerge(Engine.layerMemory)
    )
    return Effect.gen(function* () {
      const get = ask(yield* servedPort)
      const foreign = { host: "shop.example", "x-forwarded-for": "1.2.3.4" }
      assert.strictEqual((yield* get("/", { headers: foreign })).text, "theirs")
      assert.strictEqual((yield* get("/hook", { method: "POST", headers: foreign })).text, "done")
      assert.isUndefined((yield* get("/")).headers["content-security-policy"])
      // Ours, however their path is written, are behind the guard.
      for (const path of [
        "/api/topics",
        "/%61pi/topics",
        "//api//topics",
        "/API/topics",
        "/millrace",
        "/metrics",
        "/health/live"
      ]) {
        const { status } = yield* get(path, { headers: foreign })
        assert.strictEqual(status, 401, path)
      }
      assert.strictEqual((yield* get("/api/topics", { headers: { ...foreign, ...bearer } })).status, 200)
      assert.strictEqual((yield* get("/api/processors/p/pause", { method: "POST" })).status, 401)
      assert.strictEqual((yield* get("/millrace")).headers["content-type"], "text/html; charset=utf-8")
      // Health is that of the worker in the same program.
      assert.strictEqual((yield* get("/health/ready")).status, 200)
      yield* Effect.exit(Worker.stop)
      const stopped = yield* get("/health/ready")
      assert.deepStrictEqual([stopped.status, stopped.json.reason], [503, "the worker is shutting down"])
    }).pipe(Effect.provide(server as Layer.Layer<any>))
  })

  it.live("serve the page and its files with a type and a digest", () =>
    Effect.gen(function* () {
      const get = ask(yield* servedPort)
      const page = yield* get("/")
      assert.strictEqual(page.headers["content-type"], "text/html; charset=utf-8")
      assert.include(page.headers["content-security-policy"] ?? "", "script-src 'self'")
      const files = Array.from(page.text.matchAll(/"(\/assets\/[^"]+)"/g), ([, path]) => path!)
      assert.isNotEmpty(files)
      for (const path of files) {
        const file = yield* get(path)
        assert.deepStrictEqual([path, file.status], [path, 200])
        const { etag } = file.headers
        assert.match(etag ?? "", /^"[\w-]{22}"$/)
        const again = yield* get(path, { headers: { "if-none-match": `W/"other", ${etag}` } })
        assert.deepStrictEqual([again.status, again.text], [304, ""])
      }
      for (const path of ["/assets/index.htm", "/assets/%2e%2e/Web.ts", "/assets/..%2fWeb.ts", "/assets//etc/passwd"]) {
        assert.deepStrictEqual([path, (yield* get(path)).status], [path, 404])
      }
    }).pipe(Effect.provide(Layer.provide(Web.layer({ port: 0 }), Engine.layerMemory)))
  )
})

describe("events", () => {
  /** A listener that notes what it hears, until it is closed. */
  const listen = (port: number) =>
    Effect.acquireRelease(
      Effect.callback<{ heard: string; ended: boolean; readonly close: () => void }>((resume) => {
        const sent = httpGet({ host: "127.0.0.1", port, path: "/api/events", agent: false }, (response) => {
          const state = { heard: "", ended: false, close: () => sent.destroy() }
          response.on("data", (part: Buffer) => (state.heard += part.toString()))
          response.on("close", () => (state.ended = true))
          response.on("error", () => undefined)
          assert.strictEqual(response.headers["content-type"], "text/event-stream")
          resume(Effect.succeed(state))
        })
        sent.on("error", () => undefined)
      }),
      ({ close }) => Effect.sync(close)
    )

  it.live("tell everybody by one look at the engine a second, and without a listener nobody looks", () => {
    let looks = 0
    const counting = Layer.effect(
      Broker,
      Effect.map(Broker, (broker) => ({
        ...broker,
        topics: () => {
          looks++
          return broker.topics()
        }
      }))
    ).pipe(Layer.provideMerge(Engine.layerMemory))
    return Effect.gen(function* () {
      const port = yield* Effect.promise(freePort)
      const worker = yield* start([part()], { web: { port } })
      assert.strictEqual(looks, 0)
      const listeners = yield* Effect.forEach([1, 2, 3, 4, 5], () => listen(port))
      const times = (heard: string) => heard.split("event: overview").length - 1
      yield* until(file, "all have heard twice", () => listeners.every(({ heard }) => times(heard) >= 2))
      // An overview asks for topics more than once; five listeners that looked by themselves would ask for far more.
      const each = looks / Math.max(...listeners.map(({ heard }) => times(heard)))
      assert.isBelow(each, 6)
      const [, data] = /data: (.*)\n/.exec(listeners[0]!.heard)!
      assert.deepStrictEqual(
        JSON.parse(data!).processors.map(({ name }: { name: string }) => name),
        ["p"]
      )
      for (const { close } of listeners.slice(1)) close()
      // A real wait: who has gone is noticed by then.
      yield* Effect.sleep(300)
      // The last one is told by the end of the worker, and holds it up no longer than that.
      yield* worker.stop
      yield* until(file, "it is over", () => listeners[0]!.ended)
      const before = looks
      yield* Effect.sleep(1_200)
      assert.strictEqual(looks, before)
    }).pipe(Effect.scoped, Effect.provide(counting))
  })
})
