/**
 * A TCP proxy on loopback in front of a server, that does what networks do: it is slow, cuts connections, at once or in
 * the middle of something, loses answers, or lets nothing through and says nothing (half-open connections).
 *
 * Gotcha: what it is told is for the connections that are open now, and, where it says so, for later ones too.
 */
import { connect, createServer, type Server, type Socket } from "node:net"
import { Effect, type Scope } from "effect"

type Direction = "requests" | "answers"

export interface Proxy {
  readonly port: number
  readonly url: string
  /** How many connections are open. */
  readonly open: () => number
  /** How many were opened since the start. */
  readonly opened: () => number
  /** Break all of them. */
  readonly cut: Effect.Effect<void>
  /** Break all that are open once so many more bytes went through them; the last piece goes through in part. */
  readonly cutAfter: (bytes: number, direction: Direction) => Effect.Effect<void>
  /** What the server answers on them is dropped from now on; what is asked still reaches it. */
  readonly loseAnswers: Effect.Effect<void>
  /** Nothing goes through, on these and later ones, in either direction, until told otherwise; then what waited does. */
  readonly hold: (held: boolean) => Effect.Effect<void>
  /** Nothing goes through those that are open now any more, and nobody is told. */
  readonly silence: Effect.Effect<void>
  /** Later connections lead to another server. */
  readonly lead: (port: number) => Effect.Effect<void>
  /** Every piece of data takes so many milliseconds longer, each way, on these and later ones. */
  readonly delay: (millis: number) => Effect.Effect<void>
}

class Pipe {
  /** Bytes until it breaks. */
  left = Infinity
  deaf = false
  /** What is on its way, in order, with the moment when it arrives. */
  private readonly queue: Array<{ readonly data: Buffer; readonly due: number }> = []
  private timer: NodeJS.Timeout | undefined
  private waiting: Array<Buffer> = []
  private readonly from: Socket
  private readonly to: Socket
  private readonly state: { held: boolean; delay: number }
  private readonly destroy: () => void
  constructor(from: Socket, to: Socket, state: { held: boolean; delay: number }, destroy: () => void) {
    this.from = from
    this.to = to
    this.state = state
    this.destroy = destroy
    this.from.on("data", (data) => this.pass(data))
  }

  private pass(data: Buffer): void {
    if (this.deaf) return
    if (this.state.held) return void this.waiting.push(data)
    this.queue.push({ data, due: performance.now() + this.state.delay })
    if (this.timer === undefined) this.arrive()
  }

  /** One timer for the first of the queue: timers of different lengths, or late ones, would not keep the order. */
  private arrive(): void {
    this.timer = undefined
    const now = performance.now()
    while (this.queue.length > 0 && this.queue[0]!.due <= now) this.write(this.queue.shift()!.data)
    const next = this.queue[0]
    if (next !== undefined) this.timer = setTimeout(() => this.arrive(), Math.ceil(next.due - now))
  }

  private write(data: Buffer): void {
    if (this.to.destroyed) return
    if (data.length < this.left) {
      this.left -= data.length
      this.to.write(data)
      return
    }
    this.to.write(data.subarray(0, this.left), () => this.destroy())
    this.left = 0
  }

  release(): void {
    const waiting = this.waiting
    this.waiting = []
    for (const data of waiting) this.pass(data)
  }
}

interface Pair {
  readonly requests: Pipe
  readonly answers: Pipe
  readonly destroy: () => void
}

export const makeProxy = (first: number): Effect.Effect<Proxy, never, Scope.Scope> => {
  const pairs = new Set<Pair>()
  const state = { held: false, delay: 0 }
  let opened = 0
  let target = first
  const accept = (client: Socket): void => {
    opened++
    const server = connect(target, "127.0.0.1")
    const destroy = (): void => {
      client.destroy()
      server.destroy()
      pairs.delete(pair)
    }
    for (const socket of [client, server]) {
      socket.setNoDelay(true)
      socket.on("error", destroy)
      socket.on("close", destroy)
    }
    const pair: Pair = {
      requests: new Pipe(client, server, state, destroy),
      answers: new Pipe(server, client, state, destroy),
      destroy
    }
    pairs.add(pair)
  }
  const each = (what: (pair: Pair) => void): Effect.Effect<void> =>
    Effect.sync(() => {
      for (const pair of [...pairs]) what(pair)
    })
  const listening = Effect.callback<Server>((resume) => {
    const server = createServer(accept)
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  })
  return Effect.map(
    Effect.acquireRelease(listening, (server) =>
      Effect.andThen(
        each((pair) => pair.destroy()),
        Effect.sync(() => void server.close())
      )
    ),
    (server) => {
      const address = server.address()
      const port = typeof address === "object" && address !== null ? address.port : 0
      return {
        port,
        url: `redis://127.0.0.1:${port}`,
        open: () => pairs.size,
        opened: () => opened,
        cut: each((pair) => pair.destroy()),
        cutAfter: (bytes, direction) =>
          each((pair) => {
            pair[direction].left = bytes
          }),
        loseAnswers: each((pair) => {
          pair.answers.deaf = true
        }),
        hold: (held) =>
          Effect.andThen(
            Effect.sync(() => {
              state.held = held
            }),
            each((pair) => {
              if (held) return
              pair.requests.release()
              pair.answers.release()
            })
          ),
        silence: each((pair) => {
          pair.requests.deaf = true
          pair.answers.deaf = true
        }),
        lead: (port) =>
          Effect.sync(() => {
            target = port
          }),
        delay: (millis) =>
          Effect.sync(() => {
            state.delay = millis
          })
      }
    }
  )
}
