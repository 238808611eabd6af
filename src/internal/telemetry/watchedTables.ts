/** The tables' store as its hooks see it: what is read of it by handlers is told. */
import { type Context, Effect } from "effect"
import type { TableStore } from "../../TableStore.ts"
import { sensed, senseOf } from "./sensing.ts"

type Store = TableStore["Service"]

export const watchedTables = (store: Store, context: Context.Context<never>): Store => {
  const sense = senseOf(context, "table")
  if (sense === undefined) return store
  const step = (processor: string, table: string, partition: number, keys: ReadonlyArray<string>) => () => ({
    processor,
    table,
    partition,
    keys
  })
  return {
    ...store,
    readMany: (processor, table, partition, keys) =>
      sensed(sense, step(processor, table, partition, keys), store.readMany(processor, table, partition, keys)),
    readTimed: (processor, table, partition, keys) =>
      sensed(sense, step(processor, table, partition, keys), store.readTimed(processor, table, partition, keys)),
    entries: (...asked) =>
      sensed(
        sense,
        step(asked[0], asked[1], asked[2], []),
        Effect.suspend(() => store.entries(...asked))
      )
  }
}
