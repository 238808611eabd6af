/** A worker of jobs for tests that kill real processes: `MILLRACE_URL`. Prints a line of JSON as each run begins. */
import { NodeRuntime } from "@effect/platform-node"
import { Effect } from "effect"
import { Engine, Worker } from "../../src/index.ts"
import { chore, choreHandler } from "./chores.ts"

const part = choreHandler(({ n }, run) =>
  Effect.sync(() =>
    process.stdout.write(`${JSON.stringify({ what: chore.name, n, attempt: run.attempt, at: Date.now() })}\n`)
  )
)

Worker.run([part], { lease: "1 second" }).pipe(
  Effect.provide(Engine.layerConfig),
  NodeRuntime.runMain({ teardown: Worker.teardown })
)
