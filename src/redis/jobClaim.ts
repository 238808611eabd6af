/** Claiming, as pieces of the exchange's script: from a list, and what is met there now and then. */
import { before, fields, free, put } from "./jobKeys.ts"

const lua = String.raw

/** What a claim meets now and then: due jobs, freed ones, groups. Made only then. */
export const claimRare = lua`
${fields}${free}${put}
promote = function(base, due)
  local found = redis.call("ZRANGEBYSCORE", due, "-inf", text(now), "LIMIT", 0, 200)
  redis.call("ZREM", due, unpack(found))
  for i = 1, #found do
    local id = string.sub(found[i], 13)
    if string.byte(id) == 1 then
      redis.call("RPUSH", KEYS[base + 2], id)
      redis.call("HINCRBY", meta, "tokens", 1)
      redis.call("HINCRBY", meta, "blocked", -1)
    else
      local record = redis.call("HGET", jobs, id)
      if record and string.byte(record) == 106 then
        local failures, lost, _, reason, ledger = stateOf(id)
        setState(id, failures, lost, "0", reason, ledger)
        put(base, id, record, false)
      end
    end
  end
end
takeFreed = function(base, name)
  local row = redis.call("HGET", freed, name)
  if not row then return end
  redis.call("HDEL", freed, name)
  local found = {}
  for id in string.gmatch(row, "[^\t]+") do found[#found + 1] = id end
  for i = #found, 1, -1 do
    local id = found[i]
    if string.byte(id) == 1 then
      local r = numbers(id)
      offer(base, id, r)
      setLane(id, r)
    else
      local record = redis.call("HGET", jobs, id)
      local _, lost = stateOf(id)
      if not record or string.byte(record) ~= 106 then
        record = nil
      elseif lost >= 2 then
        redis.call("LPUSH", KEYS[base + 5], id)
      else
        put(base, id, record, true)
      end
    end
  end
end
-- Puts into the place of each lane the next of its jobs, if one may run now, or false; a lane stays in its list while it has
-- more. Gives those places.
nextOf = function(base, found, room)
  local at, names, places, seen, again, n, more, popped = {}, {}, {}, {}, {}, 0, 0, 0
  local function list(lane)
    more = more + 1
    again[more] = lane
  end
  for f = 1, #found do
    local lane = found[f]
    if string.byte(lane) == 1 then
      places[f], found[f], popped = true, false, popped + 1
      if seen[lane] then
        list(lane)
      else
        n = n + 1
        at[n], names[n], seen[lane] = f, lane, true
      end
    end
  end
  if n == 0 then return places end
  local set, drop, wanted, whose, sets, drops, w, blocked = {}, {}, {}, {}, 0, 0, 0, 0
  local known = redis.call("HMGET", lanes, unpack(names))
  for i = 1, n do
    local lane = names[i]
    local first, next, running, queued, from, window, used = numbersOf(known[i])
    if queued == 1 then queued = 0 elseif running > 0 then running = running - 1 end
    local wait = from
    if limitPer > 0 then
      if now >= window + limitPer then window, used = now, 0 end
      if used >= limitCount then wait = math.max(wait, window + limitPer) end
    end
    if first < next and wait > now then
      later(base, lane, wait)
      blocked, queued = blocked + 1, 1
    elseif first < next and running < room then
      w = w + 1
      wanted[w], whose[w] = itemOf(lane, first), i
      first, running = first + 1, running + 1
      if limitPer > 0 then used = used + 1 end
      if running < room and first < next then
        list(lane)
        queued = 1
      end
    end
    local row = rowOf(first, next, running, queued, from, window, used)
    if row then
      sets = sets + 2
      set[sets - 1], set[sets] = lane, row
    else
      drops = drops + 1
      drop[drops] = lane
    end
  end
  if sets > 0 then redis.call("HSET", lanes, unpack(set)) end
  if drops > 0 then redis.call("HDEL", lanes, unpack(drop)) end
  if w > 0 then
    local ids = redis.call("HMGET", items, unpack(wanted))
    redis.call("HDEL", items, unpack(wanted))
    for i = 1, w do ids[i] = ids[i] or "" end
    local records = redis.call("HMGET", jobs, unpack(ids))
    for i = 1, w do
      local id, record, lane = ids[i], records[i], names[whose[i]]
      local isGone = stale and redis.call("HDEL", gone, lane .. "\t" .. id) == 1
      if record and string.byte(record) == 106 and not isGone then
        found[at[whose[i]]], recordOf[id] = id, record
      else
        -- It was cancelled.
        local r = numbers(lane)
        r[RUNNING] = r[RUNNING] - 1
        if r[USED] > 0 then r[USED] = r[USED] - 1 end
        if r[QUEUED] == 0 and r[FIRST] ~= r[NEXT] then
          list(lane)
          r[QUEUED] = 1
        end
        setLane(lane, r)
      end
    end
  end
  if more > 0 then redis.call("RPUSH", KEYS[base + 2], unpack(again)) end
  redis.call("HINCRBY", meta, "tokens", more - popped)
  if blocked > 0 then redis.call("HINCRBY", meta, "blocked", blocked) end
  return places
end
`

/** Up to `most` ids of one list; in groups, those that may run. Gives how many, and how many places of the list that were. */
export const take = lua`
local function take(i, list, most)
  local base = ${before} + 5 * (i - 1)
  local found = redis.call("LPOP", KEYS[base + list], most)
  if not found then return 0, 0 end
  local groups
  if rare > 0 then
    limitCount, limitPer = tonumber(ARGV[8 + 5 * i]), tonumber(ARGV[9 + 5 * i])
    groups = nextOf(base, found, math.max(1, tonumber(ARGV[7 + 5 * i])))
  end
  local n = 0
  for f = 1, #found do
    local id, isLane = found[f], groups and groups[f]
    if stale and not isLane then
      local mark = ARGV[5 + 5 * i] .. "\t" .. string.sub("hml", list, list) .. "\t" .. id
      if redis.call("HDEL", gone, mark) == 1 then id = nil end
    end
    if id then
      n = n + 1
      ids[#ids + 1] = id
    elseif not isLane then
      missed = true
    end
  end
  room[i], count = room[i] - n, count - n
  return n, #found
end
-- A lane that may run more of its jobs stands in the list again, and many may have none that may run.
local function takeMore(i, list)
  for _ = 1, 10 do
    local most = math.min(room[i], count)
    if most <= 0 then return end
    local _, popped = take(i, list, most)
    if popped == 0 or ARGV[7 + 5 * i] == "0" then return end
  end
  missed = true
end
`
