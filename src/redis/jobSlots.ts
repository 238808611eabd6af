/**
 * Jobs that recur: the definitions and slots of a queue. A slot is fired by whoever comes first, in the script that enqueues
 * its job, so it is enqueued once; which slot follows is computed by the worker, from slots that the server's clock says are
 * due.
 */
import type { Firing, NewRecurrence, Recurrence } from "../JobStore.ts"
import { type Argument, script } from "./client.ts"
import { enqueuer, first, keysFor, pushJob } from "./jobEnqueue.ts"
import { before, bind, clock, type QueueKeys } from "./jobKeys.ts"

const lua = String.raw

/** Due ones that one look gives. */
const page = 100

/** What is kept of the first slot, so that an exchange asks one key less. */
const books = lua`
local function stateOf(name)
  local row = redis.call("HGET", plans, "\1" .. name)
  if not row then return end
  local revision, paused, last, slot = string.match(row, "^(%d+) (%d) (%S+) (%d+)$")
  return revision, paused, last, slot
end
local function setState(name, revision, paused, last, slot)
  redis.call("HSET", plans, "\1" .. name, table.concat({ revision, paused, last, slot }, " "))
  if paused == "1" then redis.call("ZREM", slots, name) else redis.call("ZADD", slots, slot, name) end
end
local function earliest()
  local row = redis.call("ZRANGE", slots, 0, 0, "WITHSCORES")
  if row[2] then redis.call("HSET", meta, "slot", row[2]) else redis.call("HDEL", meta, "slot") end
  return row[2] or ""
end
`

/** ARGV: queue, name, timing, definition, first slot. Gives 1 if something was changed. */
export const recur = script<0 | 1>(
  "recurJobs",
  lua`#!lua
${bind("meta", "plans", "slots")}${books}
local name, timing, definition = ARGV[2], ARGV[3], ARGV[3] .. "\n" .. ARGV[4]
local known = redis.call("HGET", plans, name)
if known == definition then return 0 end
redis.call("SADD", KEYS[${before + 1}], ARGV[1])
redis.call("HSET", plans, name, definition)
local _, paused, last, slot = stateOf(name)
if not known or string.match(known, "^[^\n]*") ~= timing then slot = ARGV[5] end
setState(name, redis.call("HINCRBY", meta, "seq", 1), paused or "0", last or "-", slot)
earliest()
redis.call("PUBLISH", meta, "t")
return 1
`
)

/** ARGV: "all" or "due". Gives now and the first slot, then for each: its name, definition and state. */
export const recurrences = script<ReadonlyArray<string>>(
  "readRecurrences",
  lua`#!lua
${bind("meta", "plans", "slots")}${clock}
local answer = { text(now), redis.call("HGET", meta, "slot") or "" }
local names = {}
if ARGV[1] == "due" then
  names = redis.call("ZRANGEBYSCORE", slots, "-inf", text(now), "LIMIT", 0, ${page})
else
  for _, name in ipairs(redis.call("HKEYS", plans)) do
    if string.byte(name) ~= 1 then names[#names + 1] = name end
  end
end
for _, name in ipairs(names) do
  answer[#answer + 1] = name
  answer[#answer + 1] = redis.call("HGET", plans, name)
  answer[#answer + 1] = redis.call("HGET", plans, "\1" .. name)
end
return answer
`
)

/**
 * ARGV: for each: name, revision, slot, the next one, the slot that it runs for or "", and if it runs for one the ten of its
 * job. Gives now and the first slot.
 */
export const fire = script<readonly [string, string]>(
  "fireJobs",
  lua`#!lua
${bind("meta", "plans", "slots")}${clock}${books}${enqueuer}
local a, enqueue = 1, enqueuerAt(0)
while ARGV[a] do
  local name, runs = ARGV[a], ARGV[a + 4]
  local revision, paused, last, slot = stateOf(name)
  if revision == ARGV[a + 1] and paused == "0" and slot == ARGV[a + 2] and tonumber(slot) <= now then
    if runs ~= "" then enqueue(a + 5) end
    setState(name, revision, paused, runs ~= "" and runs or last, ARGV[a + 3])
  end
  a = a + (runs ~= "" and 15 or 5)
end
return { text(now), earliest() }
`
)

/** ARGV: name, "pause", "resume" or "remove", the slot to go on at. Gives 1 if there is one of this name. */
export const alter = script<0 | 1>(
  "alterRecurrence",
  lua`#!lua flags=allow-oom
${bind("meta", "plans", "slots")}${books}
local name, change = ARGV[1], ARGV[2]
local revision, paused, last, slot = stateOf(name)
if not revision then return 0 end
if change == "remove" then
  redis.call("HDEL", plans, name, "\1" .. name)
  redis.call("ZREM", slots, name)
elseif change == "pause" then
  setState(name, revision, "1", last, slot)
elseif paused == "1" then
  setState(name, revision, "0", last, ARGV[3])
end
earliest()
redis.call("PUBLISH", meta, "t")
return 1
`
)

export const recurArgs = (queue: QueueKeys, recurrence: NewRecurrence): ReadonlyArray<Argument> => {
  const { first: slot, missed, name, timing } = recurrence
  const { payload, ...job } = recurrence.job
  const head = `${JSON.stringify({ missed, job })}\n`
  const definition = typeof payload === "string" ? head + payload : Buffer.concat([Buffer.from(head), payload])
  return [queue.queue, name, timing, definition, slot]
}

/** What `recurrences` gives of one. */
export const recurrenceOf = (name: Buffer, definition: Buffer, state: Buffer): Recurrence => {
  const [revision, paused, last, slot] = state.toString("latin1").split(" ")
  const [timing, head] = [definition.indexOf(10), definition.indexOf(10, definition.indexOf(10) + 1)]
  const { job, missed } = JSON.parse(definition.toString("utf8", timing + 1, head))
  return {
    name: name.toString(),
    timing: definition.toString("utf8", 0, timing),
    missed,
    job: { ...job, payload: definition.subarray(head + 1) },
    paused: paused === "1",
    last: last === "-" ? undefined : Number(last),
    slot: Number(slot),
    revision: Number(revision)
  }
}

export const fireArgs = (firings: ReadonlyArray<Firing>, names: ReadonlyArray<string>): ReadonlyArray<Argument> => {
  const args: Array<Argument> = []
  for (const { name, next, revision, run, slot } of firings) {
    args.push(name, revision, slot, next, run?.slot ?? "")
    if (run !== undefined) pushJob(args, run.job, first + 5 * names.indexOf(run.job.name))
  }
  return args
}

/** The names of the jobs that are enqueued, and the keys that go with them. */
export const fireKeys = (queue: QueueKeys, firings: ReadonlyArray<Firing>) => {
  const names = Array.from(new Set(firings.flatMap(({ run }) => run?.job.name ?? [])))
  return { names, keys: keysFor(queue, names) }
}
