/** `millrace topics`: the topics of an engine, or the partitions of one. */
import { Effect, Option } from "effect"
import { Argument, Command } from "effect/cli"
import * as Admin from "../Admin.ts"
import { describeRetention } from "../internal/asyncApi.ts"
import { withEngine } from "./engine.ts"
import { show, table } from "./output.ts"
import { list } from "./pages.ts"

const one = (name: string) =>
  Effect.flatMap(Admin.topic(name), (topic) =>
    show(topic, () =>
      table(
        ["partition", "events", "ever", "first", "last"],
        topic.logs.map(({ events, eventsAdded, first, last, partition }) => [
          partition,
          events,
          eventsAdded,
          first,
          last
        ])
      )
    )
  )

const all = Effect.flatMap(Admin.topics, (topics) =>
  list(topics, ["topic", "partitions", "events", "ever", "read by", "retention"], (topic) => [
    topic.name,
    topic.partitions,
    topic.events,
    topic.eventsAdded,
    topic.processors.join(", "),
    topic.retention === null ? undefined : describeRetention(topic.retention)
  ])
)

export const topics = Command.make(
  "topics",
  {
    topic: Argument.String("topic").pipe(Argument.withDescription("Show the partitions of this one"), Argument.optional)
  },
  Effect.fn(function* ({ topic }) {
    yield* withEngine()(Option.isSome(topic) ? one(topic.value) : all)
  })
).pipe(Command.withDescription("The topics of an engine, with what they hold"))
