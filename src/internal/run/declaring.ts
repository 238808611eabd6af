/** What the engine must know of the parts of a worker before any of their partitions, or jobs, is claimed. */
import { Effect } from "effect"
import { Broker } from "../../Broker.ts"
import { Misconfigured } from "../../Errors.ts"
import { JobStore } from "../../JobStore.ts"
import type * as Part from "../../Part.ts"
import * as Partitioner from "../../Partitioner.ts"
import type { Declared } from "../../Table.ts"
import { TableStore } from "../../TableStore.ts"
import type { Any } from "../../Topic.ts"
import { patiently } from "../backoff.ts"
import { deadTopicsOf } from "../dead/topic.ts"
import { type Paths, redactedIn } from "../record/redacted.ts"
import { changesOf } from "../table/changes.ts"
import { type Definition, isProcessing } from "./definition.ts"

type Parts = ReadonlyArray<Part.Any>

/** What the parts read and where they write beside what they emit, by name. */
const topicsOf = (parts: Parts): ReadonlyMap<string, Any> => {
  const all = parts
    .filter(isProcessing)
    .flatMap(({ definition }) => [...deadTopicsOf(definition), ...changesTopicsOf(definition), ...definition.topics])
  return new Map(all.map((topic) => [topic.name, topic]))
}

const changesTopicsOf = ({ tables, topics: [topic] }: Definition): ReadonlyArray<Any> =>
  tables.flatMap((table) => changesOf(table.definition, topic)?.topic ?? [])

/** Refuse what is not there; nothing is stored. */
const demand = Effect.fnUntraced(function* (parts: Parts) {
  const lacking = (kind: string, asked: Iterable<string>, stored: ReadonlyArray<string>): ReadonlyArray<string> => {
    const there = new Set(stored)
    const missing = Array.from(asked).filter((name) => !there.has(name))
    return missing.length === 0 ? [] : [`${kind} ${missing.toSorted().join(", ")}`]
  }
  const topics = topicsOf(parts)
  const queues = new Set(parts.flatMap((part) => part.job?.spec.queue ?? []))
  const storedTopics = topics.size === 0 ? [] : yield* (yield* Broker).topics()
  const storedQueues = queues.size === 0 ? [] : yield* (yield* JobStore).queues
  const missing = [
    ...lacking(
      "topics",
      topics.keys(),
      storedTopics.map(({ name }) => name)
    ),
    ...lacking("queues", queues, storedQueues)
  ]
  if (missing.length === 0) return
  return yield* new Misconfigured({
    reason: "Undeclared",
    detail:
      `with declare: false, what the parts need must be there, and is not: ${missing.join("; ")}; look at the names and ` +
      "the namespace, or leave out declare: false once"
  })
})

/** A row of a join holds its events as texts, in which no path leads to a field. */
const secretsOf = ({ definition: { holding, value } }: Declared): Paths => {
  if (holding === undefined) return redactedIn(value)
  return holding.left.redacted.length + holding.right.redacted.length > 0 ? ["/*/fields"] : []
}

/**
 * Store the layouts and create the groups, before anything is claimed; without `all`, only if the topics and queues are
 * there. All of it may be done twice, so a server that is away for a moment, as one is whose slots are moving, is asked
 * again.
 */
export const declare = (parts: Parts, all: boolean) =>
  Effect.gen(function* () {
    if (!all) yield* demand(parts)
    const broker = yield* Broker
    const tables = yield* TableStore
    const processing = parts.filter(isProcessing)
    if (processing.length === 0) return
    // Of those that are there this compares the layout, which nothing else does.
    yield* broker.declare(Array.from(topicsOf(parts).values()))
    for (const { definition } of processing) {
      const [topic] = definition.topics
      yield* broker.register(definition.name, definition.topics, definition.startFrom)
      yield* tables.declare(
        definition.tables.map((table) => ({
          name: table.name,
          processor: definition.name,
          partitions: topic.partitions,
          hashed: topic.partitioner === Partitioner.hash,
          redacted: secretsOf(table)
        }))
      )
    }
  }).pipe(patiently)
