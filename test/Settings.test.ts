/** Four levels, the later wins; wrong values name themselves. */
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, DateTime, Effect, Layer, Logger, References } from "effect"
import * as App from "../src/App.ts"
import * as Engine from "../src/Engine.ts"
import { Misconfigured } from "../src/Errors.ts"
import * as Settings from "../src/Settings.ts"

const environment = (variables: Record<string, string>) =>
  Settings.layerConfig.pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env: variables }))))

/** One row per option: how it is written at each level, and what comes out. */
const options: ReadonlyArray<{
  readonly name: string
  readonly variable: string
  readonly builtIn: unknown
  readonly read: (settings: Settings.Settings) => unknown
  readonly set: (value: never) => Settings.Options
  readonly text: readonly [string, unknown]
  readonly program: readonly [unknown, unknown]
  readonly part: readonly [unknown, unknown]
}> = [
  {
    name: "lease",
    variable: "MILLRACE_LEASE",
    builtIn: 10_000,
    read: (s) => s.lease,
    set: (lease) => ({ lease }),
    text: ["2 seconds", 2000],
    program: ["3 seconds", 3000],
    part: [4000, 4000]
  },
  {
    name: "grace",
    variable: "MILLRACE_GRACE",
    builtIn: 25_000,
    read: (s) => s.grace,
    set: (grace) => ({ grace }),
    text: ["0", 0],
    program: ["1 minute", 60_000],
    part: [0, 0]
  },
  {
    name: "settle",
    variable: "MILLRACE_SETTLE",
    builtIn: 50,
    read: (s) => s.settle,
    set: (settle) => ({ settle }),
    text: ["75", 75],
    program: [0, 0],
    part: ["20 millis", 20]
  },
  {
    name: "prefetch.events",
    variable: "MILLRACE_PREFETCH_EVENTS",
    builtIn: 256,
    read: (s) => s.prefetch.events,
    set: (events) => ({ prefetch: { events } }),
    text: ["10", 10],
    program: [20, 20],
    part: [1, 1]
  },
  {
    name: "prefetch.bytes",
    variable: "MILLRACE_PREFETCH_BYTES",
    builtIn: 1_048_576,
    read: (s) => s.prefetch.bytes,
    set: (bytes) => ({ prefetch: { bytes } }),
    text: ["1000", 1000],
    program: [2000, 2000],
    part: [1, 1]
  },
  {
    name: "maxUncommitted",
    variable: "MILLRACE_MAX_UNCOMMITTED",
    builtIn: 10_000,
    read: (s) => s.maxUncommitted,
    set: (maxUncommitted) => ({ maxUncommitted }),
    text: ["10", 10],
    program: [20, 20],
    part: [1, 1]
  },
  {
    name: "slowAfter",
    variable: "MILLRACE_SLOW_AFTER",
    builtIn: 300_000,
    read: (s) => s.slowAfter,
    set: (slowAfter) => ({ slowAfter }),
    text: ["1.5 seconds", 1500],
    program: ["2 hours", 7_200_000],
    part: [1, 1]
  },
  {
    name: "readTimeout",
    variable: "MILLRACE_READ_TIMEOUT",
    builtIn: 5_000,
    read: (s) => s.readTimeout,
    set: (readTimeout) => ({ readTimeout }),
    text: ["1 second", 1000],
    program: [2000, 2000],
    part: [1, 1]
  },
  {
    name: "timezone",
    variable: "MILLRACE_TIMEZONE",
    builtIn: "UTC",
    read: (s) => s.timezone,
    set: (timezone) => ({ timezone }),
    text: ["Europe/Vienna", "Europe/Vienna"],
    program: ["+02:00", "+02:00"],
    part: [DateTime.zoneMakeNamedUnsafe("Asia/Tokyo"), "Asia/Tokyo"]
  },
  {
    name: "logLevel",
    variable: "MILLRACE_LOG_LEVEL",
    builtIn: undefined,
    read: (s) => s.logLevel,
    set: (logLevel) => ({ logLevel }),
    text: ["debug", "Debug"],
    program: ["Warn", "Warn"],
    part: ["None", "None"]
  },
  {
    name: "logFormat",
    variable: "MILLRACE_LOG_FORMAT",
    builtIn: undefined,
    read: (s) => s.logFormat,
    set: (logFormat) => ({ logFormat }),
    text: ["json", "json"],
    program: ["logfmt", "logfmt"],
    part: ["pretty", "pretty"]
  }
]

describe("levels", () => {
  for (const { builtIn, name, part, program, read, set, text, variable } of options) {
    const wanted = Effect.map(Settings.current, read)
    const fromEnvironment = environment({ [variable]: text[0] })
    const fromProgram = Settings.layer(set(program[0] as never))
    const ofApp = (value: unknown) => App.make({ name: "shop", parts: [], settings: set(value as never) })

    it.effect(`${name}: environment < app < program, however they are put together`, () =>
      Effect.gen(function* () {
        const fromApp = App.engine(ofApp(program[0]), Engine.layerMemory)
        const over = Settings.layer(set(part[0] as never))
        for (const some of [Layer.merge(fromApp, fromEnvironment), Layer.provideMerge(fromEnvironment, fromApp)]) {
          assert.deepStrictEqual(yield* Effect.provide(wanted, some), program[1])
        }
        for (const some of [Layer.merge(fromApp, over), Layer.provideMerge(fromApp, over)]) {
          assert.deepStrictEqual(yield* Effect.provide(wanted, some), part[1])
        }
      })
    )

    it.effect(`${name}: built in < environment < program < part`, () =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* wanted, builtIn)
        assert.deepStrictEqual(yield* Effect.provide(wanted, environment({})), builtIn)
        assert.deepStrictEqual(yield* Effect.provide(wanted, fromEnvironment), text[1])
        assert.deepStrictEqual(yield* Effect.provide(wanted, fromProgram), program[1])
        // However the two are put together.
        for (const both of [
          Layer.mergeAll(fromEnvironment, fromProgram),
          Layer.mergeAll(fromProgram, fromEnvironment),
          Layer.provideMerge(fromEnvironment, fromProgram),
          Layer.provideMerge(fromProgram, fromEnvironment)
        ]) {
          assert.deepStrictEqual(yield* Effect.provide(wanted, both), program[1])
          const settings = yield* Effect.provide(Settings.current, both)
          assert.deepStrictEqual(read(Settings.override(settings, set(part[0] as never), "a part")), part[1])
          assert.deepStrictEqual(read(Settings.override(settings, set(undefined as never), "a part")), program[1])
        }
      })
    )
  }

  it.effect("layers of the program add up, the inner one wins", () =>
    Effect.gen(function* () {
      const settings = yield* Settings.current.pipe(
        Effect.provide(Settings.layer({ lease: "3 seconds", prefetch: { bytes: 7 } })),
        Effect.provide(Settings.layer({ lease: "2 seconds", grace: 5, prefetch: { events: 6, bytes: 5 } }))
      )
      assert.deepStrictEqual(settings, {
        ...Settings.defaults,
        lease: 3000,
        grace: 5,
        prefetch: { events: 6, bytes: 7 }
      })
    })
  )

  it.effect("an option that is undefined, or a variable that is empty, is not set", () =>
    Effect.gen(function* () {
      const settings = yield* Settings.current.pipe(
        Effect.provide(Settings.layer({ lease: undefined, prefetch: { events: undefined, bytes: 3 } })),
        Effect.provide(environment({ MILLRACE_LEASE: "", MILLRACE_GRACE: "  ", MILLRACE_SETTLE: " 5 millis " }))
      )
      assert.deepStrictEqual(settings, { ...Settings.defaults, settle: 5, prefetch: { events: 256, bytes: 3 } })
    })
  )
})

describe("wrong values", () => {
  const duration = (least: number) =>
    `give a duration of at least ${least} millis, such as "10 seconds", "500 millis" or a number of milliseconds`
  const zone = 'give a time zone, such as "Europe/Vienna" or "+02:00"'
  const atLeastOne = "give a whole number of at least 1"
  const rows: ReadonlyArray<readonly [variable: string, text: string, expected: string]> = [
    ["MILLRACE_LEASE", "soon", duration(100)],
    ["MILLRACE_LEASE", "99", duration(100)],
    ["MILLRACE_LEASE", "Infinity", duration(100)],
    ["MILLRACE_GRACE", "-1 seconds", duration(0)],
    ["MILLRACE_SETTLE", "1 fortnight", duration(0)],
    ["MILLRACE_PREFETCH_EVENTS", "0", atLeastOne],
    ["MILLRACE_PREFETCH_BYTES", "1.5", atLeastOne],
    ["MILLRACE_MAX_UNCOMMITTED", "many", atLeastOne],
    ["MILLRACE_SLOW_AFTER", "0", duration(1)],
    ["MILLRACE_READ_TIMEOUT", "0", duration(1)],
    ["MILLRACE_TIMEZONE", "Mars", zone],
    ["MILLRACE_LOG_LEVEL", "loud", "give one of All, Fatal, Error, Warn, Info, Debug, Trace, None"],
    ["MILLRACE_LOG_FORMAT", "xml", "give one of pretty, logfmt, json, structured"]
  ]
  for (const [variable, text, expected] of rows) {
    it.effect(`${variable}=${text} names itself`, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Effect.provide(Settings.current, environment({ [variable]: text })))
        assert.instanceOf(error, Misconfigured)
        assert.strictEqual(error.message, `InvalidOption: ${variable} is "${text}": ${expected}`)
      })
    )
  }

  it.effect("all wrong variables are named at once", () =>
    Effect.gen(function* () {
      const wrong = environment({ MILLRACE_LEASE: "x", MILLRACE_GRACE: "1 second", MILLRACE_PREFETCH_BYTES: "y" })
      const error = yield* Effect.flip(Effect.provide(Settings.current, wrong))
      assert.include(error.message, `MILLRACE_LEASE is "x"`)
      assert.include(error.message, `MILLRACE_PREFETCH_BYTES is "y"`)
      assert.notInclude(error.message, "MILLRACE_GRACE")
    })
  )

  it.effect("a URL in the wrong variable keeps its password", () =>
    Effect.gen(function* () {
      const wrong = environment({ MILLRACE_LEASE: "redis://user:hunter2@host" })
      const error = yield* Effect.flip(Effect.provide(Settings.current, wrong))
      assert.include(error.message, "MILLRACE_LEASE is a text with an @")
      assert.notInclude(error.message, "hunter2")
    })
  )

  const options: ReadonlyArray<readonly [Settings.Options, string]> = [
    [{ lease: 0 }, `lease is 0: ${duration(100)}`],
    [{ lease: Number.NaN }, `lease is NaN: ${duration(100)}`],
    [{ grace: -1 }, `grace is -1: ${duration(0)}`],
    [{ slowAfter: "Infinity" }, `slowAfter is "Infinity": ${duration(1)}`],
    [{ prefetch: { events: 0 } }, `prefetch.events is 0: ${atLeastOne}`],
    [{ prefetch: { bytes: -1 } }, `prefetch.bytes is -1: ${atLeastOne}`],
    [{ maxUncommitted: 1.5 }, `maxUncommitted is 1.5: ${atLeastOne}`],
    // Wrong on purpose, as from JavaScript.
    [{ timezone: 5 as never }, `timezone is 5: ${zone}`],
    [{ settle: null as never }, `settle is null: ${duration(0)}`],
    [{ logLevel: 3 as never }, "logLevel is 3: give one of All, Fatal, Error, Warn, Info, Debug, Trace, None"]
  ]
  it.each(options)("%j is refused by layer and override", (given, expected) => {
    const refused = (f: () => unknown): unknown => {
      try {
        return f()
      } catch (error) {
        return error instanceof Misconfigured ? error.detail : error
      }
    }
    assert.strictEqual(
      refused(() => Settings.layer(given)),
      `Settings.layer: ${expected}`
    )
    const where = `processor "billing"`
    assert.strictEqual(
      refused(() => Settings.override(Settings.defaults, given, where)),
      `${where}: ${expected}`
    )
  })
})

describe("layerLogger", () => {
  const logged = Effect.gen(function* () {
    const loggers = yield* Logger.CurrentLoggers
    return { level: yield* References.MinimumLogLevel, loggers: [...loggers] }
  })

  it.effect("changes nothing if nothing is set", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* Effect.provide(logged, Settings.layerLogger), yield* logged)
    })
  )

  it.effect("sets level and format, from the environment too", () =>
    Effect.gen(function* () {
      const settings = environment({ MILLRACE_LOG_LEVEL: "warn", MILLRACE_LOG_FORMAT: "JSON" })
      const found = yield* logged.pipe(Effect.provide(Settings.layerLogger), Effect.provide(settings))
      assert.strictEqual(found.level, "Warn")
      assert.deepStrictEqual(found.loggers, [Logger.consoleJson])
    })
  )
})
