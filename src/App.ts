/**
 * Parts under a name: what programs, tests and tools share. The name is the namespace of the engine (`App.engine`), so two
 * apps on one Redis never meet; a version makes a fresh one. The command line looks there too.
 */
import { Effect, Layer } from "effect"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import type * as Engine from "./Engine.ts"
import * as AsyncApi from "./internal/asyncApi.ts"
import { catalogOf } from "./internal/catalog.ts"
import { checkName } from "./internal/names.ts"
import { DefaultNamespace, IsNameless } from "./internal/namespace.ts"
import type * as Part from "./Part.ts"
import * as Settings from "./Settings.ts"
import * as Worker from "./Worker.ts"

type Covariant<A> = (_: never) => A

/** A command of the program's own, for `millrace run`: as `Command.make` of `effect/cli` gives it. */
export interface Command<out R> {
  readonly "~effect/cli/Command": { readonly R: Covariant<R> }
  readonly name: string
}

export interface App<out E, out R> extends Pipeable {
  readonly "~millrace/App": { readonly _E: Covariant<E>; readonly _R: Covariant<R> }
  readonly name: string
  readonly version: string | undefined
  readonly parts: ReadonlyArray<Part.Part<E, R>>
  readonly commands: ReadonlyArray<Command<unknown>>
  /** What it was given; durations in milliseconds. */
  readonly settings: Settings.Options
  /** @internal What commands are given beside the engine. */
  readonly layer: Layer.Layer<any, never, any> | undefined
}

const Proto = {
  "~millrace/App": { _E: (_: never) => _, _R: (_: never) => _ },
  pipe() {
    return pipeArguments(this, arguments)
  }
}

/**
 * Collect parts. `layer` gives them what they need, built once for a worker; `middleware` is put around each, outside its
 * own. `commands` are run by the command line (`millrace run`), and may need what the engine and `layer` give. `settings`
 * stand above the environment and below the program's (`Settings.layer`).
 */
export const make = <const P extends ReadonlyArray<Part.Any>, ROut = never, RIn = never>(options: {
  readonly name: string
  readonly version?: string | undefined
  readonly parts: P & Worker.Declared<Part.Services<P[number]>>
  readonly layer?: Layer.Layer<ROut, never, RIn> | undefined
  readonly middleware?: (<E, R>(part: Part.Part<E, R>) => Part.Part<E, R>) | undefined
  readonly commands?: ReadonlyArray<Command<Engine.Services | ROut>> | undefined
  readonly settings?: Settings.Options | undefined
}): App<Part.Error<P[number]>, Exclude<Part.Services<P[number]>, ROut> | RIn> => {
  const { commands = [], layer, middleware, parts, settings = {} } = options
  const name = checkName("app", options.name)
  return Object.assign(Object.create(Proto), {
    name,
    version: options.version === undefined ? undefined : checkName("app version", options.version),
    parts: (parts as ReadonlyArray<Part.Any>).map((part) => {
      const wrapped = middleware === undefined ? part : middleware(part)
      return layer === undefined
        ? wrapped
        : wrapped.with({ layers: [...wrapped.definition.layers, layer as Layer.Layer<any, never>] })
    }),
    commands,
    settings: Settings.check(settings, `app ${name}: settings`),
    layer
  })
}

/** The namespace of this app: its name, and its version if it has one. */
export const namespace = (app: App<unknown, unknown>): string =>
  app.version === undefined ? app.name : `${app.name}.${app.version}`

/**
 * An engine, opened for this app: under its namespace, unless `MILLRACE_NAMESPACE` (`Engine.layerConfig`) or an option names
 * another one, and with its settings. For all programs of an app, those that only publish too:
 * `Effect.provide(App.engine(app, Engine.layerConfig))`.
 */
export const engine = <E, R>(
  app: App<unknown, unknown>,
  engine: Layer.Layer<Engine.Services, E, R>
): Layer.Layer<Engine.Services, E, R> =>
  // A layer of two apps is two engines, though elsewhere it is one.
  Layer.effectContext(Layer.build(Layer.fresh(engine))).pipe(
    Layer.provideMerge(
      Layer.merge(Layer.succeed(DefaultNamespace, namespace(app)), Layer.succeed(Settings.Application, app.settings))
    )
  )

/**
 * Run its parts: `Worker.run`, with the settings of the app. Of an engine that was opened under no name it
 * warns: other programs are there too, and the command line looks under the app's. `App.engine` opens it there.
 */
export const run = <E, R>(
  app: App<E, R>,
  options?: Worker.Options
): Effect.Effect<Worker.Summary, Worker.Failure<E>, R | Engine.Services> =>
  Effect.gen(function* () {
    if (yield* IsNameless) {
      yield* Effect.logWarning(
        `app ${app.name} runs on an engine that was opened under no name, where every program without one is; open it ` +
          "with App.engine(app, Engine.layerConfig), set MILLRACE_NAMESPACE, or give it a namespace"
      )
    }
    return yield* Worker.run(app.parts as ReadonlyArray<Part.Part<E, never>>, options)
  }).pipe(Effect.provideService(Settings.Application, app.settings)) as Effect.Effect<
    Worker.Summary,
    Worker.Failure<E>,
    R | Engine.Services
  >

/**
 * What it reads, answers and runs, with all schemas, as an AsyncAPI 3.0 document (JSON). Topics that are only written to
 * are in no part, so they are not in it.
 */
export const asyncApi = (app: App<unknown, unknown>): AsyncApi.Document =>
  AsyncApi.build({ title: app.name, version: app.version ?? "0.0.0" }, catalogOf(app.parts))
