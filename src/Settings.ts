/**
 * What workers and processors use where they are not told otherwise. Five levels, the later wins: built in, the
 * environment (`layerConfig`), the app (`App.make({ settings })`), the program (`layer`), an option of the worker or the
 * part itself. What is given counts, 0 too; what is left out or undefined does not. It makes no difference in which order
 * the layers are provided.
 *
 * | option | variable | default | allowed |
 * | --- | --- | --- | --- |
 * | `lease` | `MILLRACE_LEASE` | 10 seconds | 100 millis or more |
 * | `grace` | `MILLRACE_GRACE` | 25 seconds | 0 or more |
 * | `settle` | `MILLRACE_SETTLE` | 50 millis | 0 or more |
 * | `prefetch.events` | `MILLRACE_PREFETCH_EVENTS` | 256 | 1 or more |
 * | `prefetch.bytes` | `MILLRACE_PREFETCH_BYTES` | 1 MiB | 1 or more |
 * | `maxUncommitted` | `MILLRACE_MAX_UNCOMMITTED` | 10,000 | 1 or more |
 * | `slowAfter` | `MILLRACE_SLOW_AFTER` | 5 minutes | 1 milli or more |
 * | `readTimeout` | `MILLRACE_READ_TIMEOUT` | 5 seconds | 1 milli or more |
 * | `timezone` | `MILLRACE_TIMEZONE` | UTC: of cron entries that name none | such as Europe/Vienna, +02:00 |
 * | `tracing.sample` | `MILLRACE_TRACING_SAMPLE` | 0: tracing is off | 0 to 1 |
 * | `logLevel` | `MILLRACE_LOG_LEVEL` | as the program has it | Effect's log levels, in any case |
 * | `logFormat` | `MILLRACE_LOG_FORMAT` | as the program has it | pretty, logfmt, json, structured |
 *
 * Durations in variables: "10 seconds", "500 millis", or a number of milliseconds.
 */
import { Config, Context, DateTime, Duration, Effect, Layer, Logger, LogLevel, Option, References } from "effect"
import type { Misconfigured } from "./Errors.ts"
import { invalid } from "./internal/names.ts"

/** All settings, resolved. Durations are milliseconds. */
export interface Settings {
  /** How long a member that says nothing keeps its partitions. */
  readonly lease: number
  /** How long running handlers may take to finish at a hand-over or shutdown. */
  readonly grace: number
  /** How long membership must be quiet before partitions are dealt out. */
  readonly settle: number
  /** What is read ahead, per partition. */
  readonly prefetch: { readonly events: number; readonly bytes: number }
  /** Events of a partition that may be handled and not yet committed. */
  readonly maxUncommitted: number
  /** A handler that runs longer is reported. */
  readonly slowAfter: number
  /** How long one read waits for events; nothing depends on it. */
  readonly readTimeout: number
  /** Of cron entries, of workers and of jobs, that name none. */
  readonly timezone: string
  /**
   * The share of events, batches and jobs that are handled in a span of their own; what was published in a sampled span
   * always is, as its child. Above 0, what is published in a sampled span carries it in its headers. See `Tracing`.
   */
  readonly tracing: { readonly sample: number }
  /** See `layerLogger`. */
  readonly logLevel: LogLevel.LogLevel | undefined
  readonly logFormat: LogFormat | undefined
}

export type LogFormat = "pretty" | "logfmt" | "json" | "structured"

export interface Options {
  readonly lease?: Duration.Input | undefined
  readonly grace?: Duration.Input | undefined
  readonly settle?: Duration.Input | undefined
  readonly prefetch?: { readonly events?: number | undefined; readonly bytes?: number | undefined } | undefined
  readonly maxUncommitted?: number | undefined
  readonly slowAfter?: Duration.Input | undefined
  readonly readTimeout?: Duration.Input | undefined
  readonly timezone?: string | DateTime.TimeZone | undefined
  readonly tracing?: { readonly sample?: number | undefined } | undefined
  readonly logLevel?: LogLevel.LogLevel | undefined
  readonly logFormat?: LogFormat | undefined
}

/** Built in: the lowest level. */
export const defaults: Settings = {
  lease: 10_000,
  grace: 25_000,
  settle: 50,
  prefetch: { events: 256, bytes: 1024 * 1024 },
  maxUncommitted: 10_000,
  slowAfter: 5 * 60_000,
  readTimeout: 5_000,
  timezone: "UTC",
  tracing: { sample: 0 },
  logLevel: undefined,
  logFormat: undefined
}

// A place for each, so that the higher level wins however the layers are put together.
const Environment = Context.Reference<Options>("millrace/Settings/Environment", { defaultValue: () => ({}) })
/** @internal Those of an app, checked. */
export const Application = Context.Reference<Options>("millrace/Settings/Application", { defaultValue: () => ({}) })
const Program = Context.Reference<Options>("millrace/Settings/Program", { defaultValue: () => ({}) })

/** The settings here: built in, under the environment's, under the app's, under the program's. */
export const current: Effect.Effect<Settings> = Effect.gen(function* () {
  return merge(merge(merge(defaults, yield* Environment), yield* Application), yield* Program)
})

/** The share that is traced, without the rest of the settings: asked where something is published in a span. */
export const sampleOf = (context: Context.Context<never>): number =>
  Context.get(context, Program).tracing?.sample ??
  Context.get(context, Application).tracing?.sample ??
  Context.get(context, Environment).tracing?.sample ??
  defaults.tracing.sample

/** The same context with that share. */
export const withSample = (context: Context.Context<never>, sample: number): Context.Context<never> =>
  sampleOf(context) === sample
    ? context
    : Context.add(context, Program, join(Context.get(context, Program), { tracing: { sample } }))

/** Options of the program. A second such layer adds to the first. Throws `Misconfigured` for a wrong one. */
export const layer = (options: Options): Layer.Layer<never> => {
  const given = check(options, "Settings.layer")
  return Layer.effect(
    Program,
    Effect.map(Program, (outer) => join(outer, given))
  )
}

/** From the `MILLRACE_...` variables; an empty one counts as not set. A failure names every wrong variable. */
export const layerConfig: Layer.Layer<never, Config.ConfigError | Misconfigured> = Layer.effect(
  Environment,
  Effect.gen(function* () {
    const found: Array<Given> = []
    for (const rule of rules) {
      const text = yield* Config.option(Config.String(rule.variable))
      if (Option.isSome(text) && text.value.trim() !== "") {
        found.push({ rule, name: rule.variable, value: text.value.trim() })
      }
    }
    const wrong = problems(found)
    return wrong === undefined ? collect(found) : yield* wrong
  })
)

/** The same, with the options of one part on top; `where` names the part in the thrown `Misconfigured`. */
export const override = (self: Settings, options: Options, where: string): Settings =>
  merge(self, check(options, where))

/** Sets log level and format as `logLevel` and `logFormat` say; without them it changes nothing. */
export const layerLogger: Layer.Layer<never> = Layer.unwrap(
  Effect.map(current, ({ logFormat, logLevel }) =>
    Layer.mergeAll(
      logLevel === undefined ? Layer.empty : Layer.succeed(References.MinimumLogLevel, logLevel),
      logFormat === undefined ? Layer.empty : Logger.layer([loggers[logFormat]()])
    )
  )
)

const loggers: Readonly<Record<LogFormat, () => Logger.Logger<unknown, void>>> = {
  pretty: () => Logger.consolePretty(),
  logfmt: () => Logger.consoleLogFmt,
  json: () => Logger.consoleJson,
  structured: () => Logger.consoleStructured
}

/** One option: where it stands, what its variable is called, and what it may be. */
interface Rule {
  readonly path: readonly [keyof Options] | readonly ["prefetch", "events" | "bytes"] | readonly ["tracing", "sample"]
  readonly variable: string
  readonly allowed: string
  /** From text or a value; undefined if it is not allowed. */
  readonly parse: (value: unknown) => number | string | undefined
}

interface Given {
  readonly rule: Rule
  /** What it is called in a message. */
  readonly name: string
  readonly value: unknown
}

const duration = (path: Rule["path"], variable: string, least: number): Rule => ({
  path,
  variable,
  allowed: `a duration of at least ${least} millis, such as "10 seconds", "500 millis" or a number of milliseconds`,
  parse: (value) => {
    const input = typeof value === "string" && /^\d+(\.\d+)?$/.test(value) ? Number(value) : value
    if (typeof input === "number" && !Number.isFinite(input)) return undefined
    // Whatever it is: `fromInput` tells.
    const parsed = Duration.fromInput(input as Duration.Input)
    const millis = Option.isSome(parsed) ? Math.round(Duration.toMillis(parsed.value)) : Number.NaN
    return Number.isFinite(millis) && millis >= least ? millis : undefined
  }
})

const count = (path: Rule["path"], variable: string, most = Number.MAX_SAFE_INTEGER): Rule => ({
  path,
  variable,
  allowed: most === Number.MAX_SAFE_INTEGER ? "a whole number of at least 1" : `a whole number from 1 to ${most}`,
  parse: (value) => {
    const parsed = typeof value === "string" && /^\d+$/.test(value) ? Number(value) : value
    return typeof parsed === "number" && Number.isSafeInteger(parsed) && parsed >= 1 && parsed <= most
      ? parsed
      : undefined
  }
})

const share = (path: Rule["path"], variable: string): Rule => ({
  path,
  variable,
  allowed: "a number from 0 to 1",
  parse: (value) => {
    const parsed = typeof value === "string" && /^\d*\.?\d+$/.test(value) ? Number(value) : value
    return typeof parsed === "number" && parsed >= 0 && parsed <= 1 ? parsed : undefined
  }
})

const choice = (path: Rule["path"], variable: string, choices: ReadonlyArray<string>): Rule => ({
  path,
  variable,
  allowed: `one of ${choices.join(", ")}`,
  parse: (value) => choices.find((one) => typeof value === "string" && one.toLowerCase() === value.toLowerCase())
})

const zone = (path: Rule["path"], variable: string): Rule => ({
  path,
  variable,
  allowed: 'a time zone, such as "Europe/Vienna" or "+02:00"',
  parse: (value) => {
    const found = DateTime.isTimeZone(value) ? value : Option.getOrUndefined(zoneOf(value))
    return found && DateTime.zoneToString(found)
  }
})

const zoneOf = (value: unknown): Option.Option<DateTime.TimeZone> =>
  typeof value === "string" ? DateTime.zoneFromString(value) : Option.none()

const rules: ReadonlyArray<Rule> = [
  duration(["lease"], "MILLRACE_LEASE", 100),
  duration(["grace"], "MILLRACE_GRACE", 0),
  duration(["settle"], "MILLRACE_SETTLE", 0),
  count(["prefetch", "events"], "MILLRACE_PREFETCH_EVENTS"),
  count(["prefetch", "bytes"], "MILLRACE_PREFETCH_BYTES"),
  count(["maxUncommitted"], "MILLRACE_MAX_UNCOMMITTED"),
  duration(["slowAfter"], "MILLRACE_SLOW_AFTER", 1),
  duration(["readTimeout"], "MILLRACE_READ_TIMEOUT", 1),
  zone(["timezone"], "MILLRACE_TIMEZONE"),
  share(["tracing", "sample"], "MILLRACE_TRACING_SAMPLE"),
  choice(["logLevel"], "MILLRACE_LOG_LEVEL", LogLevel.values),
  choice(["logFormat"], "MILLRACE_LOG_FORMAT", Object.keys(loggers))
]

/** @internal The same, parsed; `where` names it in the thrown `Misconfigured`. */
export const check = (options: Options, where: string): Options => {
  const found = rules.flatMap((rule): ReadonlyArray<Given> => {
    const [first, second] = rule.path
    const group = options[first]
    const value = second === undefined ? group : (group as Readonly<Record<string, unknown>> | undefined)?.[second]
    return value === undefined ? [] : [{ rule, name: `${where}: ${rule.path.join(".")}`, value }]
  })
  const wrong = problems(found)
  if (wrong !== undefined) throw wrong
  return collect(found)
}

const problems = (given: ReadonlyArray<Given>): Misconfigured | undefined => {
  const wrong = given.filter(({ rule, value }) => rule.parse(value) === undefined)
  return wrong.length === 0
    ? undefined
    : invalid(wrong.map(({ name, rule, value }) => `${name} is ${shown(value)}: give ${rule.allowed}`).join("; "))
}

/** What was given, parsed: only numbers and names are left, and only of options that were given. */
const collect = (given: ReadonlyArray<Given>): Options => {
  const flat: Record<string, unknown> = {}
  const groups: Record<"prefetch" | "tracing", Record<string, unknown>> = { prefetch: {}, tracing: {} }
  for (const { rule, value } of given) {
    const { path } = rule
    if (path.length === 1) flat[path[0]] = rule.parse(value)
    else groups[path[0]][path[1]] = rule.parse(value)
  }
  return { ...flat, ...groups }
}

const join = (self: Options, that: Options): Options => ({
  ...self,
  ...that,
  prefetch: { ...self.prefetch, ...that.prefetch },
  tracing: { ...self.tracing, ...that.tracing }
})

// `collect` leaves numbers where durations may stand, and no undefined.
const merge = (self: Settings, that: Options): Settings => join(self, that) as Settings

/** A wrong value in a message. A URL that got into the wrong variable may hold a password. */
const shown = (value: unknown): string => {
  const text = typeof value === "string" ? JSON.stringify(value) : String(value)
  if (text.includes("@")) return "a text with an @"
  return text.length > 60 ? `${text.slice(0, 60)}...` : text
}
