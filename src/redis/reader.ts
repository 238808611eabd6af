/**
 * Reading: one connection for each reader, blocking `XREAD` over all its positions. Where what is unread may be trimmed,
 * `MULTI { XINFO STREAM, XREAD }` tells with every read how much was. Commands block in no transaction: behind a blocking
 * read follows the `XINFO STREAM`, and what was trimmed in between is told apart by the ids.
 *
 * Gotcha: a connection that broke, or whose read was interrupted, is dropped; the next read opens another.
 */
import { Effect, type Scope } from "effect"
import type { Batch, Entry, Position, Reader } from "../Broker.ts"
import { EngineError } from "../Errors.ts"
import { mayLose } from "../internal/unread.ts"
import { type Argument, type Command, type Connection, silence, watched } from "./connection.ts"
import * as keys from "./keys.ts"

type RawEntries = ReadonlyArray<readonly [id: Buffer, fields: ReadonlyArray<Buffer>]>
type RawRead = ReadonlyArray<readonly [key: Buffer, entries: RawEntries]> | null

const countOf = (fields: ReadonlyArray<Buffer>): number => {
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!
    if (name.length !== 1 || name[0] !== 0x6e) continue
    const text = fields[i + 1]!.toString("latin1")
    const count = /^[1-9]\d{0,5}$/.test(text) ? Number(text) : 1
    return count > 100_000 ? 1 : count
  }
  return 1
}

const parseEntries = (raw: RawEntries): Array<Entry> => {
  const entries = new Array<Entry>(raw.length)
  for (let i = 0; i < raw.length; i++) {
    const [id, fields] = raw[i]!
    entries[i] = { id: id.toString("latin1"), count: countOf(fields), fields }
  }
  return entries
}

interface Facts {
  readonly trimmed: number
  readonly added: number
  readonly first: string
  readonly last: string
}

/** Out of XINFO STREAM; undefined if there is no such log. */
const factsOf = (info: unknown): Facts | undefined => {
  if (!Array.isArray(info)) return undefined
  let length = 0
  let added = 0
  let first = ""
  let last = ""
  for (let i = 0; i < info.length; i += 2) {
    const name = String(info[i])
    if (name === "length") length = Number(info[i + 1])
    else if (name === "entries-added") added = Number(info[i + 1])
    else if (name === "recorded-first-entry-id") first = String(info[i + 1])
    else if (name === "last-generated-id") last = String(info[i + 1])
  }
  return { trimmed: added - length, added, first, last }
}

/** What was trimmed when these were read, by what the log is a moment later; undefined: nobody can tell any more. */
const trimmedThen = (entries: ReadonlyArray<Entry>, { added, first, last, trimmed }: Facts): number | undefined => {
  const kept = entries.findIndex(({ id }) => id === first)
  if (kept >= 0) return trimmed - kept
  return entries.at(-1)?.id === last ? added - entries.length : undefined
}

/** One of so many shards, and the hash tag of its keys. */
interface Shard {
  readonly number: number
  readonly count: number
  readonly tag: string
}

class ShardReader implements Reader {
  private connection: Connection | undefined
  private readonly names = new Map<string, Array<string>>()
  private reading = 0
  private reads = 0
  private readonly shard: Shard
  private readonly tag: string
  private readonly open: Effect.Effect<Connection, EngineError>
  constructor(shard: Shard, open: Effect.Effect<Connection, EngineError>) {
    this.shard = shard
    this.tag = shard.tag
    this.open = open
  }

  dropUnsafe(): void {
    this.connection?.dropUnsafe()
    this.connection = undefined
  }

  private readonly connected: Effect.Effect<Connection, EngineError> = Effect.suspend(() => {
    if (this.connection?.isOpen() === true) return Effect.succeed(this.connection)
    this.dropUnsafe()
    return Effect.map(this.open, (connection) => (this.connection = connection))
  })

  /** Asked for with every read: made once. */
  private nameOf(topic: string, partition: number): string {
    let names = this.names.get(topic)
    if (names === undefined) this.names.set(topic, (names = []))
    return (names[partition] ??= keys.log(this.tag, topic, partition))
  }

  private streams(from: ReadonlyArray<Position>): Array<Argument> {
    const args: Array<Argument> = ["STREAMS"]
    for (const { topic, partition } of from) args.push(this.nameOf(topic.name, partition))
    for (const { after } of from) args.push(after)
    return args
  }

  /** `streams`: what was asked for, as it was told to the server. */
  private batches(from: ReadonlyArray<Position>, streams: ReadonlyArray<Argument>, raw: RawRead): Array<Batch> {
    const batches: Array<Batch> = []
    if (raw === null) return batches
    let at = 0
    for (const [key, entries] of raw) {
      // The reply has the order of the request, without those that have nothing.
      at = streams.indexOf(key.toString(), at + 1) - 1
      const { topic, partition } = from[at]!
      batches.push({ topic: topic.name, partition, entries: parseEntries(entries), trimmed: undefined })
    }
    return batches
  }

  private xread(
    connection: Connection,
    from: ReadonlyArray<Position>,
    count: number,
    block: number
  ): Effect.Effect<Array<Batch>, EngineError> {
    const blocking = block > 0 ? ["BLOCK", Math.ceil(block)] : []
    const streams = this.streams(from)
    return Effect.map(
      connection.callBuffer<RawRead>("xread", "COUNT", Math.max(1, count), ...blocking, ...streams),
      (raw) => this.batches(from, streams, raw)
    )
  }

  private infos(watched: ReadonlyArray<Position>): Array<Command> {
    return watched.map(({ topic, partition }) => ["xinfo", "STREAM", this.nameOf(topic.name, partition)])
  }

  /** Adds to the batches what was trimmed when they were read, by facts of that moment or a later one; false: one cannot be told. */
  private tell(
    batches: Array<Batch>,
    watched: ReadonlyArray<Position>,
    infos: ReadonlyArray<unknown>,
    isLater: boolean
  ): boolean {
    return watched.every(({ topic, partition, entriesRead }, i) => {
      const facts = factsOf(infos[i])
      if (facts === undefined) return true
      const at = batches.findIndex((batch) => batch.topic === topic.name && batch.partition === partition)
      if (at < 0) {
        if (facts.trimmed > entriesRead)
          batches.push({ topic: topic.name, partition, entries: [], trimmed: facts.trimmed })
        return true
      }
      const batch = batches[at]!
      const isSure = !isLater || facts.trimmed <= entriesRead
      const trimmed = isSure ? facts.trimmed : trimmedThen(batch.entries, facts)
      if (trimmed === undefined) return false
      batches[at] = { ...batch, trimmed }
      return true
    })
  }

  /** All at one moment: how much was trimmed, and what there is to read. */
  private checked(
    connection: Connection,
    from: ReadonlyArray<Position>,
    count: number
  ): Effect.Effect<Array<Batch>, EngineError> {
    const watched = from.filter(mayLose)
    const streams = this.streams(from)
    const read: Command = ["xread", "COUNT", Math.max(1, count), ...streams]
    return Effect.flatMap(connection.pipeline([["multi"], ...this.infos(watched), read, ["exec"]], true), (replies) => {
      // The first one says why; EXEC only that there was one.
      const refusal = replies.find((reply) => reply instanceof EngineError)
      if (refusal !== undefined) return Effect.fail(refusal)
      const results = replies.at(-1) as ReadonlyArray<unknown>
      const read = results.at(-1)
      if (read instanceof Error) {
        return Effect.fail(new EngineError({ operation: "read", reason: "Refused", detail: read.message }))
      }
      const batches = this.batches(from, streams, read as RawRead)
      this.tell(batches, watched, results, false)
      return Effect.succeed(batches)
    })
  }

  /** Waits at the end of all logs. What comes is taken as it is given: by a second look it may be trimmed. */
  private waited(
    connection: Connection,
    from: ReadonlyArray<Position>,
    count: number,
    block: number
  ): Effect.Effect<Array<Batch>, EngineError> {
    const watched = from.filter(mayLose)
    const streams = this.streams(from)
    const read: Command = ["xread", "COUNT", Math.max(1, count), "BLOCK", Math.ceil(block), ...streams]
    return Effect.flatMap(connection.pipeline([read, ...this.infos(watched)], true), ([raw, ...infos]) => {
      if (raw instanceof EngineError) return Effect.fail(raw)
      // Refused where there is no log yet.
      const broken = infos.find((info) => info instanceof EngineError && info.reason !== "Refused")
      if (broken !== undefined) return Effect.fail(broken as EngineError)
      const batches = this.batches(from, streams, raw as RawRead)
      return this.tell(batches, watched, infos, true) ? Effect.succeed(batches) : this.checked(connection, from, count)
    })
  }

  private once(
    connection: Connection,
    from: ReadonlyArray<Position>,
    count: number,
    block: number
  ): Effect.Effect<Array<Batch>, EngineError> {
    if (!from.some(mayLose)) return this.xread(connection, from, count, block)
    return Effect.flatMap(this.checked(connection, from, count), (batches) =>
      batches.length > 0 || block <= 0 ? Effect.succeed(batches) : this.waited(connection, from, count, block)
    )
  }

  read(
    from: ReadonlyArray<Position>,
    { count, block }: { readonly count: number; readonly block: number }
  ): Effect.Effect<ReadonlyArray<Batch>, EngineError> {
    if (from.length === 0) return Effect.succeed([])
    const { count: shards, number: shard } = this.shard
    const stray = from.find(({ partition }) => partition % shards !== shard)
    if (stray !== undefined) {
      return Effect.die(new Error(`${stray.topic.name}/${stray.partition} does not lie in shard ${shard} of ${shards}`))
    }
    return Effect.suspend(() => {
      const number = ++this.reads
      // From here on a wake is meant for this read, also while its connection is still being opened.
      this.reading = number
      return this.connected.pipe(
        Effect.flatMap((connection) =>
          watched(connection, Math.max(0, block) + silence, this.once(connection, from, count, block))
        ),
        Effect.onExit((exit) =>
          Effect.sync(() => {
            if (this.reading === number) this.reading = 0
            // The connection may still owe an answer, or be stuck in a blocking command.
            if (exit._tag === "Failure") this.dropUnsafe()
          })
        )
      )
    })
  }

  /** UNBLOCK that comes before the server has the read finds nobody, so it is repeated. */
  readonly wake: Effect.Effect<void> = Effect.suspend(() => {
    const number = this.reading
    if (number === 0) return Effect.void
    const again: Effect.Effect<void> = Effect.suspend(() => {
      if (this.reading !== number) return Effect.void
      const { connection } = this
      if (connection === undefined) return Effect.andThen(shortly, again)
      return Effect.matchEffect(connection.unblock, {
        // It cannot be reached from outside: closing it ends the read too.
        onFailure: () => Effect.sync(() => this.dropUnsafe()),
        onSuccess: (found) => (found ? Effect.void : Effect.andThen(shortly, again))
      })
    })
    return again
  })
}

/** One millisecond of real time: what it waits for is on a real socket. */
const shortly: Effect.Effect<void> = Effect.callback<void>((resume) => {
  const timer = setTimeout(() => resume(Effect.void), 1)
  return Effect.sync(() => clearTimeout(timer))
})

/** `open` gives a connection to the shard's node; it is dropped by the reader. */
export const makeReader = (
  shard: Shard,
  open: Effect.Effect<Connection, EngineError>
): Effect.Effect<Reader, EngineError, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => new ShardReader(shard, open)),
      (reader) => Effect.sync(() => reader.dropUnsafe())
    ),
    (reader) => ({ read: (from, options) => reader.read(from, options), wake: reader.wake })
  )
