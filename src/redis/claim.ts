/**
 * Claiming a partition at its shard: a higher epoch, or the very same ownership again, is accepted, and answered with
 * where to go on, what is parked, and whether owners before have died here. It creates nothing but the epoch.
 */
import type { Claim, Fence, Layout, LogInfo } from "../Broker.ts"
import type { Request } from "./append.ts"
import { type Argument, script } from "./client.ts"
import { parseRow } from "./commit.ts"
import * as keys from "./keys.ts"
import * as Lua from "./lua.ts"
import { parseLanes } from "./parking.ts"
import { countOf, installed } from "./probation.ts"
import { toTimes } from "./windows.ts"

/** Length, entries added, first id, last id of a log, its extra events and those of them that are trimmed, as the scripts give them. */
export type Facts = readonly [length: string, added: string, first: string, last: string, extra: string, gone: string]

export const logInfo = (
  topic: string,
  partition: number,
  [length, added, first, last, extra, gone]: Facts
): LogInfo => ({
  topic,
  partition,
  first,
  last,
  length: Number(length),
  added: Number(added),
  extra: Number(extra),
  events: Number(length) + Number(extra) - Number(gone)
})

/** Facts of one log. */
export const factsOf = /* lua */ `
local function factsOf(log, count)
  local length, added, first, last = stream(log)
  local known = redis.call("HMGET", count, "extra", "gone")
  return { text(length), text(added), first, last, known[1] or "0", known[2] or "0" }
end
`

export const request = (
  tag: string,
  processor: string,
  partition: number,
  topics: ReadonlyArray<Layout>,
  fence: Fence
): Request => {
  const names = [keys.owner(tag, processor), keys.lanes(tag, processor, partition)]
  const args: Array<Argument> = [partition, fence.epoch.toString(), fence.incarnation]
  for (const { name } of topics) {
    names.push(keys.log(tag, name, partition), keys.count(tag, name, partition))
    args.push(`${partition}:${name}`)
  }
  return { keys: names, args }
}

type Reply =
  | readonly ["r", inForce: string]
  | readonly [
      "c",
      number: string,
      trial: string,
      lanes: ReadonlyArray<string>,
      times: ReadonlyArray<string | null>,
      ...ReadonlyArray<readonly [row: string | null, facts: Facts]>
    ]

export const answer = (partition: number, topics: ReadonlyArray<Layout>, reply: Reply): Claim => {
  if (reply[0] === "r") return { _tag: "Refused", inForce: BigInt(reply[1]) }
  const [, number, trial, lanes, times, ...each] = reply
  return {
    _tag: "Claimed",
    number: Number(number),
    committed: topics.map(({ name }, i) => parseRow(name, each[i]![0])),
    logs: topics.map(({ name }, i) => logInfo(name, partition, each[i]![1])),
    lanes: parseLanes(lanes),
    times: toTimes(topics, times),
    probation: countOf(trial)
  }
}

/** KEYS: owner, lanes; log and count of each topic. ARGV: partition, epoch, incarnation, the owner's field of each topic. */
export const claim = script<Reply>(
  "claim",
  /* lua */ `#!lua flags=allow-oom
${Lua.ids}${Lua.facts}${factsOf}${installed}
local owner, partition, epoch, incarnation = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local row = redis.call("HGET", owner, partition) or ""
local inForce, number, trial, holder = string.match(row, "^(%d+) (%d+)(%S*) (.*)$")
local same = inForce == epoch and holder == incarnation
if inForce and not same and not bigger(epoch, inForce) then return { "r", inForce } end
local lanes = redis.call("HGETALL", KEYS[2])
local times = { redis.call("HGET", owner, partition .. ": time") }
local answer, pending = { "c", number or "1", trial or "", lanes, times }, #lanes > 0
for i = 4, #ARGV do
  local k = 2 * i - 5
  local committed, facts = redis.call("HGET", owner, ARGV[i]), factsOf(KEYS[k], KEYS[k + 1])
  answer[i + 2] = { committed, facts }
  times[i - 2] = redis.call("HGET", owner, ARGV[i] .. " time")
  local entry = string.match(committed or "", "^%S+ (%S+)") or "0-0"
  if facts[1] ~= "0" and above(facts[4], entry) then pending = true end
end
if not same then
  answer[3] = installed(answer[3], holder == incarnation, pending)
  redis.call("HSET", owner, partition, epoch .. " " .. answer[2] .. answer[3] .. " " .. incarnation)
end
return answer
`
)
