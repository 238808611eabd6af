/** What the chaos tests and the processes they start have in common. */
import { Effect, Schema } from "effect"
import { Processor, Retention, Table, Topic } from "../../src/index.ts"

export const Work = Schema.Struct({ key: Schema.String, n: Schema.Int, gate: Schema.Boolean })

export const work = Topic.make("work", { schema: Work, partitionBy: "key", partitions: 8 })

/** Handled once each, or the totals show it. */
export const totals = Table.make("totals", { key: Schema.String, value: Schema.Int, initial: () => 0 })

export const counting = (handle: (value: typeof Work.Type, epoch: bigint) => Effect.Effect<void>) =>
  Processor.make("counting", { topic: work, tables: [totals] }, (value, event) =>
    Effect.andThen(
      handle(value, event.epoch),
      Table.update(totals, value.key, (total) => total + 1)
    )
  )

/** The ticks of a leader, each stored once. */
export const ticked = Topic.make("ticked", { schema: Schema.Int, partitions: 1, retention: Retention.forever })
