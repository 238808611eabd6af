/** What units of work emit, on its way into the commit. */
import type { Commit, NewEntry, Reply } from "../../Broker.ts"
import type { Any } from "../../Topic.ts"
import type { TopicCodec } from "../record/record.ts"
import { maxBatchBytes } from "../record/serialized.ts"
import type { Emitted, StagedJob } from "./unit.ts"

/** Emitted events as entries, in order per topic and partition; neighbours share an entry. */
export const pack = (emits: ReadonlyArray<Emitted>): Commit["emits"] => {
  if (emits.length === 0) return []
  const targets = new Map<
    string,
    {
      topic: Any
      codec: TopicCodec
      partition: number
      entries: Array<NewEntry>
      batch: Array<NonNullable<Emitted["event"]>>
      bytes: number
    }
  >()
  for (const emitted of emits) {
    if (emitted.asker !== undefined || emitted.job !== undefined) continue
    const id = `${emitted.topic.name}/${emitted.partition}`
    let target = targets.get(id)
    if (target === undefined) {
      target = {
        topic: emitted.topic,
        codec: emitted.codec,
        partition: emitted.partition,
        entries: [],
        batch: [],
        bytes: 0
      }
      targets.set(id, target)
    }
    const { event } = emitted
    const full =
      target.batch.length >= target.codec.maxEvents ||
      (event !== undefined && target.bytes + event.bytes > maxBatchBytes)
    if (target.batch.length > 0 && (event === undefined || full)) {
      target.entries.push(target.codec.pack(target.batch))
      target.batch = []
      target.bytes = 0
    }
    if (event === undefined) target.entries.push(emitted.entry!)
    else {
      target.batch.push(event)
      target.bytes += event.bytes
    }
  }
  return Array.from(targets.values(), ({ batch, codec, entries, partition, topic }) => ({
    topic,
    partition,
    entries: batch.length > 0 ? [...entries, codec.pack(batch)] : entries
  }))
}

/** Those that are replies or jobs; most commits have neither. */
export const othersOf = (emits: ReadonlyArray<Emitted>): Pick<Commit, "replies" | "jobs"> => {
  let replies: Array<Reply> | undefined
  let jobs: Array<StagedJob> | undefined
  for (const { asker, entry, job } of emits) {
    if (asker !== undefined) (replies ??= []).push({ asker, entry: entry! })
    if (job !== undefined) (jobs ??= []).push(job)
  }
  return { replies, jobs }
}
