/** What the API fails with: a status, a tag, and one sentence that is made for whoever asked. */
import { type Duration, Effect, Schema } from "effect"
import { HttpServerResponse } from "effect/http"
import type { EngineError, EventsLost, Misconfigured, NotFound } from "../Errors.ts"

const fields = { message: Schema.String }

export class BadRequest extends Schema.TaggedError<BadRequest>()("BadRequest", fields, { httpApiStatus: 400 }) {}
export class NotThere extends Schema.TaggedError<NotThere>()("NotFound", fields, { httpApiStatus: 404 }) {}
/** What is asked for cannot be done as things are. */
export class Refused extends Schema.TaggedError<Refused>()("Refused", fields, { httpApiStatus: 409 }) {}
export class Unavailable extends Schema.TaggedError<Unavailable>()("Unavailable", fields, { httpApiStatus: 503 }) {}

export type Problem = BadRequest | NotThere | Refused | Unavailable

/** How long an answer of the engine is waited for; and one that goes over many events or jobs. */
const patience = "5 seconds"
export const long = "5 minutes"

/** What the engine's own text says is for logs: it may name hosts. */
const away = (): Unavailable => new Unavailable({ message: "the engine cannot be reached now; see the worker's log" })

const toProblem = (error: EngineError | EventsLost | Misconfigured | NotFound): Problem => {
  switch (error._tag) {
    case "NotFound":
      return new NotThere({ message: error.message })
    case "Misconfigured":
      return new Refused({ message: error.detail })
    case "EventsLost":
      return new Refused({ message: error.message })
    case "EngineError":
      return error.reason === "Refused" ? new Refused({ message: error.message }) : away()
  }
}

/** An operation of `Admin` as an answer. */
export const answer = <A, R>(
  effect: Effect.Effect<A, EngineError | EventsLost | Misconfigured | NotFound, R>,
  duration: Duration.Input = patience
): Effect.Effect<A, Problem, R> =>
  effect.pipe(
    Effect.tapError((error) =>
      error._tag === "EngineError" ? Effect.logDebug("a request met an engine that failed", error) : Effect.void
    ),
    Effect.mapError(toProblem),
    Effect.timeoutOrElse({ duration, orElse: () => Effect.fail(away()) })
  )

/** The same form, for what is answered before a route is found. */
export const respond = (
  status: number,
  tag: string,
  message: string,
  headers: Readonly<Record<string, string>> = {}
): HttpServerResponse.HttpServerResponse => HttpServerResponse.jsonUnsafe({ _tag: tag, message }, { status, headers })
