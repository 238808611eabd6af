/** Asks many questions at once, without a worker: `MILLRACE_URL`, `NAME`, `ASKS`. Prints how many had which answer. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Effect } from "effect"
import { Agent, Engine } from "../../src/index.ts"
import { echo } from "./echo.ts"

const name = process.env["NAME"]!
const asks = Number(process.env["ASKS"])

Effect.gen(function* () {
  const questions = Array.from({ length: asks }, (_, n) => `${name} ${n}`)
  const replies = yield* Agent.join(echo, questions, { timeout: "1 minute" })
  const right = replies.filter((reply, n) => reply === `you said ${questions[n]}`).length
  process.stdout.write(`${JSON.stringify({ what: "answered", right, wrong: replies.length - right })}\n`)
}).pipe(Effect.provide(Engine.layerConfig), NodeRuntime.runMain)
