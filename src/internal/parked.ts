/**
 * Keys that wait aside, by the name of their processor: listing them, trying one again at once, dropping its first event.
 *
 * A change is a numbered commit under an epoch that is taken at the partition's shard, past the coordinator: whoever owns
 * the partition is refused from then on, hears of it at its next commit or look, and is granted it anew with what was
 * changed. Whoever dies in between has changed nothing, or all of it.
 */
import { randomUUID } from "node:crypto"
import { Clock, DateTime, Effect } from "effect"
import { Broker, type Parking, type Lane as StoredLane } from "../Broker.ts"
import { Coordinator } from "../Coordinator.ts"
import { type EngineError, Misconfigured } from "../Errors.ts"
import { backoff } from "./backoff.ts"
import { eventOf, keyOf, laneOf, noteOf, stateOf } from "./run/parking.ts"

/** What waits aside: a key, or a single event without one, by its place. */
export type ParkedLane =
  | { readonly key: string }
  | { readonly key?: undefined; readonly topic: string; readonly offset: string }

/** A key that waits aside with its events (`Policy.park`). */
export type Parked = ParkedLane & {
  readonly processor: string
  readonly partition: number
  /** Events that wait there. */
  readonly count: number
  /** Attempts at the first of them so far. */
  readonly attempts: number
  /** When that is tried again, on the worker's clock. */
  readonly due: DateTime.Utc
  /** Why it failed last; empty if it waited for others and was not tried yet. */
  readonly error: string
  /** When it failed first. */
  readonly since: DateTime.Utc
}

const toParked = (processor: string, partition: number, stored: StoredLane): Parked => {
  const { attempts, count, due, error, lane, since } = { ...stored, ...stateOf(stored) }
  const key = keyOf(lane)
  const rest = { processor, partition, count, attempts, error }
  const times = { due: DateTime.makeUnsafe(due), since: DateTime.makeUnsafe(since) }
  return key === undefined ? { ...eventOf(lane), ...rest, ...times } : { key, ...rest, ...times }
}

export const parked = (processor: string): Effect.Effect<ReadonlyArray<Parked>, EngineError, Broker | Coordinator> =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const { partitions } = yield* Coordinator.use((coordinator) => coordinator.group(processor))
    const all = yield* Effect.forEach(
      Array.from({ length: partitions }, (_, partition) => partition),
      (partition) => Effect.map(broker.lanes(processor, partition), (lanes) => ({ partition, lanes })),
      { concurrency: 16 }
    )
    return all.flatMap(({ lanes, partition }) => parkedOf(processor, partition, lanes))
  })

/** The lanes of one partition, by when they are tried again. */
export const parkedOf = (
  processor: string,
  partition: number,
  lanes: ReadonlyArray<StoredLane>
): ReadonlyArray<Parked> => lanes.toSorted((a, b) => a.due - b.due).map((lane) => toParked(processor, partition, lane))

const refused = (operation: string, detail: string): Misconfigured =>
  new Misconfigured({ reason: "InvalidOption", detail: `${operation}: ${detail}` })

/** So often somebody else may take the partition between two steps. */
const tries = 20

const again = { schedule: backoff("20 millis", "500 millis"), times: 5 }

/** Changes one lane, whoever owns its partition. `f` sees it as it is; undefined: there is nothing left to change. */
const change = (
  operation: string,
  processor: string,
  partition: number,
  lane: ParkedLane,
  f: (stored: StoredLane) => Parking | undefined
): Effect.Effect<void, EngineError | Misconfigured, Broker | Coordinator> =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const { partitions } = yield* Coordinator.use((coordinator) => coordinator.group(processor))
    const name = laneOf(lane.key === undefined ? { ...lane, key: undefined } : { key: lane.key, topic: "", offset: "" })
    const what =
      lane.key === undefined ? `the event ${lane.offset} of ${lane.topic}` : `key ${JSON.stringify(lane.key)}`
    const missing = refused(
      operation,
      Number.isInteger(partition) && partition >= 0 && partition < partitions
        ? `${what} is not parked in partition ${partition} of processor ${processor}; see Processor.parked`
        : `processor ${processor} has ${partitions} partitions, there is no partition ${partition}`
    )
    let isFirst = true
    for (let attempt = 0; attempt < tries; attempt++) {
      if (partition >= partitions || !(yield* broker.lanes(processor, partition)).some((one) => one.lane === name)) {
        // What waited there is done meanwhile, or an answer was lost.
        if (!isFirst) return
        return yield* missing
      }
      // The lowest epoch there is: refused with the one in force.
      const incarnation = randomUUID()
      const probe = yield* broker.claim(processor, partition, [], { epoch: 0n, incarnation })
      const fence = { epoch: probe._tag === "Refused" ? probe.inForce + 1n : 0n, incarnation }
      const claim = yield* broker.claim(processor, partition, [], fence)
      if (claim._tag === "Refused") continue
      const stored = claim.lanes.find((one) => one.lane === name)
      const parking = stored && f(stored)
      isFirst = false
      if (parking === undefined) return yield* broker.release(processor, partition, fence)
      const commit = { ...fence, processor, partition, number: claim.number, offsets: [], rows: [], emits: [], parking }
      const [result] = yield* broker
        .commit([commit], "memory")
        .pipe(
          Effect.catchTag("DurabilityNotReached", Effect.die),
          Effect.retry({ ...again, while: (error) => error.reason === "Unreachable" || error.reason === "Full" })
        )
      if (result!._tag === "Done" || result!._tag === "DoneBefore") return
    }
    return yield* refused(
      operation,
      `partition ${partition} of processor ${processor} changes hands all the time; try again`
    )
  })

const nothing: Parking = { drop: [], park: [], remove: [], states: [] }

export const release = (processor: string, partition: number, lane: ParkedLane) =>
  Effect.flatMap(Clock.currentTimeMillis, (due) =>
    change("release", processor, partition, lane, ({ attempts, error, lane, since }) => ({
      ...nothing,
      states: [{ lane, attempts, due, since, error }]
    }))
  )

/** The removal of a lane's first event; the next one follows at once. */
export const withoutFirst = ({ head, lane, since }: StoredLane, due: number): Parking => ({
  ...nothing,
  remove: [{ lane, id: head }],
  states: [{ lane, attempts: 0, due, since, error: noteOf({ rounds: 0, error: "" }) }]
})

export const skip = (processor: string, partition: number, lane: ParkedLane, all: boolean) =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => {
    let head: string | undefined
    return change("skip", processor, partition, lane, (stored) => {
      // Gone already: it was done, or this was the answer that got lost.
      if (head !== undefined && head !== stored.head) return undefined
      head = stored.head
      return all ? { ...nothing, drop: [stored.lane] } : withoutFirst(stored, now)
    })
  })
