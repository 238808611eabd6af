/**
 * Hears from the sentinels that another server is the master now, and makes the shared connection look for it. An old master
 * that is still alive is told to follow only seconds later, and what it is given until then is lost.
 *
 * Gotcha: it is heard a moment after it happened; only `min-replicas-to-write` makes that moment safe.
 */
import { Effect, type Scope } from "effect"
import type { Native } from "./connection.ts"

interface SentinelOptions {
  readonly sentinels?: ReadonlyArray<{ readonly host?: string; readonly port?: number }> | null
  readonly name?: string | null
  readonly sentinelUsername?: string | null
  readonly sentinelPassword?: string | null
  readonly sentinelTLS?: object
}

/** Milliseconds until a sentinel that is away is tried again: one that is left is enough. */
const pause = 5_000

const channel = "+switch-master"

const watcher = (
  native: Native,
  sentinel: { readonly host?: string; readonly port?: number },
  options: SentinelOptions
): Native => {
  const watcher = native.duplicate({
    sentinels: null,
    host: sentinel.host ?? "localhost",
    port: sentinel.port ?? 26_379,
    username: options.sentinelUsername ?? null,
    password: options.sentinelPassword ?? null,
    tls: options.sentinelTLS,
    db: 0,
    enableReadyCheck: false,
    retryStrategy: () => pause
  })
  // Which sentinels cannot be reached is of no matter here, and ioredis would print it.
  watcher.on("error", () => undefined)
  watcher.on("ready", () => {
    watcher.call("subscribe", [channel]).catch(() => undefined)
  })
  watcher.on("message", (_: string, message: string) => {
    // While it is connecting it asks the sentinels anyway.
    if (message.startsWith(`${options.name} `) && native.status === "ready") native.disconnect(true)
  })
  watcher.connect().catch(() => undefined)
  return watcher
}

/** Does nothing for a client that does not use Sentinel. */
export const followFailovers = (native: Native): Effect.Effect<void, never, Scope.Scope> => {
  const options: SentinelOptions = native.options
  const sentinels = native.isCluster === true ? [] : (options.sentinels ?? [])
  return Effect.asVoid(
    Effect.acquireRelease(
      Effect.sync(() => sentinels.map((sentinel) => watcher(native, sentinel, options))),
      (watchers) =>
        Effect.sync(() => {
          for (const watcher of watchers) watcher.disconnect()
        })
    )
  )
}
