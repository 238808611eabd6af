/**
 * The files of the page, as they lie in `assets` beside this module; the build copies them. They are read once, served by
 * their exact names, and asked for again by their digest.
 */
import { createHash } from "node:crypto"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { Effect, Layer, Option } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse, Mime } from "effect/http"

interface Asset {
  readonly body: Uint8Array
  readonly type: string
  readonly etag: string
}

const directory = fileURLToPath(new URL("./assets/", import.meta.url))

const typeOf = (name: string): string => {
  const type = Option.getOrElse(Mime.getType(name), () => "application/octet-stream")
  return /^text\/|javascript|json|svg/.test(type) ? `${type}; charset=utf-8` : type
}

const load = (name: string): Asset => {
  const body = readFileSync(directory + name)
  const etag = `"${createHash("sha256").update(body).digest("base64url").slice(0, 22)}"`
  return { body, type: typeOf(name), etag }
}

const serve = ({ body, etag, type }: Asset) =>
  Effect.map(HttpServerRequest.HttpServerRequest, ({ headers }) => {
    const known = { etag, "cache-control": "no-cache" }
    const asked = headers["if-none-match"]?.split(",").map((one) => one.trim().replace(/^W\//, "")) ?? []
    return asked.includes(etag)
      ? HttpServerResponse.empty({ status: 304, headers: known })
      : HttpServerResponse.uint8Array(body, { contentType: type, headers: known })
  })

/** The page at this path, all else below `/assets`. */
export const routes = (page: HttpRouter.PathInput) =>
  Layer.unwrap(
    Effect.sync(() => {
      const names = readdirSync(directory).filter((name) => /^[\w][\w.-]*$/.test(name))
      return HttpRouter.addAll([
        HttpRouter.route("GET", page, serve(load("index.html"))),
        ...names.map((name) => HttpRouter.route("GET", `/assets/${name}`, serve(load(name))))
      ])
    })
  )
