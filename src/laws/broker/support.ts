/**
 * What the laws of the broker share: names that no other law uses, plain entries, a publisher and an owner in one line,
 * and a reader that gives the events which a processor would be handed next.
 */

import { randomUUID } from "node:crypto"
import { assert } from "@effect/vitest"
import { Effect, type Fiber, type Scope } from "effect"
import {
  type Appended,
  type Batch,
  Broker,
  type Claim,
  type Commit,
  type CommitResult,
  type Committed,
  type Fence,
  type Layout,
  type NewEntry,
  type Position
} from "../../Broker.ts"
import * as Retention from "../../Retention.ts"
import type { TableStore } from "../../TableStore.ts"
import { type Registering, unique } from "../suite.ts"

export type Laws = Registering<Broker | TableStore>

export { unique }

export const topicOf = (partitions = 1, retention: Retention.Retention = Retention.forever): Layout => ({
  name: unique("topic"),
  partitions,
  retention
})

export const consumed = (capacity: number, keep = 0): Layout => topicOf(1, Retention.consumed({ capacity, keep }))

export const single = (text: string, id?: string): NewEntry => ({ id, count: 1, fields: ["v", text] })

/** A batch of these events; one alone is in the plain form. */
export const batch = (...events: ReadonlyArray<string>): NewEntry =>
  events.length === 1
    ? single(events[0]!)
    : { count: events.length, fields: ["n", String(events.length), "v", JSON.stringify(events)] }

const decoder = new TextDecoder()

export const text = (bytes: Uint8Array | undefined): string | undefined =>
  bytes === undefined ? undefined : decoder.decode(bytes)

/** The events of a batch of entries made by `single` and `batch`. */
export const eventsOf = (batches: ReadonlyArray<Batch>): Array<string> =>
  batches.flatMap(({ entries }) =>
    entries.flatMap((entry): ReadonlyArray<string> => {
      const fields = entry.fields.map((field) => decoder.decode(field))
      return fields[0] === "n" ? JSON.parse(fields[3]!) : [fields[1]!]
    })
  )

export const range = (length: number, prefix = "e"): Array<string> =>
  Array.from({ length }, (_, index) => `${prefix}${index}`)

export const append = (
  topic: Layout,
  entries: ReadonlyArray<NewEntry>,
  options: { readonly partition?: number; readonly publisher?: string; readonly number?: number } = {}
): Effect.Effect<Appended, unknown, Broker> =>
  Broker.use((broker) =>
    Effect.map(
      broker.append(
        [
          {
            topic,
            partition: options.partition ?? 0,
            publisher: options.publisher ?? randomUUID(),
            number: options.number ?? 1,
            entries
          }
        ],
        "memory"
      ),
      (answers) => answers[0]!
    )
  )

/** Append, and the ids; anything but `Stored` fails the law. */
export const stored = (
  topic: Layout,
  entries: ReadonlyArray<NewEntry>,
  partition = 0
): Effect.Effect<ReadonlyArray<string>, unknown, Broker> =>
  Effect.map(append(topic, entries, { partition }), (answer) => {
    assert.strictEqual(answer._tag, "Stored")
    return answer._tag === "Stored" ? answer.ids : []
  })

export const from = (topic: Layout, partition = 0, after = "0-0", entriesRead = 0): Position => ({
  topic,
  partition,
  after,
  entriesRead
})

/** Read once, without waiting. */
export const read = (
  positions: ReadonlyArray<Position>,
  count = 1_000
): Effect.Effect<ReadonlyArray<Batch>, unknown, Broker | Scope.Scope> =>
  Effect.gen(function* () {
    const reader = yield* (yield* Broker).reader(0)
    return yield* reader.read(positions, { count, block: 0 })
  })

export const fence = (epoch: number | bigint, incarnation = "one"): Fence => ({ epoch: BigInt(epoch), incarnation })

export const claim = (
  processor: string,
  topics: ReadonlyArray<Layout>,
  its: Fence,
  partition = 0
): Effect.Effect<Claim, unknown, Broker> => Broker.use((broker) => broker.claim(processor, partition, topics, its))

export const claimed = (
  processor: string,
  topics: ReadonlyArray<Layout>,
  its: Fence,
  partition = 0
): Effect.Effect<Extract<Claim, { _tag: "Claimed" }>, unknown, Broker> =>
  Effect.map(claim(processor, topics, its, partition), (answer) => {
    if (answer._tag !== "Claimed") throw new Error(`the claim was refused: ${answer.inForce} is in force`)
    return answer
  })

/** A commit of nothing, with what the law says. */
export const commitOf = (processor: string, its: Fence, number: number, rest: Partial<Commit> = {}): Commit => ({
  ...its,
  processor,
  partition: 0,
  number,
  offsets: [],
  rows: [],
  emits: [],
  ...rest
})

export const commit = (
  ...commits: ReadonlyArray<Commit>
): Effect.Effect<ReadonlyArray<CommitResult>, unknown, Broker> =>
  Broker.use((broker) => broker.commit(commits, "memory"))

/** The place after the first `entries` entries of a log, given all its entries and their ids. */
export const after = (
  layout: Layout,
  entries: ReadonlyArray<NewEntry>,
  ids: ReadonlyArray<string>,
  done = ids.length
): Committed & { readonly layout: Layout } => {
  const events = entries.slice(0, done).reduce((sum, entry) => sum + entry.count, 0)
  const entry = done === 0 ? "0-0" : ids[done - 1]!
  const index = done === 0 ? 0 : entries[done - 1]!.count - 1
  return { layout, topic: layout.name, offset: `${entry}.${index}`, entry, entries: done, events }
}

/** The events which a processor that is at this place is handed next. */
export const pending = (
  topic: Layout,
  place: Committed,
  partition = 0
): Effect.Effect<Array<string>, unknown, Broker | Scope.Scope> =>
  Effect.map(read([from(topic, partition, place.entry, place.entries)]), (batches) => {
    const events = eventsOf(batches)
    assert.match(place.offset, /^\d+-\d+\.\d+$/)
    const dot = place.offset.indexOf(".")
    const first = batches[0]?.entries[0]?.id
    return first === place.offset.slice(0, dot) ? events.slice(Number(place.offset.slice(dot + 1)) + 1) : events
  })

/** Register, claim with epoch 1 and give the events to come. */
export const startsWith = (
  processor: string,
  topic: Layout,
  epoch = 1
): Effect.Effect<Array<string>, unknown, Broker | Scope.Scope> =>
  Effect.flatMap(claimed(processor, [topic], fence(epoch)), ({ committed }) => pending(topic, committed[0]!))

/** Fork, and give the fiber time to block: there is no event that tells that a read waits inside a server. */
export const forkBlocked = <A, E, R>(
  laws: Laws,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<Fiber.Fiber<A, E>, never, R> =>
  Effect.tap(Effect.forkChild(effect, { startImmediately: true }), () => laws.elapse(40))

/** Commit everything of one log. */
export const commitAll = (
  processor: string,
  its: Fence,
  number: number,
  place: Committed & { readonly layout: Layout }
): Effect.Effect<void, unknown, Broker> =>
  Effect.map(commit(commitOf(processor, its, number, { offsets: [place] })), (results) => {
    assert.deepStrictEqual(results, [{ _tag: "Done" }])
  })

export const register = (
  processor: string,
  topics: ReadonlyArray<Layout>,
  start: Parameters<Broker["Service"]["register"]>[2] = "earliest"
): Effect.Effect<void, unknown, Broker> => Broker.use((broker) => broker.register(processor, topics, start))
