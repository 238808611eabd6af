/**
 * What a Redis server is like, for who is about to trust it: version, persistence, eviction policy, clock, permissions,
 * topology. Nothing is written.
 *
 * Gotcha: what an ACL hides cannot be judged; it is a warning then.
 */
import { Clock, Effect, type Scope } from "effect"
import type { EngineError, Misconfigured } from "../Errors.ts"
import { type Finding, finding } from "../internal/finding.ts"
import { type RuleOptions, rule } from "./acl.ts"
import { connect, type Options, script } from "./client.ts"
import type { Native } from "./connection.ts"
import { type Place, toEngineError } from "./failure.ts"
import { atLeast, field } from "./version.ts"

/** The clock of a server may be so far from ours. */
const clockMillis = 1_000

type Ask = (command: string, ...args: ReadonlyArray<string | number>) => Effect.Effect<unknown, EngineError>

/** Text of an answer; undefined where an ACL forbids the question. */
const allowed = (asked: Effect.Effect<unknown, EngineError>): Effect.Effect<string | undefined, EngineError> =>
  asked.pipe(
    Effect.map((answer) => (Array.isArray(answer) ? answer.join(" ") : String(answer))),
    Effect.catchIf(
      (error) => error.detail.startsWith("NOPERM"),
      () => Effect.succeed(undefined)
    )
  )

const hidden = (check: Finding["check"], command: string): Finding =>
  finding(check, "warning", `not known: this user may not call ${command}; let it, or look by hand`)

const version = (info: string | undefined): Finding => {
  if (info === undefined) return hidden("version", "INFO")
  const valkey = field(info, "valkey_version")
  const number = valkey ?? field(info, "redis_version") ?? "0"
  const name = `${valkey === undefined ? "Redis" : "Valkey"} ${number}`
  return (valkey === undefined ? atLeast(number, 7, 0) : atLeast(number, 7, 2))
    ? finding("version", "ok", name)
    : finding("version", "problem", `${name} is too old: Redis 7.0 or Valkey 7.2, or later, is needed`)
}

const eviction = (info: string | undefined): Finding => {
  if (info === undefined) return hidden("eviction", "INFO")
  const policy = field(info, "maxmemory_policy") ?? "noeviction"
  return policy === "noeviction"
    ? finding("eviction", "ok", "maxmemory-policy noeviction: nothing is dropped when memory is full")
    : finding(
        "eviction",
        "problem",
        `maxmemory-policy ${policy} drops keys silently when memory is full: set it to noeviction`
      )
}

const persistence = (info: string | undefined, save: string | undefined): Finding => {
  if (info === undefined) return hidden("persistence", "INFO")
  const last = field(info, "aof_last_write_status")
  if (field(info, "aof_enabled") === "1") {
    return last === "ok"
      ? finding("persistence", "ok", "append-only file")
      : finding("persistence", "problem", `the append-only file cannot be written (${last}): look at the server's disk`)
  }
  if (field(info, "rdb_last_bgsave_status") === "err") {
    return finding("persistence", "problem", "the last snapshot failed: look at the server's disk and memory")
  }
  const [, schedule = ""] = /^save ?(.*)$/.exec(save ?? "") ?? []
  if (save === undefined) return hidden("persistence", "CONFIG GET save")
  return schedule === ""
    ? finding("persistence", "problem", "nothing is written to disk: a restart loses everything; set appendonly yes")
    : finding(
        "persistence",
        "warning",
        `snapshots only (save ${schedule}): a crash loses what came after the last one; set appendonly yes`
      )
}

const clock = (time: unknown, before: number, after: number): Finding => {
  const [seconds = 0, micros = 0] = String(time).split(" ").map(Number)
  const server = seconds * 1_000 + micros / 1_000
  // The answer was given at some moment between the two.
  const off = server < before ? before - server : Math.max(0, server - after)
  const text = `${Math.round(off)} ms ${server < before ? "behind" : "ahead of"} this machine`
  return off <= clockMillis
    ? finding("clock", "ok", off === 0 ? "agrees with this machine" : text)
    : finding("clock", "problem", `the server's clock is ${text}: event times and delays will be off; run NTP on both`)
}

/** ARGV: a key of ours, a channel, then commands. Gives those that this user may not call. */
const refusedCommands = script<ReadonlyArray<string>>(
  "refused",
  /* lua */ `#!lua flags=no-writes
local key, channel = ARGV[1], ARGV[2]
local few = { PING = 0, TIME = 0, MULTI = 0, EXEC = 0, UNSUBSCRIBE = 0 }
local refused = {}
for i = 3, #ARGV do
  local name, sub = string.match(string.upper(ARGV[i]), "^([^|]+)|?(.*)$")
  local words = { name }
  if sub ~= "" then words[2] = sub end
  if name == "CLIENT" and sub == "UNBLOCK" then words[3] = "0" end
  if name == "CLUSTER" or name == "CLIENT" or few[name] then
  elseif name == "WAIT" then words = { name, "0", "0" }
  elseif name == "WAITAOF" then words = { name, "0", "0", "0" }
  elseif name == "SUBSCRIBE" then words = { name, channel }
  elseif name == "PUBLISH" then words = { name, channel, "x" }
  elseif name == "EVAL" or name == "EVALSHA" then words = { name, "return 1", "1", key }
  elseif name == "XREAD" then words = { name, "STREAMS", key, "0" }
  elseif name == "SELECT" then words = { name, "0" }
  else
    words[#words + 1] = key
    for _ = 1, 4 do words[#words + 1] = "1" end
  end
  local known, may = pcall(redis.acl_check_cmd, unpack(words))
  if known and not may then refused[#refused + 1] = ARGV[i] end
end
return refused
`
)

const permissions = (ask: Ask, namespace: string, where: RuleOptions) =>
  Effect.gen(function* () {
    // Without INFO less is known, and all else works.
    const commands = rule(namespace, where).commands.filter((command) => command !== "info")
    const key = `{${namespace}:0}:doctor`
    const answer = yield* Effect.result(ask("eval", refusedCommands.lua, 0, key, key, ...commands))
    if (answer._tag === "Failure") {
      const { detail } = answer.failure
      return detail.startsWith("NOPERM")
        ? finding("acl", "problem", `this user may not run scripts (${detail}): millrace acl prints the rule it needs`)
        : yield* answer.failure
    }
    if (!Array.isArray(answer.success)) return hidden("acl", "EVAL")
    const refused: ReadonlyArray<string> = answer.success
    if (refused.length === 0) return finding("acl", "ok", "this user may do all that is needed")
    const some = `${refused.slice(0, 8).join(", ")}${refused.length > 8 ? ` and ${refused.length - 8} more` : ""}`
    return finding(
      "acl",
      "problem",
      `this user may not call ${some} on keys of ${namespace}: millrace acl prints the rule it needs`
    )
  })

const topology = (
  info: string | undefined,
  server: string | undefined,
  cluster: string | undefined,
  asCluster: boolean
): Finding => {
  if (info === undefined || server === undefined) return hidden("topology", "INFO")
  const mode = field(server, "redis_mode")
  if (field(info, "role") === "slave") {
    return finding("topology", "problem", "this server is a replica: it takes no writes; name its master")
  }
  if (mode === "cluster" && !asCluster) {
    return finding("topology", "problem", "this is a node of a cluster: use a redis-cluster:// URL")
  }
  const state = cluster === undefined ? undefined : field(cluster, "cluster_state")
  if (state !== undefined && state !== "ok") {
    return finding(
      "topology",
      "problem",
      `the cluster is not in order (cluster_state:${state}): not all slots are served`
    )
  }
  const replicas = Number(field(info, "connected_slaves") ?? 0)
  const what = asCluster ? "a master of the cluster" : "a single master"
  return replicas > 0
    ? finding("topology", "ok", `${what} with ${replicas} ${replicas === 1 ? "replica" : "replicas"}`)
    : finding("topology", "warning", `${what} without replicas: while it is away nothing goes on`)
}

const examineNode = (node: Native, where: Place, namespace: string, isCluster: boolean, database: boolean) =>
  Effect.gen(function* () {
    const ask: Ask = (command, ...args) =>
      Effect.tryPromise({
        try: () => node.call(command, args),
        catch: (error) => toEngineError(command, where, error)
      })
    const info = (section: string) => allowed(ask("info", section))
    const server = yield* info("server")
    const before = yield* Clock.currentTimeMillis
    const time = yield* allowed(ask("time"))
    const after = yield* Clock.currentTimeMillis
    const state = field(server ?? "", "redis_mode") === "cluster" ? yield* allowed(ask("cluster", "info")) : undefined
    const save = yield* allowed(ask("config", "get", "save"))
    return [
      version(server),
      eviction(yield* info("memory")),
      persistence(yield* info("persistence"), save),
      time === undefined ? hidden("clock", "TIME") : clock(time, before, after),
      yield* permissions(ask, namespace, { cluster: isCluster, database }),
      topology(yield* info("replication"), server, state, isCluster)
    ]
  })

const addressOf = (node: Native): string => {
  const { host, port }: { readonly host?: string; readonly port?: number } = node.options
  return `${host}:${port}`
}

/** Of a cluster each master is looked at. */
export const examine = (
  options: Options
): Effect.Effect<ReadonlyArray<Finding>, EngineError | Misconfigured, Scope.Scope> =>
  Effect.gen(function* () {
    const { link, namespace } = yield* connect(options)
    const isCluster = link.native.isCluster === true
    const nodes = isCluster ? (link.native.nodes?.("master") ?? []) : [link.native]
    const { db = 0 }: { readonly db?: number } = link.native.options
    const all = yield* Effect.forEach(nodes, (node) =>
      Effect.map(examineNode(node, link.where, namespace, isCluster, db !== 0), (findings) =>
        nodes.length === 1 ? findings : findings.map((one) => ({ ...one, detail: `${addressOf(node)}: ${one.detail}` }))
      )
    )
    return all.flat()
  })
