/** What the units of work of one partition reach: its rows, and topics. */
import type { Codec } from "../../Serializer.ts"
import type { Any } from "../../Topic.ts"
import { deadHeaders } from "../dead/headers.ts"
import { deadOf } from "../dead/topic.ts"
import { type Middleware, through } from "../publish/middleware.ts"
import type { Received } from "../record/received.ts"
import { codecOf } from "../record/record.ts"
import type { Rows } from "./rows.ts"
import type { Host } from "./unit.ts"
import type { Windows } from "./windows.ts"

export const make = (options: {
  readonly processor: string
  readonly topics: ReadonlyArray<Any>
  readonly partition: number
  readonly shards: number
  readonly serializer: Codec
  readonly middleware: ReadonlyArray<Middleware>
  readonly rows: Rows
  readonly windows: Windows | undefined
}): Host => {
  const { middleware, partition, processor, rows, serializer, shards, topics, windows } = options
  let turn = 0
  // Events without a key go round the partitions of this shard: what goes to others takes the way over the outbox.
  const next = (topic: Any) => (): number => (partition + turn++ * shards) % topic.partitions
  return {
    processor,
    partition,
    rows,
    windows,
    encode: (topic, value, emit) => {
      const codec = codecOf(topic, serializer)
      const event = codec.encode(value, through(middleware, topic, value, emit), next(topic))
      return { topic, codec, partition: event.partition, event, entry: undefined }
    },
    forward: (topic, event) => {
      const codec = codecOf(topic, serializer)
      const target =
        event.key === undefined ? partition % topic.partitions : topic.partitioner(event.key, topic.partitions)
      const entry = (event as Received<unknown>).stored()
      return { topic, codec, partition: target, event: undefined, entry }
    },
    reply: (topic, value, asker, fields) => {
      const codec = codecOf(topic, serializer)
      const { fields: encoded } = codec.pack([codec.encode(value, undefined, () => 0)])
      const entry = { count: 1, fields: [...encoded, ...fields] }
      return { topic, codec, partition, event: undefined, entry, asker }
    },
    // In the partition of the same number, whatever the key: so it is in the shard, and letters keep their order.
    deadLetter: (event, { retention, topic: name }, headers) => {
      const topic = deadOf(topics.find((source) => source.name === event.topic)!, name, retention)
      const entry = event.kept({ ...event.headers, ...headers }, deadHeaders.batch)
      return { topic, codec: codecOf(topic, serializer), partition, event: undefined, entry }
    }
  }
}
