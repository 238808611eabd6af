/** Asking a web server: by plain requests that may carry any header, as browsers and strangers send them. */
import { type IncomingHttpHeaders, request } from "node:http"
import { Effect } from "effect"
import { HttpServer } from "effect/http"

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  /** Of what is JSON. */
  readonly json: any
}

export interface Ask {
  readonly method?: string | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
  readonly body?: string | undefined
}

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** One request, on a connection of its own. */
export const ask =
  (port: number) =>
  (path: string, { body, headers = {}, method = "GET" }: Ask = {}): Effect.Effect<Answer> =>
    Effect.callback<Answer>((resume) => {
      const sent = request(
        { host: "127.0.0.1", port, path, method, headers, agent: false, setHost: headers["host"] === undefined },
        (response) => {
          const parts: Array<Buffer> = []
          response.on("data", (part: Buffer) => parts.push(part))
          response.on("end", () => {
            const text = Buffer.concat(parts).toString()
            const answer = { status: response.statusCode ?? 0, headers: response.headers, text, json: parsed(text) }
            resume(Effect.succeed(answer))
          })
        }
      )
      sent.on("error", (error) => resume(Effect.die(error)))
      sent.end(body)
    })

/** The first event of a stream of them, which does not end by itself. */
export const firstOf = (port: number, path: string): Effect.Effect<string> =>
  Effect.callback<string>((resume) => {
    const sent = request({ host: "127.0.0.1", port, path, agent: false }, (response) => {
      let text = ""
      response.on("error", () => undefined)
      response.on("data", (part: Buffer) => {
        text += part.toString()
        if (!text.includes("\n\n")) return
        sent.destroy()
        resume(Effect.succeed(text))
      })
    })
    sent.on("error", (error) => resume(Effect.die(error)))
    sent.end()
  })

/** Where the server listens that was asked to take any port. */
export const servedPort: Effect.Effect<number, never, HttpServer.HttpServer> = Effect.map(
  HttpServer.HttpServer,
  ({ address }) => ("port" in address ? Number(address.port) : 0)
)

export const token = "a-token-of-the-tests-0123456789"
export const bearer = { authorization: `Bearer ${token}` }
