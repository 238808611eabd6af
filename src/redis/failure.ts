/**
 * What ioredis and the server raise, as `EngineError`: a lost connection is `Unreachable` (the outcome is unknown), a
 * server out of memory `Full`, a refused login or right `Refused`, a missing command `Unsupported`.
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
  MISCONF: ["Refused", "the server cannot save to disk and refuses writes: look at its log and its disk"],
  CROSSSLOT: ["Unsupported", "this is a Redis Cluster: use redis-cluster:// in the URL"],
  MOVED: ["Unsupported", "this is a Redis Cluster: use redis-cluster:// in the URL"]
}

const text = (cause: unknown): string => {
  if (!(cause instanceof Error)) return String(cause)
  // All nodes of a cluster failed: the last node's reason says more.
  const last = (cause as { readonly lastNodeError?: unknown }).lastNodeError
  return last instanceof Error
    ? last.message
    : cause.message || (cause as { readonly code?: string }).code || cause.name
}

/** The error code of a reply, also when a script or ioredis put words before it. */
const codeOf = (message: string): string | undefined =>
  /(?:^|: |-)(OOM|NOAUTH|WRONGPASS|NOPERM|READONLY|LOADING|CLUSTERDOWN|TRYAGAIN|MASTERDOWN|BUSY|NOREPLICAS|MISCONF|CROSSSLOT|MOVED) /.exec(
    message
  )?.[1]

export const isAuthentication = (cause: unknown): boolean => {
  const message = text(cause)
  const code = codeOf(message)
  return code === "NOAUTH" || code === "WRONGPASS" || code === "NOPERM" || /ERR AUTH|invalid password/.test(message)
}

export const unreachable = (operation: string, where: string, cause: unknown): EngineError =>
  new EngineError({ operation, reason: "Unreachable", detail: `cannot reach Redis at ${where}: ${text(cause)}` })

export const toEngineError = (operation: string, where: string, cause: unknown): EngineError => {
  const message = text(cause)
  const code = codeOf(message)
  if (code !== undefined) {
    const [reason, advice] = byCode[code]!
    return new EngineError({ operation, reason, detail: `${message} (Redis at ${where}: ${advice})` })
  }
  if (isAuthentication(cause)) {
    const [, advice] = byCode.WRONGPASS!
    return new EngineError({ operation, reason: "Refused", detail: `${message} (Redis at ${where}: ${advice})` })
  }
  const named = cause instanceof Error ? cause.name : ""
  if (named !== "ReplyError" || /max number of clients/.test(message)) return unreachable(operation, where, cause)
  if (/unknown (redis )?(sub)?command/i.test(message)) {
    return new EngineError({ operation, reason: "Unsupported", detail: `${message} (Redis at ${where} is too old)` })
  }
  return new EngineError({ operation, reason: "Refused", detail: `${message} (Redis at ${where})` })
}
