/**
 * A worker for tests that kill or pause real processes: `MILLRACE_URL`, `MEMBER`, `GATE` (a file that the handler of a
 * gate event waits for), `SIGNALS` (it handles them itself), `GRACE` in milliseconds. Prints a line of JSON for whatever happens to it.
 */
import { existsSync } from "node:fs"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Cause, Effect, Stream } from "effect"
import { Engine, Worker } from "../../src/index.ts"
import { counting } from "./chaos.ts"

const say = (what: string, more: object = {}): void => {
  process.stdout.write(`${JSON.stringify({ what, ...more })}\n`)
}

const gate = process.env["GATE"]

const part = counting((value, epoch) =>
  Effect.gen(function* () {
    say("begun", { key: value.key, n: value.n, epoch: String(epoch) })
    // Real time: the test decides from outside when the gate opens.
    while (value.gate && gate !== undefined && !existsSync(gate)) yield* Effect.sleep("10 millis")
    say("handled", { key: value.key, n: value.n, epoch: String(epoch) })
  })
)

const member = process.env["MEMBER"]
const grace = process.env["GRACE"]

const program = Effect.gen(function* () {
  const changes = Stream.runForEach(Worker.changes, (change) =>
    Effect.sync(() =>
      say("change", { change: { ...change, ...("epoch" in change ? { epoch: String(change.epoch) } : {}) } })
    )
  )
  yield* Effect.forkChild(changes, { startImmediately: true })
  say("joined")
  yield* Worker.join
}).pipe(
  Effect.provide(
    Worker.layer([part], {
      lease: "1 second",
      member,
      signals: process.env["SIGNALS"] !== undefined,
      ...(grace === undefined ? {} : { grace: Number(grace) })
    })
  ),
  Effect.tapCause((cause) =>
    Effect.sync(() => say("failed", { error: String(Cause.squash(cause)), tag: (Cause.squash(cause) as any)?._tag }))
  )
)

program.pipe(
  Effect.provide(Engine.layerConfig),
  NodeRuntime.runMain({ teardown: Worker.teardown, disableErrorReporting: true })
)
