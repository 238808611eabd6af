/** `millrace quarantine list | release | skip`: partitions that were put aside. */
import { Effect, Option } from "effect"
import { Argument, Command } from "effect/cli"
import * as Admin from "../Admin.ts"
import { change, dryRun, yes } from "./changing.ts"
import { withEngine } from "./engine.ts"
import { oneLine, WrongUse } from "./failures.ts"
import { list } from "./pages.ts"
import { processorName } from "./processors.ts"

export const partitionNumber = Argument.Int("partition").pipe(Argument.withDescription("The number of a partition"))

/** A dry run tells too that there is nothing to do. */
const isAside = (processor: string, partition: number) =>
  Effect.gen(function* () {
    const all = yield* Admin.quarantined(processor)
    if (all.some((one) => one.partition === partition)) return
    const there = all.length === 0 ? "none is" : `these are: ${all.map((one) => one.partition).join(", ")}`
    return yield* new WrongUse({
      message: `partition ${partition} of processor ${processor} is not quarantined; ${there}`
    })
  })

const listing = Command.make(
  "list",
  { processor: Argument.optional(processorName) },
  Effect.fn(function* ({ processor }) {
    const all = yield* withEngine()(Admin.quarantined(Option.getOrUndefined(processor)))
    yield* list(all, ["processor", "partition", "offset", "reason", "since", "error"], (one) => [
      one.processor,
      one.partition,
      one.offset,
      one.reason,
      one.since,
      oneLine(one.error)
    ])
  })
).pipe(Command.withDescription("Partitions that are aside, and why"))

const release = Command.make(
  "release",
  { processor: processorName, partition: partitionNumber, dryRun },
  Effect.fn(function* ({ dryRun, partition, processor }) {
    yield* withEngine()(
      change(
        { dryRun },
        {
          what: `put partition ${partition} of ${processor} back to work at the event that failed`,
          look: isAside(processor, partition),
          act: Admin.release(processor, partition),
          json: () => ({ processor, partition, released: true }),
          line: () => `partition ${partition} of ${processor} is back to work`
        }
      )
    )
  })
).pipe(Command.withDescription("Put a partition back to work: it meets what failed again"))

const skip = Command.make(
  "skip",
  { processor: processorName, partition: partitionNumber, dryRun, yes },
  Effect.fn(function* ({ dryRun, partition, processor, yes }) {
    yield* withEngine()(
      change(
        { dryRun, yes },
        {
          what: `pass over what failed in partition ${partition} of ${processor}, for good`,
          look: isAside(processor, partition),
          act: Admin.skip(processor, partition),
          json: () => ({ processor, partition, skipped: true }),
          line: () => `partition ${partition} of ${processor} goes on behind what failed`
        }
      )
    )
  })
).pipe(Command.withDescription("Put a partition back to work behind what failed"))

export const quarantine = Command.make("quarantine").pipe(
  Command.withDescription("Partitions that were put aside: list, release, skip"),
  Command.withSubcommands([listing, release, skip])
)
