/** The engine that a command works on: by flag, else by environment; its namespace also by the app. */
import { Config, Effect, Layer, Option, Redacted } from "effect"
import * as Engine from "../Engine.ts"
import { NotFound } from "../Errors.ts"
import * as Settings from "../Settings.ts"
import { WrongUse } from "./failures.ts"
import { logging, Namespace, Url } from "./globals.ts"

/** What a module says of where and how it runs. */
interface Place {
  /** The app's. */
  readonly namespace: string | undefined
  readonly settings: Settings.Options
}

/** URL, namespace and shards, wherever they are given. */
export const options = (appNamespace: string | undefined) =>
  Effect.gen(function* () {
    const url = Option.firstSomeOf([yield* Url, yield* Config.option(Config.Redacted("MILLRACE_URL"))])
    if (Option.isNone(url) || Redacted.value(url.value).trim() === "") {
      return yield* new WrongUse({
        message:
          "there is no engine: give --url or set MILLRACE_URL, such as redis://localhost:6379 or file:./events.db"
      })
    }
    return { url: url.value, namespace: yield* namespaceOf(appNamespace), shards: yield* Engine.shardsConfig }
  })

/** The one that a command works in; undefined if nothing names one. */
const namespaceOf = (appNamespace: string | undefined) =>
  Effect.gen(function* () {
    const named = Option.firstSomeOf([yield* Namespace, yield* Config.option(Config.String("MILLRACE_NAMESPACE"))])
    return Option.getOrElse(named, () => appNamespace)
  })

/** Where something was looked for, as people are told who may have meant another one. */
export const place = (appNamespace?: string | undefined) =>
  Effect.map(namespaceOf(appNamespace), (namespace = "millrace") => `(in namespace ${namespace}; see --namespace)`)

/** With the settings of the app, of which those of logs are heard at once. */
export const engine = ({ namespace, settings = {} }: Partial<Place> = {}) => {
  const opened = Layer.unwrap(Effect.map(options(namespace), Engine.layer))
  const { logFormat, logLevel } = settings
  const logged = logFormat === undefined && logLevel === undefined ? Layer.empty : Layer.fresh(logging)
  return Layer.merge(opened, logged).pipe(Layer.provideMerge(Layer.succeed(Settings.Application, settings)))
}

/** Gives an effect the engine; why it cannot be had is its failure. A wrong name is told with where it was looked for. */
export const withEngine =
  (app: Partial<Place> = {}) =>
  <A, E, R>(self: Effect.Effect<A, E, R>) =>
    Effect.gen(function* () {
      const where = yield* place(app.namespace)
      return yield* self.pipe(
        Effect.catchIf(
          (error) => error instanceof NotFound,
          ({ message }) => new WrongUse({ message: `${message} ${where}` })
        ),
        Effect.provide(engine(app))
      )
    })
