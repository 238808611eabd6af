/** What is said, by every engine, of a layout that is not the stored one. */
import type { Layout } from "../Broker.ts"
import { Misconfigured } from "../Errors.ts"
import type { TableLayout } from "../TableStore.ts"

const mismatch = (detail: string): Misconfigured => new Misconfigured({ reason: "LayoutMismatch", detail })

const shape = (partitions: number, shards: number | undefined): string =>
  shards === undefined ? `${partitions} partitions` : `${partitions} partitions in ${shards} shards`

/** An engine that has no shards says nothing of them. */
export const ofTopic = (
  { name, partitions }: Layout,
  stored: { readonly partitions: number; readonly shards?: number | undefined },
  shards?: number
): Misconfigured =>
  mismatch(
    `topic "${name}" is stored with ${shape(stored.partitions, stored.shards)}, and was declared with ` +
      `${shape(partitions, shards)}: use the stored numbers, or another topic name or namespace`
  )

export interface Registered {
  readonly partitions: number
  readonly topics: ReadonlyArray<string>
}

const reading = ({ partitions, topics }: Registered): string =>
  `${partitions} partitions of ${topics.toSorted().join(", ")}`

export const ofProcessor = (processor: string, stored: Registered, registered: Registered): Misconfigured =>
  mismatch(
    `processor "${processor}" is stored with ${reading(stored)}, and was registered with ${reading(registered)}: ` +
      `remove the stored one, or give this one another name`
  )

const placed = ({ partitions, processor }: TableLayout): string =>
  `${partitions} partitions, of processor "${processor}"`

export const ofTable = (stored: TableLayout, declared: TableLayout): Misconfigured =>
  mismatch(
    `table "${declared.name}" is stored with ${placed(stored)}, and was declared with ${placed(declared)}: ` +
      `use another name, or remove the processor "${stored.processor}" first`
  )

/** Topics of one processor whose numbers of partitions differ; undefined if they do not. */
export const ofPartitions = (processor: string, topics: ReadonlyArray<Layout>): Misconfigured | undefined => {
  const [first] = topics
  const other = topics.find((topic) => topic.partitions !== first!.partitions)
  if (first === undefined || other === undefined) return undefined
  return new Misconfigured({
    reason: "PartitionsMismatch",
    detail:
      `processor "${processor}" reads "${first.name}" with ${first.partitions} partitions and "${other.name}" ` +
      `with ${other.partitions}: topics of one processor need the same number`
  })
}
