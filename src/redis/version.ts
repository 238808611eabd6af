/** What is asked of a server before anything else: its version, and that it drops no keys by itself. */
import { Effect } from "effect"
import { EngineError } from "../Errors.ts"
import type { Connection, Native } from "./connection.ts"
import { type Place, toEngineError } from "./failure.ts"

export interface Server {
  /** `WAITAOF` exists. */
  readonly waitsForDisk: boolean
}

export const field = (info: string, name: string): string | undefined =>
  new RegExp(`^${name}:(.*?)\\r?$`, "m").exec(info)?.[1]

export const atLeast = (version: string, major: number, minor: number): boolean => {
  const [a = 0, b = 0] = version.split(".").map(Number)
  return a > major || (a === major && b >= minor)
}

const unsupported = (detail: string): EngineError =>
  new EngineError({ operation: "connect", reason: "Unsupported", detail })

const info = async (node: Native, section: string): Promise<string | undefined> => {
  try {
    return String(await node.call("info", [section]))
  } catch (error) {
    // An ACL may forbid INFO; then nothing can be told.
    if (error instanceof Error && error.message.startsWith("NOPERM")) return undefined
    throw error
  }
}

const examine = async (node: Native, { name }: Place): Promise<Server> => {
  const server = (await info(node, "server")) ?? ""
  const valkey = field(server, "valkey_version")
  const version = valkey ?? field(server, "redis_version")
  if (version !== undefined && !(valkey === undefined ? atLeast(version, 7, 0) : atLeast(version, 7, 2))) {
    const product = valkey === undefined ? "Redis" : "Valkey"
    throw unsupported(`${product} ${version} at ${name} is too old: Redis 7.0 or Valkey 7.2, or later, is needed`)
  }
  const policy = field((await info(node, "memory")) ?? "", "maxmemory_policy")
  if (policy !== undefined && policy !== "noeviction") {
    throw unsupported(
      `Redis at ${name} has maxmemory-policy "${policy}", which would drop events silently: set it to "noeviction"`
    )
  }
  return { waitsForDisk: version === undefined || atLeast(version, 7, 2) }
}

export const checkServer = (native: Native, where: Place): Effect.Effect<Server, EngineError> =>
  Effect.tryPromise({
    try: async () => {
      const nodes = native.isCluster === true ? (native.nodes?.("master") ?? []) : [native]
      const servers = await Promise.all(nodes.map((node) => examine(node, where)))
      return { waitsForDisk: servers.every((server) => server.waitsForDisk) }
    },
    catch: (error) => (error instanceof EngineError ? error : toEngineError("connect", where, error))
  })

/** How to know that something is on disk: WAITAOF, or every answer says so. */
export const checkDisk = Effect.fnUntraced(function* (
  connection: Connection,
  server: Server
): Effect.fn.Return<"wait" | "always", EngineError> {
  const persistence = yield* connection.call<string>("info", "persistence")
  if (field(persistence, "aof_enabled") === "0") {
    return yield* unsupported(`durability "fsync" needs a server with appendonly yes`)
  }
  if (server.waitsForDisk) return "wait"
  // Before WAITAOF there is one setting under which every answer comes after the disk.
  const [setting] = yield* connection.pipeline([["config", "get", "appendfsync"]])
  if (Array.isArray(setting) && setting[1] === "always") return "always"
  return yield* unsupported(
    `durability "fsync" needs Redis 7.2 (WAITAOF), or appendfsync always; this server has neither`
  )
})
