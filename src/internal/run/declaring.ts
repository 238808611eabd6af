/** What the engine must know of the processors of a worker before any of their partitions is claimed. */
import { Effect } from "effect"
import { Broker } from "../../Broker.ts"
import * as Partitioner from "../../Partitioner.ts"
import type { Declared } from "../../Table.ts"
import { TableStore } from "../../TableStore.ts"
import { forAWhile } from "../backoff.ts"
import { deadTopicsOf } from "../dead/topic.ts"
import { type Paths, redactedIn } from "../record/redacted.ts"
import type { Definition } from "./definition.ts"

/** A row of a join holds its events as texts, in which no path leads to a field. */
const secretsOf = ({ definition: { holding, value } }: Declared): Paths => {
  if (holding === undefined) return redactedIn(value)
  return holding.left.redacted.length + holding.right.redacted.length > 0 ? ["/*/fields"] : []
}

/**
 * Store the layouts and create the groups, before anything is claimed. All of it may be done twice, so a server that is
 * away for a moment, as one is whose slots are moving, is asked again.
 */
export const declare = (parts: ReadonlyArray<{ readonly definition: Definition }>) =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const tables = yield* TableStore
    if (parts.length === 0) return
    const all = parts.flatMap(({ definition }) => [...deadTopicsOf(definition), ...definition.topics])
    yield* broker.declare(Array.from(new Map(all.map((topic) => [topic.name, topic])).values()))
    for (const { definition } of parts) {
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
  }).pipe(
    Effect.retry({
      schedule: forAWhile,
      while: (error) => error._tag === "EngineError" && error.reason === "Unreachable"
    })
  )
