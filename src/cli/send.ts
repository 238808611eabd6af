/** `millrace send <module> <topic> [json]`: stores one event, or the same one several times, and says where. */
import { Effect, Option, Stream } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import * as Topic from "../Topic.ts"
import { dryRun, unless } from "./changing.ts"
import { withEngine } from "./engine.ts"
import { WrongUse } from "./failures.ts"
import { load, module, pickTopic } from "./modules.ts"
import { lines, toJson } from "./output.ts"
import * as Values from "./values.ts"

export const topicName = Argument.String("topic").pipe(Argument.withDescription("The name of a topic of the module"))

/** A partition that the topic does not have is refused before the engine is asked. */
export const checkPartition = (topic: Topic.Any, partition: Option.Option<number>) =>
  Option.isSome(partition) && !(partition.value >= 0 && partition.value < topic.partitions)
    ? Effect.fail(
        new WrongUse({
          message: `topic ${topic.name} has partitions 0 to ${topic.partitions - 1}, there is no ${partition.value}`
        })
      )
    : Effect.void

export const send = Command.make(
  "send",
  {
    module,
    topic: topicName,
    value: Values.json,
    key: Values.key,
    partition: Values.partition,
    headers: Values.headers,
    repeat: Flag.Int("repeat").pipe(
      Flag.withDescription("Store it so many times"),
      Flag.filter(
        (count) => count >= 1,
        (count) => `--repeat is ${count}: give a number of at least 1`
      ),
      Flag.withDefault(1)
    ),
    dryRun
  },
  Effect.fn(function* ({ dryRun, headers, key, module, partition, repeat, topic: name, value: given }) {
    const found = yield* load(module)
    const topic = yield* pickTopic(found, name)
    yield* checkPartition(topic, partition)
    const value = yield* Values.read(`topic ${name}`, topic.schema, given)
    const options = {
      ...(Option.isSome(key) ? { key: key.value } : {}),
      ...(Option.isSome(partition) ? { partition: partition.value } : {}),
      ...(Object.keys(headers).length > 0 ? { headers } : {})
    }
    const sending = lines(
      Stream.range(1, repeat).pipe(Stream.mapEffect(() => Topic.publish(topic, value, options))),
      (position, json) => (json ? toJson(position) : `${position.topic}/${position.partition}@${position.offset}`)
    )
    const times = repeat === 1 ? "one event" : `${repeat} events`
    yield* unless(
      dryRun,
      `send ${times} to ${name}: ${toJson(Values.encoder(topic.schema)(value))}`,
      withEngine(found)(sending)
    )
  })
).pipe(
  Command.withDescription("Store one event; prints its topic, partition and offset"),
  Command.withExamples([
    {
      command: `millrace send src/app.ts orders '{"orderId":1,"customer":"ada","amount":5}'`,
      description: "One event"
    },
    { command: "echo '{...}' | millrace send src/app.ts orders --json", description: "From standard input" }
  ])
)
