/**
 * The broker on Redis: each method is one script or command (per shard), in the file that its idea names: `append.ts`,
 * `commit.ts`, `outbox.ts`, `inbox.ts`, `parking.ts`, `claim.ts`, `probation.ts`, `position.ts`, `reader.ts`, `inspect.ts`, `layouts.ts`. Keys are
 * in `keys.ts`.
 *
 * Gotcha: what a method sends may have been done when it fails with `Unreachable`; send it again unchanged.
 */
import { Effect, Layer, Random } from "effect"
import {
  Broker,
  type Durability,
  type Layout,
  type Append as NewAppend,
  type Commit as NewCommit,
  type Start
} from "../Broker.ts"
import { type DurabilityNotReached, EngineError } from "../Errors.ts"
import * as Mismatch from "../internal/mismatch.ts"
import * as TopicFacts from "../internal/topicFacts.ts"
import * as Append from "./append.ts"
import * as AppendOne from "./appendOne.ts"
import * as Claim from "./claim.ts"
import { type Argument, Redis, type Script } from "./client.ts"
import * as Commit from "./commit.ts"
import * as Inbox from "./inbox.ts"
import * as Inspect from "./inspect.ts"
import * as keys from "./keys.ts"
import * as Layouts from "./layouts.ts"
import * as Outbox from "./outbox.ts"
import * as Parking from "./parking.ts"
import * as Position from "./position.ts"
import * as Probation from "./probation.ts"
import { makeReader } from "./reader.ts"

type Service = Broker["Service"]
type Client = Redis["Service"]

interface LogOf {
  readonly topic: string
  readonly partition: number
}

/** Logs looked at in one call. */
const logsPerCall = 200
/** Partitions committed in one call. */
const commitsPerCall = 400
/** How often a position is looked for again when the log was trimmed meanwhile. */
const attempts = 10

/** What a request throws is an `EngineError`, or a bug. */
const build = (make: () => Append.Request): Effect.Effect<Append.Request, EngineError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(make())
    } catch (error) {
      return error instanceof EngineError ? Effect.fail(error) : Effect.die(error)
    }
  })

const slices = <A>(all: ReadonlyArray<A>, size: number): ReadonlyArray<ReadonlyArray<A>> => {
  const parts: Array<ReadonlyArray<A>> = []
  for (let i = 0; i < all.length; i += size) parts.push(all.slice(i, i + size))
  return parts
}

const allOf = ({ partitions }: Layout): ReadonlyArray<number> => Array.from({ length: partitions }, (_, i) => i)

const make = Effect.gen(function* () {
  const redis = yield* Redis
  const { namespace, shards } = redis
  const tags = Array.from({ length: shards }, (_, shard) => keys.shardTag(namespace, shard))
  const tagOf = (partition: number): string => tags[partition % shards]!

  const write = <A>(
    script: Script<A>,
    request: Append.Request,
    durability: Durability,
    session?: number
  ): Effect.Effect<A, EngineError | DurabilityNotReached> =>
    durability === "memory"
      ? redis.run(script, request.keys, request.args, session)
      : redis.runDurable(script, request.keys, request.args, durability)

  /** Logs by shard, in calls of bearable size. */
  const calls = (logs: ReadonlyArray<LogOf>, size = logsPerCall) =>
    tags.flatMap((tag, shard) =>
      slices(
        logs.filter(({ partition }) => partition % shards === shard),
        size
      ).map((part) => ({ tag, logs: part }))
    )
  const logKeys = (tag: string, { topic, partition }: LogOf): ReadonlyArray<string> => [
    keys.log(tag, topic, partition),
    keys.count(tag, topic, partition)
  ]

  const append: Service["append"] = (appends, durability) => {
    const call = (part: ReadonlyArray<NewAppend>) =>
      build(() => Append.request(tagOf(part[0]!.partition), part)).pipe(
        Effect.flatMap((request) => write(Append.append, request, durability)),
        Effect.map((reply) => Append.answers(part, reply))
      )
    const [first, ...others] = appends
    const one = first && others.length === 0 ? AppendOne.request(tagOf(first.partition), first) : undefined
    if (one !== undefined) {
      return Effect.flatMap(write(AppendOne.appendOne, one, durability), (id) =>
        id === null ? call(appends) : Effect.succeed(AppendOne.answer(id))
      )
    }
    const parts = Append.calls(appends)
    return parts.length === 1 ? call(parts[0]!) : Effect.map(Effect.forEach(parts, call), (all) => all.flat())
  }

  /** The session in which a partition's offset was last compared with the end of its log. */
  const compared = new Map<string, number>()
  const ofPartition = ({ partition, processor }: { readonly partition: number; readonly processor: string }): string =>
    `${processor}/${partition}`

  const commit: Service["commit"] = (commits, durability) => {
    const call = (part: ReadonlyArray<NewCommit>) =>
      Effect.suspend(() => {
        const [first, ...rest] = part
        const session = redis.session()
        const fresh = durability !== "memory" || part.some((commit) => compared.get(ofPartition(commit)) !== session)
        return build(() => Commit.request(tagOf(first!.partition), shards, [first!, ...rest], fresh)).pipe(
          Effect.flatMap((request) => write(Commit.commit, request, durability, session)),
          Effect.map((answers) => {
            const results = answers.map(Commit.result)
            if (fresh) {
              results.forEach((result, i) => {
                if (result._tag === "Done") compared.set(ofPartition(part[i]!), session)
              })
            }
            return results
          })
        )
      })
    if (commits.length > 0 && commits.length <= commitsPerCall) return call(commits)
    return Effect.map(Effect.forEach(slices(commits, commitsPerCall), call), (all) => all.flat())
  }

  const deliver: Service["deliver"] = (source, durability) =>
    Outbox.deliver(redis, tagOf, source, (request) => write(Outbox.take, request, durability))

  const inboxes = new Inbox.Inboxes(redis)
  const openInbox: Service["openInbox"] = (asker, shard) => inboxes.open(keys.inbox(tags[shard]!, asker))
  const replies: Service["replies"] = ({ after, asker, clear, shard }, block) =>
    inboxes.read(keys.inbox(tags[shard]!, asker), after, clear, block)

  const claim: Service["claim"] = (processor, partition, topics, fence) => {
    const request = Claim.request(tagOf(partition), processor, partition, topics, fence)
    return Effect.map(redis.run(Claim.claim, request.keys, request.args), (reply) =>
      Claim.answer(partition, topics, reply)
    )
  }

  const mark: Service["mark"] = (processor, partition, fence) =>
    Effect.map(
      redis.run(Probation.mark, ...Probation.request(keys.owner(tagOf(partition), processor), partition, fence)),
      Probation.answer
    )

  const release: Service["release"] = (processor, partition, fence) =>
    Effect.asVoid(
      redis.run(Probation.release, ...Probation.request(keys.owner(tagOf(partition), processor), partition, fence))
    )

  const lanes: Service["lanes"] = (processor, partition) =>
    Effect.map(redis.run(Parking.list, [keys.lanes(tagOf(partition), processor, partition)], []), Parking.parseLanes)

  const parked: Service["parked"] = ({ processor, partition, lane, after, count }) =>
    Parking.readPage(redis, Parking.keysOf(tagOf(partition), processor, partition), lane, after, count)

  const inspect: Service["inspect"] = Effect.fnUntraced(function* (topic, partitions) {
    const found = new Map<number, Claim.Facts>()
    for (const { tag, logs } of calls(partitions.map((partition) => ({ topic: topic.name, partition })))) {
      const facts = yield* redis.run(
        Inspect.inspect,
        logs.flatMap((log) => logKeys(tag, log)),
        []
      )
      for (let i = 0; i < logs.length; i++) found.set(logs[i]!.partition, facts[i]!)
    }
    return partitions.map((partition) => Claim.logInfo(topic.name, partition, found.get(partition)!))
  })

  const entriesBefore: Service["entriesBefore"] = (topic, partition, id) => {
    const [log, count] = logKeys(tagOf(partition), { topic: topic.name, partition })
    return Position.entriesBefore(redis, log!, count!, id)
  }

  const declare: Service["declare"] = Effect.fnUntraced(function* (topics) {
    if (topics.length === 0) return
    const args = topics.flatMap((topic) => [topic.name, `${topic.partitions} ${shards}`, TopicFacts.encode(topic)])
    const [name, stored] = yield* redis.run(
      Layouts.declareTopics,
      [keys.topics(namespace), keys.topicFacts(namespace)],
      args
    )
    if (name === undefined || stored === undefined) return
    const asked = topics.find((topic) => topic.name === name)!
    const [partitions, storedShards] = stored.split(" ")
    return yield* Mismatch.ofTopic(asked, { partitions: Number(partitions), shards: Number(storedShards) }, shards)
  })

  const topics: Service["topics"] = Effect.fnUntraced(function* () {
    const stored = yield* redis.run(Layouts.rowsOf, [keys.topics(namespace)], [])
    const facts = new Map(Layouts.pairs(yield* redis.run(Layouts.rowsOf, [keys.topicFacts(namespace)], [])))
    return Layouts.pairs(stored).map(([name, row]) => ({
      name,
      partitions: Number.parseInt(row, 10),
      ...TopicFacts.decode(facts.get(name))
    }))
  })

  const processors: Service["processors"] = () =>
    Effect.map(redis.run(Layouts.rowsOf, [keys.processors(namespace)], []), (rows) =>
      Layouts.pairs(rows).map(([name, row]) => {
        const [partitions, topics = ""] = row.split(" ")
        return { name, partitions: Number(partitions), topics: topics.split(",") }
      })
    )

  const layoutOf = (processor: string): Effect.Effect<ReadonlyArray<LogOf>, EngineError> =>
    Effect.map(redis.call<string | null>("hget", keys.processors(namespace), processor), (stored) => {
      if (stored === null) return []
      const [partitions, topics] = stored.split(" ") as [string, string]
      return topics
        .split(",")
        .flatMap((topic) => Array.from({ length: Number(partitions) }, (_, partition) => ({ topic, partition })))
    })

  const storeProcessor = Effect.fnUntraced(function* (processor: string, topics: ReadonlyArray<Layout>) {
    const partitions = topics[0]!.partitions
    const differing = Mismatch.ofPartitions(processor, topics)
    if (differing !== undefined) return yield* differing
    const names = topics.map((topic) => topic.name).sort()
    const [, stored] = yield* redis.run(
      Layouts.declare,
      [keys.processors(namespace)],
      [processor, `${partitions} ${names.join(",")}`]
    )
    if (stored === undefined) return
    const [storedPartitions, storedNames = ""] = stored.split(" ")
    const known = { partitions: Number(storedPartitions), topics: storedNames.split(",") }
    return yield* Mismatch.ofProcessor(processor, known, { partitions, topics: names })
  })

  /** All groups of a shard at one moment; positions that need counting are found before, in calls of their own. */
  const registerShard = Effect.fnUntraced(function* (
    processor: string,
    tag: string,
    logs: ReadonlyArray<LogOf>,
    start: Start
  ) {
    const owner = keys.owner(tag, processor)
    const simple = start === "earliest" || start === "latest"
    let missing: ReadonlyArray<LogOf> = logs
    let places: ReadonlyArray<Position.Place> | undefined
    for (let attempt = 0; attempt < attempts; attempt++) {
      const args: Array<Argument> = [processor]
      for (let i = 0; i < missing.length; i++) {
        const { partition, topic } = missing[i]!
        args.push(`${partition}:${topic}`)
        if (places !== undefined) args.push(...Position.placeArguments(places[i]!))
        else if (simple) args.push(...Position.placeArguments({ mode: start === "earliest" ? "e" : "l" }))
        else args.push("?", "", "", "", "")
      }
      const names = [owner, ...missing.flatMap((log) => logKeys(tag, log))]
      const left = yield* redis.run(Position.register, names, args)
      if (left.length === 0) return
      const tried = missing
      missing = left.map((at) => tried[Number(at)]!)
      places = yield* Effect.forEach(missing, (log) => {
        const [name, count] = logKeys(tag, log)
        return Position.locate(redis, name!, count!, log.topic, start, false)
      })
    }
    return yield* trimmedMeanwhile("register")
  })

  const register: Service["register"] = Effect.fnUntraced(function* (processor, topics, start) {
    if (topics.length === 0) return
    yield* storeProcessor(processor, topics)
    const logs = topics.flatMap(({ name, partitions }) =>
      Array.from({ length: partitions }, (_, partition) => ({ topic: name, partition }))
    )
    for (const { tag, logs: part } of calls(logs, logs.length)) yield* registerShard(processor, tag, part, start)
  })

  const unregister: Service["unregister"] = Effect.fnUntraced(function* (processor) {
    const logs = yield* layoutOf(processor)
    for (const { tag, logs: part } of calls(logs, logs.length)) {
      const tables = yield* redis.call<ReadonlyArray<string>>("smembers", keys.tables(tag, processor))
      const partitions = new Set(part.map((log) => log.partition))
      const names = [keys.owner(tag, processor), keys.tables(tag, processor)]
      for (const log of part) names.push(...logKeys(tag, log))
      for (const table of tables) {
        for (const partition of partitions) names.push(...keys.ofTable(tag, processor, table, partition))
      }
      for (const partition of partitions) {
        names.push(...Parking.keysOf(tag, processor, partition), keys.outbox(tag, processor, partition))
      }
      yield* redis.run(Layouts.unregister, names, [processor, part.length])
    }
    // Last, so that a removal that was cut short can be done again.
    yield* redis.run(Layouts.forget, [keys.processors(namespace), keys.tableLayouts(namespace)], [processor])
  })

  const lag: Service["lag"] = Effect.fnUntraced(function* (processor) {
    const logs = yield* layoutOf(processor)
    const parts = yield* Effect.forEach(calls(logs), ({ tag, logs: part }) =>
      Effect.map(
        redis.run(
          Inspect.lag,
          [keys.owner(tag, processor), ...part.flatMap((log) => logKeys(tag, log))],
          part.map(({ topic, partition }) => `${partition}:${topic}`)
        ),
        (answers) => answers.map((answer, i) => Inspect.toLag(part[i]!.topic, part[i]!.partition, answer))
      )
    )
    return parts.flat()
  })

  const seek: Service["seek"] = Effect.fnUntraced(function* ({ processor, partition, topics, to, ...request }) {
    const tag = tagOf(partition)
    const tables = request.reset
      ? yield* redis.call<ReadonlyArray<string>>("smembers", keys.tables(tag, processor))
      : []
    for (let attempt = 0; attempt < attempts; attempt++) {
      const names = [keys.owner(tag, processor)]
      const args: Array<Argument> = [
        processor,
        partition,
        request.epoch.toString(),
        request.incarnation,
        request.number,
        topics.length
      ]
      for (const { name: topic, retention } of topics) {
        const [log, count] = logKeys(tag, { topic, partition }) as [string, string]
        const place = yield* Position.locate(redis, log, count, topic, to, true)
        if (place.mode === "x") return { _tag: "Lost" as const, topic, first: place.first }
        names.push(log, count)
        args.push(Commit.keepOf(retention), `${partition}:${topic}`, ...Position.placeArguments(place))
      }
      for (const table of tables) names.push(...keys.ofTable(tag, processor, table, partition))
      if (request.reset) {
        names.push(...Parking.keysOf(tag, processor, partition), keys.outbox(tag, processor, partition))
      }
      const answer = yield* redis.run(Position.seek, names, args)
      if (answer !== "again") return Commit.result(answer)
    }
    return yield* trimmedMeanwhile("seek")
  })

  const trim: Service["trim"] = Effect.fnUntraced(function* (topic, partitions = allOf(topic)) {
    const [kind, limit] = Append.limits(topic.retention)
    if (kind !== "L" && kind !== "A") return 0
    let dropped = 0
    for (const partition of partitions) {
      const names = logKeys(tagOf(partition), { topic: topic.name, partition })
      let more = yield* redis.run(Inspect.trim, names, [kind, limit])
      while (more > 0) {
        dropped += more
        more = yield* redis.run(Inspect.trim, names, [kind, limit])
      }
    }
    return dropped
  })

  return Broker.of({
    shards,
    declare,
    topics,
    processors,
    append,
    awaitRoom: (topic, partition) =>
      awaitRoom(redis, logKeys(tagOf(partition), { topic: topic.name, partition }), topic),
    hasRoom: (topic, partition) => hasRoom(redis, logKeys(tagOf(partition), { topic: topic.name, partition }), topic),
    reader: (shard) =>
      makeReader({ number: shard, count: shards, tag: tags[shard]! }, redis.open(keys.safe(tags[shard]!))),
    inspect,
    entriesBefore,
    register,
    unregister,
    claim,
    mark,
    release,
    lanes,
    parked,
    commit,
    deliver,
    openInbox,
    replies,
    lag,
    seek,
    trim
  })
})

const trimmedMeanwhile = (operation: string): EngineError =>
  new EngineError({
    operation,
    reason: "Unreachable",
    detail: `the log was trimmed faster than a position in it could be found, ${attempts} times; start later in it`
  })

const hasRoom = (
  redis: Client,
  names: ReadonlyArray<string>,
  { retention }: Layout
): Effect.Effect<boolean, EngineError> =>
  retention._tag === "Consumed"
    ? Effect.map(redis.run(Inspect.room, names, [retention.capacity]), (answer) => Number(answer) === 1)
    : Effect.succeed(true)

/**
 * Asks after 5 ms, then less and less often, up to every 100 ms. After a second it ends in any case, and with an error:
 * it is a hint only, and the append that follows tells.
 */
const awaitRoom = (redis: Client, names: ReadonlyArray<string>, topic: Layout): Effect.Effect<void> => {
  if (topic.retention._tag !== "Consumed") return Effect.void
  const ask = hasRoom(redis, names, topic)
  return Effect.ignore(
    Effect.gen(function* () {
      for (let delay = 5, waited = 0; waited < 1_000; delay = Math.min(100, delay * 2)) {
        const jittered = delay * (0.5 + (yield* Random.next))
        yield* Effect.sleep(jittered)
        waited += jittered
        if (yield* ask) return
      }
    })
  )
}

export const layer: Layer.Layer<Broker, never, Redis> = Layer.effect(Broker, make)
