/** Processors by name: who runs them, how far they are, and what can be done to them from outside. */
import { DateTime, Effect, Option } from "effect"
import { Broker, type Lag as Measured, type Start, type StoredProcessor } from "../../Broker.ts"
import { Coordinator } from "../../Coordinator.ts"
import type { EngineError, EventsLost, Misconfigured, NotFound } from "../../Errors.ts"
import { parseOffset } from "../entryId.ts"
import { invalid } from "../names.ts"
import * as Operations from "../operations.ts"
import { age, concurrency, iso, named, now } from "./known.ts"
import type { Lag, Processor } from "./shapes/processors.ts"
import { layoutOf, stored, visible } from "./topics.ts"

const describe = ({ name, partitions, topics }: StoredProcessor): Effect.Effect<Processor, EngineError, Coordinator> =>
  Coordinator.use((coordinator) =>
    Effect.map(coordinator.group(name), ({ generation, members, owners, paused, quarantined }) => ({
      name,
      topics,
      partitions,
      paused,
      members,
      owners: owners.map((owner) =>
        owner === undefined ? null : { member: owner.member, epoch: String(owner.epoch) }
      ),
      quarantined,
      generation
    }))
  )

export const processors: Effect.Effect<ReadonlyArray<Processor>, EngineError, Broker | Coordinator> = Effect.flatMap(
  visible,
  (all) => Effect.forEach(all, describe, { concurrency })
)

export const find = (name: string): Effect.Effect<StoredProcessor, EngineError | NotFound, Broker> =>
  Effect.flatMap(visible, (all) => named("processor", all, name))

export const processor = (name: string): Effect.Effect<Processor, EngineError | NotFound, Broker | Coordinator> =>
  Effect.flatMap(find(name), describe)

const summed = (processor: string, all: ReadonlyArray<Measured>, now: number): Lag => {
  let oldest: number | undefined
  let entries = 0
  let events = 0
  for (const one of all) {
    entries += one.entries
    events += one.events
    if (one.oldest !== undefined && (oldest === undefined || one.oldest < oldest)) oldest = one.oldest
  }
  return {
    processor,
    entries,
    events,
    oldest: oldest === undefined ? null : iso(oldest),
    seconds: age(now, oldest),
    partitions: all.map(({ entries, events, oldest, partition, topic }) => ({
      topic,
      partition,
      entries,
      events,
      oldest: oldest === undefined ? null : iso(oldest),
      seconds: age(now, oldest)
    }))
  }
}

const lagOf = ({ name }: StoredProcessor): Effect.Effect<Lag, EngineError, Broker> =>
  Broker.use((broker) => Effect.zipWith(broker.lag(name), now, (all, now) => summed(name, all, now)))

export const lags: Effect.Effect<ReadonlyArray<Lag>, EngineError, Broker> = Effect.flatMap(visible, (all) =>
  Effect.forEach(all, lagOf, { concurrency })
)

export const lag = (name: string): Effect.Effect<Lag, EngineError | NotFound, Broker> =>
  Effect.flatMap(find(name), lagOf)

export const pause = (
  name: string,
  paused: boolean
): Effect.Effect<void, EngineError | NotFound, Broker | Coordinator> =>
  Effect.andThen(
    find(name),
    Coordinator.use((coordinator) => coordinator.pause(name, paused))
  )

/** Where to: the first event, behind the last one, at an offset, or at the first event that is not older than a time. */
export type To = "earliest" | "latest" | { readonly offset: string } | { readonly time: string }

const startOf = (to: To): Effect.Effect<Start, Misconfigured> => {
  if (to === "earliest" || to === "latest") return Effect.succeed(to)
  if ("offset" in to) {
    return parseOffset(to.offset) === undefined
      ? Effect.fail(invalid(`seek: ${JSON.stringify(to.offset)} is no offset; give "<millis>-<seq>.<index>"`))
      : Effect.succeed(to)
  }
  const time = DateTime.make(to.time)
  return Option.isNone(time)
    ? Effect.fail(invalid(`seek: ${JSON.stringify(to.time)} is no time; give ISO 8601, such as 2026-01-31T12:00:00Z`))
    : Effect.succeed({ time: DateTime.toEpochMillis(time.value) })
}

export const seek = (
  name: string,
  to: To,
  resetTables: boolean,
  moved?: () => void
): Effect.Effect<void, EngineError | EventsLost | Misconfigured | NotFound, Broker | Coordinator> =>
  Effect.gen(function* () {
    const { topics } = yield* find(name)
    const start = yield* startOf(to)
    const [first, ...others] = yield* Effect.forEach(topics, (topic) => Effect.map(stored(topic), layoutOf))
    if (first === undefined) return
    yield* Operations.seek({ name, topics: [first, ...others], startFrom: "earliest" }, start, resetTables, moved)
  })

export const remove = (
  name: string
): Effect.Effect<void, EngineError | Misconfigured | NotFound, Broker | Coordinator> =>
  Effect.andThen(find(name), Operations.remove(name))
