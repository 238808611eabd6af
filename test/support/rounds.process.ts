/**
 * A worker of a chaos round: `MILLRACE_URL`, `MILLRACE_SHARDS`, `NAME` (of this start), `RECORD` (the file for what it
 * handled), `LANES`, and perhaps `MEMBER` and `SIGNALS`. Prints a line of JSON for what happens to it.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Cause, Effect } from "effect"
import { Engine, Worker } from "../../src/index.ts"
import { counting, loading } from "./rounds.ts"
import { handledWriter } from "./roundsRecord.ts"

const say = (what: string, more: object = {}): void => {
  process.stdout.write(`${JSON.stringify({ what, ...more })}\n`)
}

const variable = (name: string): string => {
  const value = process.env[name]
  if (value === undefined) throw new Error(`${name} is not set`)
  return value
}

const by = variable("NAME")
const write = handledWriter(variable("RECORD"))

const worker = Worker.layer([counting(by, write, Number(variable("LANES"))), loading(by, write)], {
  lease: "1 second",
  grace: "2 seconds",
  member: process.env["MEMBER"],
  signals: process.env["SIGNALS"] !== undefined
})

const program = Effect.gen(function* () {
  say("joined")
  yield* Worker.join
}).pipe(
  Effect.provide(worker),
  Effect.tapCause((cause) =>
    Effect.sync(() => {
      if (Cause.hasInterruptsOnly(cause)) return
      const error = Cause.squash(cause) as { readonly _tag?: string; readonly reason?: string }
      say("failed", { tag: error._tag, reason: error.reason, error: Cause.pretty(cause) })
    })
  )
)

say("started")
program.pipe(
  Effect.provide(Engine.layerConfig),
  NodeRuntime.runMain({ teardown: Worker.teardown, disableErrorReporting: true })
)
