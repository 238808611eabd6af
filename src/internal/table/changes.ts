/**
 * The topic of a table's changes: `<table>.changes`, with the partitions of the processor's topic. The change of a row is
 * in the partition of the row, so it is in the same shard and commit.
 */
import { Schema } from "effect"
import type { Definition } from "../../Table.ts"
import * as Topic from "../../Topic.ts"
import type { Logs } from "../run/changes.ts"
import { keyOf } from "./keys.ts"

interface Change {
  readonly key: Topic.Key
  readonly value: unknown
}

type Placed = Pick<Topic.Any, "partitions" | "partitioner">

const known = new WeakMap<Definition, Array<Topic.Any>>()

/** The value stands twice in its commit, which holds 1 MiB in all; the key and the frame are small beside it. */
const maxBytes = 2 * 1024 * 1024

/** The same topic whenever it is asked for. */
export const topicOf = (definition: Definition, { partitioner, partitions }: Placed): Topic.Any => {
  let topics = known.get(definition)
  if (topics === undefined) known.set(definition, (topics = []))
  let topic = topics.find((topic) => topic.partitions === partitions && topic.partitioner === partitioner)
  if (topic === undefined) topics.push((topic = make(definition, { partitioner, partitions })))
  return topic
}

const make = (definition: Definition, { partitioner, partitions }: Placed): Topic.Any =>
  Topic.make(`${definition.name}.changes`, {
    schema: Schema.Struct({ key: definition.key, value: Schema.Option(definition.value) }),
    // In a table with a row of a key in each partition, the key says nothing of the place.
    partitionBy: ({ key }: Change) =>
      definition.scope === "partition" ? undefined : (definition.partitionBy?.(key) ?? key),
    partitions,
    partitioner,
    retention: definition.changes,
    maxBytes
  })

/** Where a processor of this topic logs the changes of a table. */
export const changesOf = (definition: Definition, topic: Placed): ReturnType<Logs> =>
  definition.changes === undefined ? undefined : { topic: topicOf(definition, topic), keyOf: keyOf(definition) }
