/** TLS: with a CA that knows the server it connects, without one it says so at once. Certificates are made at test time. */
import { execFileSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Redis as IoRedis } from "ioredis"
import { Engine, Topic } from "../../src/index.ts"
import * as Redis from "../../src/redis/client.ts"
import { work } from "../support/chaos.ts"
import { start } from "../support/processes.ts"
import { freePort, makeServer } from "../support/redis.ts"
import { sharedInFile } from "../support/sharedInFile.ts"

const certificates = Effect.acquireRelease(
  Effect.sync(() => {
    const directory = mkdtempSync(join(tmpdir(), "millrace-tls-"))
    const openssl = (...args: ReadonlyArray<string>): void =>
      void execFileSync("openssl", args, { cwd: directory, stdio: "pipe" })
    const days = ["-days", "2"]
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", ...key, ...days, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test-ca")
    openssl(
      "req",
      ...key,
      "-keyout",
      "server.key",
      "-out",
      "server.csr",
      "-subj",
      "/CN=redis",
      "-addext",
      "subjectAltName=IP:127.0.0.1"
    )
    openssl(
      "x509",
      "-req",
      "-in",
      "server.csr",
      "-CA",
      "ca.pem",
      "-CAkey",
      "ca.key",
      "-CAcreateserial",
      ...days,
      "-copy_extensions",
      "copy",
      "-out",
      "server.pem"
    )
    return directory
  }),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

const secured = sharedInFile(
  Effect.gen(function* () {
    const directory = yield* certificates
    const port = yield* Effect.promise(freePort)
    const server = yield* makeServer([
      ...["--tls-port", String(port), "--tls-auth-clients", "no", "--tls-ca-cert-file", join(directory, "ca.pem")],
      ...["--tls-cert-file", join(directory, "server.pem"), "--tls-key-file", join(directory, "server.key")]
    ])
    return { server, port, url: `rediss://127.0.0.1:${port}`, ca: join(directory, "ca.pem") }
  })
)

describe("a server with TLS", () => {
  it.live("that has it on another port is not spoken to in vain without a hint", () =>
    Effect.gen(function* () {
      const { server } = yield* secured
      const url = server.url.replace("redis:", "rediss:")
      const error = yield* Effect.flip(Effect.scoped(Layer.build(Redis.layer({ url }))))
      assert(error._tag === "EngineError", error.message)
      assert.include(error.message, "TLS")
      assert.include(error.message, "redis://")
      assert.include(error.message, `127.0.0.1:${server.port}`)
    })
  )

  it.live("is refused at once when nothing vouches for its certificate, with what to do", () =>
    Effect.gen(function* () {
      const { port, url } = yield* secured
      const began = performance.now()
      const error = yield* Effect.flip(Effect.scoped(Layer.build(Redis.layer({ url }))))
      assert(error._tag === "EngineError" && error.reason === "Refused", error.message)
      assert.isBelow(performance.now() - began, 4_000)
      assert.include(error.message, "certificate")
      assert.include(error.message, "NODE_EXTRA_CA_CERTS")
      assert.include(error.message, `127.0.0.1:${port}`)
    })
  )

  it.live("is used by a program that knows its CA", () =>
    Effect.gen(function* () {
      const { ca, server, url } = yield* secured
      const child = yield* start("outage", { MILLRACE_URL: url, NODE_EXTRA_CA_CERTS: ca })
      yield* Topic.publish(work, { key: "one", n: 1, gate: false }).pipe(
        Effect.provide(Engine.layer({ url: server.url }))
      )
      yield* child.until((line) => line.what === "handled" && line["n"] === 1, "handled 1")
    })
  )

  it.live("is used through a client of one's own, on every kind of connection", () =>
    Effect.gen(function* () {
      const { ca, port } = yield* secured
      const client = yield* Effect.acquireRelease(
        Effect.sync(
          () => new IoRedis({ host: "127.0.0.1", port, lazyConnect: true, tls: { ca: readFileSync(ca, "utf8") } })
        ),
        (client) => Effect.sync(() => client.disconnect())
      )
      const put = Redis.script<string>("put", `return redis.call("SET", KEYS[1], ARGV[1]).ok`)
      yield* Effect.gen(function* () {
        const redis = yield* Redis.Redis
        assert.strictEqual(yield* redis.runDurable(put, ["{a}k"], ["1"], { replicas: 0 }), "OK")
        const connection = yield* redis.connection("{a}k")
        assert.strictEqual(yield* connection.call("get", "{a}k"), "1")
      }).pipe(Effect.provide(Redis.layer({ client })))
    })
  )
})
