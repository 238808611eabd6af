/** `millrace doctor`: looks at the engine before somebody trusts it; exits with 1 if anything is a problem. */
import { Effect, Option } from "effect"
import { Argument, Command } from "effect/cli"
import * as Engine from "../Engine.ts"
import { options } from "./engine.ts"
import { Failed } from "./failures.ts"
import { load, module } from "./modules.ts"
import { show, table } from "./output.ts"

export const doctor = Command.make(
  "doctor",
  { module: Argument.optional(module) },
  Effect.fn(function* ({ module }) {
    const found = Option.isSome(module) ? yield* load(module.value) : undefined
    const findings = yield* Engine.examine(yield* options(found?.namespace))
    yield* show(findings, () =>
      table(
        ["check", "status", "found"],
        findings.map(({ check, detail, status }) => [check, status, detail])
      )
    )
    const problems = findings.filter(({ status }) => status === "problem").length
    if (problems === 0) return
    return yield* new Failed({ message: `${problems} ${problems === 1 ? "problem" : "problems"} found` })
  })
).pipe(Command.withDescription("Check an engine: version, persistence, eviction policy, clock, permissions, topology"))
