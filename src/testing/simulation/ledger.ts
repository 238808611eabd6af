/**
 * What a simulation writes down: on the server, in the order in which it happens there, what the engine accepted and what
 * stands in its logs, read from the logs themselves; in the workers, which events handlers began and ended.
 */
import { type Context, Effect } from "effect"
import { Broker, type Layout, type Position, type Reader } from "../../Broker.ts"
import type { Happened } from "../History.ts"
import { JobLedger } from "./jobLedger.ts"

type BrokerService = Context.Service.Shape<typeof Broker>

export class Ledger {
  readonly history: Array<Happened> = []
  readonly jobs = new JobLedger()
  /** The last entry written down, by topic and partition; kept with each snapshot. */
  private seen = new Map<string, string>()
  private readonly kept = new Map<number, Map<string, string>>()

  snapshot(id: number): void {
    this.kept.set(id, new Map(this.seen))
    this.history.push({ _tag: "Snapshot", id })
  }

  wentBack(id: number): void {
    this.seen = new Map(this.kept.get(id))
    this.history.push({ _tag: "WentBack", id })
  }

  /** The broker of the server: what it accepts is written down in the same moment. */
  around(broker: BrokerService, reader: Reader): BrokerService {
    const follow = (places: Iterable<readonly [Layout, number]>, emitted: boolean): Effect.Effect<void> => {
      const positions = new Map<string, Position>()
      for (const [topic, partition] of places) {
        const name = `${topic.name}/${partition}`
        positions.set(name, { topic, partition, after: this.seen.get(name) ?? "0-0", entriesRead: 0 })
      }
      return Effect.map(Effect.orDie(reader.read([...positions.values()], { count: 1_000, block: 0 })), (batches) => {
        for (const { entries, partition, topic } of batches) {
          if (entries.length === 0) continue
          const offsets = entries.flatMap(({ count, id }) => Array.from({ length: count }, (_, i) => `${id}.${i}`))
          this.history.push({ _tag: "Appended", topic, partition, offsets, emitted })
          this.seen.set(`${topic}/${partition}`, entries.at(-1)!.id)
        }
      })
    }
    return Broker.of({
      ...broker,
      append: (appends, durability) =>
        Effect.tap(broker.append(appends, durability), () =>
          follow(
            appends.map(({ partition, topic }) => [topic, partition]),
            false
          )
        ),
      claim: (processor, partition, topics, fence) =>
        Effect.tap(broker.claim(processor, partition, topics, fence), (claim) =>
          Effect.sync(() => {
            if (claim._tag !== "Claimed") return
            const { committed, number } = claim
            const offsets = committed.map(({ offset, topic }) => ({ topic, offset }))
            this.history.push({ _tag: "Claimed", processor, partition, ...fence, number, offsets })
          })
        ),
      commit: (commits, durability) =>
        Effect.tap(broker.commit(commits, durability), (results) => {
          results.forEach((result, i) => {
            if (result._tag !== "Done") return
            const { epoch, incarnation, number, partition, processor } = commits[i]!
            const offsets = commits[i]!.offsets.map(({ offset, topic }) => ({ topic, offset }))
            this.history.push({ _tag: "Committed", processor, partition, epoch, incarnation, number, offsets })
          })
          const done = commits.filter((_, i) => results[i]!._tag === "Done")
          const emitted = done.flatMap(({ emits }) => emits.map(({ partition, topic }) => [topic, partition] as const))
          return emitted.length === 0 ? Effect.void : follow(emitted, true)
        })
    })
  }
}
