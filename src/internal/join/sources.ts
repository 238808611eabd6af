/** The topics that a processor reads, behind the joins that it names: partitioned alike, and each of them once. */
import type { Any, Source } from "../../Topic.ts"
import { invalid } from "../names.ts"
import { partitionsMismatch } from "../operations.ts"
import { topicsOf } from "./plan.ts"

export const readTogether = (at: string, sources: ReadonlyArray<Source<any>>): [Any, ...Array<Any>] => {
  const topics = sources.flatMap((source) => {
    const all = topicsOf(source)
    if (all === undefined) throw invalid(`${at}: ${source.name} is neither a topic nor a join`)
    return all
  }) as [Any, ...Array<Any>]
  for (const topic of topics) {
    if (topic.partitions !== topics[0].partitions) {
      throw partitionsMismatch(
        `${at} reads ${topics[0].name} with ${topics[0].partitions} partitions and ${topic.name} with ${topic.partitions}: ` +
          `give them the same count, or re-key one with Processor.repartition`
      )
    }
    if (topic.partitioner !== topics[0].partitioner) {
      throw partitionsMismatch(
        `${at} reads ${topics[0].name} and ${topic.name}, which have different partitioners, so a key is not in the same ` +
          `partition of both: give them the same one, or re-key one with Processor.repartition`
      )
    }
  }
  if (new Set(topics.map((topic) => topic.name)).size < topics.length) throw invalid(`${at}: a topic is named twice`)
  return topics
}
