/** `millrace parked list | release | skip`: keys that wait aside, and single events without a key. */
import { Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import * as Admin from "../Admin.ts"
import { change, dryRun, yes } from "./changing.ts"
import { withEngine } from "./engine.ts"
import { oneLine, WrongUse } from "./failures.ts"
import { limit, listPages } from "./pages.ts"
import { processorName } from "./processors.ts"
import { partitionNumber } from "./quarantine.ts"

const flags = {
  processor: processorName,
  partition: partitionNumber,
  key: Flag.String("key").pipe(Flag.withDescription("The key that waits"), Flag.optional),
  event: Flag.String("event").pipe(
    Flag.withMetavar("topic@offset"),
    Flag.withDescription("An event without a key, instead"),
    Flag.optional
  ),
  dryRun
}

interface Given {
  readonly key: Option.Option<string>
  readonly event: Option.Option<string>
}

/** What the flags name: a key or an event, one of the two. */
const laneOf = ({ event, key }: Given): Effect.Effect<Admin.Lane, WrongUse> => {
  if (Option.isSome(key) && Option.isNone(event)) {
    return Effect.succeed({ key: key.value, topic: null, offset: null })
  }
  const at = Option.isSome(event) && Option.isNone(key) ? /^([^@]+)@(\S+)$/.exec(event.value) : null
  return at === null
    ? Effect.fail(new WrongUse({ message: "give either --key, or --event <topic>@<offset>" }))
    : Effect.succeed({ key: null, topic: at[1]!, offset: at[2]! })
}

const nameOf = ({ key, offset, topic }: Admin.Lane): string =>
  key === null ? `the event ${topic}@${offset}` : `key ${JSON.stringify(key)}`

const listing = Command.make(
  "list",
  { processor: processorName, limit },
  Effect.fn(function* ({ limit, processor }) {
    yield* withEngine()(
      listPages(
        limit,
        (cursor) => Admin.parked(processor, { cursor }),
        ["partition", "key", "events", "attempts", "tried again", "since", "error"],
        (one) => [
          one.partition,
          one.key ?? `${one.topic}@${one.offset}`,
          one.count,
          one.attempts,
          one.due,
          one.since,
          oneLine(one.error)
        ]
      )
    )
  })
).pipe(Command.withDescription("What waits aside, and when it is tried again"))

const release = Command.make(
  "release",
  flags,
  Effect.fn(function* ({ dryRun, partition, processor, ...given }) {
    const lane = yield* laneOf(given)
    yield* withEngine()(
      change(
        { dryRun },
        {
          what: `try ${nameOf(lane)} of ${processor} now`,
          look: Admin.processor(processor),
          act: Admin.releaseParked(processor, partition, lane),
          json: () => ({ processor, partition, ...lane, released: true }),
          line: () => `${nameOf(lane)} of ${processor} is tried now`
        }
      )
    )
  })
).pipe(Command.withDescription("Try the first event that waits there now"))

const skip = Command.make(
  "skip",
  {
    ...flags,
    all: Flag.Boolean("all").pipe(
      Flag.withDescription("Drop every event that waits there"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    ),
    yes
  },
  Effect.fn(function* ({ all, dryRun, partition, processor, yes, ...given }) {
    const lane = yield* laneOf(given)
    yield* withEngine()(
      change(
        { dryRun, yes },
        {
          what: `drop ${all ? "every event" : "the first event"} of ${nameOf(lane)} of ${processor}, for good`,
          look: Admin.processor(processor),
          act: Admin.skipParked(processor, partition, lane, { all }),
          json: () => ({ processor, partition, ...lane, all, skipped: true }),
          line: () => `${all ? "all" : "the first"} of ${nameOf(lane)} of ${processor} is dropped`
        }
      )
    )
  })
).pipe(Command.withDescription("Drop the first event that waits there, or all"))

export const parked = Command.make("parked").pipe(
  Command.withDescription("Keys that wait aside: list, release, skip"),
  Command.withSubcommands([listing, release, skip])
)
