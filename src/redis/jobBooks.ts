/** Looking at jobs, and changing what waits: cancel, promote, redrive, flush, remove, counts. */
import { script } from "./client.ts"
import { before, bind, clock, fields, free, laneRows, over } from "./jobKeys.ts"

const lua = String.raw

/** What everything of `over` needs, and what stands around it. */
const all = `${bind("jobs", "state", "active", "meta", "names", "dead", "gone", "cancels", "awaited", "forget", "progress")}${bind("dedup", "waiting", "parents", "items", "freed")}${clock}`

/**
 * ARGV: 1 to be told of the end of those that are not over, then ids. Gives now, and for each: record, state, claim, since
 * when it is dead, how many it waits for, progress.
 */
export const read = script<readonly [string, ...ReadonlyArray<ReadonlyArray<string | null>>]>(
  "readJobs",
  lua`#!lua
${bind("jobs", "state", "active", "dead", "awaited", "progress", "waiting")}${clock}
local answer = { text(now) }
for a = 2, #ARGV do
  local id = ARGV[a]
  local record = redis.call("HGET", jobs, id)
  local died = redis.call("ZSCORE", dead, id)
  if ARGV[1] == "1" and record and string.byte(record) == 106 and not died then redis.call("HSET", awaited, id, "1") end
  answer[a] = {
    record, redis.call("HGET", state, id), redis.call("ZSCORE", active, id), died, redis.call("HGET", waiting, id),
    redis.call("HGET", progress, id)
  }
end
return answer
`
)

/**
 * ARGV: id, time to live of what is left of it, and the name whose keys are given. Gives 1 if it was cancelled or will be, 0
 * if it is over, and its name if that is another one.
 */
export const cancel = script<0 | 1 | string>(
  "cancelJob",
  lua`#!lua flags=allow-oom
${all}${fields}${free}${laneRows}${over}
local id, ttl = ARGV[1], tonumber(ARGV[2])
local record = redis.call("HGET", jobs, id)
if not record or string.byte(record) == 102 or redis.call("ZSCORE", dead, id) then return 0 end
if redis.call("ZSCORE", active, id) then
  redis.call("HSET", cancels, id, "1")
  redis.call("PUBLISH", meta, "c" .. id)
  return 1
end
local _, name, priority, group = fieldsOf(record)
if name ~= ARGV[3] then return name end
local _, _, place = stateOf(id)
local row = redis.call("HGET", freed, name) or ""
local s, e = string.find("\t" .. row .. "\t", "\t" .. id .. "\t", 1, true)
if s then
  row = string.sub("\t" .. row .. "\t", 2, s) .. string.sub("\t" .. row .. "\t", e + 1, -2)
  row = string.gsub(row, "\t$", "")
  if row == "" then redis.call("HDEL", freed, name) else redis.call("HSET", freed, name, row) end
elseif redis.call("HDEL", waiting, id) == 0 and redis.call("ZREM", KEYS[${before + 4}], place .. id) == 0
  and redis.call("LREM", KEYS[${before + 5}], 1, id) == 0 then
  local place = group ~= "" and laneOf(name, group) or name .. "\t" .. priority
  redis.call("HSET", gone, place .. "\t" .. id, "1")
end
redis.call("HDEL", state, id)
over(id, false)
if ttl > 0 then
  local head = "f" .. text(now + ttl) .. "\t" .. text(now) .. "\tC\t"
  redis.call("HSET", jobs, id, head .. name .. "\t" .. priority .. "\t0\t\t0\n")
  redis.call("ZADD", forget, text(now + ttl), "c\t" .. id)
  redis.call("HINCRBY", meta, "done", 1)
else
  redis.call("HDEL", jobs, id)
end
return 1
`
)

/** ARGV: id, and the name whose keys are given. Gives 1 if it was delayed, 0 if not, and its name if that is another one. */
export const promote = script<0 | 1 | string>(
  "promoteJob",
  lua`#!lua
${all}${fields}${free}
local id = ARGV[1]
local record = redis.call("HGET", jobs, id)
if not record or string.byte(record) == 102 then return 0 end
local _, name = fieldsOf(record)
if name ~= ARGV[2] then return name end
local failures, lost, place, reason, ledger = stateOf(id)
if redis.call("ZREM", KEYS[${before + 4}], place .. id) == 0 then return 0 end
setState(id, failures, lost, "0", reason, ledger)
free(name, id)
return 1
`
)

/** ARGV: claim, id, value. Gives 1 if it is the claim in force. */
export const tell = script<0 | 1>(
  "tellJob",
  lua`#!lua
${bind("active", "meta", "progress")}
if tonumber(redis.call("ZSCORE", active, ARGV[2]) or -1) ~= tonumber(ARGV[1]) then return 0 end
redis.call("HSET", progress, ARGV[2], ARGV[3])
redis.call("PUBLISH", meta, "p" .. ARGV[2])
return 1
`
)

/** ARGV: "again" or "forget", then ids; without them, the oldest 500. Gives how many. */
export const raise = script<number>(
  "raiseJobs",
  lua`#!lua
${all}${fields}${free}
local ids = {}
for a = 2, #ARGV do ids[a - 1] = ARGV[a] end
if #ids == 0 then ids = redis.call("ZRANGE", dead, 0, 499) end
local count = 0
for i = #ids, 1, -1 do
  local id = ids[i]
  if redis.call("ZREM", dead, id) == 1 then
    count = count + 1
    local record = redis.call("HGET", jobs, id)
    if ARGV[1] == "again" and record then
      local _, name = fieldsOf(record)
      local _, _, _, _, ledger = stateOf(id)
      -- As if new: its time to live begins anew.
      redis.call("HSET", jobs, id, "j" .. text(now) .. string.match(record, "^j%d+(.*)$"))
      setState(id, 0, 0, "0", "", ledger)
      free(name, id)
    else
      redis.call("HDEL", jobs, id)
      redis.call("HDEL", state, id)
    end
  end
end
return count
`
)

/**
 * KEYS: those of all names. Forgets up to some hundreds of what waits; gives how many, and 1 when there may be more. Groups
 * come first, so that a lane is not taken from its list while it has jobs.
 */
export const flush = script<readonly [number, number]>(
  "flushJobs",
  lua`#!lua flags=allow-oom
${all}${bind("lanes")}${fields}${free}${laneRows}${over}
local found, most = {}, 500
local function add(id, place)
  if redis.call("HDEL", gone, place .. "\t" .. id) == 0 then found[#found + 1] = id end
end
local function drain(lane)
  local r = { numbersOf(redis.call("HGET", lanes, lane)) }
  while r[FIRST] < r[NEXT] and #found < most do
    local item = itemOf(lane, r[FIRST])
    local id = redis.call("HGET", items, item)
    redis.call("HDEL", items, item)
    r[FIRST] = r[FIRST] + 1
    if id then add(id, lane) end
  end
  setLane(lane, r)
end
-- Its place in a list: see \`laneRows\`.
local function give(lane)
  local r = { numbersOf(redis.call("HGET", lanes, lane)) }
  if r[QUEUED] == 1 then r[QUEUED] = 0 else r[RUNNING] = math.max(0, r[RUNNING] - 1) end
  setLane(lane, r)
end
local function forgetAll()
  for _, id in ipairs(found) do
    redis.call("HDEL", jobs, id)
    redis.call("HDEL", state, id)
    over(id, false)
  end
end
if redis.call("EXISTS", items) == 1 then
  local cursor, page = "0", nil
  repeat
    page = redis.call("HSCAN", items, cursor, "COUNT", most)
    cursor = page[1]
  until page[2][1] or cursor == "0"
  for i = 1, #page[2], 2 do
    if #found < most then drain(string.sub(page[2][i], 1, -9)) end
  end
  forgetAll()
  return { #found, 1 }
end
for i = ${before + 1}, #KEYS do
  local kind = (i - ${before + 1}) % 5
  if #found >= most then break end
  if kind == 3 then
    local due = redis.call("ZPOPMIN", KEYS[i], most)
    for d = 1, #due, 2 do
      local id = string.sub(due[d], 13)
      if string.byte(id) == 1 then
        redis.call("HINCRBY", meta, "blocked", -1)
        give(id)
      else
        found[#found + 1] = id
      end
    end
  else
    local popped = redis.call("LPOP", KEYS[i], most)
    local place = string.gsub(KEYS[i], "^.*:ready:([^:]+):(.)$", "%1\t%2")
    for p = 1, popped and #popped or 0 do
      if string.byte(popped[p]) == 1 then
        redis.call("HINCRBY", meta, "tokens", -1)
        give(popped[p])
      else
        add(popped[p], place)
      end
    end
  end
end
if #found < most then
  for _, row in ipairs(redis.call("HVALS", freed)) do
    for id in string.gmatch(row, "[^\t]+") do
      if string.byte(id) ~= 1 then found[#found + 1] = id end
    end
  end
  redis.call("DEL", freed)
  for _, id in ipairs(redis.call("HKEYS", waiting)) do found[#found + 1] = id end
  redis.call("DEL", waiting)
end
forgetAll()
return { #found, #found > 0 and 1 or 0 }
`
)

/** KEYS: those of all names, and the queues of the shard. ARGV: queue. */
export const remove = script<number>(
  "removeQueue",
  lua`#!lua flags=allow-oom
local queues = table.remove(KEYS)
redis.call("SREM", queues, ARGV[1])
return redis.call("UNLINK", unpack(KEYS))
`
)

/** KEYS: those of all names. Gives ready, delayed, waiting, active, dead, finished. */
export const counts = script<ReadonlyArray<number>>(
  "countJobs",
  lua`#!lua
${bind("active", "meta", "dead", "gone", "waiting", "items", "freed")}${clock}
local ready, delayed = redis.call("HLEN", items) - redis.call("HLEN", gone), 0
for i = ${before + 1}, #KEYS do
  if (i - ${before + 1}) % 5 == 3 then
    local due = redis.call("ZCOUNT", KEYS[i], "-inf", text(now))
    ready, delayed = ready + due, delayed + redis.call("ZCARD", KEYS[i]) - due
  else
    ready = ready + redis.call("LLEN", KEYS[i])
  end
end
for _, row in ipairs(redis.call("HVALS", freed)) do
  for id in string.gmatch(row, "[^\t]+") do
    if string.byte(id) ~= 1 then ready = ready + 1 end
  end
end
local books = redis.call("HMGET", meta, "tokens", "blocked", "done")
return {
  ready - (books[1] or 0), delayed - (books[2] or 0), redis.call("HLEN", waiting), redis.call("ZCARD", active),
  redis.call("ZCARD", dead), tonumber(books[3] or 0)
}
`
)

/** KEYS: meta, and the queues of the shard. ARGV: queue, limit, keepDone, keepDead; "" for the default. */
export const configure = script<number>(
  "configureQueue",
  lua`#!lua
redis.call("SADD", KEYS[2], ARGV[1])
for i, field in ipairs({ "limit", "keepDone", "keepDead" }) do
  if ARGV[i + 1] == "" then redis.call("HDEL", KEYS[1], field) else redis.call("HSET", KEYS[1], field, ARGV[i + 1]) end
end
return redis.call("PUBLISH", KEYS[1], "w")
`
)
