/** The web server of a worker, loaded when it is asked for: a program without one does not pay for it. */
import { Effect, Layer } from "effect"
import type { Options } from "../../web/Web.ts"
import { CurrentHealth, type Health } from "./health.ts"

/** Serves until the scope closes. */
export const serveWeb = (options: Options, health: Health) =>
  Effect.flatMap(
    Effect.promise(() => import("../../web/Web.ts")),
    (Web) => Effect.provideService(Layer.build(Web.layer(options)), CurrentHealth, health)
  )
