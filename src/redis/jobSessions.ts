/** Sessions of workers at a queue: opened, kept, ended, and swept when their lease is over. */
import { maxLost } from "../JobStore.ts"
import { script } from "./client.ts"
import { claimsPerSlot } from "./jobExchange.ts"
import { bind, clock, fields, free, leave, over, put } from "./jobKeys.ts"
import { purge } from "./jobSettle.ts"

const lua = String.raw

/** Slots are given again after so many. */
const slots = 2 ** 22
/** Jobs that one run takes back. */
const slice = 500

/** ARGV: worker, lease. Gives the slot. */
export const open = script<number>(
  "openJobs",
  lua`#!lua
${bind("leases", "sessions", "meta")}${clock}
local slot
repeat
  slot = redis.call("HINCRBY", meta, "slots", 1) % ${slots}
until redis.call("HEXISTS", sessions, slot) == 0
redis.call("HSET", sessions, slot, ARGV[1] .. "\n0\n\n")
redis.call("ZADD", leases, text(now + ARGV[2]), slot)
return slot
`
)

/** Takes back the claims of a slot: those that `mine` does not hold; gives how many. */
const takeBack = lua`
local function takeBack(id)
  local record = redis.call("HGET", jobs, id)
  redis.call("ZREM", active, id)
  redis.call("HDEL", progress, id)
  if not record then return end
  local _, name, _, group = fieldsOf(record)
  if redis.call("HDEL", cancels, id) == 1 then
    if group ~= "" then leave(name, group) end
    redis.call("HDEL", state, id)
    redis.call("HDEL", jobs, id)
    return over(id, false)
  end
  if group ~= "" then leave(name, group, id) else free(name, id) end
end
`

/**
 * ARGV: slot, lease, number, then id and claim of each job in hand. Gives -1 for a session that is not known; else whether a
 * lease has ended, the ids that are lost, and those that are to stop.
 */
export const extend = script<-1 | readonly [number, ReadonlyArray<string>, ReadonlyArray<string>]>(
  "extendJobs",
  lua`#!lua flags=allow-oom
${bind("jobs", "state", "active", "leases", "sessions", "meta", "dead", "cancels", "awaited", "forget", "progress", "dedup")}
${bind("waiting", "parents", "lanes", "items", "freed", "gone")}${clock}
local slot, from = ARGV[1], ARGV[1] * ${claimsPerSlot}
if redis.call("HEXISTS", sessions, slot) == 0 then return -1 end
-- Late itself, so the others may be: it was the server that was away, or its clock that jumped.
local ended = tonumber(redis.call("ZSCORE", leases, slot) or 0)
if ended < now then redis.call("HSET", meta, "grace", text(now + ARGV[2] / 3)) end
redis.call("ZADD", leases, text(now + ARGV[2]), slot)
local claims, lost, stop = {}, {}, {}
local mine = redis.call("ZRANGEBYSCORE", active, text(from), text(from + ${claimsPerSlot} - 1), "WITHSCORES")
for i = 1, #mine, 2 do claims[mine[i]] = tonumber(mine[i + 1]) end
local some = redis.call("EXISTS", cancels) == 1
for a = 4, #ARGV, 2 do
  local id = ARGV[a]
  if claims[id] ~= from + ARGV[a + 1] then
    lost[#lost + 1] = id
  else
    claims[id] = nil
    if some and redis.call("HEXISTS", cancels, id) == 1 then stop[#stop + 1] = id end
  end
end
if next(claims) then
  ${fields}${free}${put}${leave}${over}${takeBack}
  for i = #mine - 1, 1, -2 do
    local claim = claims[mine[i]]
    if claim and claim <= from + ARGV[3] then takeBack(mine[i]) end
  end
end
${purge}
purge(0, 0)
local lease = redis.call("ZRANGE", leases, 0, 0, "WITHSCORES")
return { tonumber(lease[2]) <= now and 1 or 0, lost, stop }
`
)

/** ARGV: slot. Gives how many jobs were taken back, and 1 when there may be more. */
export const close = script<readonly [number, number]>(
  "closeJobs",
  lua`#!lua flags=allow-oom
${bind("jobs", "state", "active", "leases", "sessions", "meta", "dead", "cancels", "awaited", "progress", "dedup")}
${bind("waiting", "parents", "lanes", "items", "freed", "gone")}${clock}${fields}${free}${put}${leave}${over}${takeBack}
local slot, from = ARGV[1], ARGV[1] * ${claimsPerSlot}
local top = text(from + ${claimsPerSlot} - 1)
local found = redis.call("ZRANGE", active, top, text(from), "BYSCORE", "REV", "LIMIT", 0, ${slice})
-- The last first, and each to the head: so they stand there as they were.
for i = 1, #found do takeBack(found[i]) end
if #found == ${slice} then return { #found, 1 } end
redis.call("HDEL", sessions, slot)
redis.call("ZREM", leases, slot)
return { #found, 0 }
`
)

/** ARGV: the asker's lease. Takes back the jobs of one session that has ended; gives how many, and 1 when there may be more. */
export const sweep = script<readonly [number, number]>(
  "sweepJobs",
  lua`#!lua flags=allow-oom
${bind("jobs", "state", "active", "leases", "sessions", "meta", "dead", "cancels", "awaited", "progress", "dedup")}
${bind("waiting", "parents", "lanes", "items", "freed", "gone")}${clock}
local ended = redis.call("ZRANGEBYSCORE", leases, "-inf", text(now))
if #ended == 0 then return { 0, 0 } end
local grace = tonumber(redis.call("HGET", meta, "grace") or 0)
if now < grace then return { 0, 0 } end
-- Most workers at once: it was the server that was away. They get a third of a lease to say something.
local function workersOf(slots)
  local rows, seen, count = redis.call("HMGET", sessions, unpack(slots)), {}, 0
  for i = 1, #slots do
    local worker = string.match(rows[i] or "", "^[^\n]*")
    if not seen[worker] then seen[worker], count = true, count + 1 end
  end
  return count
end
if #ended >= 2 and 2 * #ended > redis.call("ZCARD", leases) and now > grace + ARGV[1] and workersOf(ended) >= 2 then
  redis.call("HSET", meta, "grace", text(now + ARGV[1] / 3))
  return { 0, 0 }
end
${fields}${free}${put}${leave}${over}${takeBack}
local slot, from = ended[1], ended[1] * ${claimsPerSlot}
local top = text(from + ${claimsPerSlot} - 1)
local found = redis.call("ZRANGE", active, top, text(from), "BYSCORE", "REV", "LIMIT", 0, ${slice})
for i = 1, #found do
  local id = found[i]
  local failures, lost, _, _, ledger = stateOf(id)
  ledger = written(ledger, '{"at":' .. text(now) .. ',"exit":"Lost"}')
  setState(id, failures, lost + 1, "0", "", ledger)
  local record = redis.call("HGET", jobs, id)
  if lost + 1 >= ${maxLost} and record then
    redis.call("ZREM", active, id)
    local _, name, _, group = fieldsOf(record)
    if group ~= "" then leave(name, group) end
    die(id, failures, lost + 1, "Lost", ledger)
    over(id, false)
  else
    takeBack(id)
  end
end
if #found == ${slice} then return { #found, 1 } end
redis.call("HDEL", sessions, slot)
redis.call("ZREM", leases, slot)
return { #found, #ended > 1 and 1 or 0 }
`
)
