/**
 * Redis URLs: `redis://user:password@host:port/db`, `rediss://` for TLS, `redis-cluster://` (or `redis+cluster://`) and
 * `redis+sentinel://` with several hosts separated by commas; a Sentinel URL names the master as `?master=name` or as
 * the first part of its path. The same with `rediss` in front for TLS.
 *
 * Gotcha: no message may quote the URL, since it may hold a password; messages name hosts only.
 */
import { Misconfigured } from "../Errors.ts"

export interface Host {
  readonly host: string
  readonly port: number
}

export interface Target {
  readonly kind: "single" | "cluster" | "sentinel"
  readonly hosts: readonly [Host, ...ReadonlyArray<Host>]
  readonly tls: boolean
  readonly username: string | undefined
  readonly password: string | undefined
  readonly database: number
  /** The master's name; Sentinel only. */
  readonly master: string | undefined
}

const forms =
  "redis://[user:password@]host[:port][/db], rediss://..., redis-cluster://host:port,host:port or " +
  "redis+sentinel://host:port,host:port/master-name[/db]"

const wrong = (detail: string): Misconfigured =>
  new Misconfigured({ reason: "InvalidOption", detail: `the Redis URL ${detail}; expected ${forms}` })

const decode = (text: string | undefined): string | undefined => {
  if (text === undefined || text === "") return undefined
  try {
    return decodeURIComponent(text)
  } catch {
    throw wrong("has a user or password that is not percent-encoded")
  }
}

const parseHost = (text: string, defaultPort: number): Host => {
  const match = /^(\[[0-9a-fA-F:.]+\]|[^:[\]]+)(?::(\d{1,5}))?$/.exec(text)
  if (match === null) throw wrong("has a part that is no host[:port]")
  const port = match[2] === undefined ? defaultPort : Number(match[2])
  if (port < 1 || port > 65_535) throw wrong(`has port ${port}, which does not exist`)
  return { host: match[1]!.replace(/^\[|\]$/g, ""), port }
}

const parseDatabase = (text: string | undefined): number => {
  if (text === undefined || text === "") return 0
  if (!/^\d{1,5}$/.test(text)) throw wrong("has a database that is not a number")
  return Number(text)
}

/** Throws `Misconfigured`. */
export const parse = (url: string): Target => {
  const match = /^redis(s?)(?:[-+](cluster|sentinel))?:\/\/(?:(.*)@)?([^/?#@]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(url)
  if (match === null) throw wrong("is not of a form that is known")
  const [, secure, mode, user, hostText, pathText, queryText] = match
  const kind = mode === "cluster" || mode === "sentinel" ? mode : "single"
  const hosts = (hostText === "" ? "localhost" : hostText!)
    .split(",")
    .map((text) => parseHost(text, kind === "sentinel" ? 26_379 : 6379))
  if (kind === "single" && hosts.length > 1) throw wrong("names several hosts, which a single server has not")
  const path = (pathText ?? "")
    .split("/")
    .filter((part) => part !== "")
    .map((part) => decode(part)!)
  const query = new URLSearchParams(queryText ?? "")
  const master = kind === "sentinel" ? (query.get("master") ?? path.shift()) : undefined
  if (kind === "sentinel" && master === undefined) throw wrong("does not name the master that Sentinel watches")
  const unknown = [...query.keys()].filter((name) => name !== "db" && !(kind === "sentinel" && name === "master"))
  if (unknown.length > 0) throw wrong(`has the unknown parameter "${unknown[0]}"`)
  if (path.length > 1) throw wrong("has a path of too many parts")
  const database = parseDatabase(query.get("db") ?? path[0])
  if (kind === "cluster" && database !== 0) throw wrong("names a database, but a cluster has number 0 only")
  const colon = user?.indexOf(":") ?? -1
  return {
    kind,
    hosts: hosts as [Host, ...Array<Host>],
    tls: secure === "s",
    username: decode(colon < 0 ? user : user!.slice(0, colon)),
    password: decode(colon < 0 ? undefined : user!.slice(colon + 1)),
    database,
    master
  }
}
