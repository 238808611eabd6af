/** The proxy of the tests does what networks do, and nothing that they do not: what arrives arrives in order. */
import { connect, createServer } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import { makeProxy } from "../support/proxy.ts"

/** A server that sends back what it gets, and keeps it. */
const echo = Effect.acquireRelease(
  Effect.callback<{ readonly port: number; readonly received: () => string; readonly close: () => void }>((resume) => {
    let received = ""
    const server = createServer((socket) => {
      socket.on("data", (data) => {
        received += data.toString()
      })
      socket.pipe(socket).on("error", () => undefined)
    })
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      const port = typeof address === "object" && address !== null ? address.port : 0
      resume(Effect.succeed({ port, received: () => received, close: () => void server.close() }))
    })
  }),
  ({ close }) => Effect.sync(close)
)

const connectTo = (port: number) =>
  Effect.acquireRelease(
    Effect.callback<ReturnType<typeof connect>>((resume) => {
      const socket = connect(port, "127.0.0.1", () => resume(Effect.succeed(socket.setNoDelay(true))))
    }),
    (socket) => Effect.sync(() => void socket.destroy())
  )

/** Timers that are due meanwhile are late. */
const blockFor = (millis: number): void => {
  const began = performance.now()
  while (performance.now() - began < millis);
}

describe("the proxy", () => {
  it.live("keeps the order of what it delays, also when the delay becomes shorter and its timers are late", () =>
    Effect.gen(function* () {
      const { port } = yield* echo
      const proxy = yield* makeProxy(port)
      const socket = yield* connectTo(proxy.port)
      let received = ""
      const all = 400
      const complete = Effect.callback<void>((resume) => {
        socket.on("data", (data) => {
          received += data.toString()
          if (received.length === all * 4) resume(Effect.void)
        })
      })
      const sending = Effect.gen(function* () {
        for (let i = 0; i < all; i++) {
          socket.write(String(i).padStart(3, "0").concat(" "))
          if (i % 20 === 0) yield* proxy.delay((i / 20) % 2 === 0 ? 12.7 : 0)
          if (i % 50 === 49) blockFor(15)
          // Real time: each piece travels by itself.
          yield* Effect.sleep(i % 3 === 0 ? 1 : 0)
        }
      })
      yield* Effect.all([complete, sending], { concurrency: 2 })
      assert.strictEqual(received, Array.from({ length: all }, (_, i) => `${String(i).padStart(3, "0")} `).join(""))
    })
  )

  it.live("lets nothing through behind the place where it cuts", () =>
    Effect.gen(function* () {
      const { port, received } = yield* echo
      const proxy = yield* makeProxy(port)
      const socket = yield* connectTo(proxy.port)
      const closed = yield* Deferred.make<void>()
      // From the start: on a slow machine it is closed before anybody waits for it.
      socket.once("close", () => Deferred.doneUnsafe(closed, Effect.void))
      yield* proxy.delay(20)
      yield* proxy.cutAfter(10, "requests")
      socket.write("0123456789 and more")
      // Real time: so that it is another piece, which arrives together with the first one.
      yield* Effect.sleep(5)
      socket.write("what comes after it")
      yield* Effect.sleep(5)
      blockFor(20)
      yield* Deferred.await(closed)
      assert.strictEqual(received(), "0123456789")
    })
  )
})
