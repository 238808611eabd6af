/**
 * What a job enqueues when it ends well, as a piece of the exchange's script: jobs for queues of this shard are enqueued by
 * the settlement itself; those for another shard lie in the queue's outbox, and are brought there after it by whichever worker
 * of the queue is told of them first. They are known by their ids, so it does not matter how often they are brought.
 */
import { Effect } from "effect"
import type { EngineError } from "../Errors.ts"
import type { NewJob, Settlement } from "../JobStore.ts"
import { type Argument, type Redis, script } from "./client.ts"
import { callOf, enqueuer, keysFor, pushJob } from "./jobEnqueue.ts"
import { before, bind, QueueKeys } from "./jobKeys.ts"

const lua = String.raw

/** Jobs of one delivery. */
const pageSize = 100

type FollowUps = ReadonlyArray<{ readonly queue: string; readonly job: NewJob }>

const followUpsOf = ({ outcome }: Settlement): FollowUps | undefined =>
  outcome._tag === "Done" ? outcome.jobs : undefined

export const hasFollowUps = (settle: ReadonlyArray<Settlement>): boolean =>
  settle.some((one) => followUpsOf(one) !== undefined)

/**
 * "F", jobs, and for each what stands before its queue's keys, the queue, and the ten of `enqueueAny`; or "", the queue, job
 * and payload for another shard. Then the section of the one job that these belong to.
 */
export const settleFollowed = lua`
${enqueuer}
local enqueuers = {}
settleFollowed = function(at)
  local n, a, found = tonumber(ARGV[at + 1]), at + 2, {}
  for i = 1, n do
    found[i] = a
    a = a + (ARGV[a] == "" and 4 or 12)
  end
  local refusals = #refused
  at = settleDone(a)
  if #refused > refusals then return at end
  for i = 1, n do
    a = found[i]
    local offset, queue = ARGV[a], ARGV[a + 1]
    if offset == "" then
      redis.call("XADD", outbox, "*", "queue", queue, "job", ARGV[a + 2], "payload", ARGV[a + 3])
      redis.call("HSET", meta, "outbox", "1")
      settings[6] = "1"
    else
      if not enqueuers[offset] then
        enqueuers[offset] = enqueuerAt(tonumber(offset))
        redis.call("SADD", KEYS[offset + ${before + 1}], queue)
      end
      enqueuers[offset](a + 2)
    end
  end
  return at
end
`

interface Block {
  readonly offset: number
  readonly names: ReadonlyArray<string>
}

/** The keys of the queues that follow-ups go to, behind those of the exchange, and the arguments in front of a section. */
export const followUps = (
  queue: QueueKeys,
  of: (queue: string) => QueueKeys,
  settle: ReadonlyArray<Settlement>,
  keys: number
) => {
  const wanted = new Map<string, Set<string>>()
  for (const one of settle) {
    for (const { job, queue: to } of followUpsOf(one) ?? []) {
      if (of(to).shard !== queue.shard) continue
      let names = wanted.get(to)
      if (names === undefined) wanted.set(to, (names = new Set()))
      names.add(job.name)
    }
  }
  const all: Array<string> = []
  const blocks = new Map<string, Block>()
  for (const [to, set] of wanted) {
    const names = Array.from(set)
    blocks.set(to, { offset: keys + all.length, names })
    for (const key of keysFor(of(to), names)) all.push(key)
  }
  const push = (args: Array<Argument>, jobs: FollowUps): void => {
    args.push("F", jobs.length)
    for (const { job, queue: to } of jobs) {
      const block = blocks.get(to)
      if (block === undefined) {
        const { payload, ...rest } = job
        args.push("", to, JSON.stringify(rest), payload)
      } else {
        args.push(block.offset, to)
        pushJob(args, job, block.offset + before + 1 + 5 * block.names.indexOf(job.name))
      }
    }
  }
  return { keys: all, push }
}

/** ARGV: ids of what was delivered. Gives how many are left. */
export const delivered = script<number>(
  "deliveredJobs",
  lua`#!lua flags=allow-oom
${bind("meta", "outbox")}
redis.call("XDEL", outbox, unpack(ARGV))
local left = redis.call("XLEN", outbox)
if left == 0 then redis.call("HDEL", meta, "outbox") end
return left
`
)

type Letter = readonly [id: Buffer, fields: ReadonlyArray<Buffer>]

/** Brings all that lies in the outbox of a queue to where it goes. */
export const deliver = (redis: Redis["Service"], queue: QueueKeys): Effect.Effect<void, EngineError> =>
  Effect.gen(function* () {
    while (true) {
      const page = yield* redis.callBuffer<ReadonlyArray<Letter>>(
        "xrange",
        queue.key("outbox"),
        "-",
        "+",
        "COUNT",
        pageSize
      )
      if (page.length === 0) return
      yield* Effect.forEach(
        Map.groupBy(page, ([, fields]) => fields[1]!.toString()),
        ([to, letters]) => {
          const jobs = letters.map(
            ([, fields]): NewJob => ({ ...JSON.parse(fields[3]!.toString()), payload: fields[5]! })
          )
          const { args, keys, script } = callOf(new QueueKeys(redis.namespace, redis.shards, to), jobs)
          return redis.run(script, keys, args)
        },
        { concurrency: "unbounded", discard: true }
      )
      yield* redis.run(
        delivered,
        queue.fixed,
        page.map(([id]) => id.toString("latin1"))
      )
    }
  })
