/**
 * The flags that every command has, and the surroundings that follow from them: where the engine is, what is printed and
 * how, and where logs go (to stderr, always: standard output holds data and nothing else).
 */
import { Config, Console, Context, Effect, Layer, Logger, Option, References } from "effect"
import { Flag, GlobalFlag } from "effect/cli"
import * as Settings from "../Settings.ts"

export const Url = GlobalFlag.Setting("url")({
  flag: Flag.Redacted("url").pipe(
    Flag.withMetavar("url"),
    Flag.withDescription("The engine: redis://host:6379, file:./events.db ...; else MILLRACE_URL"),
    Flag.optional
  )
})

export const Namespace = GlobalFlag.Setting("namespace")({
  flag: Flag.String("namespace").pipe(
    Flag.withMetavar("name"),
    Flag.withDescription("The application's name in the engine; else MILLRACE_NAMESPACE, else that of the app"),
    Flag.optional
  )
})

export const Json = GlobalFlag.Setting("json")({
  flag: Flag.Boolean("json").pipe(
    Flag.withDescription("Print JSON: one document, or one line for each event"),
    Flag.withoutNegation,
    Flag.withDefault(false)
  )
})

export const Quiet = GlobalFlag.Setting("quiet")({
  flag: Flag.Boolean("quiet").pipe(
    Flag.withAlias("q"),
    Flag.withDescription("No notes, no progress, no logs below errors"),
    Flag.withoutNegation,
    Flag.withDefault(false)
  )
})

const formats = ["pretty", "logfmt", "json", "structured"] as const

export const LogFormat = GlobalFlag.Setting("log-format")({
  flag: Flag.Literals("log-format", formats).pipe(
    Flag.withDescription("How logs look, on stderr; else MILLRACE_LOG_FORMAT, else pretty"),
    Flag.optional
  )
})

export const all = [Url, Namespace, Json, Quiet, GlobalFlag.LogLevel, LogFormat] as const

/** Of those built in, the wizard is left out: it asks on standard output, which is for data. */
export const builtIns = [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions]

const loggers = {
  pretty: Logger.consolePretty({ mode: "tty", colors: false }),
  logfmt: Logger.withConsoleError(Logger.formatLogFmt),
  json: Logger.withConsoleError(Logger.formatJson),
  structured: Logger.withConsoleError(Logger.formatStructured)
}

const Colors = Context.Reference<boolean>("millrace/cli/Colors", { defaultValue: () => false })

/** Log level and format by flag, or by the settings here; onto stderr. */
export const logging = Layer.unwrap(
  Effect.gen(function* () {
    const { logFormat, logLevel } = yield* Settings.current
    const flag = yield* GlobalFlag.LogLevel
    const format = Option.getOrUndefined(yield* LogFormat) ?? logFormat ?? "pretty"
    const level = (yield* Quiet) ? "Error" : (Option.getOrUndefined(flag) ?? logLevel ?? "Info")
    const colors = format === "pretty" && (yield* Colors)
    const logger = colors ? Logger.consolePretty({ mode: "tty", colors }) : loggers[format]
    return Layer.mergeAll(
      Logger.layer([logger]),
      Layer.succeed(Logger.LogToStderr, true),
      Layer.succeed(References.MinimumLogLevel, level)
    )
  })
)

/** The settings of the `MILLRACE_...` variables, and logs as they say. */
export const surroundings = (colors: boolean) =>
  Layer.fresh(logging).pipe(Layer.provideMerge(Layer.merge(Settings.layerConfig, Layer.succeed(Colors, colors))))

/** Something for people, on stderr. */
export const note = (text: string) => Effect.flatMap(Quiet, (quiet) => (quiet ? Effect.void : Console.error(text)))

/** May stderr be coloured? As `NO_COLOR`, `FORCE_COLOR` and `TERM` say, if it is a terminal. */
export const mayColor = (isTerminal: boolean) =>
  Effect.map(
    Effect.all([
      Config.option(Config.String("NO_COLOR")),
      Config.option(Config.String("FORCE_COLOR")),
      Config.option(Config.String("TERM"))
    ]),
    ([no, force, term]) =>
      !Option.exists(no, (text) => text !== "") &&
      !Option.contains(term, "dumb") &&
      (isTerminal || Option.exists(force, (text) => text !== "" && text !== "0" && text !== "false"))
  )
