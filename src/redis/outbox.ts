/**
 * The outbox: what a commit emits to partitions of other shards is kept beside the offset, and brought to where it goes
 * after it. An entry's id is its number: "<epoch>-<n>", given by the commit. The destination remembers the last one that it
 * took from each source, so whoever delivers, and how often, it is stored once and in order.
 *
 * Gotcha: the first five fields of an entry are ours, and say where it goes and what is kept there, so that it can be
 * delivered by a process that knows nothing of that topic; all others are the event's.
 */
import { Effect } from "effect"
import type { Commit, Delivered, Layout, NewEntry } from "../Broker.ts"
import type { EngineError } from "../Errors.ts"
import type { NewJob } from "../JobStore.ts"
import { limits, pushFields, type Request } from "./append.ts"
import { type Argument, type Redis, script } from "./client.ts"
import * as Jobs from "./jobEnqueue.ts"
import { QueueKeys } from "./jobKeys.ts"
import * as keys from "./keys.ts"
import * as Lua from "./lua.ts"

/** Entries of one page: they may be of 1 MiB each. */
const pageSize = 100

/** Arguments of a commit: as those of its other entries, each with where it goes in front. */
export const pushEmit = (
  args: Array<Argument>,
  outbox: number,
  topic: Layout,
  partition: number,
  entries: ReadonlyArray<NewEntry>
): void => {
  const [kind, limit] = limits(topic.retention)
  const head = args.push(outbox, "O", 0, entries.length, 0, "")
  const sizes = entries.map((entry) => {
    const before = args.length
    args.push("topic", topic.name, "partition", partition, "kind", kind, "limit", limit, "count", entry.count)
    pushFields(args, [entry])
    return args.length - before
  })
  args[head - 1] = sizes.every((size) => size === sizes[0]) ? `${sizes[0]}` : sizes.join(",")
}

/** Begins where the name of a topic would: no topic is called so. The queue follows. */
const jobsFor = "~"

/** Arguments of a commit: jobs, each an entry of its own with the queue in place of a topic. */
export const pushJobs = (args: Array<Argument>, outbox: number, jobs: NonNullable<Commit["jobs"]>): void => {
  const head = args.push(outbox, "O", 0, jobs.length, 0, "")
  const size = 14
  for (const { job, queue } of jobs) {
    const { payload, ...rest } = job
    args.push("topic", `${jobsFor}${queue}`, "partition", 0, "kind", "F", "limit", "", "count", 1)
    args.push("j", JSON.stringify(rest), "v", payload)
  }
  args[head - 1] = `${size}`
}

/** They are known by their ids, so it does not matter how often they are brought. */
const deliverJobs = (redis: Redis["Service"], letters: ReadonlyArray<Letter>): Effect.Effect<void, EngineError> =>
  Effect.forEach(
    Map.groupBy(letters, ({ topic }) => topic.slice(jobsFor.length)),
    ([queue, own]) => {
      const jobs = own.map(({ fields }): NewJob => ({ ...JSON.parse(fields[1]!.toString()), payload: fields[3]! }))
      const { args, keys, script } = Jobs.callOf(new QueueKeys(redis.namespace, redis.shards, queue), jobs)
      return redis.run(script, keys, args)
    },
    { concurrency: "unbounded", discard: true }
  )

/** The id right behind this one. */
export const following = (id: string): string => {
  const dash = id.indexOf("-")
  return `${id.slice(0, dash)}-${BigInt(id.slice(dash + 1)) + 1n}`
}

type Raw = readonly [id: Buffer, fields: ReadonlyArray<Buffer>]

interface Letter {
  readonly id: string
  readonly topic: string
  readonly partition: number
  readonly kind: string
  readonly limit: string
  readonly count: string
  readonly fields: ReadonlyArray<Buffer>
}

const letterOf = ([id, fields]: Raw): Letter => ({
  id: id.toString("latin1"),
  topic: fields[1]!.toString(),
  partition: Number(fields[3]!.toString()),
  kind: fields[5]!.toString(),
  limit: fields[7]!.toString(),
  count: fields[9]!.toString(),
  fields: fields.slice(10)
})

/** All of one shard, by destination. */
const request = (tag: string, source: string, letters: ReadonlyArray<Letter>): Request => {
  const byPlace = Map.groupBy(letters, ({ partition, topic }) => `${topic}/${partition}`)
  const names: Array<string> = []
  const args: Array<Argument> = [source, byPlace.size]
  for (const own of byPlace.values()) {
    // The last one knows the retention best.
    const { kind, limit, partition, topic } = own.at(-1)!
    names.push(keys.log(tag, topic, partition), keys.count(tag, topic, partition), keys.seen(tag, topic, partition))
    args.push(kind, limit, own.length)
    for (const { count, fields, id } of own) {
      args.push(id, count, fields.length)
      for (let i = 0; i < fields.length; i++) args.push(fields[i]!)
    }
  }
  return { keys: names, args }
}

/** A page of an outbox, to all of its destinations. `send` runs the script in one shard. */
export const deliver = <E>(
  redis: Redis["Service"],
  tagOf: (partition: number) => string,
  source: { readonly processor: string; readonly partition: number; readonly after: string | undefined },
  send: (request: Request) => Effect.Effect<unknown, E>
): Effect.Effect<Delivered, E | EngineError> => {
  const { after, partition, processor } = source
  const outbox = keys.outbox(tagOf(partition), processor, partition)
  const from = after === undefined ? "-" : following(after)
  return Effect.flatMap(
    redis.callBuffer<ReadonlyArray<Raw>>("xrange", outbox, from, "+", "COUNT", pageSize),
    (entries): Effect.Effect<Delivered, E | EngineError> => {
      if (entries.length === 0) return Effect.succeed({ upTo: undefined, more: false })
      const letters = entries.map(letterOf)
      const jobs = letters.filter(({ topic }) => topic.startsWith(jobsFor))
      const events = jobs.length === 0 ? letters : letters.filter(({ topic }) => !topic.startsWith(jobsFor))
      const byShard = Map.groupBy(events, (letter) => tagOf(letter.partition))
      return Effect.as(
        Effect.andThen(
          Effect.forEach(byShard, ([tag, own]) => send(request(tag, `${processor}:${partition}`, own)), {
            concurrency: "unbounded",
            discard: true
          }),
          deliverJobs(redis, jobs)
        ),
        { upTo: letters.at(-1)!.id, more: letters.length === pageSize }
      )
    }
  )
}

/**
 * KEYS: log, count and seen of each destination. ARGV: source, destinations; of each: kind and limit of its retention,
 * entries; of each entry: id, events, fields, then those. Gives how many entries were new.
 */
export const take = script<number>(
  "take",
  /* lua */ `#!lua flags=allow-oom
${Lua.ids}${Lua.facts}${Lua.retain}
local source, destinations, at, new = ARGV[1], tonumber(ARGV[2]), 3, 0
for d = 1, destinations do
  local log, count, seen = KEYS[3 * d - 2], KEYS[3 * d - 1], KEYS[3 * d]
  local kind, limit, entries = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local last, more, taken = redis.call("HGET", seen, source), 0, 0
  at = at + 3
  for _ = 1, entries do
    local id, events, fields = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    if not last or above(id, last) then
      redis.call("XADD", log, "*", unpack(ARGV, at + 3, at + 2 + fields))
      last, more, taken = id, more + events - 1, taken + 1
    end
    at = at + 3 + fields
  end
  if taken > 0 then
    redis.call("HSET", seen, source, last)
    if more > 0 then redis.call("HINCRBY", count, "extra", text(more)) end
    retain(log, count, kind, limit)
    new = new + taken
  end
end
return new
`
)
