/**
 * Dead letters by the name of the topic that holds them. Nobody's schema is needed: values are read as far as the
 * program's serializer knows them, and put back as the bytes that they are.
 */
import { DateTime, Effect, type Scope } from "effect"
import { Broker, type Entry, type Reader, type StoredTopic } from "../../Broker.ts"
import type { EngineError, Misconfigured } from "../../Errors.ts"
import { NotFound } from "../../Errors.ts"
import { type Codec, Serializer } from "../../Serializer.ts"
import type { TableStore } from "../../TableStore.ts"
import type { Any } from "../../Topic.ts"
import { withoutOurs } from "../dead/headers.ts"
import { letterOf } from "../dead/letters.ts"
import { groupOf, isLetter, nobody, passed } from "../dead/list.ts"
import { redrive as putBack } from "../dead/redrive.ts"
import { before, compare, parseOffset, zero } from "../entryId.ts"
import type { Received } from "../record/received.ts"
import { codecOf, type TopicCodec } from "../record/record.ts"
import type { Paths } from "../record/redacted.ts"
import { concurrency, named, noCursor, range } from "./known.ts"
import * as Payload from "./payload.ts"
import type { Page } from "./shapes/common.ts"
import type { DeadLetter, DeadTopic } from "./shapes/letters.ts"
import { anything } from "./topics.ts"

type Store = Broker | TableStore
type Client = Store | Serializer

const holdsLetters = ({ letters, name }: StoredTopic): boolean => letters || name.endsWith(".dead")

const find = (name: string) =>
  Effect.flatMap(
    Broker.use((broker) => broker.topics()),
    (all) => named("dead-letter topic", all.filter(holdsLetters), name)
  )

/**
 * What is stored behind the place of the group that puts letters back, without what it has put back beyond it; and what the
 * topic's retention dropped before that.
 */
const listed = (
  topic: StoredTopic
): Effect.Effect<{ readonly letters: number; readonly dropped: number }, EngineError, Store> =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const dead = anything(topic)
    const behind = new Map((yield* broker.lag(groupOf(dead))).map((lag) => [lag.partition, lag] as const))
    const counts = yield* Effect.forEach(
      yield* broker.inspect(dead, range(topic.partitions)),
      ({ added, events, extra, first, length, partition }) => {
        const all = added + extra
        const lag = behind.get(partition)
        const trimmed = all - events
        const left = lag === undefined ? events : Math.min(events, lag.events)
        if (lag === undefined) return Effect.succeed({ letters: left, dropped: trimmed })
        return Effect.map(passed(dead, partition), ({ count, offsets }) => {
          const isKept = (offset: string) => length > 0 && compare(parseOffset(offset)!.id, first) >= 0
          const back = Array.from(offsets).filter(isKept).length
          // Of those that were passed or put back, what is not kept any more.
          const gone = Math.max(0, count - (events - left)) + offsets.size - back
          return { letters: Math.max(0, left - back), dropped: Math.max(0, trimmed - gone) }
        })
      },
      { concurrency }
    )
    const sum = (of: "letters" | "dropped"): number => counts.reduce((total, count) => total + count[of], 0)
    return { letters: sum("letters"), dropped: sum("dropped") }
  })

export const deadTopics: Effect.Effect<ReadonlyArray<DeadTopic>, EngineError, Store> = Effect.flatMap(
  Broker.use((broker) => broker.topics()),
  (all) =>
    Effect.forEach(
      all.filter(holdsLetters),
      (topic) =>
        Effect.map(listed(topic), (counts) => ({ topic: topic.name, partitions: topic.partitions, ...counts })),
      { concurrency }
    )
)

/** How letters of a topic are shown. */
interface View {
  readonly serializer: Codec
  readonly flat: boolean
  readonly most: number
  /** What is secret in letters from this topic. */
  readonly secretOf: (source: string) => Paths
}

/** Several topics may send theirs to one: what holds for the letters is what holds where they come from. */
const viewOf = (topic: StoredTopic, most: number): Effect.Effect<View, EngineError, Client> =>
  Effect.gen(function* () {
    const serializer = yield* Serializer
    const all = yield* Broker.use((broker) => broker.topics())
    const secrets = new Map(all.map(({ name, redacted }) => [name, [...topic.redacted, ...redacted]]))
    return { serializer, flat: topic.flat, most, secretOf: (source) => secrets.get(source) ?? topic.redacted }
  })

const payloadOf = (
  event: Received<unknown>,
  { flat, most, serializer }: View,
  secret: Paths
): DeadLetter["payload"] => {
  const fields = valueOf(event)
  if (flat) {
    const value: Record<string, string> = {}
    for (let i = 0; i < fields.length; i += 2) value[text(fields[i]!)] = text(fields[i + 1]!)
    return Payload.shown(value, "flat", Buffer.concat(fields.map(bytesOf)), most, secret)
  }
  let bytes: Uint8Array = new Uint8Array()
  let format: string | undefined
  for (let i = 0; i < fields.length; i += 2) {
    if (text(fields[i]!) === "v") bytes = bytesOf(fields[i + 1]!)
    else if (text(fields[i]!) === "f") format = text(fields[i + 1]!)
  }
  const { failure } = event
  return failure === undefined
    ? Payload.shown(event.value, format ?? "json", bytes, most, secret)
    : Payload.read(serializer, format, bytes, most, secret)
}

/** The fields of its value; those of the whole entry if it cannot be taken apart. */
const valueOf = (event: Received<unknown>): ReadonlyArray<string | Uint8Array> => {
  try {
    return event.source.valueFields(event.index)
  } catch {
    return event.source.rawFields()
  }
}

const bytesOf = (field: string | Uint8Array): Uint8Array => (typeof field === "string" ? Buffer.from(field) : field)
const text = (field: string | Uint8Array): string => (typeof field === "string" ? field : Buffer.from(field).toString())

const describe = (event: Received<unknown>, view: View): DeadLetter => {
  const { attempts, error, failedAt, offset, partition, processor, source } = letterOf(event)
  return {
    topic: event.topic,
    partition,
    offset,
    key: event.key ?? null,
    timestamp: DateTime.formatIso(event.timestamp),
    headers: strings(withoutOurs(event.headers)),
    payload: payloadOf(event, view, view.secretOf(source.topic)),
    error,
    attempts: whole(attempts),
    processor,
    failedAt: failedAt === undefined ? null : DateTime.formatIso(failedAt),
    source: { ...source, partition: whole(source.partition) }
  }
}

// What somebody else wrote into headers may be anything.
const whole = (value: number): number => (Number.isSafeInteger(value) ? value : 0)
const strings = (headers: Readonly<Record<string, unknown>>): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]))

/** Entries looked at in one read, and letters of a page. */
const pageSize = 100

interface Place {
  readonly partition: number
  /** Read on behind this entry. */
  readonly after: string
}

const placeOf = (cursor: string | undefined): Effect.Effect<Place, Misconfigured> => {
  if (cursor === undefined) return Effect.succeed({ partition: 0, after: zero })
  const match = /^(\d{1,5})@(\d{1,20}-\d{1,20})$/.exec(cursor)
  return match === null
    ? Effect.fail(noCursor(cursor))
    : Effect.succeed({ partition: Number(match[1]), after: match[2]! })
}

/** A reader of each shard, opened when it is first asked for. */
const readers = Effect.map(Broker, (broker) => {
  const open = new Map<number, Reader>()
  return (partition: number): Effect.Effect<Reader, EngineError, Scope.Scope> => {
    const shard = partition % broker.shards
    const known = open.get(shard)
    return known !== undefined
      ? Effect.succeed(known)
      : Effect.tap(broker.reader(shard), (reader) => Effect.sync(() => open.set(shard, reader)))
  }
})

const readPage = (reader: Reader, topic: Any, { after, partition }: Place, count: number) =>
  Effect.map(
    // What its retention drops meanwhile is not listed: how many entries were read does not matter.
    reader.read([{ topic, partition, after, entriesRead: Number.POSITIVE_INFINITY }], { count, block: 0 }),
    ([batch]): ReadonlyArray<Entry> => batch?.entries ?? []
  )

const lettersIn = (codec: TopicCodec, entry: Entry, partition: number): ReadonlyArray<Received<unknown>> =>
  codec.unpack(entry, partition, 0, nobody, 0n).filter(isLetter)

/** A page of those that were not put back, in the order of partitions and offsets. */
export const deadLetters = (
  name: string,
  cursor: string | undefined
): Effect.Effect<Page<DeadLetter>, EngineError | Misconfigured | NotFound, Client> =>
  Effect.scoped(
    Effect.gen(function* () {
      const topic = yield* find(name)
      const dead = anything(topic)
      const view = yield* viewOf(topic, Payload.inList)
      const codec = codecOf(dead, view.serializer)
      const readerOf = yield* readers
      const from = yield* placeOf(cursor)
      const logs = yield* Broker.use((broker) => broker.inspect(dead, range(topic.partitions, from.partition)))
      const items: Array<DeadLetter> = []
      for (const { last, length, partition } of logs) {
        if (length === 0) continue
        const { offsets, upTo } = yield* passed(dead, partition)
        let after = upTo
        if (partition === from.partition && compare(from.after, after) > 0) after = from.after
        const reader = yield* readerOf(partition)
        while (compare(after, last) < 0) {
          const entries = yield* readPage(reader, dead, { partition, after }, pageSize - items.length)
          if (entries.length === 0) break
          for (const entry of entries) {
            after = entry.id
            for (const event of lettersIn(codec, entry, partition)) {
              if (!offsets.has(event.offset)) items.push(describe(event, view))
            }
          }
          if (items.length >= pageSize) return { items, next: `${partition}@${after}` }
        }
      }
      return { items, next: null }
    })
  )

/** One of them with its whole payload, whether or not it was put back. */
export const deadLetter = (
  name: string,
  partition: number,
  offset: string
): Effect.Effect<DeadLetter, EngineError | NotFound, Client> =>
  Effect.scoped(
    Effect.gen(function* () {
      const topic = yield* find(name)
      const dead = anything(topic)
      const view = yield* viewOf(topic, Payload.alone)
      const missing = new NotFound({ kind: "dead letter", name: `${name}/${partition}@${offset}`, known: [] })
      const place = parseOffset(offset)
      if (place === undefined || !(partition < topic.partitions)) return yield* missing
      const reader = yield* (yield* readers)(partition)
      const [entry] = yield* readPage(reader, dead, { partition, after: before(place.id) }, 1)
      if (entry?.id !== place.id) return yield* missing
      const event = lettersIn(codecOf(dead, view.serializer), entry, partition).find(
        ({ index }) => index === place.index
      )
      return event === undefined ? yield* missing : describe(event, view)
    })
  )

export interface LetterPlace {
  readonly partition: number
  readonly offset: string
}

export const redrive = (
  name: string,
  letters: ReadonlyArray<LetterPlace> | undefined
): Effect.Effect<number, EngineError | NotFound, Client> =>
  Effect.gen(function* () {
    const topic = yield* find(name)
    const dead = anything(topic)
    const all = yield* Broker.use((broker) => broker.topics())
    const wanted =
      letters &&
      new Map(
        Array.from(
          Map.groupBy(letters, ({ partition }) => partition),
          ([partition, some]) => [partition, new Set(some.map(({ offset }) => offset))]
        )
      )
    const stored = new Map(all.map((one) => [one.name, one]))
    const sources = (source: string): Any | undefined => {
      const found = stored.get(source)
      return found && anything(found)
    }
    return yield* putBack(sources, dead, wanted)
  })
