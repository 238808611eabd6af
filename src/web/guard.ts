/**
 * Who may ask for what. A request is near if it comes from this machine, to a name of this machine, past no proxy: it may
 * look without a token. Whatever changes something needs the token, from near too, and so does everything from afar;
 * without a token in the options that is refused. What a page of another origin asks for is refused in any case.
 *
 * Gotcha: the name in `Host` counts as much as the address. A foreign page can have its name point to 127.0.0.1, and the
 * browser then calls from near.
 */
import { createHash, timingSafeEqual } from "node:crypto"
import { Option, Redacted } from "effect"
import type { HttpServerRequest, HttpServerResponse } from "effect/http"
import { respond } from "./problems.ts"

export interface Rules {
  readonly token: Redacted.Redacted<string> | undefined
  /** Near requests need the token too: the server is open to others. */
  readonly always: boolean
}

type Request = HttpServerRequest.HttpServerRequest
type Response = HttpServerResponse.HttpServerResponse

/** Names and addresses that stay on this machine. */
export const isLoopback = (host: string): boolean =>
  host === "localhost" ||
  host.endsWith(".localhost") ||
  host === "::1" ||
  host === "[::1]" ||
  /^(::ffff:)?127(\.\d{1,3}){3}$/.test(host)

/** Headers that proxies add. */
const proxied = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"]

const nameIn = (host: string): string => /^(\[[^\]]*\]|[^:]*)(:\d{1,5})?$/.exec(host)?.[1]?.toLowerCase() ?? ""

const isNear = ({ headers, peerAddress }: Request): boolean =>
  Option.exists(peerAddress, isLoopback) &&
  isLoopback(nameIn(headers["host"] ?? "")) &&
  proxied.every((name) => headers[name] === undefined)

const safeMethods: ReadonlyArray<string> = ["GET", "HEAD", "OPTIONS"]

/** A page of another origin asks, as far as its browser tells. A link to a page of ours is none of that. */
const isForeign = ({ headers, method }: Request): boolean => {
  const site = headers["sec-fetch-site"]
  const isVisit =
    method === "GET" && headers["sec-fetch-mode"] === "navigate" && headers["sec-fetch-dest"] === "document"
  if (site !== undefined && site !== "same-origin" && site !== "none" && !isVisit) return true
  const { origin } = headers
  return origin !== undefined && hostOf(origin) !== (headers["host"] ?? "").toLowerCase()
}

const hostOf = (origin: string): string | undefined => (URL.canParse(origin) ? new URL(origin).host : undefined)

/** Digests have one length, so comparing them tells nothing of the token's. */
const digest = (text: string): Buffer => createHash("sha256").update(text).digest()

/** `Bearer <token>`; or `Basic`, with the token as the password, which is what a browser can send by itself. */
const given = (authorization: string | undefined): string | undefined => {
  const match = /^(bearer|basic) +(\S+) *$/i.exec(authorization ?? "")
  if (match === null) return undefined
  const text = match[2]!
  if (match[1]!.toLowerCase() === "bearer") return text
  const pair = Buffer.from(text, "base64").toString()
  return pair.slice(pair.indexOf(":") + 1)
}

const unauthorized = ({ headers }: Request): Response =>
  respond(401, "Unauthorized", "this needs the token: send it as `Authorization: Bearer <token>`", {
    // A browser asks its user only where it visits a page; scripts ask by themselves.
    "www-authenticate": headers["sec-fetch-mode"] === "navigate" ? 'Basic realm="millrace", charset="UTF-8"' : "Bearer"
  })

/** The answer to a request that may not go on; undefined if it may. */
export const guard = ({ always, token }: Rules): ((request: Request) => Response | undefined) => {
  const secret = token === undefined ? undefined : digest(Redacted.value(token))
  return (request) => {
    const { headers, method } = request
    if (isForeign(request)) return respond(403, "Forbidden", "a page of another origin may not ask this")
    const near = isNear(request)
    if (near && !always && safeMethods.includes(method)) return undefined
    if (secret === undefined) {
      return respond(
        403,
        "Forbidden",
        near
          ? "what changes something needs a token, and this server has none: start it with web: { token }, or millrace " +
              "worker with MILLRACE_WEB_TOKEN"
          : "beyond this machine a token is needed, and this server has none: start it with web: { token }, or millrace " +
              "worker with MILLRACE_WEB_TOKEN"
      )
    }
    const text = given(headers["authorization"])
    return text !== undefined && timingSafeEqual(digest(text), secret) ? undefined : unauthorized(request)
  }
}
