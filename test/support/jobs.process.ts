/** A worker of jobs for tests that kill real processes: `MILLRACE_URL`. Prints a line of JSON as each run begins. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Effect } from "effect"
import { Engine, Worker } from "../../src/index.ts"
import { chore, choreHandler, step, stepHandler } from "./chores.ts"

const tell = (line: object) =>
  Effect.sync(() => process.stdout.write(`${JSON.stringify({ ...line, at: Date.now() })}\n`))

const parts = [
  choreHandler(({ n }, run) => tell({ what: chore.name, n, attempt: run.attempt })),
  stepHandler((one) => tell({ what: step.name, ...one }))
]

Worker.run(parts, { lease: "1 second" }).pipe(
  Effect.provide(Engine.layerConfig),
  NodeRuntime.runMain({ teardown: Worker.teardown })
)
