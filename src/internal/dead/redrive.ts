/**
 * Puts dead letters back at the end of their sources. A hidden group over the dead-letter topic does it, one partition
 * after the other: a commit emits letters to their sources and marks them as gone, so each is put back exactly once, whoever
 * dies in between and however often it is run. Its epochs are its own; of two runs at a time the later one goes on.
 */
import { randomUUID } from "node:crypto"
import { Clock, Effect } from "effect"
import { Broker, type Commit, type Committed, type Fence, type LogInfo, type NewEntry } from "../../Broker.ts"
import { EngineError, type Misconfigured } from "../../Errors.ts"
import { Serializer } from "../../Serializer.ts"
import type { TableStore } from "../../TableStore.ts"
import type { Any } from "../../Topic.ts"
import { backoff } from "../backoff.ts"
import { compare, offset, parseOffset } from "../entryId.ts"
import { checkName } from "../names.ts"
import type { Received } from "../record/received.ts"
import { codecOf, type TopicCodec } from "../record/record.ts"
import { deadHeaders, withoutOurs } from "./headers.ts"
import { countKey, groupOf, isLetter, nobody, pages, passed, placeKey, type Stored, table } from "./list.ts"

/** Letters of one commit, at most, and their bytes, about. */
const maxLetters = 500
const maxBytes = 512 * 1024

/** Which letters; all if it is undefined. */
export type Wanted = ReadonlyMap<number, ReadonlySet<string>> | undefined

const again = backoff("50 millis", "1 second")

const refused = (detail: string): EngineError =>
  new EngineError({ operation: "Topic.redrive", reason: "Refused", detail })

/** The topic of that name, if letters of it are to be put back. */
type Sources = (name: string) => Any | undefined

export const redrive = (
  sources: Sources,
  dead: Any,
  wanted: Wanted
): Effect.Effect<number, EngineError, Broker | Serializer | TableStore> =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const group = checkName("processor", groupOf(dead))
    yield* declared(Effect.andThen(broker.declare([dead]), broker.register(group, [dead], "earliest")))
    const serializer = yield* Serializer
    const met = new Map<string, Source | undefined>()
    /** Whatever of these letters' sources was not met before is declared. */
    const meet = Effect.fnUntraced(function* (slice: ReadonlyArray<Stored>) {
      for (const { events } of slice) {
        for (const { headers } of events) {
          const name = headers[deadHeaders.sourceTopic]
          if (name === undefined || met.has(name)) continue
          const topic = sources(name)
          if (topic !== undefined) yield* declared(broker.declare([topic]))
          met.set(name, topic && { topic, codec: codecOf(topic, serializer) })
        }
      }
      return met
    })
    let count = 0
    for (let partition = 0; partition < dead.partitions; partition++) {
      const offsets = wanted?.get(partition)
      if (wanted === undefined || offsets !== undefined) {
        count += yield* Effect.scoped(inPartition(meet, dead, partition, offsets))
      }
    }
    return count
  })

/** A topic that letters come from. */
interface Source {
  readonly topic: Any
  readonly codec: TopicCodec
}

type Met = ReadonlyMap<string, Source | undefined>

const declared = <R>(effect: Effect.Effect<void, EngineError | Misconfigured, R>) =>
  Effect.catchTag(effect, "Misconfigured", (error) => Effect.fail(refused(error.message)))

/** Our own epoch for one partition of the hidden group, above whatever is in force. */
const claim = (dead: Any, partition: number) =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const incarnation = randomUUID()
    let epoch = BigInt(Math.max(1, yield* Clock.currentTimeMillis))
    while (true) {
      const fence: Fence = { epoch, incarnation }
      const answer = yield* Effect.retry(broker.claim(groupOf(dead), partition, [dead], fence), patiently)
      if (answer._tag === "Claimed") return { fence, answer }
      epoch = answer.inForce + 1n
    }
  })

/** A call whose answer is lost is sent again: the engine knows whether it was applied. */
const patiently = {
  schedule: again,
  times: 10,
  while: (error: EngineError) => error.reason === "Unreachable" || error.reason === "Full"
}

const inPartition = (
  meet: (slice: ReadonlyArray<Stored>) => Effect.Effect<Met, EngineError>,
  dead: Any,
  partition: number,
  wanted: ReadonlySet<string> | undefined
) =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const { answer, fence } = yield* claim(dead, partition)
    const known = yield* passed(dead, partition)
    // Put back one by one, and dropped since by the retention.
    const [{ added, events, extra, first, length }] = answer.logs as [LogInfo]
    const gone = Array.from(known.offsets).filter(
      (offset) => length === 0 || compare(parseOffset(offset)!.id, first) < 0
    )
    let place = answer.committed[0]!
    let passedCount = known.count
    // What was dropped in front of it is not ours to put back.
    if (added - length > place.entries) place = { ...place, entries: added - length, events: added + extra - events }
    const page = yield* pages(dead, partition, known.upTo, place.entries)
    let { number } = answer
    let count = 0
    let unreadable = 0
    /** No letter was left behind so far: the place may move. */
    let whole = true
    let stored = yield* page
    while (stored.length > 0) {
      for (const slice of sliced(stored)) {
        const work = plan(yield* meet(slice), dead, slice, wanted, known.offsets, place, whole)
        whole = work.whole
        place = work.place
        unreadable += work.unreadable
        count += work.count
        passedCount += work.passed
        if (work.rows.length === 0) continue
        const forgotten = gone.splice(0, maxLetters)
        passedCount += forgotten.length
        const rows = [...work.rows, ...forgotten.map((key) => ({ table, key, value: undefined }))]
        if (work.moved || forgotten.length > 0) rows.push({ table, key: countKey, value: String(passedCount) })
        const commit: Commit = {
          ...fence,
          processor: groupOf(dead),
          partition,
          number,
          offsets: work.moved ? [{ ...place, layout: dead }] : [],
          rows,
          emits: Array.from(work.entries, ([topic, entries]) => ({ topic, partition, entries }))
        }
        const [result] = yield* broker.commit([commit], "memory").pipe(
          // Nothing beyond memory is asked for.
          Effect.catchTag("DurabilityNotReached", (error) => Effect.die(error)),
          Effect.retry(patiently)
        )
        if (result?._tag !== "Done" && result?._tag !== "DoneBefore") {
          return yield* refused(
            `another run puts back the letters of ${dead.name}/${partition}; what this one had not yet put back is listed`
          )
        }
        number++
      }
      stored = yield* page
    }
    if (unreadable > 0) {
      yield* Effect.logWarning(
        `${unreadable} letters of ${dead.name}/${partition} stay listed: they were kept inside batches that this program ` +
          `cannot read; put them back with the serializer and the keys that their topic is written with`
      ).pipe(Effect.annotateLogs({ topic: dead.name, partition }))
    }
    return count
  })

/** As much as one commit takes. */
const sliced = (stored: ReadonlyArray<Stored>): ReadonlyArray<ReadonlyArray<Stored>> => {
  const slices: Array<Array<Stored>> = []
  let events = 0
  let bytes = 0
  for (const one of stored) {
    const size = one.entry.fields.reduce((sum, field) => sum + field.byteLength, 0)
    const last = slices.at(-1)
    if (last === undefined || events + one.events.length > maxLetters || bytes + size > maxBytes) {
      slices.push([one])
      events = bytes = 0
    } else last.push(one)
    events += one.events.length
    bytes += size
  }
  return slices
}

interface Work {
  readonly entries: ReadonlyMap<Any, ReadonlyArray<NewEntry>>
  readonly count: number
  readonly rows: Commit["rows"]
  readonly place: Committed
  readonly moved: boolean
  readonly whole: boolean
  readonly unreadable: number
  /** Events that the place moved over. */
  readonly passed: number
}

/** What one commit does with these entries: what it puts back, what it marks, how far the place moves. */
const plan = (
  met: Met,
  dead: Any,
  slice: ReadonlyArray<Stored>,
  wanted: ReadonlySet<string> | undefined,
  known: ReadonlySet<string>,
  from: Committed,
  wholeBefore: boolean
): Work => {
  const entries = new Map<Any, Array<NewEntry>>()
  let count = 0
  const rows: Array<Commit["rows"][number]> = []
  let place = from
  let whole = wholeBefore
  let unreadable = 0
  let passed = 0
  const row = (key: string, value: string | undefined) => rows.push({ table, key, value })
  for (const { dropped, entry, events } of slice) {
    const fresh = new Set<Received<unknown>>()
    for (const event of events) {
      const source = met.get(event.headers[deadHeaders.sourceTopic] ?? "")
      if (source === undefined) continue
      if (known.has(event.offset) || (wanted !== undefined && !wanted.has(event.offset))) continue
      const back = putBack(dead, source.codec, event)
      if (back === undefined) {
        unreadable++
        continue
      }
      fresh.add(event)
      count++
      const together = entries.get(source.topic)
      if (together === undefined) entries.set(source.topic, [back])
      else together.push(back)
    }
    whole &&= events.every((event) => !isLetter(event) || known.has(event.offset) || fresh.has(event))
    if (whole) {
      for (const event of events) if (known.has(event.offset)) row(event.offset, undefined)
      passed += entry.count
      place = {
        topic: dead.name,
        offset: offset(entry.id, entry.count - 1),
        entry: entry.id,
        entries: place.entries + dropped + 1,
        events: place.events + dropped + entry.count
      }
    } else for (const event of fresh) row(event.offset, "")
  }
  const moved = place !== from
  if (moved) row(placeKey, place.entry)
  return { entries, count, rows, place, moved, whole, unreadable, passed }
}

/** The event as it was, with a header that says which letter it was; undefined if it cannot be told from its batch. */
const putBack = (dead: Any, codec: TopicCodec, event: Received<unknown>): NewEntry | undefined => {
  const { headers, index: at, key, offset, partition, source } = event
  const own = { ...withoutOurs(headers), [deadHeaders.redrivenFrom]: `${dead.name}/${partition}@${offset}` }
  const [index, count] = (headers[deadHeaders.batch] ?? "").split("/").map(Number)
  if (count === undefined || index === undefined || !(index < count)) return event.kept(own, deadHeaders.batch)
  const fields = ["n", String(count), ...source.rawFields()].map((field) =>
    typeof field === "string" ? Buffer.from(field) : field
  )
  const found = codec.unpack({ id: source.id, count, fields }, partition, index, nobody, 0n)[0]
  if (found === undefined || (found.failure !== undefined && found.failure.reason !== "Schema")) return undefined
  const value = found.source.valueFields(index)
  const rest = [...(key === undefined ? [] : ["k", key]), "h", JSON.stringify(own), "t", String(source.time(at))]
  return { count: 1, fields: [...value, ...rest] }
}
