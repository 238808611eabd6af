/** Where tables are: which processor writes them, in how many partitions, and which of them a key belongs to. */
import { Effect } from "effect"
import { EngineError, Misconfigured } from "../../Errors.ts"
import * as Partitioner from "../../Partitioner.ts"
import type { Declared, Definition, State } from "../../Table.ts"
import { TableStore } from "../../TableStore.ts"
import type { Any } from "../../Topic.ts"
import { invalid } from "../names.ts"

interface Home {
  readonly processor: string
  readonly partitions: number
  readonly partitioner: Partitioner.Partitioner
  readonly partitionOf: (topicKey: string) => number
}

// A processor that declares a table binds it to its topic; a program without that processor asks the engine.
const homes = new WeakMap<Definition, Home>()

/** Called by the processor that declares the table. */
export const bind = (table: Declared, processor: string, topic: Any): void => {
  const { partitions, view } = table.definition
  if (view !== undefined) {
    throw invalid(
      `processor ${processor}: ${table.name} is a view, which nobody writes: name its tables, or look it up`
    )
  }
  if (partitions !== undefined && partitions !== topic.partitions) {
    throw new Misconfigured({
      reason: "PartitionsMismatch",
      detail:
        `processor ${processor}: table ${table.name} says ${partitions} partitions, and topic ${topic.name} has ` +
        `${topic.partitions}: give them the same count`
    })
  }
  homes.set(table.definition, {
    processor,
    partitions: topic.partitions,
    partitioner: topic.partitioner,
    partitionOf: (key) => topic.partitioner(key, topic.partitions)
  })
}

/** Asks the engine, if no processor here declares it. */
export const homeOf = (definition: Definition): Effect.Effect<Home, EngineError, TableStore> =>
  Effect.gen(function* () {
    const bound = homes.get(definition)
    if (bound !== undefined) return bound
    const refuse = (detail: string) => new EngineError({ operation: "Table.lookup", reason: "Refused", detail })
    const layout = yield* (yield* TableStore).layout(definition.name)
    if (layout === undefined) {
      return yield* refuse(
        `table ${definition.name} is not stored here: no worker that declares it has run with this namespace`
      )
    }
    if (!layout.hashed) {
      return yield* refuse(
        `table ${definition.name} is placed by a partitioner of its own: import the processor ${layout.processor} to look it up`
      )
    }
    const home: Home = {
      processor: layout.processor,
      partitions: layout.partitions,
      partitioner: Partitioner.hash,
      partitionOf: (key) => Partitioner.hash(key, layout.partitions)
    }
    homes.set(definition, home)
    return home
  })

export const boundTo = (definition: Definition): Home | undefined => homes.get(definition)

/** How many partitions a table has, as far as that is known here. */
export const partitionsOf = (table: State<string, any, any>): number | undefined =>
  homes.get(table.definition)?.partitions ?? table.definition.partitions
