/**
 * Crash loops: how a partition is worked on whose owners ended one after the other, with nothing said and nothing
 * committed. One event at a time is in hand, and it is committed before the next, so that an event which ends its process
 * is found in the end, whatever stood before it. The engine counts: it is told before the first one is handed out.
 *
 * Gotcha: a count means something only if each owner begins with the same event. So the first is the one that has been
 * waiting for longest: of the first events in each topic, by their ids, and of what is parked, by when it was due.
 */
import { Effect } from "effect"
import type { Broker, Claim, CommitResult } from "../../Broker.ts"
import type { Quarantine } from "../../Coordinator.ts"
import type { EngineError } from "../../Errors.ts"
import { backoff } from "../backoff.ts"
import { compare, millis, offset } from "../entryId.ts"
import type { Partition } from "./partition.ts"

/**
 * Owners that may die. A claim's count leaves out the first of them, who was on no probation yet: an event that ended
 * three processes is handed to no fourth one.
 */
const mostDeaths = 3

/** Events that go out alone: what a dead owner may have had in hand. */
const aloneEvents = 128

/** What is handed out first. */
interface Suspect {
  readonly topic: string
  readonly offset: string
  /** It is parked, in this lane. */
  readonly lane: string | undefined
  /** Since when it could be handed out, in milliseconds since 1970. */
  readonly since: number
}

export class Caution {
  /** Undefined: nothing could be handed out yet, so it is what comes first. */
  readonly suspect: Suspect | undefined
  /** Events that are still handed out alone. */
  remaining = aloneEvents
  /** The engine knows that one is handed out. */
  marked = false
  /** A commit has ended the probation. */
  lifted = false
  constructor(suspect: Suspect | undefined) {
    this.suspect = suspect
  }
  /** Something was committed. True: for the first time, so what waited for the suspect to go first may go now. */
  lift(): boolean {
    if (this.lifted) return false
    return (this.lifted = true)
  }
}

type BrokerService = Broker["Service"]
type Claimed = Extract<Claim, { readonly _tag: "Claimed" }>

/**
 * How a claimed partition is to be worked on, by what its past owners came to. Given: why it is not to be worked on at all,
 * but put aside.
 */
export const examine = (
  broker: BrokerService,
  partition: Partition,
  claim: Claimed,
  now: number
): Effect.Effect<Quarantine | undefined, EngineError> =>
  Effect.gen(function* () {
    const { probation } = claim
    if (probation === undefined) return undefined
    const suspect = yield* suspectOf(broker, partition, claim, now)
    partition.caution = new Caution(suspect)
    if (suspect === undefined || probation + 1 < mostDeaths) return undefined
    const entry = entryOf(suspect, probation + 1)
    yield* Effect.logError(
      `a partition is put aside: ${entry.error}; release it with Processor.release, or skip it with Processor.skip`
    ).pipe(Effect.annotateLogs({ topic: suspect.topic, partition: partition.partition, offset: suspect.offset }))
    // Whoever gets it after its release begins a count of its own.
    yield* broker.release(partition.processor, partition.partition, partition.fence)
    return entry
  })

const patient = backoff("50 millis", "2 seconds")

/** Tells the engine that an event is handed out; waits while it is away. */
export const mark = (
  broker: BrokerService,
  partition: Partition,
  onRefused: (result: Exclude<CommitResult, { readonly _tag: "Done" | "DoneBefore" }>) => void,
  onFailure: (error: EngineError) => void
): Effect.Effect<void> =>
  Effect.suspend(() =>
    partition.stopping ? Effect.undefined : broker.mark(partition.processor, partition.partition, partition.fence)
  ).pipe(
    Effect.retry({ schedule: patient, while: (error) => error.reason === "Unreachable" || error.reason === "Full" }),
    Effect.map((result) => {
      if (result === undefined) return
      if (result._tag !== "Done") onRefused(result)
      else if (partition.caution !== undefined) partition.caution.marked = true
    }),
    Effect.catch((error) =>
      Effect.andThen(
        Effect.sync(() => onFailure(error)),
        partition.stops.await
      )
    )
  )

/** Undefined: there is nothing to hand out now. */
const suspectOf = (
  broker: BrokerService,
  { logs, partition, processor }: Partition,
  claim: Claimed,
  now: number
): Effect.Effect<Suspect | undefined, EngineError> =>
  Effect.gen(function* () {
    const suspects: Array<Suspect> = []
    const reader = yield* broker.reader(partition % broker.shards)
    for (const log of logs) {
      const from = { topic: log.topic, partition, after: log.after, entriesRead: log.entriesRead }
      const batches = yield* reader.read([from], { count: 2, block: 0 })
      for (const entry of batches.flatMap((batch) => batch.entries)) {
        const index = log.firstOf(entry)
        if (index >= entry.count) continue
        const since = millis(entry.id)
        suspects.push({ topic: log.topic.name, offset: offset(entry.id, index), lane: undefined, since })
        break
      }
    }
    const lane = claim.lanes.toSorted((a, b) => a.due - b.due)[0]
    if (lane !== undefined && lane.due <= now) {
      const { events } = yield* broker.parked({ processor, partition, lane: lane.lane, after: undefined, count: 1 })
      for (const { offset, topic } of events) suspects.push({ topic, offset, lane: lane.lane, since: lane.due })
    }
    return suspects.toSorted((a, b) => a.since - b.since || compare(idOf(a), idOf(b)))[0]
  }).pipe(Effect.scoped)

const idOf = ({ offset }: Suspect): string => offset.slice(0, offset.lastIndexOf("."))

/** Why a partition is put aside whose owners die. */
const entryOf = ({ lane, offset, topic }: Suspect, deaths: number): Quarantine => ({
  reason: "crash loop",
  error:
    `${deaths} workers in a row ended before they had committed anything, and they all began with this event` +
    (lane === undefined ? "" : ", which was parked"),
  positions: [{ topic, first: offset, last: offset }]
})
