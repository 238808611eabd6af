/**
 * Settling, as pieces of the exchange's script: done jobs, all of one time to live in one go; all others one by one; and
 * dropping what is to be forgotten.
 */
import { before, fields, free, leave, over, put } from "./jobKeys.ts"

const lua = String.raw

/** Drops what is to be forgotten by now, and what is too much; a few at a time. Needs `jobs`, `forget`, `dedup`, `meta`. */
export const purge = lua`
local function purge(done, most)
  for _ = 1, 3 do
    local oldest = redis.call("ZRANGE", forget, 0, 0, "WITHSCORES")
    if not oldest[1] or tonumber(oldest[2]) > now and done <= most then return end
    redis.call("ZREM", forget, oldest[1])
    if string.byte(oldest[1]) == 1 then
      local key = string.match(oldest[1], "\t(.*)$")
      local row = redis.call("HGET", dedup, key)
      if row and tonumber(string.match(row, "^%d+")) <= now then redis.call("HDEL", dedup, key) end
    else
      local ids = {}
      for id in string.gmatch(oldest[1], "\t([^\t]+)") do ids[#ids + 1] = id end
      local known, gone = redis.call("HMGET", jobs, unpack(ids)), {}
      for i = 1, #ids do
        if known[i] and string.byte(known[i]) == 102 then gone[#gone + 1] = ids[i] end
      end
      if #gone > 0 then redis.call("HDEL", jobs, unpack(gone)) end
      done = redis.call("HINCRBY", meta, "done", -#ids)
    end
  end
end
`

/** Done jobs of one section, as many as they are; see `exchange`. */
export const settleDone = lua`
-- Which of these are claimed under the token. Scores are dear to ask for one by one, and few others have this one.
local function heldOf(token, id, n)
  local held = {}
  if n > 16 then
    local found = redis.call("ZRANGEBYSCORE", active, token, token)
    for i = 1, #found do held[found[i]] = true end
  else
    local scores = redis.call("ZMSCORE", active, unpack(ARGV, id + 1, id + n))
    for i = 1, n do held[ARGV[id + i]] = scores[i] == token end
  end
  return held
end
local function settleDone(at)
  local ttl, name, n = tonumber(ARGV[at + 1]), ARGV[at + 3], tonumber(ARGV[at + 4])
  local token, grouped = text(from + ARGV[at + 2]), ARGV[at + 5] == "1"
  local id = at + 5
  local record = id + n
  local lane = ttl > 0 and record + n or record
  at = (grouped and lane + n or lane) + 1
  local ids, rows, left, kept = {}, {}, {}, 0
  local held = heldOf(token, id, n)
  local head = "f" .. text(now + ttl) .. "\t" .. text(now) .. "\tS\t"
  for i = 1, n do
    if held[ARGV[id + i]] then
      kept = kept + 1
      ids[kept] = ARGV[id + i]
      if ttl > 0 then rows[2 * kept - 1], rows[2 * kept] = ids[kept], head .. ARGV[record + i] end
      if grouped then left[kept] = ARGV[lane + i] end
    else
      refused[#refused + 1] = ARGV[id + i]
    end
  end
  if kept == 0 then return at end
  redis.call("ZREM", active, unpack(ids))
  if some then finish(ids, rows, name, left) end
  if ttl > 0 then
    redis.call("HSET", jobs, unpack(rows))
    redis.call("ZADD", forget, text(now + ttl), slot .. "." .. ARGV[2] .. "." .. at .. "\t" .. table.concat(ids, "\t"))
    done = redis.call("HINCRBY", meta, "done", kept)
  else
    redis.call("HDEL", jobs, unpack(ids))
  end
  return at
end
`

/** What most done jobs do not have: a ledger, a group, somebody who waits. Made only where there is some of it. */
export const settleRare = lua`
${fields}${free}${put}${leave}${over}
-- Their lanes are counted down where they are taken from the list; see \`laneRows\`.
local returned = {}
local function giveBack(name, left)
  for i = 1, tonumber(ARGV[9]) do
    if ARGV[5 + 5 * i] == name then
      local list = KEYS[${before} + 5 * (i - 1) + 2]
      redis.call("RPUSH", list, unpack(left))
      redis.call("HINCRBY", meta, "tokens", #left)
      returned[name] = list
      return
    end
  end
  -- Of a name whose keys are not here.
  for i = 1, #left do leave(name, string.match(left[i], "^\1[^\1]*\1(.*)$")) end
end
-- Others are told of what this exchange did not claim itself.
tellReturned = function()
  for name, list in pairs(returned) do
    if redis.call("EXISTS", list) == 1 then wake(name) end
  end
end
finish = function(ids, rows, name, left)
  local has = function(key) return redis.call("EXISTS", key) == 1 and redis.call("HMGET", key, unpack(ids)) end
  local states, watched = has(state), {}
  for _, key in ipairs({ awaited, parents, progress, cancels }) do
    local found = has(key)
    for i = 1, found and #ids or 0 do watched[i] = watched[i] or found[i] end
  end
  local keyed = redis.call("EXISTS", dedup) == 1
  if #left > 0 then giveBack(name, left) end
  if not states and not keyed and not next(watched) then return end
  for i = 1, #ids do
    local id = ids[i]
    if states and states[i] then
      local _, _, _, _, ledger = stateOf(id)
      redis.call("HDEL", state, id)
      if ledger ~= "" and rows[2 * i] then
        local head, rest = string.match(rows[2 * i], "^([^\n]*\t)%d+(\n.*)$")
        rows[2 * i] = head .. #ledger .. "\n" .. ledger .. string.sub(rest, 2)
      end
    end
    if keyed or watched[i] then over(id, true) end
  end
end
bury = function(id, failures, lost, reason, ledger)
  die(id, failures, lost, reason, ledger)
  over(id, false)
  local keep, age = string.match(redis.call("HGET", meta, "keepDead") or "", "^(%d+) (%d+)$")
  if not keep then return end
  local old = redis.call("ZRANGE", dead, 0, 4, "WITHSCORES")
  for i = 1, #old, 2 do
    local many = keep ~= "0" and redis.call("ZCARD", dead) > tonumber(keep)
    if many or age ~= "0" and tonumber(old[i + 1]) + age <= now then
      redis.call("ZREM", dead, old[i])
      redis.call("HDEL", jobs, old[i])
      redis.call("HDEL", state, old[i])
    end
  end
end
-- One that is not done: tried again, dead, cancelled, or given back.
settleOther = function(at)
  local id, claim, kind, base, delay = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local counted, entry, word = ARGV[at + 6], ARGV[at + 7], ARGV[at + 8]
  at = at + 9
  local record = redis.call("HGET", jobs, id)
  if not record or tonumber(redis.call("ZSCORE", active, id) or -1) ~= from + claim then
    refused[#refused + 1] = id
    return at
  end
  redis.call("ZREM", active, id)
  redis.call("HDEL", progress, id)
  local failures, lost, _, _, ledger = stateOf(id)
  ledger = written(ledger, entry)
  local _, name, _, group = fieldsOf(record)
  if kind == "R" then
    failures = failures + counted
    redis.call("HDEL", cancels, id)
    if group ~= "" then
      setState(id, failures, lost, "0", "", ledger)
      leave(name, group, id, now + delay)
    elseif delay > 0 then
      setState(id, failures, lost, later(base, id, now + delay), "", ledger)
    else
      setState(id, failures, lost, "0", "", ledger)
      put(base, id, record, false)
    end
    wake(name)
    return at
  end
  if kind == "B" then
    if group ~= "" then
      leave(name, group, id)
    elseif lost >= 2 then
      redis.call("RPUSH", KEYS[base + 5], id)
    else
      put(base, id, record, true)
    end
    wake(name)
    return at
  end
  if group ~= "" then leave(name, group) end
  if kind == "X" then
    bury(id, failures, lost, word, ledger)
  else
    redis.call("HDEL", state, id)
    over(id, false)
    if delay > 0 then
      redis.call("HSET", jobs, id, "f" .. text(now + delay) .. "\t" .. text(now) .. "\tC\t" .. word)
      redis.call("ZADD", forget, text(now + delay), slot .. "." .. ARGV[2] .. "." .. at .. "\t" .. id)
      done = redis.call("HINCRBY", meta, "done", 1)
    else
      redis.call("HDEL", jobs, id)
    end
  end
  return at
end
`
