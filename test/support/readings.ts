/** The topic that most behaviours are shown with: numbered readings under a key. */
import { assert } from "@effect/vitest"
import { Effect, Schema, Stream } from "effect"
import type { Retention } from "../../src/Retention.ts"
import * as Topic from "../../src/Topic.ts"

export const Reading = Schema.Struct({ key: Schema.String, n: Schema.Int })
export type Reading = typeof Reading.Type

export const readings = (partitions = 4, retention?: Retention) =>
  Topic.make("readings", { schema: Reading, partitionBy: (reading) => reading.key, partitions, retention })

/** Reading `n`, of one of so many keys. */
export const reading = (n: number, keys = 10): Reading => ({ key: `k${n % keys}`, n })

/** Each list rises. */
export const assertRising = (lists: Iterable<ReadonlyArray<number>>): void => {
  for (const list of lists) {
    for (let i = 1; i < list.length; i++) assert.isAbove(list[i]!, list[i - 1]!, `after ${list[i - 1]}`)
  }
}

/** Lists by name. */
export class Seen {
  readonly lists = new Map<string, Array<number>>()
  add(name: string, n: number): void {
    const list = this.lists.get(name)
    if (list === undefined) this.lists.set(name, [n])
    else list.push(n)
  }
  get all(): Array<number> {
    return [...this.lists.values()].flat().toSorted((a, b) => a - b)
  }
}

/** The numbers that stand in a topic now; in order if it has one partition. */
export const collect = (topic: ReturnType<typeof readings>) =>
  Effect.map(Stream.runCollect(Topic.stream(topic, { until: "now" })), (events) => events.map((event) => event.value.n))
