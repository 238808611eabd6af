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
-- The next job of a group, if it may run now; the group stays in its list while it has more.
nextOf = function(base, name, group, room)
  redis.call("HINCRBY", meta, "tokens", -1)
  local lane = name .. "\t" .. group
  local r = laneOf(lane)
  r.queued = false
  local wait = r.from
  if limitPer > 0 and now >= r.window + limitPer then r.window, r.used = now, 0 end
  if limitPer > 0 and r.used >= limitCount then wait = math.max(wait, r.window + limitPer) end
  local id
  if r.first < r.next and wait > now then
    later(base, "\1" .. group, wait)
    redis.call("HINCRBY", meta, "blocked", 1)
    r.queued = true
  elseif r.first < r.next and r.running < room then
    local item = lane .. "\t" .. text(r.first)
    id = redis.call("HGET", items, item)
    redis.call("HDEL", items, item)
    r.first = r.first + 1
    local record = id and redis.call("HGET", jobs, id)
    if record and string.byte(record) == 106 then
      r.running = r.running + 1
      if limitPer > 0 then r.used = r.used + 1 end
    else
      id = nil
    end
    if r.running < room or not id then offer(base, group, r) end
  end
  setLane(lane, r)
  return id
end
`

/** Up to `most` ids of one list; in groups, those that may run. */
export const take = lua`
local function take(i, list, most)
  local base = ${before} + 5 * (i - 1)
  local found = redis.call("LPOP", KEYS[base + list], most)
  if not found then return 0 end
  local concurrency = tonumber(ARGV[7 + 5 * i])
  local n = 0
  for f = 1, #found do
    local id = found[f]
    if concurrency > 0 and string.byte(id) == 1 then
      limitCount, limitPer = tonumber(ARGV[8 + 5 * i]), tonumber(ARGV[9 + 5 * i])
      id = nextOf(base, ARGV[5 + 5 * i], string.sub(id, 2), concurrency)
    elseif stale then
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
