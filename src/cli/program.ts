/** All commands under one program, and one run of it: from arguments to an exit code. */
import { Cause, Console, Effect, Exit, Layer, Stdio } from "effect"
import { CliConfig, CliOutput, Command } from "effect/cli"
import { acl } from "./acl.ts"
import { agents } from "./agents.ts"
import { dead } from "./dead.ts"
import { describe } from "./describe.ts"
import { doctor } from "./doctor.ts"
import { explain } from "./explain.ts"
import { endingOf, exitCodes, oneLine } from "./failures.ts"
import { all, builtIns, mayColor, surroundings } from "./globals.ts"
import { jobs } from "./jobs.ts"
import { own } from "./own.ts"
import { parked } from "./parked.ts"
import { lag, pause, processors, resume, seek } from "./processors.ts"
import { quarantine } from "./quarantine.ts"
import { queues } from "./queues.ts"
import { recurring } from "./recurring.ts"
import { schedules, workers } from "./schedules.ts"
import { send } from "./send.ts"
import { sendmany } from "./sendmany.ts"
import { tables } from "./tables.ts"
import { tail } from "./tail.ts"
import { topics } from "./topics.ts"
import { worker } from "./worker.ts"

const millrace = (run: Effect.Success<ReturnType<typeof own>>["run"], colors: boolean) =>
  Command.make("millrace").pipe(
    Command.withDescription(
      "Durable, ordered event streams on Redis or in a file. Exit codes: 0 done, 1 the work failed, 2 wrong use, " +
        "3 the engine cannot be reached, 4 an agent answered with an error of its own"
    ),
    Command.withSubcommands([
      { group: "Run", commands: [worker, run] },
      { group: "Events", commands: [send, sendmany, tail, agents] },
      {
        group: "Look",
        commands: [topics, processors, lag, workers, tables, schedules, describe, explain, doctor, acl]
      },
      { group: "Act", commands: [pause, resume, seek, quarantine, parked, dead, jobs, queues, recurring] }
    ]),
    Command.provide(surroundings(colors)),
    Command.withGlobalFlags(all)
  )

/** Wrong use is one line on stderr, with where to read on; help is what was asked for. */
const presenter: CliOutput.Presenter = {
  present: (event) =>
    event._tag === "InvalidInvocation"
      ? Console.error(
          `${event.commandPath[0]}: ${oneLine(event.errors[0]?.message ?? "wrong use")} (see ${event.commandPath.join(" ")} --help)`
        )
      : CliOutput.defaultPresenter.present(event)
}

/** One run: prints what there is to say, and gives the exit code. Interruption is left to the caller. */
export const run = (args: ReadonlyArray<string>, version: string) =>
  Effect.gen(function* () {
    const exit = yield* Effect.exit(
      Effect.gen(function* () {
        const stdio = yield* Stdio.Stdio
        const colors = yield* mayColor(yield* stdio.stderrIsTerminal)
        const { rest, run } = yield* own(args)
        yield* Command.runWith(millrace(run, colors), { version })(rest)
      })
    )
    if (Exit.isSuccess(exit)) return exitCodes.done
    if (Cause.hasInterruptsOnly(exit.cause)) return yield* Effect.failCause(exit.cause as Cause.Cause<never>)
    const { code, isDefect, line } = endingOf(exit.cause)
    if (line !== undefined) yield* Console.error(`millrace: ${line}`)
    if (isDefect) yield* Effect.logDebug("the whole cause", exit.cause)
    return code
  }).pipe(Effect.provide(Layer.mergeAll(CliOutput.layerPresenter(presenter), CliConfig.layer({ builtIns }))))
