/**
 * The connections to Redis: the only module that imports ioredis. One shared connection for commands and scripts, one
 * for pub/sub, one per shard for writes with a durability, and connections of one's own for blocking reads.
 *
 * Gotcha: nothing is ever sent twice by itself. A command whose connection broke fails with `Unreachable`, and may or
 * may not have been done; only callers who made it repeatable send it again.
 */
import { createHash } from "node:crypto"
import { Context, Effect, Layer, Redacted, type Scope, Semaphore, type Stream } from "effect"
import { Cluster, Redis as Standalone } from "ioredis"
import { DurabilityNotReached, EngineError, Misconfigured } from "../Errors.ts"
import {
  type Argument,
  type Command,
  type Connection,
  clusterOptions,
  Link,
  type Native,
  sharedOptions,
  silence,
  watched
} from "./connection.ts"
import { followFailovers } from "./failover.ts"
import type { Place } from "./failure.ts"
import * as keys from "./keys.ts"
import { makeSubscriber } from "./subscriber.ts"
import { parse, type Target } from "./url.ts"
import { checkDisk, checkServer, type Server } from "./version.ts"

export type { Argument, Connection } from "./connection.ts"

/** A Lua script and the type of its reply. */
export interface Script<out A> {
  readonly name: string
  readonly lua: string
  readonly sha: string
  readonly "~result"?: A
}

export const script = <A>(name: string, lua: string): Script<A> => {
  const text = lua.trim()
  return { name, lua: text, sha: createHash("sha1").update(text).digest("hex") }
}

/** The part of an ioredis client (5 or 6, `Redis` or `Cluster`) that is asked for; it is duplicated, never used itself. */
export interface RedisClient {
  duplicate(...args: ReadonlyArray<never>): unknown
  readonly status: string
  call(command: string, ...args: Array<string | number>): Promise<unknown>
  quit(): Promise<unknown>
}

/** What a write waits for. */
export type Safety = "fsync" | { readonly replicas: number }

export class Redis extends Context.Service<
  Redis,
  {
    readonly namespace: string
    readonly shards: number
    /** One command on the shared connection; replies as ioredis gives them (text). */
    call<A>(command: string, ...args: ReadonlyArray<Argument>): Effect.Effect<A, EngineError>
    /** The same with binary replies. */
    callBuffer<A>(command: string, ...args: ReadonlyArray<Argument>): Effect.Effect<A, EngineError>
    /** A script by its hash, loaded when the server does not know it. */
    run<A>(
      script: Script<A>,
      keys: ReadonlyArray<string>,
      args: ReadonlyArray<Argument>,
      session?: number
    ): Effect.Effect<A, EngineError>
    /** The same with binary replies. */
    runBuffer<A>(
      script: Script<unknown>,
      keys: ReadonlyArray<string>,
      args: ReadonlyArray<Argument>
    ): Effect.Effect<A, EngineError>
    /** Another number after every connection that was lost. A `run` of an earlier session is `Unreachable`, and not sent. */
    session(): number
    /** `run`, then WAIT or WAITAOF right behind it, on a connection of its own. */
    runDurable<A>(
      script: Script<A>,
      keys: ReadonlyArray<string>,
      args: ReadonlyArray<Argument>,
      safety: Safety
    ): Effect.Effect<A, EngineError | DurabilityNotReached>
    /** A connection to the node that has this key; whoever opens it drops it. */
    open(key: string): Effect.Effect<Connection, EngineError>
    /** The same, closed with the scope. */
    connection(key: string): Effect.Effect<Connection, EngineError, Scope.Scope>
    /** Messages of one pub/sub channel, over one shared connection; after a reconnect it subscribes again. */
    subscribe(channel: string): Stream.Stream<string, EngineError>
    /** A message for subscribers in this process, as if it had been published. */
    tell(channel: string, message: string): void
  }
>()("millrace/Redis") {}

export type Options = { readonly namespace?: string | undefined; readonly shards?: number | undefined } & (
  | { readonly url: string | Redacted.Redacted<string> }
  | { readonly client: RedisClient }
)

/** Milliseconds that WAIT and WAITAOF may take. */
const durableWait = 5_000

const fromUrl = (target: Target): Native => {
  const own = {
    ...(target.username === undefined ? {} : { username: target.username }),
    ...(target.password === undefined ? {} : { password: target.password }),
    ...(target.tls ? { tls: {}, enableTLSForSentinelMode: true, sentinelTLS: {} } : {}),
    db: target.database
  }
  const [first] = target.hosts
  const native: unknown =
    target.kind === "cluster"
      ? new Cluster(
          target.hosts.map((host) => ({ ...host })),
          {
            ...clusterOptions,
            redisOptions: { ...sharedOptions, ...own, retryStrategy: null } as object
          }
        )
      : target.kind === "sentinel"
        ? new Standalone({ ...sharedOptions, ...own, sentinels: [...target.hosts], name: target.master! } as object)
        : new Standalone({ ...sharedOptions, ...own, host: first.host, port: first.port } as object)
  // The two versions of ioredis and their two clients have no common type.
  return native as Native
}

interface ClientOptions {
  readonly keyPrefix?: string
  readonly host?: string
  readonly port?: number
  readonly path?: string
  readonly tls?: object
  readonly redisOptions?: ClientOptions
}

const fromClient = (client: RedisClient): Native => {
  // The structural type asks little of users; what they pass is checked here.
  const native = client as unknown as Native
  if (typeof native.duplicate !== "function" || typeof native.options !== "object") {
    throw new Misconfigured({ reason: "InvalidOption", detail: "client is not an ioredis Redis or Cluster" })
  }
  const options: ClientOptions = native.options
  const prefix = options.keyPrefix || options.redisOptions?.keyPrefix
  if (prefix) {
    throw new Misconfigured({
      reason: "InvalidOption",
      detail:
        `the client has keyPrefix "${prefix}", which scripts cannot follow: pass a client without one, and set ` +
        "`namespace` instead"
    })
  }
  if (native.isCluster !== true) return native.duplicate(sharedOptions)
  return native.duplicate([], {
    ...clusterOptions,
    redisOptions: { ...options.redisOptions, ...sharedOptions, retryStrategy: null }
  })
}

/** Where it connects to, for messages. */
const whereIs = (native: Native, target: Target | undefined): Place => {
  const cluster = native.isCluster === true
  if (target !== undefined) {
    const name = target.hosts.map((host) => `${host.host}:${host.port}`).join(",")
    return { name, cluster, tls: target.tls }
  }
  const options: ClientOptions = native.options
  const tls = (options.tls ?? options.redisOptions?.tls) !== undefined
  if (cluster) return { name: "the nodes of the cluster client", cluster, tls }
  return { name: options.path ?? `${options.host ?? "localhost"}:${options.port ?? 6379}`, cluster, tls }
}

const shape = (keyNames: ReadonlyArray<string>, args: ReadonlyArray<Argument>, first: string): Array<Argument> => {
  const all: Array<Argument> = [first, keyNames.length, ...keyNames]
  // Not spread: there may be very many.
  for (let i = 0; i < args.length; i++) all.push(args[i]!)
  return all
}

const isNoScript = (error: unknown): boolean => error instanceof EngineError && error.detail.startsWith("NOSCRIPT")

/** Writes that are followed by WAIT or WAITAOF: one connection for each shard, so that they hold up nothing else. */
const makeDurable = Effect.fnUntraced(function* (link: Link, server: Server) {
  const connections = new Map<string, Connection>()
  const opening = yield* Semaphore.make(1)
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const connection of connections.values()) connection.dropUnsafe()
    })
  )
  const connect = (key: string): Effect.Effect<Connection, EngineError> =>
    Effect.suspend(() => {
      const known = connections.get(key)
      if (known?.isOpen() === true) return Effect.succeed(known)
      return Effect.map(link.open(key), (connection) => {
        connections.set(key, connection)
        return connection
      })
    })
  const waitFor = (connection: Connection, safety: Safety): Effect.Effect<Command | undefined, EngineError> =>
    safety === "fsync"
      ? Effect.map(checkDisk(connection, server), (way) =>
          way === "wait" ? (["waitaof", 1, 0, durableWait] as const) : undefined
        )
      : Effect.succeed(["wait", safety.replicas, durableWait])

  return <A>(
    { sha, lua }: Script<A>,
    keyNames: ReadonlyArray<string>,
    args: ReadonlyArray<Argument>,
    safety: Safety
  ): Effect.Effect<A, EngineError | DurabilityNotReached> =>
    Effect.gen(function* () {
      const marker = keys.safe(keyNames[0]!)
      const connection = yield* opening.withPermit(connect(marker))
      const wait = yield* watched(connection, silence, waitFor(connection, safety))
      const after: ReadonlyArray<Command> = wait === undefined ? [] : [["set", marker, "1"], wait]
      const pipeline = (first: Command): Effect.Effect<ReadonlyArray<unknown>> =>
        watched(connection, durableWait + silence, connection.pipeline([first, ...after]))
      let replies = yield* pipeline(["evalsha", ...shape(keyNames, args, sha)])
      if (isNoScript(replies[0])) replies = yield* pipeline(["eval", ...shape(keyNames, args, lua)])
      const [reply, , waited] = replies
      if (reply instanceof EngineError) return yield* reply
      if (wait !== undefined) {
        const wanted = safety === "fsync" ? 1 : safety.replicas
        const reached = Number(Array.isArray(waited) ? waited[0] : waited)
        if (!(reached >= wanted)) return yield* new DurabilityNotReached({ wanted, reached: reached || 0 })
      }
      return reply as A
    })
})

/** The shared connection, before anything was asked of its server. */
export const connect = Effect.fnUntraced(function* (options: Options) {
  const namespace = options.namespace ?? "millrace"
  const shards = options.shards ?? 1
  if (!Number.isSafeInteger(shards) || shards < 1 || shards > 16_384) {
    return yield* new Misconfigured({
      reason: "InvalidOption",
      detail: `shards must be a whole number from 1 to 16,384, not ${shards}`
    })
  }
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(namespace)) {
    return yield* new Misconfigured({
      reason: "InvalidOption",
      detail: `namespace "${namespace}": letters, digits, ".", "_" and "-" only, at most 128, a letter or digit first`
    })
  }
  const link = yield* Effect.acquireRelease(
    Effect.try({
      try: () => {
        if ("client" in options) {
          const native = fromClient(options.client)
          return new Link(native, whereIs(native, undefined))
        }
        const target = parse(Redacted.isRedacted(options.url) ? Redacted.value(options.url) : options.url)
        const native = fromUrl(target)
        return new Link(native, whereIs(native, target))
      },
      catch: (error) =>
        error instanceof Misconfigured
          ? error
          : new Misconfigured({ reason: "InvalidOption", detail: "these options make no Redis client" })
    }),
    (link) => Effect.sync(() => link.close())
  )
  yield* link.ready("connect")
  return { link, namespace, shards }
})

const make = Effect.fnUntraced(function* (options: Options) {
  const { link, namespace, shards } = yield* connect(options)
  const server = yield* checkServer(link.native, link.where)
  yield* followFailovers(link.native)
  const runDurable = yield* makeDurable(link, server)
  const { subscribe, tell } = yield* makeSubscriber(link, keys.topics(namespace))
  const run = <A>(
    { lua, name, sha }: Script<unknown>,
    keyNames: ReadonlyArray<string>,
    args: ReadonlyArray<Argument>,
    binary: boolean,
    session?: number
  ): Effect.Effect<A, EngineError> =>
    Effect.catchTag(
      link.send<A>("evalsha", shape(keyNames, args, sha), binary, name, session),
      "EngineError",
      // It was not run when the server does not know it, so sending it anew is safe.
      (error) =>
        isNoScript(error) ? link.send<A>("eval", shape(keyNames, args, lua), binary, name, session) : Effect.fail(error)
    )
  return Redis.of({
    namespace,
    shards,
    call: (command, ...args) => link.send(command, args, false),
    callBuffer: (command, ...args) => link.send(command, args, true),
    session: () => link.session,
    run: (script, keyNames, args, session) => run(script, keyNames, args, false, session),
    runBuffer: (script, keyNames, args) => run(script, keyNames, args, true),
    runDurable,
    open: (key) => link.open(key),
    connection: (key) =>
      Effect.acquireRelease(link.open(key), (connection) => Effect.sync(() => connection.dropUnsafe()), {
        interruptible: true
      }),
    subscribe,
    tell
  })
})

/** `shards` (default 1) spreads partitions over so many hash slots; namespace is the application's name. */
export const layer = (options: Options): Layer.Layer<Redis, EngineError | Misconfigured> =>
  Layer.effect(Redis, make(options))
