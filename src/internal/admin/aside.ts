/** What was put aside: whole partitions, and single keys of them. */
import { DateTime, Effect } from "effect"
import { Broker } from "../../Broker.ts"
import { Coordinator } from "../../Coordinator.ts"
import type { EngineError, Misconfigured, NotFound } from "../../Errors.ts"
import { invalid } from "../names.ts"
import * as Aside from "../parked.ts"
import * as Release from "../release.ts"
import * as Skip from "../skip.ts"
import { concurrency, iso, noCursor } from "./known.ts"
import { find } from "./processors.ts"
import type { Lane, Parked, Quarantined } from "./shapes/aside.ts"
import type { Page } from "./shapes/common.ts"
import { visible } from "./topics.ts"

type Both = Broker | Coordinator

const quarantinedOf = (processor: string): Effect.Effect<ReadonlyArray<Quarantined>, EngineError, Coordinator> =>
  Coordinator.use((coordinator) =>
    Effect.map(coordinator.quarantined(processor), (all) =>
      all.map(({ error, member, partition, positions, reason, since }) => ({
        processor,
        partition,
        reason,
        error,
        offset: positions[0]?.first ?? "",
        positions,
        member,
        since: iso(since)
      }))
    )
  )

/** Of one processor, or of all. */
export const quarantined = (
  processor: string | undefined
): Effect.Effect<ReadonlyArray<Quarantined>, EngineError | NotFound, Both> =>
  processor === undefined
    ? Effect.flatMap(visible, (all) =>
        Effect.map(
          Effect.forEach(all, ({ name }) => quarantinedOf(name), { concurrency }),
          (each) => each.flat()
        )
      )
    : Effect.andThen(find(processor), quarantinedOf(processor))

export const release = (
  processor: string,
  partition: number
): Effect.Effect<void, EngineError | Misconfigured | NotFound, Both> =>
  Effect.andThen(find(processor), Release.release(processor, partition))

export const skip = (
  processor: string,
  partition: number
): Effect.Effect<void, EngineError | Misconfigured | NotFound, Both> =>
  Effect.andThen(find(processor), Skip.skip(processor, partition))

/** Of a page, about. */
const pageSize = 100

/** `<partition>.<lanes of it that were given>`. */
const cursorOf = (
  cursor: string | undefined
): Effect.Effect<readonly [partition: number, from: number], Misconfigured> => {
  if (cursor === undefined) return Effect.succeed([0, 0])
  const match = /^(\d{1,5})\.(\d{1,9})$/.exec(cursor)
  return match === null ? Effect.fail(noCursor(cursor)) : Effect.succeed([Number(match[1]), Number(match[2])])
}

/** A page of the keys of one processor that wait aside: by partition, and by when they are tried again. */
export const parked = (
  processor: string,
  cursor: string | undefined
): Effect.Effect<Page<Parked>, EngineError | Misconfigured | NotFound, Broker> =>
  Effect.gen(function* () {
    const { partitions } = yield* find(processor)
    const broker = yield* Broker
    const items: Array<Parked> = []
    let [partition, from] = yield* cursorOf(cursor)
    for (; partition < partitions; partition++, from = 0) {
      const lanes = Aside.parkedOf(processor, partition, yield* broker.lanes(processor, partition))
      const some = lanes.slice(from, from + pageSize - items.length)
      for (const lane of some) items.push(describe(lane))
      if (items.length < pageSize) continue
      const given = from + some.length
      const next = given < lanes.length ? `${partition}.${given}` : `${partition + 1}.0`
      return { items, next: given < lanes.length || partition + 1 < partitions ? next : null }
    }
    return { items, next: null }
  })

const describe = (parked: Aside.Parked): Parked => {
  const { attempts, count, due, error, partition, processor, since } = parked
  const isKey = parked.key !== undefined
  return {
    processor,
    partition,
    key: isKey ? parked.key : null,
    topic: isKey ? null : parked.topic,
    offset: isKey ? null : parked.offset,
    count,
    attempts,
    due: DateTime.formatIso(due),
    error,
    since: DateTime.formatIso(since)
  }
}

const laneOf = ({ key, offset, topic }: Lane): Effect.Effect<Aside.ParkedLane, Misconfigured> => {
  if (key !== null) return Effect.succeed({ key })
  return topic === null || offset === null
    ? Effect.fail(invalid("name what waits: a key, or a topic and an offset"))
    : Effect.succeed({ topic, offset })
}

export const releaseLane = (
  processor: string,
  partition: number,
  lane: Lane
): Effect.Effect<void, EngineError | Misconfigured | NotFound, Both> =>
  Effect.andThen(
    find(processor),
    Effect.flatMap(laneOf(lane), (lane) => Aside.release(processor, partition, lane))
  )

export const skipLane = (
  processor: string,
  partition: number,
  lane: Lane,
  all: boolean
): Effect.Effect<void, EngineError | Misconfigured | NotFound, Both> =>
  Effect.andThen(
    find(processor),
    Effect.flatMap(laneOf(lane), (lane) => Aside.skip(processor, partition, lane, all))
  )
