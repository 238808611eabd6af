/**
 * The ticks of the leader's schedules on Redis. Each operation is one script in the slot of `{ns}`, which looks into the
 * books of the leaders' group for the epoch it is sent under: what a leader of the past sends writes nothing.
 */
import { Effect } from "effect"
import { type Coordinator, leaderGroup, type TickClaim, type Ticks } from "../Coordinator.ts"
import { type Redis, script } from "./client.ts"

/** KEYS: ticks, owners and epochs of the leaders' group, groups. ARGV: schedule, epoch. */
const head = /* lua */ `#!lua flags=allow-oom
local ticks, owners, epochs, groups = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local schedule, epoch = ARGV[1], ARGV[2]
local function leads()
  local owner, given = redis.call("GETRANGE", owners, 0, 1), redis.call("GETRANGE", epochs, 0, 7)
  if #owner < 2 or #given < 8 then return false end
  -- 65,535: held back by takeEpoch.
  local slot = struct.unpack("<H", owner)
  return slot > 0 and slot < 65535 and string.format("%.0f", (struct.unpack("<I8", given))) == epoch
end
`

/** ARGV[3]: where a new schedule begins. The last tick, when the group began, and the open ticks; nil if fenced. */
const take = script<ReadonlyArray<string> | null>(
  "takeTicks",
  /* lua */ `${head}
if not leads() then return false end
local last, open = string.match(redis.call("HGET", ticks, schedule) or ARGV[3], "^(%d+)(.*)$")
open = string.gsub(open, ":%d+", ":" .. epoch)
redis.call("HSET", ticks, schedule, last .. open)
local reply = { last, string.match(redis.call("HGET", groups, "${leaderGroup}") or "", "^%d+ %d %d+ %d+ %d+ (%d+)$") or "0" }
for tick in string.gmatch(open, "(%d+):") do reply[#reply + 1] = tick end
return reply
`
)

/** ARGV[3]: tick; ARGV[4]: "1" if it is done at once. */
const claim = script<TickClaim>(
  "claimTick",
  /* lua */ `${head}
if not leads() then return "Fenced" end
local tick, done = ARGV[3], ARGV[4] == "1"
local last, open = string.match(redis.call("HGET", ticks, schedule) or "-1", "^(-?%d+)(.*)$")
if tonumber(tick) <= tonumber(last) then
  return string.find(open .. " ", " " .. tick .. ":" .. epoch .. " ", 1, true) and "Claimed" or "Past"
end
redis.call("HSET", ticks, schedule, tick .. open .. (done and "" or " " .. tick .. ":" .. epoch))
return "Claimed"
`
)

/** ARGV[3]: tick. Whoever has it open may say that it is done, also when another leads by now. */
const finish = script<number>(
  "finishTick",
  /* lua */ `${head}
local last, open = string.match(redis.call("HGET", ticks, schedule) or "0", "^(%d+)(.*)$")
local from, till = string.find(open .. " ", " " .. ARGV[3] .. ":" .. epoch .. " ", 1, true)
if not from then return 0 end
redis.call("HSET", ticks, schedule, last .. string.sub(open, 1, from - 1) .. string.sub(open, till))
return 1
`
)

type Methods = "takeTicks" | "claimTick" | "finishTick" | "ticks"

export const ticksOf = (redis: Redis["Service"]): Pick<Coordinator["Service"], Methods> => {
  const prefix = `{${redis.namespace}}:`
  const group = `${prefix}group:${leaderGroup}:`
  const keys = [`${prefix}ticks`, `${group}owners`, `${group}epochs`, `${prefix}groups`]
  return {
    takeTicks: (schedule, epoch, from) =>
      Effect.map(redis.run(take, keys, [schedule, epoch.toString(), from]), (answer) => {
        if (answer === null) return undefined
        const [last = 0, began = 0, ...open] = answer.map(Number)
        return { last, began, open: open.sort(ascending) }
      }),
    claimTick: (schedule, tick, epoch, done) =>
      redis.run(claim, keys, [schedule, epoch.toString(), tick, done ? "1" : "0"]),
    finishTick: (schedule, tick, epoch) => Effect.asVoid(redis.run(finish, keys, [schedule, epoch.toString(), tick])),
    ticks: () =>
      Effect.map(redis.call<ReadonlyArray<string>>("HGETALL", keys[0]!), (rows) => {
        const found: Array<Ticks> = []
        for (let i = 0; i < rows.length; i += 2) found.push(decode(rows[i]!, rows[i + 1]!))
        return found.sort((a, b) => (a.schedule < b.schedule ? -1 : 1))
      })
  }
}

const ascending = (a: number, b: number): number => a - b

const decode = (schedule: string, text: string): Ticks => {
  const [last, ...open] = text.trimEnd().split(" ")
  const pairs = open.map((pair) => {
    const [tick, epoch] = pair.split(":")
    return { tick: Number(tick), epoch: BigInt(epoch!) }
  })
  return { schedule, last: Number(last), open: pairs.sort((a, b) => a.tick - b.tick) }
}
