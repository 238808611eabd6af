/** Operations on a processor from outside: seek and remove, under a new epoch, so that whatever was in flight is refused. */

import { randomUUID } from "node:crypto"
import { Effect, Exit } from "effect"
import { Broker, type Fence, type Layout, type Start } from "../Broker.ts"
import { Coordinator } from "../Coordinator.ts"
import { type EngineError, EventsLost, Misconfigured } from "../Errors.ts"

export const partitionsMismatch = (detail: string): Misconfigured =>
  new Misconfigured({ reason: "PartitionsMismatch", detail })

const running = (operation: string, name: string) =>
  new Misconfigured({
    reason: "InvalidOption",
    detail: `${operation}: processor ${name} is running; pause it (Processor.pause) or stop its workers first`
  })

/** What has to be known of a processor to move it. */
export interface Sought {
  readonly name: string
  readonly topics: readonly [Layout, ...ReadonlyArray<Layout>]
  readonly startFrom: Start
}

export const seek = (
  definition: Sought,
  to: Start,
  reset: boolean,
  moved?: () => void
): Effect.Effect<void, EngineError | EventsLost | Misconfigured, Broker | Coordinator> =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const coordinator = yield* Coordinator
    const processor = definition.name
    const { topics } = definition
    yield* broker.register(processor, topics, definition.startFrom)
    // All before the first is moved: of a processor that runs, a quarantined partition alone could be moved.
    const epochs: Array<bigint> = []
    for (let partition = 0; partition < topics[0].partitions; partition++) {
      const epoch = yield* coordinator.takeEpoch(processor, partition)
      if (epoch === undefined) return yield* running("seek", processor)
      epochs.push(epoch)
    }
    for (const [partition, epoch] of epochs.entries()) {
      const fence = { epoch, incarnation: randomUUID() }
      const claim = yield* broker.claim(processor, partition, topics, fence)
      if (claim._tag === "Refused") return yield* running("seek", processor)
      const result = yield* broker
        .seek({ ...fence, processor, partition, number: claim.number, topics, to, reset })
        // Not moved: whoever claims it next must not think that its owner died.
        .pipe(Effect.onExit((exit) => (hasMoved(exit) ? Effect.void : letGo(broker, processor, partition, fence))))
      if (result._tag === "Lost") {
        return yield* new EventsLost({
          topic: result.topic,
          partition,
          first: typeof to === "object" && "offset" in to ? to.offset : "0-0.0",
          last: result.first,
          entries: 0
        })
      }
      if (result._tag !== "Done" && result._tag !== "DoneBefore") return yield* running("seek", processor)
      moved?.()
    }
  })

const hasMoved = (exit: Exit.Exit<{ readonly _tag: string }, unknown>): boolean =>
  Exit.isSuccess(exit) && exit.value._tag !== "Lost"

/** A claim of ours that did not end with a commit. */
const letGo = (broker: Broker["Service"], processor: string, partition: number, fence: Fence): Effect.Effect<void> =>
  Effect.ignore(broker.release(processor, partition, fence))

export const remove = (processor: string): Effect.Effect<void, EngineError | Misconfigured, Broker | Coordinator> =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const coordinator = yield* Coordinator
    const { partitions } = yield* coordinator.group(processor)
    if (!(yield* coordinator.removeGroup(processor))) return yield* running("remove", processor)
    // What its commits have emitted is not its own any more.
    for (let partition = 0; broker.shards > 1 && partition < partitions; partition++) {
      yield* delivered(broker, processor, partition)
    }
    yield* broker.unregister(processor)
  })

/** All that is in the outbox of a partition. */
const delivered = (
  broker: Broker["Service"],
  processor: string,
  partition: number
): Effect.Effect<void, EngineError> => {
  const from = (after: string | undefined): Effect.Effect<void, EngineError> =>
    Effect.flatMap(
      // Not asked for: what is only in memory is as safe as it is to be.
      Effect.catchTag(broker.deliver({ processor, partition, after }, "memory"), "DurabilityNotReached", Effect.die),
      ({ more, upTo }) => (more ? from(upTo) : Effect.void)
    )
  return from(undefined)
}
