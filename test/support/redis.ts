/**
 * A Redis server of a test's own: on a free loopback port, with nothing on disk unless asked for, stopped by its pid with
 * the scope and when the process ends. `MILLRACE_TEST_REDIS` names one to use instead, where a URL is all that is needed.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
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
  /** Its process stands still: connections stay, nobody answers. */
  readonly pause: Effect.Effect<void>
  readonly goOn: Effect.Effect<void>
  /** One command, on a connection of its own. */
  readonly call: (command: string, ...args: ReadonlyArray<string | number>) => Effect.Effect<unknown>
}

interface Place {
  readonly port?: number | undefined
  readonly directory?: string | undefined
}

export const freePort = (): Promise<number> =>
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

const callOn = async (port: number, command: string, args: ReadonlyArray<string | number>): Promise<unknown> => {
  const client = new IoRedis(port, "127.0.0.1", { maxRetriesPerRequest: 1, enableReadyCheck: false })
  // A test that stops its own server hears of it in other ways.
  client.on("error", () => undefined)
  try {
    return await client.call(command, ...args)
  } finally {
    client.disconnect()
  }
}

type Started = Server & { readonly child: ChildProcess; readonly owned: boolean }

/** `argumentsFor` are all arguments of redis-server. */
const launch = async (
  argumentsFor: (port: number, directory: string) => ReadonlyArray<string>,
  at: Place
): Promise<Started> => {
  const port = at.port ?? (await freePort())
  const directory = at.directory ?? mkdtempSync(join(tmpdir(), "millrace-redis-"))
  const child = spawn("sh", ["-c", guarded, directory, ...argumentsFor(port, directory)], {
    stdio: ["pipe", "pipe", "pipe"]
  })
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
    pause: Effect.sync(() => void child.kill("SIGSTOP")),
    goOn: Effect.sync(() => void child.kill("SIGCONT")),
    call: (command, ...args) => Effect.promise(() => callOn(port, command, args)),
    child,
    owned: at.directory === undefined
  }
}

const start = (extra: ReadonlyArray<string>, at: Place): Promise<Started> =>
  launch(
    (port, directory) => [
      ...["--port", String(port), "--bind", "127.0.0.1", "--dir", directory, "--save", "", "--appendonly", "no"],
      ...extra
    ],
    at
  )

const scoped = (starting: () => Promise<Started>): Effect.Effect<Server, never, Scope.Scope> =>
  Effect.acquireRelease(Effect.promise(starting), (server) =>
    Effect.promise(async () => {
      await stop(server.child)
      if (server.owned) rmSync(server.directory, { recursive: true, force: true })
    })
  )

/** `extra` are arguments of redis-server, after our own; a port and a directory of a server before start it again. */
export const makeServer = (
  extra: ReadonlyArray<string> = [],
  at: Place = {}
): Effect.Effect<Server, never, Scope.Scope> => scoped(() => start(extra, at))

/** Asks again and again, in real time, since processes that talk to each other are waited for; says what never came. */
export const eventually = (what: string, holds: Effect.Effect<boolean>, seconds = 20): Effect.Effect<void> =>
  Effect.gen(function* () {
    const began = performance.now()
    while (!(yield* holds)) {
      if (performance.now() - began > seconds * 1_000)
        return yield* Effect.die(new Error(`it never came to this: ${what}`))
      yield* Effect.promise(() => sleep(25))
    }
  })

/** A replica of a server, in step with it. */
export const makeReplica = (
  master: Server,
  extra: ReadonlyArray<string> = []
): Effect.Effect<Server, never, Scope.Scope> =>
  Effect.tap(makeServer(["--replicaof", "127.0.0.1", String(master.port), ...extra]), inStep)

/** Its link to its master is up. */
export const inStep = (replica: Server): Effect.Effect<void> =>
  eventually(
    "a replica in step with its master",
    Effect.map(replica.call("info", "replication"), (info) => String(info).includes("master_link_status:up"))
  )

export interface TestCluster {
  readonly url: string
  /** In the order of their slots. */
  readonly nodes: ReadonlyArray<Server>
  /** Of each of them, if there are any. */
  readonly replicas: ReadonlyArray<Server>
}

const slots = [0, 5461, 10923, 16384]

const makeNode = Effect.flatMap(Effect.promise(freePort), (bus) =>
  makeServer([
    ...["--cluster-enabled", "yes", "--cluster-port", String(bus), "--cluster-node-timeout", "2000"],
    ...["--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0"]
  ])
)

const meet = (first: Server, node: Server): Effect.Effect<unknown> =>
  Effect.flatMap(node.call("config", "get", "cluster-port"), (answer) =>
    first.call("cluster", "meet", "127.0.0.1", node.port, String(answer).split(",")[1]!)
  )

/** Every node knows so many, and all slots are served. */
const agreed = (nodes: ReadonlyArray<Server>): Effect.Effect<void> =>
  eventually(
    "a cluster whose nodes know each other",
    Effect.map(
      Effect.forEach(nodes, (node) => node.call("cluster", "info")),
      (all) =>
        all.every((info) => {
          const text = String(info)
          return text.includes("cluster_state:ok") && text.includes(`cluster_known_nodes:${nodes.length}`)
        })
    )
  )

/** A cluster of three masters, each with so many replicas (none or one). */
export const makeClusterWith = (replicasOfEach: 0 | 1): Effect.Effect<TestCluster, never, Scope.Scope> =>
  Effect.gen(function* () {
    const nodes = yield* Effect.forEach([0, 1, 2], () => makeNode, { concurrency: 3 })
    const replicas = replicasOfEach === 0 ? [] : yield* Effect.forEach([0, 1, 2], () => makeNode, { concurrency: 3 })
    for (const [i, node] of nodes.entries()) {
      yield* node.call("cluster", "addslotsrange", slots[i]!, slots[i + 1]! - 1)
      yield* node.call("cluster", "set-config-epoch", i + 1)
      yield* meet(nodes[0]!, node)
    }
    for (const replica of replicas) yield* meet(nodes[0]!, replica)
    yield* agreed([...nodes, ...replicas])
    for (const [i, replica] of replicas.entries()) {
      const master = String(yield* nodes[i]!.call("cluster", "myid"))
      yield* replica.call("cluster", "replicate", master)
      yield* inStep(replica)
    }
    return { url: `redis-cluster://${nodes.map(({ port }) => `127.0.0.1:${port}`).join(",")}`, nodes, replicas }
  })

/** A cluster of three masters without replicas. */
export const makeCluster: Effect.Effect<TestCluster, never, Scope.Scope> = makeClusterWith(0)

export interface SentinelSet {
  /** Names the sentinels, and their master. */
  readonly url: string
  readonly sentinels: ReadonlyArray<Server>
  readonly servers: readonly [master: Server, replica: Server]
  /** The port of the master, as the sentinels have it. */
  readonly master: Effect.Effect<number>
}

/** A master, a replica, and three sentinels that find a server dead after half a second. */
export const makeSentinels: Effect.Effect<SentinelSet, never, Scope.Scope> = Effect.gen(function* () {
  const options = ["--repl-diskless-sync-delay", "0"]
  const first = yield* makeServer(options)
  const second = yield* makeReplica(first, options)
  const configuration = (port: number): string =>
    [
      `port ${port}`,
      "bind 127.0.0.1",
      `sentinel monitor main 127.0.0.1 ${first.port} 2`,
      "sentinel down-after-milliseconds main 500",
      "sentinel failover-timeout main 3000",
      "sentinel parallel-syncs main 1"
    ].join("\n")
  const sentinels = yield* Effect.forEach([0, 1, 2], () =>
    scoped(() =>
      launch((port, directory) => {
        const file = join(directory, "sentinel.conf")
        // It writes what it learns into its configuration.
        writeFileSync(file, configuration(port))
        return [file, "--sentinel", "--dir", directory]
      }, {})
    )
  )
  yield* eventually(
    "three sentinels that know each other and the replica",
    Effect.map(
      Effect.forEach(sentinels, (sentinel) => sentinel.call("sentinel", "master", "main")),
      (all) =>
        all.every((facts) => {
          const list = facts as ReadonlyArray<string>
          const fact = (name: string): number => Number(list[list.indexOf(name) + 1])
          return fact("num-other-sentinels") === 2 && fact("num-slaves") === 1
        })
    )
  )
  return {
    url: `redis+sentinel://${sentinels.map(({ port }) => `127.0.0.1:${port}`).join(",")}/main`,
    sentinels,
    servers: [first, second],
    master: Effect.map(sentinels[0]!.call("sentinel", "get-master-addr-by-name", "main"), (address) =>
      Number((address as ReadonlyArray<string>)[1])
    )
  }
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
