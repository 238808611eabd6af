/**
 * What a supervisor asks. `live` is about this process alone: start it anew if not. `ready` is about taking work: the
 * worker has joined its groups, is not shutting down, and its engine answers.
 */
import { Effect, Layer } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { Coordinator, leaderGroup } from "../Coordinator.ts"
import { CurrentHealth } from "../internal/run/health.ts"

/** An engine that takes longer is away. */
const patience = "2 seconds"
/** However often is asked, the engine is asked once in so long. */
const remembered = "1 second"

const response = (reason: string | undefined): HttpServerResponse.HttpServerResponse =>
  reason === undefined
    ? HttpServerResponse.jsonUnsafe({ status: "up" })
    : HttpServerResponse.jsonUnsafe({ status: "down", reason }, { status: 503 })

/** The first reason there is. */
const firstOf = (...reasons: ReadonlyArray<Effect.Effect<string | undefined>>): Effect.Effect<string | undefined> =>
  Effect.gen(function* () {
    for (const reason of reasons) {
      const found = yield* reason
      if (found !== undefined) return found
    }
    return undefined
  })

export const routes = Layer.unwrap(
  Effect.gen(function* () {
    const coordinator = yield* Coordinator
    const { busy, died } = yield* CurrentHealth
    const ask = Effect.matchCause(Effect.timeout(coordinator.group(leaderGroup), patience), {
      // Its own words may name hosts: they are in the log.
      onFailure: () => "the engine does not answer",
      onSuccess: () => undefined
    })
    const away = yield* Effect.cachedWithTTL(ask, remembered)
    return HttpRouter.addAll([
      HttpRouter.route("GET", "/health/live", Effect.map(died, response)),
      HttpRouter.route("GET", "/health/ready", Effect.map(firstOf(died, busy, away), response))
    ])
  })
)
