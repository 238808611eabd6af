/**
 * What stands around every route: the guard, a bound for bodies, headers that keep browsers strict, and answers to whatever
 * fails. A defect is logged and told as such, without its text.
 */
import { ByteSize, Cause, Effect } from "effect"
import {
  HttpIncomingMessage,
  type HttpRouter,
  HttpServerError,
  HttpServerRequest,
  HttpServerResponse
} from "effect/http"
import { guard, type Rules } from "./guard.ts"
import { respond } from "./problems.ts"

/** Of a request's body. */
const maxBody = 64 * 1024

const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "font-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'"
].join("; ")

const strict: Readonly<Record<string, string>> = {
  "content-security-policy": policy,
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin",
  "cross-origin-opener-policy": "same-origin",
  "cache-control": "no-store"
}

/** A route that sets one of them itself knows why. */
const withHeaders = (response: HttpServerResponse.HttpServerResponse): HttpServerResponse.HttpServerResponse => {
  const missing = Object.entries(strict).filter(([name]) => response.headers[name] === undefined)
  return HttpServerResponse.setHeaders(response, Object.fromEntries(missing))
}

const failed = (cause: Cause.Cause<unknown>): Effect.Effect<HttpServerResponse.HttpServerResponse> => {
  if (Cause.hasInterruptsOnly(cause)) return Effect.failCause(cause as Cause.Cause<never>)
  return Effect.flatMap(HttpServerError.causeResponse(cause), ([response]) => {
    const { status } = response
    if (status === 404) return Effect.succeed(respond(404, "NotFound", "there is nothing at this path"))
    if (status === 413) return Effect.succeed(tooLarge)
    if (status < 500) return Effect.succeed(response)
    return Effect.as(
      Effect.logError("a request could not be answered", cause),
      respond(500, "InternalServerError", "this could not be answered; see the worker's log")
    )
  })
}

const tooLarge = respond(413, "PayloadTooLarge", `a body may have ${maxBody} bytes`)

type Handled = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  unknown,
  HttpServerRequest.HttpServerRequest | HttpRouter.Provided
>

/** For `HttpRouter.middleware`. */
export const protect = (rules: Rules) => {
  const check = guard(rules)
  return (
    handled: Handled
  ): Effect.Effect<
    HttpServerResponse.HttpServerResponse,
    never,
    HttpServerRequest.HttpServerRequest | HttpRouter.Provided
  > =>
    Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
      const refused = check(request)
      if (refused !== undefined) return Effect.succeed(withHeaders(refused))
      if (Number(request.headers["content-length"] ?? 0) > maxBody) return Effect.succeed(withHeaders(tooLarge))
      return handled.pipe(
        Effect.provideService(HttpIncomingMessage.MaxBodySize, ByteSize.fromInputUnsafe(maxBody)),
        Effect.catchCause(failed),
        Effect.map(withHeaders)
      )
    })
}
