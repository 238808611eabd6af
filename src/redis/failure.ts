/**
 * What ioredis and the server raise, as `EngineError`: a lost connection and a server that is not fit for work just now are
 * `Unreachable` (the outcome is unknown), a server out of memory is `Full`, a refused login or right `Refused`, a missing
 * command `Unsupported`.
 *
 * Gotcha: ioredis hangs the command with all its arguments on its errors (for AUTH: the password), so they are never
 * passed on as a cause.
 */
import { EngineError } from "../Errors.ts"

type Reason = EngineError["reason"]

const byCode: Readonly<Record<string, readonly [Reason, string]>> = {
  OOM: ["Full", "the server is at its memory limit: raise maxmemory, or let processors catch up"],
  NOAUTH: ["Refused", "the server asks for a login: put user and password into the URL"],
  WRONGPASS: ["Refused", "look at user and password in the URL"],
  NOPERM: ["Refused", "the user's ACL forbids it: grant its commands, keys and channels (ACL SETUSER)"],
  READONLY: ["Unreachable", "this server is a replica now; waiting for the new master"],
  LOADING: ["Unreachable", "the server is loading its data"],
  CLUSTERDOWN: ["Unreachable", "the cluster is down"],
  TRYAGAIN: ["Unreachable", "the slot is being moved"],
  MASTERDOWN: ["Unreachable", "the replica has lost its master"],
  BUSY: ["Unreachable", "the server is busy with a script"],
  NOREPLICAS: ["Unreachable", "too few replicas are connected (min-replicas-to-write)"],
  UNBLOCKED: ["Unreachable", "this server is a replica now; waiting for the new master"],
  MISCONF: ["Unreachable", "the server cannot save to disk and refuses writes: look at its log and its disk"],
  EXECABORT: ["Unreachable", "a transaction was not begun as a whole"],
  CROSSSLOT: ["Unsupported", "this is a Redis Cluster: use redis-cluster:// in the URL"],
  MOVED: ["Unsupported", "this is a Redis Cluster: use redis-cluster:// in the URL"],
  ASK: ["Unsupported", "this is a Redis Cluster: use redis-cluster:// in the URL"]
}

/** On a cluster the same words mean that its slots are on the move. */
const byCodeOfCluster: typeof byCode = {
  MOVED: ["Unreachable", "the slot has moved to another node"],
  ASK: ["Unreachable", "the slot is being moved to another node"]
}

/** What a server is called in messages. */
export interface Place {
  readonly name: string
  readonly cluster: boolean
  readonly tls: boolean
}

const text = (cause: unknown): string => {
  if (!(cause instanceof Error)) return String(cause)
  // All nodes of a cluster failed: the last node's reason says more.
  const last = (cause as { readonly lastNodeError?: unknown }).lastNodeError
  return last instanceof Error
    ? last.message
    : cause.message || (cause as { readonly code?: string }).code || cause.name
}

const codes = new RegExp(`(?:^|: |-)(${Object.keys(byCode).join("|")}) `)

/** The error code of a reply, also when a script or ioredis put words before it. */
const codeOf = (message: string): string | undefined => codes.exec(message)?.[1]

/** What is wrong with the certificate, or with speaking TLS at all, by the code of Node's error. */
const insecure = (cause: unknown): string | undefined => {
  const code = cause instanceof Error ? (cause as { readonly code?: unknown }).code : undefined
  if (typeof code !== "string") return undefined
  if (/^(?:ERR_SSL_|EPROTO$)/.test(code)) return "it does not speak TLS as we do: use redis://, or look at its TLS port"
  return /^(?:ERR_TLS_CERT|CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_)/.test(code)
    ? "its certificate is not trusted: name its CA in NODE_EXTRA_CA_CERTS, or pass a client of your own with `tls: { ca }`"
    : undefined
}

/** Waiting will not help. */
export const isHopeless = (cause: unknown): boolean =>
  isAuthentication(cause) || insecure(cause) !== undefined || isOtherDatabase(cause)

/** The server refused to select the client's database; ioredis tells it, and would go on in database 0. */
export const isOtherDatabase = (cause: unknown): boolean =>
  cause instanceof Error && (cause as { readonly command?: { readonly name?: unknown } }).command?.name === "select"

const isAuthentication = (cause: unknown): boolean => {
  const message = text(cause)
  const code = codeOf(message)
  return code === "NOAUTH" || code === "WRONGPASS" || code === "NOPERM" || /ERR AUTH|invalid password/.test(message)
}

export const unreachable = (operation: string, where: Place, cause: unknown): EngineError =>
  new EngineError({
    operation,
    reason: "Unreachable",
    detail: `cannot reach Redis at ${where.name}: ${text(cause)}${where.tls ? plainPort(text(cause)) : ""}`
  })

/** A server without TLS waits for the rest of what it takes for a command, and says nothing. */
const plainPort = (message: string): string =>
  /timed? ?out|no connection within|no answer within/i.test(message)
    ? "; it may not speak TLS: use its TLS port, or redis:// instead of rediss:// (of a client of your own: no `tls`)"
    : ""

export const toEngineError = (operation: string, where: Place, cause: unknown): EngineError => {
  const message = text(cause)
  const error = (reason: Reason, advice: string): EngineError =>
    new EngineError({ operation, reason, detail: `${message} (Redis at ${where.name}: ${advice})` })
  if (isOtherDatabase(cause))
    return error("Refused", "look at the database in the URL, and at `databases` of the server")
  const code = codeOf(message)
  if (code !== undefined) return error(...((where.cluster ? byCodeOfCluster[code] : undefined) ?? byCode[code]!))
  if (isAuthentication(cause)) return error("Refused", byCode.WRONGPASS![1])
  const insecurity = insecure(cause)
  if (insecurity !== undefined) return error("Refused", insecurity)
  const named = cause instanceof Error ? cause.name : ""
  if (named !== "ReplyError" || /max number of clients/.test(message)) return unreachable(operation, where, cause)
  if (/unknown (redis )?(sub)?command/i.test(message)) return error("Unsupported", "it is too old")
  return new EngineError({ operation, reason: "Refused", detail: `${message} (Redis at ${where.name})` })
}
