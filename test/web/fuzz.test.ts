/** Ten thousand requests of all kinds, in process: each is answered, none with a crash, and the worker goes on. */
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Redacted, Schema } from "effect"
import { HttpRouter } from "effect/http"
import * as Engine from "../../src/Engine.ts"
import * as Processor from "../../src/Processor.ts"
import * as Topic from "../../src/Topic.ts"
import { Choices } from "../../src/testing/choices.ts"
import { Web } from "../../src/web/index.ts"
import { start } from "../support/engines.ts"
import { bearer, token } from "../support/web.ts"

const requests = 10_000
/** Longer bodies than this are refused unread; some are. */
const large = "x".repeat(70_000)

it.live(
  "whatever is asked is answered, and crashes nothing",
  () =>
    Effect.gen(function* () {
      const topic = Topic.make("numbers", { schema: Schema.Int, partitions: 2 })
      const worker = yield* start([Processor.make("p", { topic }, () => Effect.void)])
      const context = yield* Effect.context<Engine.Services>()
      const routes = Web.routes({ token: Redacted.make(token) }).pipe(Layer.provide(Layer.succeedContext(context)))
      const { dispose, handler } = HttpRouter.toWebHandler(routes, { disableLogger: true })
      yield* Effect.addFinalizer(() => Effect.promise(dispose))

      const random = new Choices(20_261_122)
      const rubbish = () =>
        Array.from({ length: random.below(24) }, () => String.fromCodePoint(1 + random.below(0x2fff))).join("")
      const words = [
        "numbers",
        "p",
        "none",
        "0",
        "1",
        "-1",
        "99999",
        "1-1.0",
        "dead",
        "..",
        "%00",
        "%2e%2e%2f",
        "%zz",
        "%",
        "~",
        ""
      ]
      const part = () => (random.chance(0.75) ? random.pick(words) : encodeURIComponent(rubbish()))
      const known = Object.values(Web.Api.groups).flatMap((group) => Object.values(group.endpoints))
      // Mostly what there is, so that much gets further than to the door.
      const names: Readonly<Record<string, ReadonlyArray<string>>> = {
        name: ["p", "numbers", "post"],
        partition: ["0", "1"],
        topic: ["numbers.dead"]
      }
      const filled = (_: string, name: string) => (random.chance(0.7) ? random.pick(names[name] ?? ["1-1.0"]) : part())
      const target = (): readonly [method: string, path: string] => {
        const method = random.pick(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"])
        if (random.chance(0.2))
          return [method, `${random.pick(["/api", "/assets", "/health", "/metrics", ""])}/${part()}/${part()}`]
        const endpoint = random.pick(known)
        return [random.chance(0.9) ? endpoint.method : method, endpoint.path.replace(/:(\w+)/g, filled)]
      }
      const query = () =>
        random.chance(0.5)
          ? ""
          : `?${random.pick(["cursor", "partition", "state", "job", "processor", "a", "__proto__"])}=${part()}&${encodeURIComponent(rubbish())}`
      const json = (depth = 0): unknown =>
        random.pick<() => unknown>([
          () => null,
          () => random.below(2 ** 32) * 1e12,
          () => rubbish(),
          () => true,
          () => (depth > 3 ? [] : [json(depth + 1), json(depth + 1)]),
          () =>
            depth > 3
              ? {}
              : { to: json(depth + 1), key: json(depth + 1), letters: json(depth + 1), all: json(depth + 1) },
          () => ({ to: random.pick(["earliest", "latest", { offset: part() }, { time: rubbish() }]) }),
          () => ({
            key: random.pick([null, part()]),
            topic: random.pick([null, "numbers"]),
            offset: random.pick([null, part()])
          })
        ])()
      const body = () =>
        random.pick([() => JSON.stringify(json()), () => rubbish(), () => "", () => "[".repeat(2_000)])()
      const header = () =>
        random.pick<Record<string, string>>([
          bearer,
          bearer,
          bearer,
          {},
          { authorization: "Basic ====" },
          { authorization: `Bearer ${"y".repeat(2_000)}` },
          { ...bearer, origin: "http://evil.example" },
          { ...bearer, origin: ":::" },
          { ...bearer, "content-length": "9".repeat(30) },
          { ...bearer, "if-none-match": '"' }
        ])

      const statuses = new Map<number, number>()
      for (let i = 0; i < requests; i++) {
        const [method, path] = target()
        const hasBody = method === "POST" || method === "PUT" || method === "DELETE"
        // The stream of events does not end.
        const at = path.replace(/^\/api\/events$/, "/api/topics")
        const type = random.pick(["application/json", "application/json", "text/plain", "multipart/form-data", "x"])
        const init = {
          method,
          headers: { ...header(), ...(hasBody ? { "content-type": type } : {}) },
          ...(hasBody ? { body: random.chance(0.005) ? large : body() } : {})
        }
        const url = `http://localhost${at}${query()}`
        const response = yield* Effect.promise(() => handler(new Request(url, init)))
        const text = yield* Effect.promise(() => response.text())
        statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1)
        assert.isBelow(response.status, 500, `${method} ${url} ${text}`)
        assert.isFalse(text.includes(token) || / {4}at /.test(text), `${method} ${url} ${text}`)
      }
      // It got everywhere, and not only to the door.
      for (const status of [200, 204, 400, 401, 403, 404, 409, 413]) {
        assert.isAbove(statuses.get(status) ?? 0, 0, `${status} of ${JSON.stringify([...statuses])}`)
      }
      yield* Processor.resume("p")
      yield* Topic.publish(topic, 1)
      yield* worker.idle
    }).pipe(Effect.scoped, Effect.provide(Engine.layerMemory)),
  60_000
)
