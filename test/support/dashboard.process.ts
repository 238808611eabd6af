/** A worker with a page, for tests of the page: `MILLRACE_URL`, `MILLRACE_NAMESPACE`, `MEMBER`, `TOKEN`. Prints where it serves. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Effect, Redacted } from "effect"
import { Engine, Worker } from "../../src/index.ts"
import { freePort } from "./redis.ts"
import { parts } from "./wharf.ts"

const program = Effect.gen(function* () {
  const port = yield* Effect.promise(freePort)
  const web = { port, token: Redacted.make(process.env["TOKEN"] ?? "") }
  yield* Effect.gen(function* () {
    process.stdout.write(`${JSON.stringify({ what: "serves", url: `http://127.0.0.1:${port}` })}\n`)
    yield* Worker.join
  }).pipe(Effect.provide(Worker.layer(parts, { lease: "1 second", member: process.env["MEMBER"], web })))
})

program.pipe(Effect.provide(Engine.layerConfig), NodeRuntime.runMain({ teardown: Worker.teardown }))
