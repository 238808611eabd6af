/**
 * Inboxes: where replies to the questions of one process arrive, a stream for each shard. Its asker makes it and prolongs
 * it; it expires by itself, and commits add to one that is there only.
 *
 * Gotcha: each inbox is read on a connection of its own, which is kept for the next read, and dropped when one breaks or
 * is interrupted: it may still owe an answer.
 */
import { Clock, Effect } from "effect"
import type { Entry } from "../Broker.ts"
import { EngineError } from "../Errors.ts"
import { type Connection, type Redis, script } from "./client.ts"
import { type Command, silence, watched } from "./connection.ts"
import { following } from "./outbox.ts"

const lastsMillis = 60_000
/** It is not asked for again for so long, unless a connection was lost meanwhile: then it may be another server. */
const knownMillis = 20_000

/** Replies of one read. */
const pageSize = 1_000

/** KEYS: inbox. ARGV: milliseconds. */
export const openInbox = script<number>(
  "openInbox",
  /* lua */ `#!lua flags=allow-oom
if redis.call("EXISTS", KEYS[1]) == 0 then
  -- An empty stream.
  redis.call("XDEL", KEYS[1], redis.call("XADD", KEYS[1], "*", "o", ""))
end
return redis.call("PEXPIRE", KEYS[1], ARGV[1])
`
)

type RawRead = ReadonlyArray<readonly [key: Buffer, entries: ReadonlyArray<readonly [Buffer, ReadonlyArray<Buffer>]>]>

const entriesOf = (read: RawRead | null): ReadonlyArray<Entry> =>
  read === null
    ? []
    : read.flatMap(([, entries]) => entries.map(([id, fields]) => ({ id: id.toString("latin1"), count: 1, fields })))

/** The last reply, if none is a refusal. */
const lastOf = (replies: ReadonlyArray<unknown>): Effect.Effect<unknown, EngineError> => {
  const refusal = replies.find((reply) => reply instanceof EngineError)
  return refusal === undefined ? Effect.succeed(replies.at(-1)) : Effect.fail(refusal)
}

export class Inboxes {
  private readonly connections = new Map<string, Connection>()
  private readonly known = new Map<string, { readonly session: number; readonly until: number }>()
  private readonly redis: Redis["Service"]
  constructor(redis: Redis["Service"]) {
    this.redis = redis
  }

  open(inbox: string): Effect.Effect<void, EngineError> {
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const session = this.redis.session()
      const known = this.known.get(inbox)
      if (known !== undefined && known.session === session && now < known.until) return Effect.void
      return Effect.map(this.redis.run(openInbox, [inbox], [lastsMillis], session), () => {
        this.known.set(inbox, { session, until: now + knownMillis })
      })
    })
  }

  private connected(inbox: string): Effect.Effect<Connection, EngineError> {
    return Effect.suspend(() => {
      const known = this.connections.get(inbox)
      if (known?.isOpen() === true) return Effect.succeed(known)
      this.drop(inbox)
      return Effect.map(this.redis.open(inbox), (connection) => {
        this.connections.set(inbox, connection)
        return connection
      })
    })
  }

  private drop(inbox: string): void {
    this.connections.get(inbox)?.dropUnsafe()
    this.connections.delete(inbox)
  }

  read(inbox: string, after: string, clear: boolean, block: number): Effect.Effect<ReadonlyArray<Entry>, EngineError> {
    const waits = block > 0 ? ["BLOCK", Math.ceil(block)] : []
    const xread: Command = ["xread", "COUNT", pageSize, ...waits, "STREAMS", inbox, after]
    return this.connected(inbox).pipe(
      Effect.flatMap((connection) => {
        const reading = clear
          ? Effect.flatMap(connection.pipeline([["xtrim", inbox, "MINID", following(after)], xread], true), lastOf)
          : connection.callBuffer<unknown>(...xread)
        return watched(connection, Math.max(0, block) + silence, reading)
      }),
      Effect.map((read) => entriesOf(read as RawRead | null)),
      Effect.onExit((exit) =>
        Effect.sync(() => {
          if (exit._tag === "Failure") this.drop(inbox)
        })
      )
    )
  }
}
