/** Tells the hooks of `Sensor.layer` what the web server is asked and what it answered; without such a hook there is nothing. */
import { Clock, Context, Effect, Exit } from "effect"
import { HttpRouter, HttpServerRequest, type HttpServerResponse } from "effect/http"
import { senseOf } from "../internal/telemetry/sensing.ts"
import type { WebAnswer } from "../Sensor.ts"

/** Filled in where the route is found, which is further in than the guard. */
interface Found {
  route: string | undefined
}

const CurrentFound = Context.Reference<Found>("millrace/web/Found", { defaultValue: () => ({ route: undefined }) })

type Answered<E, R> = Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>

/** Notes the route that a request has come to; for `HttpRouter.middleware`. */
const noting = <E, R>(handled: Answered<E, R>): Answered<E, R | HttpRouter.RouteContext> =>
  Effect.flatMap(Effect.all([CurrentFound, HttpRouter.RouteContext]), ([found, { route }]) => {
    found.route = route.path
    return handled
  })

export interface Watching {
  /** Around everything, the guard included. */
  readonly around: <E, R>(handled: Answered<E, R>) => Answered<E, R | HttpServerRequest.HttpServerRequest>
  /** Around each route. */
  readonly noting: typeof noting
}

/** Undefined: nobody asks. */
export const watchingOf = (context: Context.Context<never>): Watching | undefined => {
  const sense = senseOf(context, "web")
  if (sense === undefined) return undefined
  const clock = Context.get(context, Clock.Clock)
  return {
    noting,
    around: (handled) =>
      Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ method, url }) => {
        const found: Found = { route: undefined }
        const since = clock.currentTimeNanosUnsafe()
        const end = sense({ method, path: url.replace(/\?.*/s, "") })
        const told = ({ status }: HttpServerResponse.HttpServerResponse): WebAnswer => {
          const millis = Number(clock.currentTimeNanosUnsafe() - since) / 1e6
          return { status, route: found.route, millis }
        }
        return handled.pipe(
          Effect.provideService(CurrentFound, found),
          Effect.onExit((exit) => Effect.sync(() => end(Exit.map(exit, told))))
        )
      })
  }
}
