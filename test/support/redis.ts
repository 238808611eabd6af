/**
 * A Redis server of a test's own: on a free loopback port, with nothing on disk unless asked for, stopped by its pid with
 * the scope and when the process ends. `MILLRACE_TEST_REDIS` names one to use instead, where a URL is all that is needed.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { connect as connectTo, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { Effect, Layer, type Scope } from "effect"
import { Redis as IoRedis } from "ioredis"
import * as Redis from "../../src/redis/client.ts"

export interface Server {
  readonly url: string
  readonly port: number
  readonly pid: number
  readonly directory: string
  /** Kill it now, as a crash would. */
  readonly kill: Effect.Effect<void>
}

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once("error", reject)
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address()
      probe.close(() => (typeof address === "object" && address ? resolve(address.port) : reject(new Error("no port"))))
    })
  })

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connectTo(port, "127.0.0.1", () => socket.write("PING\r\n"))
    const finish = (answer: boolean): void => {
      socket.destroy()
      resolve(answer)
    }
    // Any answer will do: with a password it is NOAUTH.
    socket.once("data", (data) => finish(!data.toString().startsWith("-LOADING")))
    socket.once("error", () => finish(false))
    socket.setTimeout(1_000, () => finish(false))
  })

/**
 * Runs redis-server in its own place, so that its pid is the child's; beside it a shell that waits on a pipe. When this
 * process ends, in whatever way, the pipe ends, and the shell kills the server and removes its directory. Exit handlers
 * would not do: test workers are killed without them.
 */
const guarded =
  'exec 3<&0; ( read -r line <&3 || { kill -9 $$; rm -rf "$0"; } ) >/dev/null 2>&1 & exec redis-server "$@" 3<&- </dev/null'

const stop = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) => {
    // The shell has nothing left to do.
    if (child.stdin?.writable) child.stdin.end("done\n")
    if (child.exitCode !== null || child.signalCode !== null) return resolve()
    child.once("exit", () => resolve())
    child.kill("SIGKILL")
  })

const start = async (
  extra: ReadonlyArray<string>,
  at: { readonly port?: number | undefined; readonly directory?: string | undefined }
): Promise<Server & { readonly child: ChildProcess; readonly owned: boolean }> => {
  const port = at.port ?? (await freePort())
  const directory = at.directory ?? mkdtempSync(join(tmpdir(), "millrace-redis-"))
  const own = ["--port", String(port), "--bind", "127.0.0.1", "--dir", directory, "--save", "", "--appendonly", "no"]
  const child = spawn("sh", ["-c", guarded, directory, ...own, ...extra], { stdio: ["pipe", "pipe", "pipe"] })
  child.stdin.on("error", () => undefined)
  let output = ""
  child.stdout.on("data", (data) => (output += data))
  child.stderr.on("data", (data) => (output += data))
  let failure: Error | undefined
  child.once("error", (error) => (failure = error))
  for (let tries = 0; !(await answers(port)); tries++) {
    if (failure !== undefined || child.exitCode !== null || tries > 200) {
      await stop(child)
      throw new Error(`redis-server did not start: ${failure?.message ?? output}`)
    }
    // A real wait: a process starts.
    await sleep(25)
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    pid: child.pid!,
    directory,
    kill: Effect.promise(() => stop(child)),
    child,
    owned: at.directory === undefined
  }
}

/** `extra` are arguments of redis-server, after our own; a port and a directory of a server before start it again. */
export const makeServer = (
  extra: ReadonlyArray<string> = [],
  at: { readonly port?: number | undefined; readonly directory?: string | undefined } = {}
): Effect.Effect<Server, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() => start(extra, at)),
    (server) =>
      Effect.promise(async () => {
        await stop(server.child)
        if (server.owned) rmSync(server.directory, { recursive: true, force: true })
      })
  )

/** A cluster of three masters without replicas; `nodes` are in the order of their slots. */
export const makeCluster: Effect.Effect<
  { readonly url: string; readonly nodes: ReadonlyArray<Server> },
  never,
  Scope.Scope
> = Effect.gen(function* () {
  const nodes = yield* Effect.forEach([0, 1, 2], () =>
    Effect.flatMap(Effect.promise(freePort), (bus) =>
      makeServer(["--cluster-enabled", "yes", "--cluster-port", String(bus), "--cluster-node-timeout", "2000"])
    )
  )
  yield* Effect.promise(async () => {
    const clients = nodes.map(({ port }) => new IoRedis(port, "127.0.0.1"))
    const slots = [0, 5461, 10923, 16384]
    for (const [i, client] of clients.entries()) {
      await client.call("cluster", "addslotsrange", slots[i]!, slots[i + 1]! - 1)
      await client.call("cluster", "set-config-epoch", i + 1)
      const bus = String(await client.call("config", "get", "cluster-port")).split(",")[1]!
      await clients[0]!.call("cluster", "meet", "127.0.0.1", nodes[i]!.port, bus)
    }
    const isReady = async (client: IoRedis): Promise<boolean> => {
      const info = String(await client.call("cluster", "info"))
      return info.includes("cluster_state:ok") && info.includes("cluster_known_nodes:3")
    }
    for (const client of clients) {
      // A real wait: each node hears of the others by gossip.
      while (!(await isReady(client))) await sleep(50)
      client.disconnect()
    }
  })
  return { url: `redis-cluster://${nodes.map(({ port }) => `127.0.0.1:${port}`).join(",")}`, nodes }
})

let shared: Promise<Server> | undefined

/** A server for all tests of one file, or the one of `MILLRACE_TEST_REDIS`; stopped when the process ends. */
export const sharedUrl = async (): Promise<string> => {
  const given = process.env.MILLRACE_TEST_REDIS
  if (given !== undefined && given !== "") return given
  shared ??= start([], {}).then((server) => {
    // It must not keep the test process alive.
    server.child.unref()
    for (const stream of server.child.stdio) (stream as { unref?: () => void } | null)?.unref?.()
    return server
  })
  return (await shared).url
}

/** A client of the shared server, in a namespace of its own per build. */
export const layerRedis = (options: { readonly shards?: number } = {}): ReturnType<typeof Redis.layer> =>
  Layer.unwrap(
    Effect.map(Effect.promise(sharedUrl), (url) =>
      Redis.layer({ url, namespace: `test-${randomUUID()}`, shards: options.shards ?? 1 })
    )
  )
