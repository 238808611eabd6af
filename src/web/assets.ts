/**
 * The files of the page, as they lie in `assets` beside this module; the build copies them. They are read once, served by
 * their exact names, and asked for again by their digest. The charts are drawn by uPlot, whose files come from its package.
 */
import { createHash } from "node:crypto"
import { readdirSync, readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { fileURLToPath } from "node:url"
import { Effect, Layer, Option } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse, Mime } from "effect/http"

interface Asset {
  readonly body: Uint8Array
  readonly type: string
  readonly etag: string
}

const directory = fileURLToPath(new URL("./assets/", import.meta.url))
const require = createRequire(import.meta.url)

const typeOf = (name: string): string => {
  const type = Option.getOrElse(Mime.getType(name), () => "application/octet-stream")
  return /^text\/|javascript|json|svg/.test(type) ? `${type}; charset=utf-8` : type
}

const load = (file: string): Asset => {
  const body = readFileSync(file)
  const etag = `"${createHash("sha256").update(body).digest("base64url").slice(0, 22)}"`
  return { body, type: typeOf(file), etag }
}

const serve = ({ body, etag, type }: Asset) =>
  Effect.map(HttpServerRequest.HttpServerRequest, ({ headers }) => {
    const known = { etag, "cache-control": "no-cache" }
    const asked = headers["if-none-match"]?.split(",").map((one) => one.trim().replace(/^W\//, "")) ?? []
    return asked.includes(etag)
      ? HttpServerResponse.empty({ status: 304, headers: known })
      : HttpServerResponse.uint8Array(body, { contentType: type, headers: known })
  })

/** Paths below `/assets`, and where their files are. */
const files = (): ReadonlyArray<readonly [string, string]> => [
  ...readdirSync(directory, { recursive: true, encoding: "utf8" })
    .map((path) => path.replaceAll("\\", "/"))
    .filter((path) => /^([a-z]+\/)?\w[\w-]*\.\w+$/.test(path))
    .map((path) => [path, directory + path] as const),
  ["uPlot.js", require.resolve("uplot/dist/uPlot.esm.js")],
  ["uPlot.css", require.resolve("uplot/dist/uPlot.min.css")]
]

/** The page at this path, all else below `/assets`. */
export const routes = (page: HttpRouter.PathInput) =>
  Layer.unwrap(
    Effect.sync(() =>
      HttpRouter.addAll([
        HttpRouter.route("GET", page, serve(load(`${directory}index.html`))),
        ...files().map(([path, file]) => HttpRouter.route("GET", `/assets/${path}`, serve(load(file))))
      ])
    )
  )
