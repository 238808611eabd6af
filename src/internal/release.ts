/** Quarantined partitions by the name of their processor: what is aside, and putting it back to work. */
import { DateTime, Effect } from "effect"
import { Coordinator } from "../Coordinator.ts"
import { type EngineError, Misconfigured } from "../Errors.ts"
import type { Quarantined } from "../Processor.ts"

export const quarantined = (processor: string): Effect.Effect<ReadonlyArray<Quarantined>, EngineError, Coordinator> =>
  Coordinator.use((coordinator) =>
    Effect.map(coordinator.quarantined(processor), (all) =>
      all.map(({ since, ...entry }) => ({
        ...entry,
        processor,
        offset: entry.positions[0]?.first ?? "",
        since: DateTime.makeUnsafe(since)
      }))
    )
  )

/** Says why: no such processor, no such partition, or nothing to release. */
export const notAside = (
  operation: string,
  processor: string,
  partition: number
): Effect.Effect<never, EngineError | Misconfigured, Coordinator> =>
  Effect.gen(function* () {
    const group = yield* Coordinator.use((coordinator) => coordinator.group(processor))
    const { partitions, quarantined } = group
    const others = quarantined.length === 0 ? "none is" : `these are: ${quarantined.join(", ")}`
    const exists = Number.isInteger(partition) && partition >= 0 && partition < partitions
    const detail =
      partitions === 0
        ? `there is no processor ${processor} that ever ran here; look at the name and the namespace`
        : exists
          ? `partition ${partition} of processor ${processor} is not quarantined; ${others}`
          : `processor ${processor} has ${partitions} partitions, there is no partition ${partition}`
    return yield* new Misconfigured({ reason: "InvalidOption", detail: `${operation}: ${detail}` })
  })

export const release = (
  processor: string,
  partition: number
): Effect.Effect<void, EngineError | Misconfigured, Coordinator> =>
  Effect.gen(function* () {
    const coordinator = yield* Coordinator
    if (!(yield* coordinator.release(processor, partition))) return yield* notAside("release", processor, partition)
  })
