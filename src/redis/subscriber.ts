/**
 * Pub/sub channels over one connection, opened at the first subscription; when it breaks it is opened again and all
 * channels are subscribed anew.
 *
 * Gotcha: what is published while it is away is lost, as always with Redis pub/sub; use it for hints only.
 */
import { Cause, Effect, Queue, type Scope, Stream } from "effect"
import type { EngineError } from "../Errors.ts"
import { backOff, type Connection, type Link, silence, watched } from "./connection.ts"

type Listener = Queue.Queue<string, EngineError | Cause.Done>

/** Real time, for real sockets. */
const pause = (millis: number): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    const timer = setTimeout(() => resume(Effect.void), millis)
    return Effect.sync(() => clearTimeout(timer))
  })

/** Nothing comes on a channel for long, so only asking tells that its connection is alive; ends when it is not. */
const beating = (on: Connection): Effect.Effect<void> =>
  Effect.andThen(pause(silence), watched(on, silence, on.call("ping"))).pipe(Effect.forever, Effect.ignore)

export interface Subscriber {
  /** Messages of one channel. */
  readonly subscribe: (channel: string) => Stream.Stream<string, EngineError>
  /** A message for those of this process only, without a way over the server. */
  readonly tell: (channel: string, message: string) => void
}

/** `key` decides the node on a cluster. */
export const makeSubscriber = Effect.fnUntraced(function* (
  link: Link,
  key: string
): Effect.fn.Return<Subscriber, never, Scope.Scope> {
  const channels = new Map<string, Set<Listener>>()
  let connection: Connection | undefined
  let started = false
  const scope = yield* Effect.scope

  const failUnsafe = (channel: string, error: EngineError): void => {
    for (const listener of channels.get(channel) ?? []) Queue.failCauseUnsafe(listener, Cause.fail(error))
  }

  const request = (on: Connection, channel: string): Effect.Effect<void> =>
    Effect.matchEffect(watched(on, silence, on.call("subscribe", channel)), {
      // A refusal is for good; a connection that broke is opened again.
      onFailure: (error) =>
        Effect.sync(() => (error.reason === "Unreachable" ? on.dropUnsafe() : failUnsafe(channel, error))),
      onSuccess: () => Effect.void
    })

  const tell = (channel: string, message: string): void => {
    for (const listener of channels.get(channel) ?? []) Queue.offerUnsafe(listener, message)
  }

  const listen = Effect.fnUntraced(function* (opened: Connection) {
    opened.onMessageUnsafe(tell)
    connection = opened
    for (const channel of channels.keys()) yield* request(opened, channel)
    const ended = Effect.callback<void>((resume) => {
      opened.onEndUnsafe(() => resume(Effect.void))
      if (!opened.isOpen()) resume(Effect.void)
    })
    yield* Effect.raceFirst(ended, beating(opened))
  })

  let attempt = 0
  const open = Effect.acquireRelease(
    link.open(key),
    (opened) =>
      Effect.sync(() => {
        connection = undefined
        opened.dropUnsafe()
      }),
    { interruptible: true }
  )
  const once = Effect.scoped(
    Effect.flatMap(open, (opened) => {
      attempt = 0
      return listen(opened)
    })
  ).pipe(
    Effect.catch((error) =>
      Effect.sync(() => {
        if (error.reason !== "Unreachable") {
          for (const channel of channels.keys()) failUnsafe(channel, error)
        }
      })
    ),
    Effect.andThen(Effect.suspend(() => pause(backOff(++attempt))))
  )

  const add = (channel: string, listener: Listener): Effect.Effect<void> =>
    Effect.suspend(() => {
      const known = channels.get(channel)
      if (known !== undefined) {
        known.add(listener)
        return Effect.void
      }
      channels.set(channel, new Set([listener]))
      if (connection !== undefined) return request(connection, channel)
      if (started) return Effect.void
      started = true
      return Effect.asVoid(Effect.forkIn(Effect.forever(once), scope))
    })

  const remove = (channel: string, listener: Listener): Effect.Effect<void> =>
    Effect.suspend(() => {
      const known = channels.get(channel)
      known?.delete(listener)
      if (known?.size !== 0) return Effect.void
      channels.delete(channel)
      // Nobody waits for the answer, which a silent connection would owe for ever.
      if (connection === undefined) return Effect.void
      const unsubscribing = Effect.ignore(connection.call("unsubscribe", channel))
      return Effect.asVoid(Effect.forkIn(unsubscribing, scope, { startImmediately: true }))
    })

  const subscribe = (channel: string) =>
    Stream.callback<string, EngineError>(
      (queue) => Effect.acquireRelease(add(channel, queue), () => remove(channel, queue)),
      { bufferSize: 256, strategy: "sliding" }
    )
  return { subscribe, tell }
})
