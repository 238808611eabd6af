/** What the laws of parked events share: events, changes, an owner that commits them, and lanes read whole. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { Broker, type Fence, type Lane, type Park, type Parked, type Parking } from "../../Broker.ts"
import { claimed, commit, commitOf, fence, register, text, topicOf, unique } from "./support.ts"

/** A parked event with this text as its value, and as its place. */
export const park = (lane: string, event: string): Park => ({
  lane,
  topic: "source",
  offset: event,
  fields: ["v", event]
})

export const parking = (rest: Partial<Parking>): { readonly parking: Parking } => ({
  parking: { drop: [], park: [], remove: [], states: [], ...rest }
})

export const state = (lane: string, attempts: number, due = 0, error = "", since = 0) => ({
  lane,
  attempts,
  due,
  since,
  error
})

export const byName = (lanes: ReadonlyArray<Lane>): ReadonlyArray<Lane> =>
  lanes.toSorted((a, b) => (a.lane < b.lane ? -1 : a.lane > b.lane ? 1 : 0))

export const lanesOf = (processor: string, partition = 0) =>
  Broker.use((broker) => Effect.map(broker.lanes(processor, partition), byName))

export const page = (processor: string, lane: string, count = 100, behind?: string, partition = 0) =>
  Broker.use((broker) => broker.parked({ processor, partition, lane, after: behind, count }))

/** All events of a lane, read in pages. */
export const wholeLane = (processor: string, lane: string, partition = 0) =>
  Effect.gen(function* () {
    const all: Array<Parked> = []
    let next: string | undefined
    do {
      const found = yield* page(processor, lane, 100, next, partition)
      all.push(...found.events)
      next = found.next
    } while (next !== undefined)
    return all
  })

export const valuesOf = (events: ReadonlyArray<Parked>) => events.map(({ fields }) => text(fields[1]))

export const lane = (processor: string, name: string, partition = 0) =>
  Effect.map(wholeLane(processor, name, partition), valuesOf)

/** An owner of partition 0, and its commits in a row. */
export const owner = (its: Fence = fence(1)) =>
  Effect.gen(function* () {
    const [topic, processor] = [topicOf(), unique("p")]
    yield* register(processor, [topic])
    let { number } = yield* claimed(processor, [topic], its)
    const change = (rest: Partial<Parking>) =>
      Effect.map(commit(commitOf(processor, its, number, parking(rest))), ([answer]) => {
        assert.deepStrictEqual(answer, { _tag: "Done" })
        number++
      })
    return { topic, processor, change, next: () => number }
  })
