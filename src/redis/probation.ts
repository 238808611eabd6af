/**
 * Crash loops: whether an owner of a partition died with an event in hand, kept in the partition's own row beside the
 * epoch, so that every commit ends it by writing the row anew, at no cost.
 *
 * In the row the trial stands right behind the commit number: nothing after a commit or a release; `-` after a claim;
 * `/<count>` on probation, with so many owners that died; `m` behind it when an event was handed out.
 */
import type { CommitResult, Fence } from "../Broker.ts"
import { script } from "./client.ts"
import { result } from "./commit.ts"
import * as Lua from "./lua.ts"

/** The trial of a new ownership. Without anything to handle, or when this very start was the owner, nobody died of it. */
export const installed = /* lua */ `
local function installed(trial, same, pending)
  if same or trial == "" or not pending then return "-" end
  if trial == "-" then return "/0" end
  local count, marked = string.match(trial, "^/(%d+)(m?)$")
  return "/" .. text(count + (marked == "m" and 1 or 0))
end
`

/** The count that a trial tells its owner. */
export const countOf = (trial: string): number | undefined =>
  trial.startsWith("/") ? Number.parseInt(trial.slice(1), 10) : undefined

/** KEYS: owner. ARGV: partition, epoch, incarnation. Gives what `commit` gives, but for "b". */
export const mark = script<string>(
  "mark",
  /* lua */ `#!lua flags=allow-oom
${Lua.ids}${Lua.judge}
local row = redis.call("HGET", KEYS[1], ARGV[1])
local number, trial = string.match(row or "", "^%d+ (%d+)(%S*) ")
local answer = judge(row, ARGV[2], ARGV[3], number)
if answer == "a" and string.match(trial, "^/%d+$") then
  redis.call("HSET", KEYS[1], ARGV[1], ARGV[2] .. " " .. number .. trial .. "m " .. ARGV[3])
end
return answer
`
)

/** KEYS: owner. ARGV: partition, epoch, incarnation. */
export const release = script<string>(
  "release",
  /* lua */ `#!lua flags=allow-oom
${Lua.ids}${Lua.judge}
local row = redis.call("HGET", KEYS[1], ARGV[1])
local number, trial = string.match(row or "", "^%d+ (%d+)(%S*) ")
local answer = judge(row, ARGV[2], ARGV[3], number)
if answer == "a" and trial ~= "" then
  redis.call("HSET", KEYS[1], ARGV[1], ARGV[2] .. " " .. number .. " " .. ARGV[3])
end
return answer
`
)

export const request = (owner: string, partition: number, { epoch, incarnation }: Fence) =>
  [[owner], [partition, epoch.toString(), incarnation]] as const

/** No number was given, so none was done before. */
export const answer = (reply: string): Exclude<CommitResult, { readonly _tag: "DoneBefore" }> =>
  result(reply) as Exclude<CommitResult, { readonly _tag: "DoneBefore" }>
