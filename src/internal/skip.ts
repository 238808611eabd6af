/**
 * Skipping what put a partition aside: the committed offset moves past the last event of the failed unit, in each of its
 * topics, in one numbered commit under a new epoch; then the partition is released. Whoever dies in between leaves it
 * quarantined, and may skip again: what was passed is not passed twice. One that was parked leaves its lane instead.
 *
 * Gotcha: events before the failed ones may still be uncommitted (their owner died with them in hand). They would be
 * lost, so then nothing is skipped.
 */
import { randomUUID } from "node:crypto"
import { Clock, Effect } from "effect"
import {
  Broker,
  type Claim,
  type Committed,
  type Fence,
  type Lane,
  type Layout,
  type Position,
  type Reader
} from "../Broker.ts"
import { Coordinator, type Quarantine } from "../Coordinator.ts"
import { type EngineError, Misconfigured } from "../Errors.ts"
import { forever } from "../Retention.ts"
import { compare, offset, parseOffset } from "./entryId.ts"
import { withoutFirst } from "./parked.ts"
import { notAside } from "./release.ts"

type Unit = Quarantine["positions"][number]

interface Place {
  readonly id: string
  readonly index: number
}

const refused = (processor: string, partition: number, why: string): Misconfigured =>
  new Misconfigured({
    reason: "InvalidOption",
    detail: `skip: partition ${partition} of processor ${processor} ${why}`
  })

const takenMeanwhile = (processor: string, partition: number): Misconfigured =>
  refused(processor, partition, "was released or skipped by somebody else meanwhile")

export const skip = (
  processor: string,
  partition: number
): Effect.Effect<void, EngineError | Misconfigured, Broker | Coordinator> =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const coordinator = yield* Coordinator
    const entry = (yield* coordinator.quarantined(processor)).find((one) => one.partition === partition)
    if (entry === undefined) return yield* notAside("skip", processor, partition)
    const epoch = yield* coordinator.takeEpoch(processor, partition)
    if (epoch === undefined) return yield* takenMeanwhile(processor, partition)
    const { partitions } = yield* coordinator.group(processor)
    // What is trimmed for this is the business of the processor's own next commit, which knows the retention.
    const layouts = entry.positions.map(({ topic }): Layout => ({ name: topic, partitions, retention: forever }))
    const fence = { epoch, incarnation: randomUUID() }
    const claim = yield* broker.claim(processor, partition, layouts, fence)
    if (claim._tag === "Refused") return yield* takenMeanwhile(processor, partition)
    yield* Effect.ensuring(
      pass(processor, partition, fence, claim, entry, layouts),
      // Where nothing was committed, this was no owner that died.
      Effect.ignore(broker.release(processor, partition, fence))
    )
    yield* coordinator.release(processor, partition)
  })

/** Moves the offset past the failed unit, or takes the parked one out of its lane; nothing, if it was passed before. */
const pass = (
  processor: string,
  partition: number,
  fence: Fence,
  claim: Extract<Claim, { readonly _tag: "Claimed" }>,
  entry: Quarantine,
  layouts: ReadonlyArray<Layout>
): Effect.Effect<void, EngineError | Misconfigured, Broker> =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const places = yield* Effect.forEach(entry.positions, (unit, i) =>
      Effect.scoped(
        Effect.flatMap(broker.reader(partition % broker.shards), (reader) =>
          beyond(reader, { topic: layouts[i]!, partition }, claim.committed[i]!, unit)
        )
      )
    )
    const now = yield* Clock.currentTimeMillis
    // It was handled while it was parked, or waits there: then the offset has long passed it.
    const isPassed = places.length === 1 && places[0] === undefined
    const lane = isPassed ? yield* laneOf(processor, partition, claim.lanes, entry.positions[0]!) : undefined
    const parking = lane === undefined ? {} : { parking: withoutFirst(lane, now) }
    const offsets: Array<Committed & { readonly layout: Layout }> = []
    for (const [i, place] of places.entries()) {
      if (place === undefined) continue
      if (typeof place === "string") {
        const { first, topic } = entry.positions[i]!
        return yield* refused(
          processor,
          partition,
          `has events of ${topic} from ${place} on that are not committed yet, before the failed ones from ${first} on; ` +
            `release it (Processor.release), it comes to these again`
        )
      }
      offsets.push({ ...place, layout: layouts[i]! })
    }
    if (offsets.length > 0 || lane !== undefined) {
      const moved = { ...fence, processor, partition, number: claim.number, offsets, rows: [], emits: [], ...parking }
      const results = yield* Effect.catchTag(
        broker.commit([moved], "memory"),
        "DurabilityNotReached",
        // Not asked for: what is only in memory is as safe as it is to be.
        Effect.die
      )
      const tag = results[0]!._tag
      if (tag !== "Done" && tag !== "DoneBefore") return yield* takenMeanwhile(processor, partition)
    }
  })

/** The lane that begins with this event. */
const laneOf = (processor: string, partition: number, lanes: ReadonlyArray<Lane>, { first, topic }: Unit) =>
  Effect.map(
    Effect.forEach(
      lanes,
      (lane) =>
        Effect.map(
          Broker.use((broker) => broker.parked({ processor, partition, lane: lane.lane, after: undefined, count: 1 })),
          ({ events: [event] }) => (event?.topic === topic && event.offset === first ? lane : undefined)
        ),
      { concurrency: 16 }
    ),
    (found) => found.find((lane) => lane !== undefined)
  )

const comparePlaces = (a: Place, b: Place): number => compare(a.id, b.id) || a.index - b.index

/**
 * The position behind the unit; undefined if it is passed already, or trimmed away. As text: the first event that is not
 * committed and does not belong to the unit.
 */
const beyond = (
  reader: Reader,
  log: Pick<Position, "topic" | "partition">,
  committed: Committed,
  unit: Unit
): Effect.Effect<Committed | string | undefined, EngineError> =>
  Effect.gen(function* () {
    const first = parseOffset(unit.first)!
    const last = parseOffset(unit.last)!
    const before = parseOffset(committed.offset)!
    // Events done of an entry that is not done whole.
    const begun = before.id === committed.entry ? 0 : before.index + 1
    let place: Committed = { ...committed, events: committed.events - begun }
    let isFirst = true
    while (true) {
      const from = { ...log, after: place.entry, entriesRead: place.entries }
      const batches = yield* reader.read([from], { count: 100, block: 0 })
      const entries = batches.flatMap((batch) => batch.entries)
      if (entries.length === 0) return isFirst ? undefined : place
      for (const { count, id } of entries) {
        if (isFirst) {
          isFirst = false
          const next = { id, index: begun }
          if (comparePlaces(next, first) < 0) return offset(id, begun)
          const isInside = comparePlaces(next, first) === 0 || comparePlaces(before, first) >= 0
          if (!isInside || comparePlaces(next, last) > 0) return undefined
        }
        const order = compare(id, last.id)
        if (order > 0) return place
        if (order === 0 && last.index < count - 1) {
          return { ...place, offset: unit.last, events: place.events + last.index + 1 }
        }
        place = {
          topic: committed.topic,
          offset: offset(id, count - 1),
          entry: id,
          entries: place.entries + 1,
          events: place.events + count
        }
        if (order === 0) return place
      }
    }
  })
