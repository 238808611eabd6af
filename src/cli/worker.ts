/** `millrace worker <module>`: runs its parts until it is told to stop; SIGTERM and SIGINT drain, and it exits with 0. */
import { Config, Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import * as Worker from "../Worker.ts"
import { withEngine } from "./engine.ts"
import { WrongUse } from "./failures.ts"
import { note } from "./globals.ts"
import { interruptible } from "./interruption.ts"
import { load, module } from "./modules.ts"
import { show, table } from "./output.ts"

const summaryLines = ({ parts, rebalances }: Worker.Summary): ReadonlyArray<string> => [
  ...table(
    ["part", "processed", "failed", "retried", "ignored", "dead-lettered", "parked", "quarantined"],
    Object.entries(parts).map(([name, counts]) => [
      name,
      counts.processed,
      counts.failed,
      counts.retried,
      counts.ignored,
      counts.deadLettered,
      counts.parked,
      counts.quarantined
    ])
  ),
  `rebalances: ${rebalances}`
]

/** Asked for by either flag; the token is a secret, so it comes by the environment. */
const webOf = (port: Option.Option<number>, host: Option.Option<string>) =>
  Effect.map(Config.option(Config.Redacted("MILLRACE_WEB_TOKEN")), (token): Worker.Options["web"] =>
    Option.isNone(port) && Option.isNone(host)
      ? undefined
      : { port: Option.getOrUndefined(port), host: Option.getOrUndefined(host), token: Option.getOrUndefined(token) }
  )

export const worker = Command.make(
  "worker",
  {
    module,
    processors: Flag.String("processors").pipe(
      Flag.withMetavar("a,b"),
      Flag.withDescription("Run only these parts"),
      Flag.optional
    ),
    member: Flag.String("member").pipe(
      Flag.withDescription("A stable name: restarted within the lease, it takes its partitions back"),
      Flag.optional
    ),
    webPort: Flag.Int("web-port").pipe(
      Flag.withMetavar("port"),
      Flag.withDescription("Serve health, metrics, the API and the page on this port"),
      Flag.optional
    ),
    webHost: Flag.String("web-host").pipe(
      Flag.withMetavar("address"),
      Flag.withDescription("Listen here instead of 127.0.0.1; beyond this machine only with MILLRACE_WEB_TOKEN"),
      Flag.optional
    ),
    limit: Flag.Int("limit").pipe(Flag.withDescription("End after so many events and jobs"), Flag.optional),
    grace: Flag.String("grace").pipe(
      Flag.withMetavar("duration"),
      Flag.withDescription('How long handlers may take to finish at the end, such as "25 seconds"'),
      Flag.optional
    )
  },
  Effect.fn(function* ({ grace, limit, member, module, processors, webHost, webPort }) {
    const found = yield* load(module)
    if (found.parts.length === 0) {
      return yield* new WrongUse({ message: `${module} has nothing to run: its app has no parts, and it exports none` })
    }
    const only = Option.map(processors, (text) =>
      text
        .split(",")
        .map((name) => name.trim())
        .filter((name) => name !== "")
    )
    const running = note(`running ${Option.getOrElse(only, () => found.parts.map(({ name }) => name)).join(", ")}`)
    const layer = Worker.layer(found.parts, {
      processors: Option.getOrUndefined(only),
      member: Option.getOrUndefined(member),
      limit: Option.getOrUndefined(limit),
      grace: Option.getOrUndefined(grace) as Worker.Options["grace"],
      web: yield* webOf(webPort, webHost),
      signals: true
    })
    const print = (summary: Worker.Summary) => show(summary, () => summaryLines(summary))
    // A signal drains the worker and interrupts this: then it is told from here what was done.
    const working = Effect.onInterrupt(Effect.flatMap(Worker.join, print), () =>
      Effect.ignore(Effect.flatMap(Worker.stop, print), { log: true })
    )
    yield* Effect.andThen(running, Effect.provide(working, layer)).pipe(withEngine(found))
  }, interruptible)
).pipe(
  Command.withDescription("Run the parts of a module: processors, agents, job handlers, schedules"),
  Command.withExamples([
    { command: "millrace worker src/app.ts", description: "Run an app" },
    { command: 'millrace worker "src/**/*.ts" --processors billing,audit', description: "Two parts out of many files" }
  ])
)
