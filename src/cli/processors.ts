/** `millrace processors` (and its `remove`), `lag`, `pause`, `resume`, `seek`: consumers by name; no module is needed. */
import { DateTime, Duration, Effect, Option } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import * as Admin from "../Admin.ts"
import { change, dryRun, yes } from "./changing.ts"
import { withEngine } from "./engine.ts"
import { show, table } from "./output.ts"
import { list } from "./pages.ts"
import { setPaused, type Verb } from "./pausing.ts"
import { positionOf } from "./position.ts"
import { withProgress } from "./progress.ts"
import { removeProcessor } from "./removing.ts"

export const processorName = Argument.String("processor").pipe(
  Argument.withDescription("The name of a processor or an agent")
)

const optionalName = Argument.optional(processorName)

const ownersOf = ({ owners }: Admin.Processor): string => {
  const counts = new Map<string, number>()
  for (const owner of owners) {
    const member = owner?.member ?? "nobody"
    counts.set(member, (counts.get(member) ?? 0) + 1)
  }
  return Array.from(counts, ([member, count]) => `${member}: ${count}`).join(", ")
}

export const processors = Command.make(
  "processors",
  { processor: optionalName },
  Effect.fn(function* ({ processor }) {
    const one = (name: string) =>
      Effect.flatMap(Admin.processor(name), (processor) =>
        show(processor, () =>
          table(
            ["partition", "owner", "epoch", "state"],
            processor.owners.map((owner, partition) => [
              partition,
              owner?.member,
              owner?.epoch,
              processor.quarantined.includes(partition) ? "quarantined" : processor.paused ? "paused" : "on"
            ])
          )
        )
      )
    const all = Effect.flatMap(Admin.processors, (processors) =>
      list(processors, ["processor", "topics", "partitions", "state", "quarantined", "owners"], (processor) => [
        processor.name,
        processor.topics.join(", "),
        processor.partitions,
        processor.paused ? "paused" : "on",
        processor.quarantined.length,
        ownersOf(processor)
      ])
    )
    yield* withEngine()(Option.isSome(processor) ? one(processor.value) : all)
  })
).pipe(Command.withDescription("Processors, and who owns their partitions"), Command.withSubcommands([removeProcessor]))

const age = (seconds: number): string => (seconds === 0 ? "-" : Duration.format(Duration.seconds(Math.ceil(seconds))))

export const lag = Command.make(
  "lag",
  { processor: optionalName },
  Effect.fn(function* ({ processor }) {
    const one = (name: string) =>
      Effect.flatMap(Admin.lag(name), (lag) =>
        show(lag, () =>
          table(
            ["topic", "partition", "entries", "events", "oldest"],
            lag.partitions.map((one) => [one.topic, one.partition, one.entries, one.events, age(one.seconds)])
          )
        )
      )
    const all = Effect.flatMap(Admin.lags, (lags) =>
      list(lags, ["processor", "entries", "events", "oldest"], (lag) => [
        lag.processor,
        lag.entries,
        lag.events,
        age(lag.seconds)
      ])
    )
    yield* withEngine()(Option.isSome(processor) ? one(processor.value) : all)
  })
).pipe(Command.withDescription("How far processors are behind: entries, events, age of the oldest"))

const pausing = (verb: Verb, description: string) =>
  Command.make(verb, { processor: processorName, dryRun }, ({ dryRun, processor }) =>
    setPaused(verb, dryRun, {
      what: `processor ${processor}`,
      where: " on all workers",
      look: Admin.processor(processor),
      pause: Admin.pause(processor),
      resume: Admin.resume(processor),
      names: { processor }
    })
  ).pipe(Command.withDescription(description))

export const pause = pausing("pause", "Hand out no events of a processor, on any worker, until it is resumed")

export const resume = pausing("resume", "Let a paused processor go on")

export const seek = Command.make(
  "seek",
  {
    processor: processorName,
    position: Argument.String("position").pipe(
      Argument.withDescription("earliest, latest, an offset, or a time such as 2026-05-01T12:00:00Z")
    ),
    resetTables: Flag.Boolean("reset-tables").pipe(
      Flag.withDescription("Empty its tables too"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    ),
    dryRun,
    yes
  },
  Effect.fn(function* ({ dryRun, position, processor, resetTables, yes }) {
    const from = yield* positionOf(position)
    const to: Admin.Position =
      typeof from === "object" && "time" in from ? { time: DateTime.formatIso(from.time) } : from
    yield* withEngine()(
      Effect.gen(function* () {
        const { partitions } = yield* Admin.processor(processor)
        const moving = withProgress("moved", partitions, (progress) => {
          const moved = (): void => {
            progress.done = ++progress.part
          }
          return Admin.seek(processor, to, { resetTables, moved })
        })
        const tables = resetTables ? ", and empty its tables" : ""
        yield* change(
          { dryRun, yes },
          {
            what: `move all ${partitions} partitions of processor ${processor} to ${position}${tables}`,
            look: Effect.void,
            act: moving,
            json: () => ({ processor, partitions, position: to, resetTables }),
            line: () => `${processor} goes on at ${position}, in ${partitions} partitions`
          }
        )
      })
    )
  })
).pipe(Command.withDescription("Move a processor that is paused or stopped to another position"))
