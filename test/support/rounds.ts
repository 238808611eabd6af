/**
 * What the chaos rounds and the processes they start have in common: the topics, and two processors over the same events.
 * Each tells what it handled in its process' own record, and in what it emits, with epoch and process in the headers.
 */
import { Effect, Schema } from "effect"
import type { Event } from "../../src/Event.ts"
import { Processor, Retention, Table, Topic } from "../../src/index.ts"
import type { Handled, Write } from "./roundsRecord.ts"

export const partitions = 6

/** `n` rises with each event of a key. */
export const Work = Schema.Struct({ key: Schema.String, n: Schema.Int })
export type Work = typeof Work.Type

/** Nothing is trimmed: at the end the whole log is compared with what was made of it. */
const retention = Retention.forever

export const work = Topic.make("work", { schema: Work, partitionBy: "key", partitions, retention })

/** One for each event of `work`: which one, and how many of its key there were with it. */
export const outputs = Topic.make("outputs", {
  schema: Schema.Struct({ key: Schema.String, n: Schema.Int, offset: Schema.String, total: Schema.Int }),
  partitionBy: "key",
  partitions,
  retention
})

/** One for each batch of events of `work`. */
export const loads = Topic.make("loads", {
  schema: Schema.Struct({
    events: Schema.Array(Schema.Struct({ key: Schema.String, n: Schema.Int, offset: Schema.String }))
  }),
  partitions,
  retention
})

export const totals = Table.make("totals", { key: Schema.String, value: Schema.Int, initial: () => 0 })

/** How long an event takes: most nothing, some a few milliseconds, a few so long that faults come in the middle. */
const pace = (n: number): number => (n % 97 === 13 ? 150 : n % 11 === 3 ? 1 + (n % 5) : 0)

const taking = (n: number): Effect.Effect<void> => {
  const millis = pace(n)
  return millis === 0 ? Effect.void : Effect.sleep(millis)
}

const headersOf = (event: Event<unknown>, by: string) => ({ epoch: String(event.epoch), by })

export const countingName = "counting"
export const loadingName = "loading"

/** Counts events by key, exactly once, and tells each count to `outputs`; `lanes` keys of a partition at a time. */
export const counting = (by: string, write: Write<Handled>, lanes: number) =>
  Processor.make(
    countingName,
    { topic: work, tables: [totals], concurrency: { perKey: lanes } },
    Effect.fnUntraced(function* ({ key, n }: Work, event: Event<Work>) {
      const { epoch, offset, partition } = event
      const fact = { processor: countingName, partition, epoch, offset, key, n }
      write([{ what: "began", ...fact }])
      yield* taking(n)
      const total = yield* Table.update(totals, key, (total) => total + 1)
      yield* Topic.emit(outputs, { key, n, offset, total }, { headers: headersOf(event, by) })
      write([{ what: "ended", ...fact }])
    })
  )

/** The same events in batches, each told to `loads` as a whole. */
export const loading = (by: string, write: Write<Handled>) =>
  Processor.batch(
    loadingName,
    { topic: work, size: 20, within: "20 millis" },
    Effect.fnUntraced(function* (values: ReadonlyArray<Work>, batch: ReadonlyArray<Event<Work>>) {
      const facts = batch.map(({ epoch, offset, partition, value }) => ({
        processor: loadingName,
        partition,
        epoch,
        offset,
        ...value
      }))
      write(facts.map((fact) => ({ what: "began", ...fact })))
      for (const { n } of values) yield* taking(n)
      const events = facts.map(({ key, n, offset }) => ({ key, n, offset }))
      const { partition } = batch[0]!
      yield* Topic.emit(loads, { events }, { partition, headers: headersOf(batch[0]!, by) })
      write(facts.map((fact) => ({ what: "ended", ...fact })))
    })
  )
