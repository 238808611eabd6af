/** What each commit changes in a table, as events of the table's topic of changes: in the same shard, and in the commit. */
import { Option } from "effect"
import type { Codec } from "../../Serializer.ts"
import type { Definition } from "../../Table.ts"
import type { Any } from "../../Topic.ts"
import { codecOf } from "../record/record.ts"
import { missing, type Row } from "./row.ts"
import type { Emitted } from "./unit.ts"

/** The topic of a table's changes, and the key that has a text. */
export type Logs = (definition: Definition) =>
  | {
      readonly topic: Any
      readonly keyOf: (text: string) => unknown
    }
  | undefined

export class ChangeLog {
  private emits: Array<Emitted> = []
  private readonly logs: Logs
  private readonly codec: Codec
  private readonly partition: number
  constructor(logs: Logs, codec: Codec, partition: number) {
    this.logs = logs
    this.codec = codec
    this.partition = partition
  }

  /** Bytes that it adds to the commit. */
  add({ key, table, topicKey }: Row, value: unknown): number {
    if (table.definition.changes === undefined) return 0
    const log = this.logs(table.definition)
    if (log === undefined) return 0
    const { keyOf, topic } = log
    const change = { key: keyOf(key), value: value === missing ? Option.none() : Option.some(value) }
    const codec = codecOf(topic, this.codec)
    const { partition } = this
    // In the partition of the rows, whatever the key.
    const event = codec.encode(change, { partition, key: topicKey }, () => partition)
    this.emits.push({ topic, codec, partition, event, entry: undefined })
    return event.bytes
  }

  cut(): ReadonlyArray<Emitted> {
    const { emits } = this
    this.emits = []
    return emits
  }
}
