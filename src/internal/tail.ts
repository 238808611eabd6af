/** Reading a topic without a group, for `Topic.stream`. */
import { Cause, DateTime, Effect, Stream } from "effect"
import type { NonEmptyReadonlyArray } from "effect/Array"
import { Broker, type Position } from "../Broker.ts"
import { type DecodeError, EngineError, EventsLost } from "../Errors.ts"
import type { Event, Origin } from "../Event.ts"
import { Serializer } from "../Serializer.ts"
import * as Settings from "../Settings.ts"
import type { Any, From } from "../Topic.ts"
import { before, compare, offset, parseOffset } from "./entryId.ts"
import { checkCount, invalid } from "./names.ts"
import type { Received } from "./record/received.ts"
import { codecOf } from "./record/record.ts"

/** Nobody keeps books of events that are only looked at. */
export const nobody: Origin = {
  drop: () => {},
  unit: () => {
    throw new Error("Event.mapEffect and mapBatch are for Processor.stream; use Stream.mapEffect on a Topic.stream")
  }
}

interface Cursor {
  readonly partition: number
  after: string
  entriesRead: number
  /** Events of this entry up to this index are not wanted. */
  skip: { readonly id: string; readonly index: number } | undefined
  /** Nothing above this id is wanted; undefined: no end. */
  readonly end: string | undefined
}

export interface Options {
  readonly from?: From | undefined
  readonly until?: "now" | undefined
  readonly partitions?: NonEmptyReadonlyArray<number> | undefined
  /** Told of events that cannot be decoded, which are left out then; without it they are the end. */
  readonly onUndecodable?: ((error: DecodeError) => Effect.Effect<unknown>) | undefined
}

const split = (
  events: ReadonlyArray<Received<unknown>>
): readonly [good: ReadonlyArray<Received<unknown>>, failures: ReadonlyArray<DecodeError>] => [
  events.filter((event) => event.failure === undefined),
  events.flatMap((event) => event.failure ?? [])
]

export const tail = <A>(topic: Any, options: Options = {}): Stream.Stream<Event<A>, any, Broker | Serializer> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const broker = yield* Broker
      const codec = codecOf(topic, yield* Serializer)
      const { readTimeout } = yield* Settings.current
      const partitions = options.partitions ?? Array.from({ length: topic.partitions }, (_, partition) => partition)
      for (const partition of partitions)
        checkCount(`Topic.stream of ${topic.name}: partition`, partition, 0, topic.partitions - 1)
      const from = options.from ?? "earliest"
      const start = typeof from === "object" && "offset" in from ? parseOffset(from.offset) : undefined
      if (typeof from === "object" && "offset" in from && start === undefined) {
        throw invalid(
          `Topic.stream of ${topic.name}: ${JSON.stringify(from.offset)} is no offset; use "<millis>-<seq>.<index>"`
        )
      }
      yield* Effect.mapError(broker.declare([topic]), (error) =>
        error._tag === "EngineError"
          ? error
          : new EngineError({ operation: "Topic.stream", reason: "Refused", detail: error.message })
      )

      const cursors: Array<Cursor> = []
      for (const info of yield* broker.inspect(topic, partitions)) {
        const trimmed = info.added - info.length
        const end = options.until === "now" ? info.last : undefined
        const cursor = (after: string, entriesRead: number, skip?: Cursor["skip"]): Cursor => ({
          partition: info.partition,
          after,
          entriesRead,
          skip,
          end
        })
        if (from === "earliest") cursors.push(cursor("0-0", trimmed))
        else if (from === "latest") cursors.push(cursor(info.last, info.added))
        // Its place in the count is not known: losses are noticed from the first entry read on.
        else if ("time" in from) {
          const millis = DateTime.toEpochMillis(from.time)
          cursors.push(cursor(millis > 0 ? before(`${millis}-0`) : "0-0", Infinity))
        } else {
          if (compare(start!.id, info.first) < 0 && trimmed > 0) {
            return yield* new EventsLost({
              topic: topic.name,
              partition: info.partition,
              first: from.offset,
              last: `before ${offset(info.first, 0)}`,
              entries: trimmed
            })
          }
          const skip = start!.index > 0 ? { id: start!.id, index: start!.index - 1 } : undefined
          cursors.push(cursor(before(start!.id), Infinity, skip))
        }
      }

      const shards = new Map<number, Array<Cursor>>()
      for (const cursor of cursors) {
        const shard = cursor.partition % broker.shards
        const list = shards.get(shard)
        if (list === undefined) shards.set(shard, [cursor])
        else list.push(cursor)
      }

      const done = (cursor: Cursor): boolean => cursor.end !== undefined && compare(cursor.after, cursor.end) >= 0

      const ofShard = (shard: number, all: ReadonlyArray<Cursor>): Stream.Stream<Received<unknown>, any> =>
        Stream.scoped(
          Stream.fromPull(
            Effect.map(broker.reader(shard), (reader) => {
              const pull: Effect.Effect<NonEmptyReadonlyArray<Received<unknown>>, any> = Effect.suspend(() => {
                const open = all.filter((cursor) => !done(cursor))
                if (open.length === 0) return Cause.done()
                const positions = open.map(
                  ({ after, entriesRead, partition }): Position => ({ topic, partition, after, entriesRead })
                )
                return Effect.flatMap(
                  reader.read(positions, { count: 100, block: options.until === "now" ? 0 : readTimeout }),
                  (batches) => {
                    const events: Array<Received<unknown>> = []
                    for (const batch of batches) {
                      const cursor = open.find((cursor) => cursor.partition === batch.partition)!
                      if (batch.trimmed !== undefined && batch.trimmed > cursor.entriesRead) {
                        return Effect.fail(
                          new EventsLost({
                            topic: topic.name,
                            partition: cursor.partition,
                            first: `after ${offset(cursor.after, 0)}`,
                            last: `before ${offset(batch.entries[0]?.id ?? cursor.after, 0)}`,
                            entries: batch.trimmed - cursor.entriesRead
                          })
                        )
                      }
                      for (const entry of batch.entries) {
                        if (cursor.end !== undefined && compare(entry.id, cursor.end) > 0) {
                          cursor.after = cursor.end
                          break
                        }
                        cursor.after = entry.id
                        cursor.entriesRead++
                        const first = cursor.skip?.id === entry.id ? cursor.skip.index + 1 : 0
                        for (const event of codec.unpack(entry, cursor.partition, first, nobody, 0n)) events.push(event)
                      }
                    }
                    // Nothing there although the end is above: it was trimmed meanwhile.
                    if (batches.length === 0 && options.until === "now") return Cause.done()
                    if (events.length === 0) return pull
                    const { onUndecodable } = options
                    if (onUndecodable !== undefined) {
                      const [good, failures] = split(events)
                      const told = Effect.forEach(failures, onUndecodable, { discard: true })
                      return Effect.andThen(told, good.length === 0 ? pull : Effect.succeed(good as never))
                    }
                    const bad = events.findIndex((event) => event.failure !== undefined)
                    if (bad === 0) return Effect.fail(events[0]!.failure!)
                    // What came before it is given first; the failure is met by the next pull.
                    if (bad > 0) rest = Effect.fail(events[bad]!.failure!)
                    return Effect.succeed((bad > 0 ? events.slice(0, bad) : events) as never)
                  }
                )
              })
              let rest: typeof pull | undefined
              return Effect.suspend(() => rest ?? pull)
            })
          )
        )

      return Stream.mergeAll(
        Array.from(shards, ([shard, all]) => ofShard(shard, all)),
        { concurrency: "unbounded" }
      )
    })
  ) as Stream.Stream<Event<A>, any, Broker | Serializer>
