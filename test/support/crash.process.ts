/**
 * A worker for tests of crash loops: `MILLRACE_URL`; `KILLS`, the number of the event that ends its process at once; with
 * `PARKS` that event fails first, and ends the process when it comes back. Prints a line of JSON for what happens to it.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Effect, Schedule, Schema } from "effect"
import { Engine, Policy, Processor, Table, Worker } from "../../src/index.ts"
import { totals, work } from "./chaos.ts"

const say = (what: string, more: object = {}): void => {
  process.stdout.write(`${JSON.stringify({ what, ...more })}\n`)
}

const kills = Number(process.env["KILLS"])
const parks = process.env["PARKS"] !== undefined

class Bad extends Schema.TaggedError<Bad>()("Bad", {}) {}

const part = Processor.make("counting", { topic: work, tables: [totals] }, (value, event) =>
  Effect.gen(function* () {
    if (value.n === kills) {
      if (parks && event.attempt === 1) return yield* new Bad()
      say("dies", { n: value.n, attempt: event.attempt })
      // As a segmentation fault would: nothing is finished, nobody is told.
      process.kill(process.pid, "SIGKILL")
    }
    yield* Table.update(totals, value.key, (total) => total + 1)
  })
).pipe(Processor.catchTag("Bad", Policy.park({ schedule: Schedule.spaced("100 millis") })))

const program = Effect.gen(function* () {
  say("joined")
  yield* Worker.join
}).pipe(Effect.provide(Worker.layer([part], { lease: "1 second" })))

program.pipe(Effect.provide(Engine.layerConfig), NodeRuntime.runMain({ teardown: Worker.teardown }))
