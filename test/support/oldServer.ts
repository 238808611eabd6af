/** A server on a free port that speaks just enough of the protocol to say that it is an old Redis. */
import { createServer } from "node:net"
import { Effect, type Scope } from "effect"

export const makeOldServer = (version: string): Effect.Effect<string, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<{ readonly url: string; readonly close: () => void }>((resume) => {
      const server = createServer((socket) => {
        socket.on("error", () => {})
        socket.on("data", (data) => {
          // Commands may come several at once; each begins with an asterisk.
          for (const command of data
            .toString()
            .toLowerCase()
            .split(/(?=\*\d+\r\n)/)) {
            if (command.includes("info")) {
              const info = `# Server\r\nredis_version:${version}\r\nredis_mode:standalone\r\nloading:0\r\n`
              socket.write(`$${Buffer.byteLength(info)}\r\n${info}\r\n`)
            } else if (command.includes("hello")) socket.write("-ERR unknown command 'HELLO'\r\n")
            else socket.write("+OK\r\n")
          }
        })
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = typeof address === "object" && address !== null ? address.port : 0
        resume(Effect.succeed({ url: `redis://127.0.0.1:${port}`, close: () => server.close() }))
      })
    }),
    ({ close }) => Effect.sync(close)
  ).pipe(Effect.map(({ url }) => url))
