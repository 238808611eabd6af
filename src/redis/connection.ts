/**
 * Connections as Millrace needs them, over what ioredis 5 and 6, servers and clusters have in common: the shared one,
 * which reconnects, and those of one's own, which end for good when they break.
 *
 * Gotcha: waits here are for real sockets, so they use real timers and do not obey a test clock.
 */
import { randomInt } from "node:crypto"
import { Effect } from "effect"
import type { EngineError } from "../Errors.ts"
import { isHopeless, isOtherDatabase, type Place, toEngineError, unreachable } from "./failure.ts"

export type Argument = string | number | Uint8Array
export type Command = readonly [name: string, ...args: ReadonlyArray<Argument>]

/** What is used of ioredis. */
export interface Native {
  readonly status: string
  readonly isCluster?: boolean
  readonly options: object
  /** Not part of its interface: see `Link`. */
  socketTimeoutTimer?: NodeJS.Timeout | undefined
  call(command: string, args: ReadonlyArray<Argument>): Promise<unknown>
  callBuffer(command: string, args: ReadonlyArray<Argument>): Promise<unknown>
  connect(): Promise<void>
  disconnect(reconnect?: boolean): void
  duplicate(...args: ReadonlyArray<object>): Native
  nodes?(role: string): ReadonlyArray<Native>
  natMapper?(address: string): { readonly host: string; readonly port: number }
  setMaxListeners(count: number): unknown
  on(event: string, listener: (...args: ReadonlyArray<never>) => void): unknown
  off(event: string, listener: (...args: ReadonlyArray<never>) => void): unknown
}

/** A connection of one's own. */
export interface Connection {
  call<A>(command: string, ...args: ReadonlyArray<Argument>): Effect.Effect<A, EngineError>
  callBuffer<A>(command: string, ...args: ReadonlyArray<Argument>): Effect.Effect<A, EngineError>
  /** Commands sent in one go; each has its reply (binary, if asked for) or its error in its place. */
  pipeline(commands: ReadonlyArray<Command>, binary?: boolean): Effect.Effect<ReadonlyArray<unknown>>
  /** Ends a blocking command of this connection, from outside; false if none waited. */
  readonly unblock: Effect.Effect<boolean, EngineError>
  isOpen(): boolean
  /** Closes it; commands in flight fail. */
  dropUnsafe(): void
  /** Calls back, once, when it has ended. */
  onEndUnsafe(listener: () => void): void
  /** Pub/sub messages that arrive on it. */
  onMessageUnsafe(listener: (channel: string, message: string) => void): void
}

/** Milliseconds that a command waits for a connection, and that opening one may take. */
export const patience = 5_000
/**
 * A connection that owes an answer for so many milliseconds is taken for dead: soon enough to renew a lease of 10 s, of
 * which a third is over when it is asked for, on another one.
 */
export const silence = 4_000

/** 50 ms, doubled up to 1 s, half of it at random. */
export const backOff = (attempt: number): number => {
  const half = Math.min(25 * 2 ** Math.min(attempt - 1, 5), 500)
  return half + randomInt(half)
}

/** The connection is closed when that takes longer. A real timer: it watches a real socket. */
export const watched = <A, E>(
  connection: { dropUnsafe(): void },
  millis: number,
  effect: Effect.Effect<A, E>
): Effect.Effect<A, E> =>
  Effect.suspend(() => {
    const late = setTimeout(() => connection.dropUnsafe(), millis)
    return Effect.onExit(effect, () => Effect.sync(() => clearTimeout(late)))
  })

const common = {
  lazyConnect: true,
  maxRetriesPerRequest: 0,
  enableOfflineQueue: false,
  enableReadyCheck: true,
  enableAutoPipelining: false,
  autoResendUnfulfilledCommands: false,
  autoResubscribe: false,
  disableClientInfo: true,
  commandTimeout: undefined,
  blockingTimeout: undefined,
  connectTimeout: patience,
  // What closing waits for the other side, which may be gone.
  disconnectTimeout: 500,
  // A server that is loading its data is asked again after this, or ioredis would believe what it says it still needs.
  maxLoadingRetryTime: 250,
  sentinelCommandTimeout: silence / 2,
  keepAlive: 10_000,
  noDelay: true,
  stringNumbers: false,
  monitor: false,
  readOnly: false,
  showFriendlyErrorStack: false,
  // ioredis 6 speaks RESP3 by default, where some replies have other shapes; ioredis 5 does not know these two.
  protocol: 2,
  replyMapping: "legacy"
}

export const sharedOptions = {
  ...common,
  socketTimeout: silence,
  retryStrategy: backOff,
  // A master that was demoted may keep its connections: look for the new one. The command itself is not sent again.
  reconnectOnError: (error: Error) => (error.message.startsWith("READONLY") ? (1 as const) : false)
}

export const clusterOptions = {
  lazyConnect: true,
  enableOfflineQueue: false,
  enableReadyCheck: true,
  enableAutoPipelining: false,
  scaleReads: "master" as const,
  clusterRetryStrategy: backOff,
  // This one would send again what was in flight when a node's connection broke.
  retryDelayOnFailover: 0
}

/** Blocking commands may be silent on it for long. */
const ownOptions = { ...common, socketTimeout: undefined, retryStrategy: null, reconnectOnError: null }

/** ioredis takes Buffers; it would write any other bytes as text. */
const prepare = (args: ReadonlyArray<Argument>): ReadonlyArray<Argument> => {
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]
    if (typeof arg === "object" && !(arg instanceof Buffer)) {
      return args.map((each) =>
        typeof each === "object" && !(each instanceof Buffer)
          ? Buffer.from(each.buffer, each.byteOffset, each.byteLength)
          : each
      )
    }
  }
  return args
}

const sendOn = <A>(
  native: Native,
  where: Place,
  command: string,
  args: ReadonlyArray<Argument>,
  binary: boolean,
  operation = command,
  refusal?: () => Error | undefined
): Effect.Effect<A, EngineError> =>
  Effect.callback<A, EngineError>((resume) => {
    const refused = refusal?.()
    if (refused !== undefined) return resume(Effect.fail(unreachable(operation, where, refused)))
    const sent = binary ? native.callBuffer(command, prepare(args)) : native.call(command, prepare(args))
    sent.then(
      (reply) => resume(Effect.succeed(reply as A)),
      (error: unknown) => resume(Effect.fail(toEngineError(operation, where, error)))
    )
  })

const addressOf = ({ options }: Native): string => {
  const { host, path, port }: Address = options
  return path ?? `${host}:${port}`
}

interface Address {
  readonly host?: string
  readonly port?: number
  readonly path?: string
}

/** The shared connection: reconnects by itself, and lets commands wait for that, for a while. */
export class Link {
  /** Another number after every connection that was lost: what comes back may be a server that went back. */
  session = 0
  private failure: unknown
  /** Connections of one's own. They go with the shared one, since it may come back to another server. */
  private readonly own = new Set<Native>()
  readonly native: Native
  readonly where: Place
  constructor(native: Native, where: Place) {
    this.native = native
    this.where = where
    native.setMaxListeners(0)
    // Listening also keeps ioredis from printing errors by itself.
    const onError = (error: unknown): void => {
      this.failure = error
      if (isOtherDatabase(error)) native.disconnect(true)
    }
    native.on("error", onError)
    native.on("node error", onError)
    native.on("close", () => {
      // ioredis 5 lets it run on, and it would close the next connection.
      clearTimeout(native.socketTimeoutTimer)
      native.socketTimeoutTimer = undefined
      this.session++
      this.dropOwn()
    })
    native.on("-node", (node: Native) => {
      this.session++
      this.dropOwn(node)
    })
    if (native.status === "wait") native.connect().catch(() => undefined)
  }

  close(): void {
    this.native.disconnect()
    this.dropOwn()
  }

  private dropOwn(node?: Native): void {
    for (const own of this.own) if (node === undefined || addressOf(own) === addressOf(node)) own.disconnect()
  }

  /** Calls back once it is ready, or with the reason why not; gives the function that forgets the callback. */
  private whenReady(operation: string, done: (failure: EngineError | undefined) => void): () => void {
    const { native } = this
    const finish = (failure: EngineError | undefined): void => {
      forget()
      done(failure)
    }
    const onReady = (): void => finish(undefined)
    const onError = (error: unknown): void => {
      // Waiting does not help against a wrong password.
      if (isHopeless(error)) finish(toEngineError(operation, this.where, error))
    }
    const onTime = (): void =>
      finish(unreachable(operation, this.where, this.failure ?? new Error(`no connection within ${patience} ms`)))
    const timer = setTimeout(onTime, patience)
    const events = [
      ["ready", onReady],
      ["error", onError],
      ["node error", onError],
      ["end", onTime]
    ] as const
    const forget = (): void => {
      clearTimeout(timer)
      for (const [event, listener] of events) native.off(event, listener)
    }
    for (const [event, listener] of events) native.on(event, listener)
    return forget
  }

  ready(operation: string): Effect.Effect<void, EngineError> {
    return Effect.callback<void, EngineError>((resume) => {
      const { status } = this.native
      if (status === "ready") return resume(Effect.void)
      if (status === "end") {
        return resume(Effect.fail(unreachable(operation, this.where, new Error("the connection was closed"))))
      }
      return Effect.sync(
        this.whenReady(operation, (failure) => resume(failure === undefined ? Effect.void : Effect.fail(failure)))
      )
    })
  }

  /** `session`: sent in no other one; it fails with `Unreachable` if there was a new connection meanwhile. */
  send<A>(
    command: string,
    args: ReadonlyArray<Argument>,
    binary: boolean,
    operation = command,
    session?: number
  ): Effect.Effect<A, EngineError> {
    const refusal = (): Error | undefined =>
      session === undefined || session === this.session ? undefined : new Error("it was connected anew meanwhile")
    const sending = sendOn<A>(this.native, this.where, command, args, binary, operation, refusal)
    return Effect.suspend(() =>
      this.native.status === "ready" ? sending : Effect.andThen(this.ready(operation), sending)
    )
  }

  /**
   * The node that seems to serve a key: one that answers for it, or the one that another sends it to. On a cluster that is
   * a guess: after a failover ioredis may go on taking the dead for a master, masters for replicas and the other way
   * round, and replicas answer those of its connections that it made so; they are only asked where no master lives.
   */
  private guess(key: string): Effect.Effect<readonly [of: Native, at: Address], EngineError> {
    const { native, where } = this
    if (native.isCluster !== true || native.nodes === undefined) return Effect.succeed([native, {}])
    const ask = (nodes: ReadonlyArray<Native>): Promise<readonly [Native, Address]> =>
      Promise.any(
        nodes.map((node) =>
          node.call("exists", [key]).then(
            () => [node, {}] as const,
            (refusal: unknown) => {
              const elsewhere = this.elsewhere(refusal)
              if (elsewhere === undefined) throw refusal
              return [node, elsewhere] as const
            }
          )
        )
      )
    return Effect.tryPromise({
      try: () => ask(native.nodes!("master")).catch(() => ask(native.nodes!("all"))),
      catch: () => unreachable("connection", where, new Error("no node of the cluster answers"))
    })
  }

  /** A connection to the node that has this key. Whoever asks for it must drop it. */
  open(key: string): Effect.Effect<Connection, EngineError> {
    return this.ready("connection").pipe(
      Effect.andThen(this.guess(key)),
      Effect.flatMap(([of, at]) => this.fresh(of, key, at, redirections))
    )
  }

  /** To the node of this client, or to another address; on a cluster it goes where it is sent. */
  private fresh(of: Native, key: string, at: Address, redirects: number): Effect.Effect<Connection, EngineError> {
    return Effect.callback<Connection, EngineError>((resume) => {
      const native = of.duplicate({ ...ownOptions, ...at })
      this.own.add(native)
      native.on("end", () => this.own.delete(native))
      let failure: unknown
      native.on("error", (error: unknown) => {
        failure = error
        if (isOtherDatabase(error)) native.disconnect()
      })
      const fail = (error: unknown): void => {
        clearTimeout(late)
        native.disconnect()
        const elsewhere = redirects > 0 ? this.elsewhere(error) : undefined
        if (elsewhere !== undefined) return resume(this.fresh(of, key, elsewhere, redirects - 1))
        const reason = failure ?? error
        resume(Effect.fail((isHopeless(reason) ? toEngineError : unreachable)("connection", this.where, reason)))
      }
      // What accepts a connection may still say nothing on it.
      const late = setTimeout(() => fail(new Error(`no answer within ${patience} ms`)), patience)
      const opening = native
        .connect()
        .then(() => (this.where.cluster ? native.call("exists", [key]).catch(stillOwner) : undefined))
        .then(() => native.call("client", ["id"]))
      opening.then((id) => {
        clearTimeout(late)
        resume(Effect.succeed(this.wrap(native, Number(id))))
      }, fail)
      return Effect.sync(() => {
        clearTimeout(late)
        native.disconnect()
      })
    })
  }

  /** Where a refusal points to. */
  private elsewhere(refusal: unknown): Address | undefined {
    const address = /^MOVED \d+ (\S+)/.exec(refusal instanceof Error ? refusal.message : "")?.[1]
    return address === undefined ? undefined : this.native.natMapper?.(address)
  }

  /** The client beside an own connection, for what has to be said from outside. */
  private beside(own: Native): Native | undefined {
    if (!this.where.cluster) return this.native
    return this.native.nodes?.("all").find((node) => addressOf(node) === addressOf(own))
  }

  private wrap(native: Native, id: number): Connection {
    const { where } = this
    return {
      call: (command, ...args) => sendOn(native, where, command, args, false),
      callBuffer: (command, ...args) => sendOn(native, where, command, args, true),
      pipeline: (commands, binary = false) =>
        Effect.promise(() =>
          Promise.all(
            commands.map(([command, ...args]) =>
              (binary ? native.callBuffer(command, prepare(args)) : native.call(command, prepare(args))).catch(
                (error: unknown) => toEngineError(command, where, error)
              )
            )
          )
        ),
      unblock: Effect.suspend(() => {
        const beside = this.beside(native)
        return beside === undefined
          ? Effect.fail(unreachable("unblock", where, new Error("the node is not known any more")))
          : Effect.map(
              sendOn<number>(beside, where, "client", ["unblock", id], false, "unblock"),
              (answer) => Number(answer) === 1
            )
      }),
      isOpen: () => native.status === "ready",
      dropUnsafe: () => native.disconnect(),
      onEndUnsafe: (listener) => void native.on("end", listener),
      onMessageUnsafe: (listener) => void native.on("message", listener)
    }
  }
}

/** How often a new connection is sent to another node before that counts as a failure. */
const redirections = 3

/** A node that sends single keys elsewhere while their slot moves has the slot still. */
const stillOwner = (refusal: unknown): void => {
  if (!(refusal instanceof Error) || !refusal.message.startsWith("ASK ")) throw refusal
}
