/** Reading a topic without a group, for `Topic.stream`. */
import { Cause, DateTime, Effect, Stream } from "effect"
import type { NonEmptyReadonlyArray } from "effect/Array"
import { Broker, type Position } from "../Broker.ts"
import { type DecodeError, EngineError, EventsLost } from "../Errors.ts"
import type { Event, Origin } from "../Event.ts"
import { Serializer } from "../Serializer.ts"
import * as Settings from "../Settings.ts"
import type { Any, From } from "../Topic.ts"
import { patiently } from "./backoff.ts"
import { before, compare, lostUpTo, offset, parseOffset, zero } from "./entryId.ts"
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
  /** Nothing was read yet. Until then what is trimmed is not lost to this reader, unless it asked for an offset. */
  isNew: boolean
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

const lost = (topic: Any, partition: number, first: string, next: string | undefined, entries: number): EventsLost =>
  new EventsLost({ topic: topic.name, partition, first, last: lostUpTo(next), entries })

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
      yield* Effect.mapError(patiently(broker.declare([topic])), (error) =>
        error._tag === "EngineError"
          ? error
          : new EngineError({ operation: "Topic.stream", reason: "Refused", detail: error.message })
      )

      const cursors: Array<Cursor> = []
      for (const info of yield* patiently(broker.inspect(topic, partitions))) {
        const { added, first, last, length, partition } = info
        const cursor = (after: string, entriesRead: number, skip?: Cursor["skip"]): number =>
          cursors.push({
            partition,
            after,
            entriesRead,
            isNew: start === undefined,
            skip,
            end: options.until === "now" ? last : undefined
          })
        const entriesBefore = (id: string) =>
          topic.retention._tag === "Forever" ? Effect.succeed(0) : patiently(broker.entriesBefore(topic, partition, id))
        if (start !== undefined) {
          const isGone = length === 0 ? compare(start.id, last) <= 0 : compare(start.id, first) < 0
          if (isGone && added > length)
            return yield* lost(topic, partition, `${start.id}.${start.index}`, first, added - length)
          const skip = start.index > 0 ? { id: start.id, index: start.index - 1 } : undefined
          cursor(before(start.id), yield* entriesBefore(start.id), skip)
        } else if (typeof from === "object" && "time" in from) {
          const id = `${Math.max(0, DateTime.toEpochMillis(from.time))}-0`
          cursor(before(id), yield* entriesBefore(id))
        } else if (from === "latest") cursor(last, added)
        else cursor(zero, 0)
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
            Effect.map(patiently(broker.reader(shard)), (reader) => {
              const pull: Effect.Effect<NonEmptyReadonlyArray<Received<unknown>>, any> = Effect.suspend(() => {
                const open = all.filter((cursor) => !done(cursor))
                if (open.length === 0) return Cause.done()
                const positions = open.map(
                  ({ after, entriesRead, isNew, partition }): Position => ({
                    topic,
                    partition,
                    after,
                    // Whatever was trimmed is answered then.
                    entriesRead: isNew ? -1 : entriesRead,
                    ungrouped: true
                  })
                )
                const waits = options.until !== "now" && !open.some(({ isNew }) => isNew)
                return Effect.flatMap(
                  patiently(reader.read(positions, { count: 100, block: waits ? readTimeout : 0 })),
                  (batches) => {
                    const events: Array<Received<unknown>> = []
                    const began = open.filter(({ isNew }) => isNew)
                    for (const cursor of began) {
                      const trimmed = batches.find(({ partition }) => partition === cursor.partition)?.trimmed ?? 0
                      cursor.entriesRead = Math.max(cursor.entriesRead, trimmed)
                      cursor.isNew = false
                    }
                    for (const batch of batches) {
                      const cursor = open.find((cursor) => cursor.partition === batch.partition)!
                      const missed = (batch.trimmed ?? 0) - cursor.entriesRead
                      if (missed > 0) {
                        const after = `after ${offset(cursor.after, 0)}`
                        return Effect.fail(lost(topic, cursor.partition, after, batch.entries[0]?.id, missed))
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
                    // Nothing there although the end is above: it was trimmed before this began.
                    if (batches.length === 0 && began.length === 0 && options.until === "now") return Cause.done()
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

      // A failure stands behind what was read before it, and does not overtake it.
      const pages = Array.from(shards, ([shard, all]) => ofShard(shard, all).pipe(Stream.chunks, Stream.result))
      return Stream.mergeAll(pages, { concurrency: "unbounded" }).pipe(
        Stream.mapEffect(Effect.fromResult),
        Stream.flattenArray
      )
    })
  ) as Stream.Stream<Event<A>, any, Broker | Serializer>
