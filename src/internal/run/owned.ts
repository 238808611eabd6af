/** The rows of a processor's tables in a partition that was claimed just now: an empty cache over what is committed. */
import type { Codec } from "../../Serializer.ts"
import type { TableStore } from "../../TableStore.ts"
import { changesOf } from "../table/changes.ts"
import type { Definition } from "./definition.ts"
import { storedIn } from "./misses.ts"
import { Rows } from "./rows.ts"

export const ownedRows = (
  definition: Definition,
  partition: number,
  options: {
    readonly tables: TableStore["Service"]
    readonly serializer: Codec
    readonly now: () => number
    /** Its rows were once too large together. */
    readonly measures: boolean
  }
): Rows => {
  const { now, serializer, tables } = options
  const { shape } = definition
  const [topic] = definition.topics
  return new Rows(
    definition.tables.map((table) => table.definition),
    serializer,
    { partition, partitionOf: (key) => topic.partitioner(key, topic.partitions) },
    storedIn(tables, definition.name, partition, now),
    {
      // What is acknowledged beforehand cannot be handled again.
      measures: options.measures || (shape._tag === "Each" && shape.acknowledge === "before"),
      bounds: definition.cache,
      now,
      logs: (table) => changesOf(table, topic)
    }
  )
}
