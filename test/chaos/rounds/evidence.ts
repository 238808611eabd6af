/** What there is at the end of a round, from two sides: what the engine stores, and what the processes wrote down. */
import { Effect, Stream } from "effect"
import type { Broker } from "../../../src/Broker.ts"
import type { Engine } from "../../../src/index.ts"
import { Processor, Table, Topic } from "../../../src/index.ts"
import { countingName, loadingName, loads, outputs, totals, work } from "../../support/rounds.ts"
import { type Handled, type Published, readHandled, readPublished } from "../../support/roundsRecord.ts"
import { handledFile, publishedFile } from "./cast.ts"
import type { Plan } from "./plan.ts"

export interface Numbered {
  readonly partition: number
  readonly offset: string
  readonly key: string
  readonly n: number
}

/** What one entry of an output tells of its unit of work. */
export interface Unit {
  readonly partition: number
  /** The events of it. */
  readonly events: ReadonlyArray<Omit<Numbered, "partition">>
  readonly epoch: bigint
  /** The process that handled it. */
  readonly by: string
}

export interface Evidence {
  /** The log, in order per partition. */
  readonly log: ReadonlyArray<Numbered>
  /** By processor, the outputs in order per partition. */
  readonly units: ReadonlyMap<string, ReadonlyArray<Unit>>
  /** By key, the counts that were told, in order. */
  readonly counts: ReadonlyMap<string, ReadonlyArray<number>>
  readonly totals: ReadonlyMap<string, number>
  /** What is put aside, and what is not committed. */
  readonly quarantined: ReadonlyArray<string>
  readonly behind: ReadonlyArray<string>
  readonly handled: ReadonlyArray<{ readonly by: string; readonly facts: ReadonlyArray<Handled> }>
  /** By source: its keys are its own. */
  readonly published: ReadonlyMap<string, ReadonlyArray<Published>>
}

const processors = [countingName, loadingName]

/** Partitions that are not at the end of the log. */
export const behind: Effect.Effect<ReadonlyArray<string>, unknown, Broker> = Effect.gen(function* () {
  const found: Array<string> = []
  for (const name of processors) {
    for (const { events, partition } of yield* Processor.lag(name)) {
      if (events > 0) found.push(`${name}/${partition} is ${events} events behind`)
    }
  }
  return found
})

export const sourceOf = (key: string): string => key.slice(0, key.lastIndexOf("-"))

/** One more under this key. */
export const add = <K, A>(lists: Map<K, Array<A>>, key: K, item: A): void => {
  const known = lists.get(key)
  if (known === undefined) lists.set(key, [item])
  else known.push(item)
}

export const gather = (
  plan: Plan,
  directory: string,
  names: ReadonlyArray<string>
): Effect.Effect<Evidence, unknown, Engine.Services> =>
  Effect.gen(function* () {
    const all = <A, K>(topic: Topic.Topic<A, K>) => Stream.runCollect(Topic.stream(topic, { until: "now" }))
    const log = (yield* all(work)).map(({ offset, partition, value }) => ({ partition, offset, ...value }))
    const counted = yield* all(outputs)
    const loaded = yield* all(loads)
    const unitOf = (
      { headers, partition }: (typeof counted | typeof loaded)[number],
      events: Unit["events"]
    ): Unit => ({
      partition,
      events,
      epoch: BigInt(headers["epoch"]!),
      by: headers["by"]!
    })
    const quarantined = yield* Effect.forEach(processors, (name) => Processor.quarantined(name))
    const published = new Map<string, Array<Published>>()
    for (const publisher of plan.publishers.keys()) {
      for (const fact of readPublished(publishedFile(directory, publisher))) {
        add(published, sourceOf(fact.key), fact)
      }
    }
    const counts = new Map<string, Array<number>>()
    for (const { value } of counted) add(counts, value.key, value.total)
    return {
      log,
      units: new Map([
        [countingName, counted.map((event) => unitOf(event, [event.value]))],
        [loadingName, loaded.map((event) => unitOf(event, event.value.events))]
      ]),
      counts,
      totals: new Map(yield* Stream.runCollect(Table.entries(totals))),
      quarantined: quarantined
        .flat()
        .map(
          ({ error, partition, processor, reason }) => `${processor}/${partition} was put aside (${reason}): ${error}`
        ),
      behind: yield* behind,
      handled: names.map((by) => ({ by, facts: readHandled(handledFile(directory, by)) })),
      published
    }
  })
