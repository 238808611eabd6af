/**
 * A worker for tests that take its server away: `MILLRACE_URL`. Prints a line of JSON for every event that it handled and
 * every line that it logs; on SIGUSR2, the processor time that it has used so far, in milliseconds.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Cause, Effect, Layer, Logger } from "effect"
import { Engine, Worker } from "../../src/index.ts"
import { counting } from "./chaos.ts"

const say = (what: string, more: object): void => {
  process.stdout.write(`${JSON.stringify({ what, ...more })}\n`)
}

let asked = 0
process.on("SIGUSR2", () => {
  const { system, user } = process.cpuUsage()
  say("used", { millis: (system + user) / 1_000, asked: ++asked })
})

const logging = Logger.layer([
  Logger.make(({ logLevel, message }) => say("logged", { logLevel, message: String(message) }))
])

const part = counting((value) => Effect.sync(() => say("handled", { key: value.key, n: value.n })))

Worker.join.pipe(
  Effect.provide(Worker.layer([part], { lease: "2 seconds" })),
  Effect.tapCause((cause) => Effect.sync(() => say("failed", { error: String(Cause.squash(cause)) }))),
  Effect.provide(Layer.merge(Engine.layer({ url: process.env["MILLRACE_URL"]! }), logging)),
  NodeRuntime.runMain({ teardown: Worker.teardown, disableErrorReporting: true })
)
