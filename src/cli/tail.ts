/**
 * `millrace tail <module> <topic>`: events as they come, or from a position on. It reads without a group, so nobody's lag
 * changes. What cannot be decoded is told on stderr, and the next event is shown.
 */
import { Console, Effect, Option, Stream } from "effect"
import { Command, Flag } from "effect/cli"
import { tail as read } from "../internal/tail.ts"
import { withEngine } from "./engine.ts"
import { oneLine } from "./failures.ts"
import { note, Quiet } from "./globals.ts"
import { interruptible } from "./interruption.ts"
import { load, module, pickTopic } from "./modules.ts"
import { lines, printable, toJson } from "./output.ts"
import { positionOf } from "./position.ts"
import { checkPartition, topicName } from "./send.ts"
import * as Values from "./values.ts"

export const tail = Command.make(
  "tail",
  {
    module,
    topic: topicName,
    from: Flag.String("from").pipe(
      Flag.withMetavar("position"),
      Flag.withDescription("earliest, latest (the default), an offset, or a time such as 2026-05-01T12:00:00Z"),
      Flag.withDefault("latest")
    ),
    end: Flag.Boolean("end").pipe(
      Flag.withDescription("Stop at the present end instead of waiting for more"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    ),
    key: Flag.String("key").pipe(Flag.withDescription("Only events of this key"), Flag.optional),
    partition: Flag.Int("partition").pipe(Flag.withDescription("Only this partition"), Flag.optional),
    limit: Flag.Int("limit").pipe(Flag.withAlias("n"), Flag.withDescription("Stop after so many"), Flag.optional)
  },
  Effect.fn(function* ({ end, from, key, limit, module, partition, topic: name }) {
    const found = yield* load(module)
    const topic = yield* pickTopic(found, name)
    yield* checkPartition(topic, partition)
    const position = yield* positionOf(from)
    const encode = Values.encoder(topic.schema)
    const quiet = yield* Quiet
    const events = read(topic, {
      from: position,
      until: end ? "now" : undefined,
      partitions: Option.isSome(partition) ? [partition.value] : undefined,
      onUndecodable: (error) => (quiet ? Effect.void : Console.error(`skipped: ${oneLine(error.message)}`))
    }).pipe(
      Stream.filter((event) => Option.isNone(key) || event.key === key.value),
      Option.isSome(limit) ? Stream.take(limit.value) : (stream) => stream
    )
    const waits = from === "latest" && !end
    const hint = waits ? note("what comes from now on; with --from earliest what is there, too") : Effect.void
    const shown = lines(events, ({ headers, key, offset, partition, timestamp, topic, value }, json) => {
      const text = encode(value)
      return json
        ? toJson({ topic, partition, offset, key, timestamp, headers, value: text })
        : [`${partition}@${offset}`, timestamp.toJSON(), printable(key ?? "-"), toJson(text)].join("  ")
    })
    yield* withEngine(found)(Effect.andThen(hint, shown))
  }, interruptible)
).pipe(
  Command.withDescription("Watch the events of a topic; changes nobody's position"),
  Command.withExamples([
    { command: "millrace tail src/app.ts orders", description: "What comes from now on" },
    {
      command: "millrace tail src/app.ts orders --from earliest --end --json",
      description: "All there is, as JSON lines"
    }
  ])
)
