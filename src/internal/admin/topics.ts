/** Topics as the engine has them, whether or not this program has a definition of them. */
import { Effect, Schema } from "effect"
import { Broker, type Layout, type StoredProcessor, type StoredTopic } from "../../Broker.ts"
import type { EngineError, NotFound } from "../../Errors.ts"
import { forever } from "../../Retention.ts"
import * as Topics from "../../Topic.ts"
import { concurrency, named, range } from "./known.ts"
import type { Log, Topic, TopicLogs } from "./shapes/topics.ts"

/** For the operations that ask for one: without a stored retention nothing is trimmed. */
export const layoutOf = ({ name, partitions, retention }: StoredTopic): Layout => ({
  name,
  partitions,
  retention: retention ?? forever
})

/** Bytes that a value may have, whatever its topic allowed. */
const maxBytes = 64 * 1024 * 1024

/**
 * A topic of anything, by whose declaration nothing is changed that is known of it. A flat one must name a field; those
 * that are there are read one by one, so any name will do.
 */
export const anything = ({ flat, letters, name, partitions, redacted, retention }: StoredTopic): Topics.Any => {
  const options = { partitions, retention: retention ?? forever, maxBytes }
  const topic: Topics.Any = flat
    ? Topics.make(name, { ...options, schema: Schema.Struct({ value: Schema.String }), encoding: "flat" })
    : Topics.make(name, { ...options, schema: Schema.Unknown })
  const known = { letters: { value: letters, enumerable: true }, redacted: { value: redacted, enumerable: true } }
  return Object.defineProperties(topic, known)
}

const logsOf = (topic: StoredTopic): Effect.Effect<ReadonlyArray<Log>, EngineError, Broker> =>
  Broker.use((broker) =>
    Effect.map(broker.inspect(layoutOf(topic), range(topic.partitions)), (logs) =>
      logs.map(({ added, events, extra, first, last, length, partition }) => ({
        partition,
        first,
        last,
        entries: length,
        events,
        entriesAdded: added,
        eventsAdded: added + extra
      }))
    )
  )

const sum = (logs: ReadonlyArray<Log>, of: (log: Log) => number): number => logs.reduce((all, log) => all + of(log), 0)

const describe = (
  { flat, letters, name, partitions, retention }: StoredTopic,
  logs: ReadonlyArray<Log>,
  processors: ReadonlyArray<StoredProcessor>
): Topic => ({
  name,
  partitions,
  retention: retention ?? null,
  flat,
  letters,
  entries: sum(logs, (log) => log.entries),
  events: sum(logs, (log) => log.events),
  entriesAdded: sum(logs, (log) => log.entriesAdded),
  eventsAdded: sum(logs, (log) => log.eventsAdded),
  processors: processors.filter(({ topics }) => topics.includes(name)).map((processor) => processor.name)
})

/** The group that puts dead letters back is nobody's processor. */
export const isHidden = ({ name, topics }: StoredProcessor): boolean =>
  topics.length === 1 && name === `${topics[0]}.redrive`

export const visible: Effect.Effect<ReadonlyArray<StoredProcessor>, EngineError, Broker> = Broker.use((broker) =>
  Effect.map(broker.processors(), (all) => all.filter((processor) => !isHidden(processor)))
)

export const topics: Effect.Effect<ReadonlyArray<Topic>, EngineError, Broker> = Effect.gen(function* () {
  const processors = yield* visible
  const all = yield* Broker.use((broker) => broker.topics())
  return yield* Effect.forEach(all, (topic) => Effect.map(logsOf(topic), (logs) => describe(topic, logs, processors)), {
    concurrency
  })
})

/** As the engine has it. */
export const stored = (name: string): Effect.Effect<StoredTopic, EngineError | NotFound, Broker> =>
  Effect.flatMap(
    Broker.use((broker) => broker.topics()),
    (all) => named("topic", all, name)
  )

export const topic = (name: string): Effect.Effect<TopicLogs, EngineError | NotFound, Broker> =>
  Effect.gen(function* () {
    const found = yield* stored(name)
    const logs = yield* logsOf(found)
    return { ...describe(found, logs, yield* visible), logs }
  })
