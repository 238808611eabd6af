/** Asking a web server: by plain requests that may carry any header, as browsers and strangers send them. */
import { type IncomingHttpHeaders, request } from "node:http"
import { createServer } from "node:net"
import { Effect } from "effect"

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

/** A port that nobody has now. */
export const freePort: Effect.Effect<number> = Effect.callback((resume) => {
  const server = createServer()
  server.listen(0, "127.0.0.1", () => {
    const address = server.address()
    const port = typeof address === "object" && address !== null ? address.port : 0
    server.close(() => resume(Effect.succeed(port)))
  })
})

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

export const token = "a-token-of-the-tests-0123456789"
export const bearer = { authorization: `Bearer ${token}` }
