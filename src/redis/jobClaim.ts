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
      local lane = name .. "\t" .. string.sub(id, 2)
      local r = laneOf(lane)
      offer(base, string.sub(id, 2), r)
      setLane(lane, r)
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
-- Puts into the place of each group the next of its jobs, if one may run now, or false; a group stays in its list while
-- it has more. Gives those places.
nextOf = function(base, name, found, room)
  local at, groups, names, rows, whose, wanted, blocked = {}, {}, {}, {}, {}, {}, 0
  for f = 1, #found do
    if string.byte(found[f]) == 1 then
      at[#at + 1], groups[#groups + 1] = f, string.sub(found[f], 2)
      names[#names + 1] = name .. "\t" .. groups[#groups]
    end
  end
  local places = {}
  if #at == 0 then return places end
  local known, again = redis.call("HMGET", lanes, unpack(names)), {}
  for n = 1, #at do
    local r = laneFrom(known[n])
    rows[n], places[at[n]], found[at[n]] = r, true, false
    r[QUEUED] = 0
    local wait = r[FROM]
    if limitPer > 0 and now >= r[WINDOW] + limitPer then r[WINDOW], r[USED] = now, 0 end
    if limitPer > 0 and r[USED] >= limitCount then wait = math.max(wait, r[WINDOW] + limitPer) end
    if r[FIRST] < r[NEXT] and wait > now then
      later(base, "\1" .. groups[n], wait)
      blocked = blocked + 1
      r[QUEUED] = 1
    elseif r[FIRST] < r[NEXT] and r[RUNNING] < room then
      whose[#whose + 1], wanted[#wanted + 1] = n, itemOf(names[n], r[FIRST])
      r[FIRST] = r[FIRST] + 1
    end
  end
  if #wanted > 0 then
    local ids = redis.call("HMGET", items, unpack(wanted))
    redis.call("HDEL", items, unpack(wanted))
    for w = 1, #ids do ids[w] = ids[w] or "" end
    local records = redis.call("HMGET", jobs, unpack(ids))
    for w = 1, #ids do
      local n = whose[w]
      local r, waits = rows[n], records[w] and string.byte(records[w]) == 106
      if waits then
        r[RUNNING] = r[RUNNING] + 1
        if limitPer > 0 then r[USED] = r[USED] + 1 end
        found[at[n]], recordOf[ids[w]] = ids[w], records[w]
      end
      if (r[RUNNING] < room or not waits) and r[FIRST] ~= r[NEXT] then
        again[#again + 1] = "\1" .. groups[n]
        r[QUEUED] = 1
      end
    end
    if #again > 0 then redis.call("RPUSH", KEYS[base + 2], unpack(again)) end
  end
  redis.call("HINCRBY", meta, "tokens", #again - #at)
  if blocked > 0 then redis.call("HINCRBY", meta, "blocked", blocked) end
  setLanes(names, rows)
  return places
end
`

/** Up to `most` ids of one list; in groups, those that may run. */
export const take = lua`
local function take(i, list, most)
  local base = ${before} + 5 * (i - 1)
  local found = redis.call("LPOP", KEYS[base + list], most)
  if not found then return 0 end
  local concurrency, groups = tonumber(ARGV[7 + 5 * i]), nil
  if concurrency > 0 and rare > 0 then
    limitCount, limitPer = tonumber(ARGV[8 + 5 * i]), tonumber(ARGV[9 + 5 * i])
    groups = nextOf(base, ARGV[5 + 5 * i], found, concurrency)
  end
  local n = 0
  for f = 1, #found do
    local id = found[f]
    if stale and not (groups and groups[f]) then
      local mark = ARGV[5 + 5 * i] .. "\t" .. string.sub("hml", list, list) .. "\t" .. id
      if redis.call("HDEL", gone, mark) == 1 then id = nil end
    end
    if id then
      n = n + 1
      ids[#ids + 1] = id
    else
      missed = true
    end
  end
  room[i], count = room[i] - n, count - n
  return n
end
`
