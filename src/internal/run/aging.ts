/**
 * Drops by the clock what `Retention.maxAge` lets go in the partitions that a worker owns: appends drop it as they come, and
 * a topic that nobody writes to would keep it for ever. Whoever had not read it is told by its next read.
 *
 * Gotcha: a topic that no processor reads has no owner, so there only appends drop what is old.
 */
import { type Context, Effect } from "effect"
import type { Broker } from "../../Broker.ts"
import type { Any } from "../../Topic.ts"
import { deadTopicsOf } from "../dead/topic.ts"
import { topicOf } from "../table/changes.ts"
import type { Definition } from "./definition.ts"

/** A tenth of the age, between these, in milliseconds. */
const shortest = 1_000
const longest = 60_000

/** What a processor reads, and what lies beside it under the same partition numbers. */
const topicsOf = (definition: Definition): ReadonlyArray<Any> => {
  const changes = definition.tables.flatMap((table) =>
    table.definition.changes === undefined ? [] : [topicOf(table.definition, definition.topics[0])]
  )
  return [...definition.topics, ...deadTopicsOf(definition), ...changes]
}

export const aging = (
  broker: Context.Service.Shape<typeof Broker>,
  definition: Definition,
  owned: () => Iterable<number>
): Effect.Effect<unknown> =>
  Effect.forEach(
    topicsOf(definition),
    (topic) => {
      if (topic.retention._tag !== "MaxAge") return Effect.void
      const pause = Effect.sleep(Math.min(longest, Math.max(shortest, topic.retention.millis / 10)))
      const trim = Effect.suspend(() => broker.trim(topic, Array.from(owned())))
      // While the engine is away nothing can be dropped.
      return Effect.forever(Effect.andThen(pause, Effect.ignore(trim)))
    },
    { concurrency: "unbounded", discard: true }
  )
