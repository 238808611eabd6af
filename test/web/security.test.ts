/** Who may ask for what, as a table: where the server is, where the request comes from, what it brings. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import * as Engine from "../../src/Engine.ts"
import type { Misconfigured } from "../../src/Errors.ts"
import { Web } from "../../src/web/index.ts"
import type { Options } from "../../src/web/Web.ts"
import { type Ask, ask, bearer, servedPort, token } from "../support/web.ts"

const secret = Redacted.make(token)

/** A server on a free port, and requests to it over loopback. */
const serving = <A, E>(options: Options, use: (get: ReturnType<typeof ask>) => Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    return yield* use(ask(yield* servedPort))
  }).pipe(Effect.provide(Layer.provide(Web.layer({ port: 0, ...options }), Engine.layerMemory)))

const read: Ask = {}
const write: Ask = { method: "POST" }
const withHeaders = (ask: Ask, headers: Readonly<Record<string, string>>): Ask => ({ ...ask, headers })
const basic = (pair: string) => ({ authorization: `Basic ${Buffer.from(pair).toString("base64")}` })

const readPath = "/api/topics"
/** The queue does not exist: who gets so far may do it. */
const writePath = "/api/queues/none/pause"
const [ok, allowed] = [200, 404]

const foreign = { origin: "http://evil.example" }
const crossSite = { "sec-fetch-site": "cross-site" }
const sameOrigin = { "sec-fetch-site": "same-origin", host: "localhost:6066", origin: "http://localhost:6066" }
const visit = { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" }

interface Row {
  readonly what: string
  readonly headers: Readonly<Record<string, string>>
  /** Status of a look and of a change: without a token configured; with one; with one, on an open server. */
  readonly none: readonly [number, number]
  readonly some: readonly [number, number]
  readonly open: readonly [number, number]
}

const rows: ReadonlyArray<Row> = [
  { what: "plain", headers: {}, none: [ok, 403], some: [ok, 401], open: [401, 401] },
  { what: "with the token", headers: bearer, none: [ok, 403], some: [ok, allowed], open: [ok, allowed] },
  {
    what: "with the token as a password",
    headers: basic(`anybody:${token}`),
    none: [ok, 403],
    some: [ok, allowed],
    open: [ok, allowed]
  },
  {
    what: "with another token",
    headers: { authorization: `Bearer ${token}x` },
    none: [ok, 403],
    some: [ok, 401],
    open: [401, 401]
  },
  {
    what: "with half of it",
    headers: { authorization: `Bearer ${token.slice(0, 8)}` },
    none: [ok, 403],
    some: [ok, 401],
    open: [401, 401]
  },
  {
    what: "with an empty one",
    headers: { authorization: "Bearer " },
    none: [ok, 403],
    some: [ok, 401],
    open: [401, 401]
  },
  { what: "from a page of ours", headers: sameOrigin, none: [ok, 403], some: [ok, 401], open: [401, 401] },
  {
    what: "from a page of ours, with the token",
    headers: { ...sameOrigin, ...bearer },
    none: [ok, 403],
    some: [ok, allowed],
    open: [ok, allowed]
  },
  { what: "from a foreign origin", headers: foreign, none: [403, 403], some: [403, 403], open: [403, 403] },
  {
    what: "from a foreign origin, with the token",
    headers: { ...foreign, ...bearer },
    none: [403, 403],
    some: [403, 403],
    open: [403, 403]
  },
  {
    what: "from no origin that can be told",
    headers: { origin: "null", ...bearer },
    none: [403, 403],
    some: [403, 403],
    open: [403, 403]
  },
  {
    what: "from another site, with the token",
    headers: { ...crossSite, ...bearer },
    none: [403, 403],
    some: [403, 403],
    open: [403, 403]
  },
  {
    what: "from a sister site",
    headers: { "sec-fetch-site": "same-site", ...bearer },
    none: [403, 403],
    some: [403, 403],
    open: [403, 403]
  },
  { what: "by a link of another site", headers: visit, none: [ok, 403], some: [ok, 403], open: [401, 403] },
  {
    what: "to a foreign name that points here",
    headers: { host: "evil.example" },
    none: [403, 403],
    some: [401, 401],
    open: [401, 401]
  },
  {
    what: "to a foreign name, with the token",
    headers: { host: "millrace.example", ...bearer },
    none: [403, 403],
    some: [ok, allowed],
    open: [ok, allowed]
  },
  {
    what: "to a name that begins like ours",
    headers: { host: "localhost.evil.example" },
    none: [403, 403],
    some: [401, 401],
    open: [401, 401]
  },
  {
    what: "past a proxy",
    headers: { "x-forwarded-for": "1.2.3.4" },
    none: [403, 403],
    some: [401, 401],
    open: [401, 401]
  },
  {
    what: "to the other loopback name",
    headers: { host: "[::1]:6066" },
    none: [ok, 403],
    some: [ok, 401],
    open: [401, 401]
  }
]

const cases = [
  ["without a token", {}, "none"],
  ["with a token", { token: secret }, "some"],
  ["open to others", { token: secret, host: "0.0.0.0" }, "open"]
] as const

describe("a server", () => {
  for (const [where, options, column] of cases) {
    it.live(`${where} answers looks and changes as the table says`, () =>
      serving(options, (get) =>
        Effect.gen(function* () {
          const found: Array<readonly [string, number, number]> = []
          for (const { headers, what } of rows) {
            const looked = yield* get(readPath, withHeaders(read, headers))
            const changed = yield* get(writePath, withHeaders(write, headers))
            found.push([what, looked.status, changed.status])
            for (const answer of [looked, changed]) {
              assert.strictEqual(answer.headers["x-content-type-options"], "nosniff")
              assert.include(answer.headers["content-security-policy"] ?? "", "frame-ancestors 'none'")
              assert.isUndefined(answer.headers["access-control-allow-origin"])
              assert.notInclude(answer.text, token)
            }
          }
          assert.deepStrictEqual(
            found,
            rows.map((row) => [row.what, ...row[column]] as const)
          )
          // It is the same for everything that is served.
          for (const path of ["/", "/metrics", "/health/live", "/api/openapi.json", "/api/events", "/nope"]) {
            const { status } = yield* get(path, { headers: foreign })
            assert.deepStrictEqual([path, status], [path, 403])
            if (column !== "open") continue
            assert.deepStrictEqual([path, (yield* get(path)).status], [path, 401])
          }
        })
      )
    )
  }

  it.live("asks a browser's user for the token where a page is visited, and no script's", () =>
    serving({ token: secret, host: "0.0.0.0" }, (get) =>
      Effect.gen(function* () {
        const visited = yield* get("/", { headers: { "sec-fetch-site": "none", "sec-fetch-mode": "navigate" } })
        assert.deepStrictEqual([visited.status, visited.headers["www-authenticate"]?.split(" ")[0]], [401, "Basic"])
        const fetched = yield* get("/api/topics", { headers: { "sec-fetch-site": "same-origin" } })
        assert.deepStrictEqual([fetched.status, fetched.headers["www-authenticate"]], [401, "Bearer"])
      })
    )
  )

  it.live("takes no large bodies, and methods that it does not have are not there", () =>
    serving({ token: secret }, (get) =>
      Effect.gen(function* () {
        const headers = { ...bearer, "content-type": "application/json" }
        const seek = "/api/processors/p/seek"
        const large = JSON.stringify({ to: { offset: "1".repeat(70_000) } })
        assert.strictEqual((yield* get(seek, { method: "POST", headers, body: large })).status, 413)
        const chunked = { ...headers, "transfer-encoding": "chunked" }
        assert.strictEqual((yield* get(seek, { method: "POST", headers: chunked, body: large })).status, 413)
        for (const body of ["", "{", "null", "[]", '{"to":7}', '{"to":{"offset":7}}']) {
          const { json, status } = yield* get(seek, { method: "POST", headers, body })
          assert.deepStrictEqual([body, status, json?._tag], [body, 400, "BadRequest"])
        }
        for (const method of ["PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"]) {
          assert.deepStrictEqual([method, (yield* get("/api/topics", { method, headers })).status], [method, 404])
        }
      })
    )
  )

  const refused: ReadonlyArray<readonly [what: string, options: Options, message: RegExp]> = [
    ["beyond loopback without a token", { host: "0.0.0.0" }, /open to other machines: give web.token/],
    ["a name beyond loopback without a token", { host: "millrace.example" }, /open to other machines/],
    ["a short token", { token: Redacted.make("short") }, /at least 16/],
    ["a token with a space", { token: Redacted.make("a token with spaces in it") }, /without spaces/],
    ["a token that is not wrapped", { token: token as never }, /Redacted\.make/],
    ["a port that is none", { port: 70_000 }, /web\.port/]
  ]
  for (const [what, options, message] of refused) {
    it.live(`${what} is refused at the start`, () =>
      Effect.gen(function* () {
        const error: Misconfigured = yield* Effect.flip(
          Effect.scoped(Layer.build(Layer.provide(Web.layer(options), Engine.layerMemory)))
        )
        assert.strictEqual(error._tag, "Misconfigured")
        assert.match(error.message, message)
        assert.notInclude(error.message, token)
      })
    )
  }

  it.live("that cannot listen says which port, and what to do", () =>
    Effect.gen(function* () {
      const port = yield* servedPort
      const error: Misconfigured = yield* Effect.flip(
        Effect.scoped(Layer.build(Layer.fresh(Layer.provide(Web.layer({ port }), Engine.layerMemory))))
      )
      assert.match(
        error.message,
        new RegExp(`port ${port} of 127.0.0.1 cannot be listened on .EADDRINUSE.: give another`)
      )
    }).pipe(Effect.provide(Layer.provide(Web.layer({ port: 0 }), Engine.layerMemory)))
  )
})
