/**
 * A worker over HTTP: health, metrics, everything that `Admin` has as JSON (described at `/api/openapi.json`), a stream of
 * looks, and the page. `Worker.run(parts, { web: {} })` serves it beside the work; `layer` serves it alone, beside any
 * engine; `routes` puts it into a server of your own.
 *
 * Gotcha: without a token everything may be looked at from this machine, and nothing be changed.
 */
import { createServer } from "node:http"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { type Context, Effect, flow, Layer, Redacted } from "effect"
import { HttpRouter, HttpServer, type HttpServerError, HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { PrometheusMetrics } from "effect/observability"
import type * as Admin from "../Admin.ts"
import type * as Engine from "../Engine.ts"
import { Misconfigured } from "../Errors.ts"
import { checkCount, invalid } from "../internal/names.ts"
import * as Metrics from "../Metrics.ts"
import { Api } from "./api.ts"
import * as Assets from "./assets.ts"
import { isLoopback, type Rules } from "./guard.ts"
import { handlers } from "./handlers.ts"
import * as Health from "./health.ts"
import { protect } from "./protection.ts"
import { type Watching, watchingOf } from "./watching.ts"

export { Api }

/** Routes of your own; their handlers may ask for the engine. */
export type Routes = Layer.Layer<
  never,
  never,
  | HttpRouter.HttpRouter
  | Engine.Services
  | HttpRouter.Request<"Requires", Engine.Services>
  | HttpRouter.Request<"Error", any>
>

export interface Options {
  /** Default 6066; 0 takes any that is free. */
  readonly port?: number | undefined
  /** Default 127.0.0.1. Beyond loopback a token is demanded, at the start and from every request. */
  readonly host?: string | undefined
  /**
   * What requests must bring (`Authorization: Bearer <token>`, or as the password of `Basic`): those that change something,
   * and those from elsewhere. At least 16 visible characters.
   */
  readonly token?: Redacted.Redacted<string> | undefined
  /** Served beside ours, behind the same guard. */
  readonly routes?: Routes | undefined
}

export interface RoutesOptions {
  readonly token?: Redacted.Redacted<string> | undefined
  /** Where the page is; default `/`. */
  readonly page?: HttpRouter.PathInput | undefined
}

const defaultPort = 6_066

const checkToken = (token: Redacted.Redacted<string> | undefined): Redacted.Redacted<string> | undefined => {
  if (token === undefined) return undefined
  if (!Redacted.isRedacted(token)) throw invalid("web.token: wrap it, as Redacted.make(...) or Config.Redacted(...) do")
  if (!/^[\x21-\x7e]{16,}$/.test(Redacted.value(token)))
    throw invalid("web.token: give at least 16 visible ASCII characters, without spaces")
  return token
}

const metrics = HttpRouter.add(
  "GET",
  "/metrics",
  // What cannot be had in time stays as it was.
  Effect.map(Effect.andThen(Effect.timeoutOption(Metrics.refresh, "2 seconds"), PrometheusMetrics.format()), (text) =>
    HttpServerResponse.text(text, { contentType: "text/plain; version=0.0.4; charset=utf-8" })
  )
)

const ours = (page: HttpRouter.PathInput) =>
  Layer.mergeAll(
    Health.routes,
    metrics,
    Assets.routes(page),
    HttpApiBuilder.layer(Api, { openapiPath: "/api/openapi.json" }).pipe(Layer.provide(handlers))
  ).pipe(Layer.provide(HttpServer.layerServices))

/**
 * Our routes for a server of your own, each behind its guard: requests from elsewhere, and those that change something, need
 * the token; without one in the options they are refused. Health is that of the worker, if its layer is provided.
 */
export const routes = (
  options: RoutesOptions = {}
): Layer.Layer<never, never, HttpRouter.HttpRouter | Admin.Services> => {
  const rules: Rules = { token: checkToken(options.token), always: false }
  // It answers all failures itself and asks for nothing, which the router's types cannot see.
  const guarded = HttpRouter.middleware(protect(rules) as never) as unknown as { readonly layer: Layer.Layer<never> }
  return Layer.provide(ours(options.page ?? "/"), guarded.layer)
}

/** A server of its own; fails if it is not safe, or cannot listen. Gives the server, whose address tests may ask for. */
export const layer = (options: Options = {}): Layer.Layer<HttpServer.HttpServer, Misconfigured, Engine.Services> =>
  Layer.unwrap(
    Effect.contextWith((context: Context.Context<never>) => {
      try {
        return Effect.succeed(serve(options, watchingOf(context)))
      } catch (error) {
        return error instanceof Misconfigured ? Effect.fail(error) : Effect.die(error)
      }
    })
  )

const serve = (options: Options, watching: Watching | undefined) => {
  const { host = "127.0.0.1" } = options
  const port = checkCount("web.port", options.port ?? defaultPort, 0, 65_535)
  const token = checkToken(options.token)
  const open = !isLoopback(host)
  if (open && token === undefined) {
    throw invalid(`web.host: ${JSON.stringify(host)} is open to other machines: give web.token too, or leave host out`)
  }
  const protection = protect({ token, always: open })
  const around = watching === undefined ? protection : flow(protection, watching.around)
  const guarded = HttpRouter.middleware(around as never, { global: true })
  const served = Layer.merge(ours("/"), options.routes ?? Layer.empty)
  const app = Layer.merge(watching === undefined ? served : noted(served, watching), guarded as Layer.Layer<never>)
  const server = NodeHttpServer.layer(() => createServer({ requestTimeout: 30_000, headersTimeout: 10_000 }), {
    host,
    port,
    // Who listens to events is told by then.
    gracefulShutdownTimeout: "1 second"
  })
  return Layer.mergeAll(HttpRouter.serve(app, { disableLogger: true, disableListenLog: true }), said).pipe(
    Layer.provideMerge(server),
    Layer.catchTag("ServeError", (error) =>
      Layer.effect(HttpServer.HttpServer, Effect.fail(cannotListen(host, port, error)))
    )
  )
}

/** The same routes; what stands around them asks for nothing that a request does not bring. */
const noted = <E, R>(served: Layer.Layer<never, E, R>, { noting }: Watching): Layer.Layer<never, E, R> =>
  Layer.provide(
    served,
    (HttpRouter.middleware(noting as never) as unknown as { readonly layer: Layer.Layer<never> }).layer
  )

const said = Layer.effectDiscard(
  HttpServer.addressFormattedWith((address) => Effect.logInfo(`the web server listens on ${address}`))
)

const cannotListen = (host: string, port: number, { cause }: HttpServerError.ServeError): Misconfigured => {
  const why = cause instanceof Error && "code" in cause ? String(cause.code) : "it was refused"
  return invalid(`web: port ${port} of ${host} cannot be listened on (${why}): give another (web.port, web.host)`)
}
