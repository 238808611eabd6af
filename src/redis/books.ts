/**
 * What the coordinator's scripts are made of: the Lua that reads and changes the books of members and groups, and that
 * computes targets. The scripts themselves stand in `sync.ts`, the keys in the table at the head of `coordinator.ts`.
 *
 * Gotcha: a script may only touch keys that were declared, and a caller cannot know which groups a dead member was in.
 * So a script that needs further groups writes nothing and answers `Declare` with their names; the caller sends it again.
 */

/** Keys that every script is given, in this order, and those that follow for each group that it may touch. */
export const sharedKeys = ["members", "incarnations", "replaced", "stated", "groups", "due", "away"]
export const groupKeys = ["members", "owners", "targets"]

/**
 * `internal/targets.ts` in Lua, pass by pass. Partitions count from 0, members from 1; `owner` and `wanted` are tables
 * from partition to member. What is sorted are numbers, since Lua compares text by the server's locale.
 */
export const assignLua = /* lua */ `
local function assign(group, partitions, members, owner, wanted)
  local target, count = {}, #members
  if count == 0 then return target end
  local ranks, byRank, have, want, room = {}, {}, {}, {}, {}
  local base = math.floor(partitions / count)
  local extra = partitions - base * count
  for i = 1, count do
    local rank = tonumber(string.sub(redis.sha1hex(group .. " " .. members[i]), 1, 12), 16)
    while byRank[rank] do rank = rank + 1 end
    ranks[i], byRank[rank], have[i], want[i], room[i] = rank, i, 0, 0, base
  end
  table.sort(ranks)
  for p = 0, partitions - 1 do
    local o, w = owner[p], wanted[p]
    if o then have[o] = have[o] + 1 end
    if w then want[w] = want[w] + 1 end
  end
  for pass = 1, 4 do
    for j = 1, count do
      if extra == 0 then break end
      local i = byRank[ranks[j]]
      local owns, wants = have[i] > base, want[i] > base
      local chosen = pass == 4 or (pass == 1 and owns and wants) or (pass == 2 and owns) or (pass == 3 and wants)
      if chosen and room[i] == base then room[i], extra = base + 1, extra - 1 end
    end
  end
  local function take(p, i)
    if i and not target[p] and room[i] > 0 then target[p], room[i] = i, room[i] - 1 end
  end
  for p = 0, partitions - 1 do if owner[p] == wanted[p] then take(p, owner[p]) end end
  for p = 0, partitions - 1 do take(p, owner[p]) end
  for p = 0, partitions - 1 do take(p, wanted[p]) end
  local j = 1
  for p = 0, partitions - 1 do
    if not target[p] then
      while room[byRank[ranks[j]]] == 0 do j = j + 1 end
      take(p, byRank[ranks[j]])
    end
  end
  return target
end
`

export const head = /* lua */ `#!lua flags=allow-oom
local leases, incarnations, replaced, stated = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local metas, dues, away = KEYS[5], KEYS[6], KEYS[7]
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`

/**
 * The books. A group's `members` hash holds what each member has, packed: { owned, targets }, `owned` being partition and
 * epoch in turn. `concerned` gathers those for whom something changed; `tell`, the end of every script that changes the
 * books, makes their next statement a whole one. Owners and targets are read and written in chunks of 64 partitions,
 * since one field for each partition took most of the time of the long runs.
 */
export const books = /* lua */ `
local concerned, groups, declared = {}, {}, 0

local function text(number) return string.format("%.0f", number) end

-- unpack takes only so many at once.
local function slices(command, key, values)
  for i = 1, #values, 500 do
    redis.call(command, key, unpack(values, i, math.min(i + 499, #values)))
  end
end

-- The member at a partition of owners or targets; false where there is none.
local function at(map, partition)
  local number = math.floor(partition / 64)
  local chunk = map.chunks[number]
  if not chunk then
    local packed = redis.call("HGET", map.key, number)
    chunk = packed and cmsgpack.unpack(packed)
    if not chunk then
      chunk = {}
      for i = 1, 64 do chunk[i] = false end
    end
    map.chunks[number] = chunk
  end
  return chunk[partition - number * 64 + 1]
end

local function put(map, partition, member)
  if at(map, partition) == member then return end
  local number = math.floor(partition / 64)
  map.chunks[number][partition - number * 64 + 1] = member
  map.changed[number] = true
end

local function write(map)
  local changed = {}
  for number in pairs(map.changed) do
    changed[#changed + 1] = number
    changed[#changed + 1] = cmsgpack.pack(map.chunks[number])
  end
  slices("HSET", map.key, changed)
end

local function declare(name)
  local first = ${sharedKeys.length} + ${groupKeys.length} * declared
  declared = declared + 1
  local meta = redis.call("HGET", metas, name) or "0 0 0 0"
  local partitions, paused, generation, counter = string.match(meta, "^(%d+) (%d) (%d+) (%d+)$")
  local group = { name = name, members = KEYS[first + 1] }
  group.owners = { key = KEYS[first + 2], chunks = {}, changed = {} }
  group.targets = { key = KEYS[first + 3], chunks = {}, changed = {} }
  group.partitions, group.paused = tonumber(partitions), paused == "1"
  group.generation, group.counter = tonumber(generation), tonumber(counter)
  groups[name] = group
  return group
end

local function save(group)
  local flag = group.paused and "1" or "0"
  redis.call("HSET", metas, group.name,
    text(group.partitions) .. " " .. flag .. " " .. text(group.generation) .. " " .. text(group.counter))
end

local function nextEpoch(group)
  group.counter = math.max(group.counter + 1, now)
  return group.counter
end

local function recordOf(group, member)
  local packed = redis.call("HGET", group.members, member)
  return packed and cmsgpack.unpack(packed)
end

local function store(group, member, record)
  redis.call("HSET", group.members, member, cmsgpack.pack(record))
end

-- From the first change that is not settled yet; an earlier time is kept.
local function unsettle(group, at)
  local due = redis.call("HGET", dues, group.name)
  if not due or tonumber(due) > at then redis.call("HSET", dues, group.name, text(at)) end
end

-- Strike a member from a group, and free what it had there; false if it was not in the group.
local function strike(group, member)
  local record = recordOf(group, member)
  if not record then return false end
  -- Who waited for one of its partitions may have it, and who was to give one up to it may keep it.
  for i = 1, #record[1], 2 do
    local target = at(group.targets, record[1][i])
    if target then concerned[target] = true end
    put(group.owners, record[1][i], false)
  end
  for _, partition in ipairs(record[2]) do
    local owner = at(group.owners, partition)
    if owner then concerned[owner] = true end
    put(group.targets, partition, false)
  end
  redis.call("HDEL", group.members, member)
  return true
end

local function forget(member)
  redis.call("ZREM", leases, member)
  for _, key in ipairs({ incarnations, replaced, stated }) do redis.call("HDEL", key, member) end
end

-- The groups of a text "name count name count ..." that are not declared are added to missing.
local function need(names, missing)
  for name in string.gmatch(names, "(%S+) %d+") do
    if not groups[name] and not missing[name] then
      missing[name] = true
      missing[#missing + 1] = name
    end
  end
end

local function tell(except)
  local channel, names = string.sub(leases, 1, -8) .. "wake:", {}
  concerned[""] = nil
  for member in pairs(concerned) do
    names[#names + 1] = member
    if member ~= except then redis.call("PUBLISH", channel .. member, "") end
  end
  slices("HDEL", stated, names)
  for _, group in pairs(groups) do
    write(group.owners)
    write(group.targets)
  end
end
`

/** Targets, written where they differ from those before; concerned is who must stop, or may begin. */
export const settle = /* lua */ `
local function compute(group)
  local all, names, records, owner, wanted = redis.call("HGETALL", group.members), {}, {}, {}, {}
  for i = 1, #all, 2 do
    local n, record = (i + 1) / 2, cmsgpack.unpack(all[i + 1])
    names[n], records[n] = all[i], record
    for j = 1, #record[1], 2 do owner[record[1][j]] = n end
    for j = 1, #record[2] do wanted[record[2][j]] = n end
  end
  local target, lists = assign(group.name, group.partitions, names, owner, wanted), {}
  for p = 0, group.partitions - 1 do
    local to, from = target[p], wanted[p]
    if to ~= from then
      put(group.targets, p, names[to])
      lists[to] = lists[to] or {}
      if from then lists[from] = lists[from] or {} end
      concerned[names[owner[p] or to]] = true
    end
  end
  for p = 0, group.partitions - 1 do
    local list = lists[target[p]]
    if list then list[#list + 1] = p end
  end
  local changed = {}
  for n, list in pairs(lists) do
    changed[#changed + 1] = names[n]
    changed[#changed + 1] = cmsgpack.pack({ records[n][1], list })
  end
  slices("HSET", group.members, changed)
  group.generation = group.generation + 1
  save(group)
end

-- What is due, as much as one run may take; for what is left over somebody is called at once.
local function settleDue()
  local room
  for _, group in pairs(groups) do
    local due = redis.call("HGET", dues, group.name)
    local members = due and redis.call("HLEN", group.members)
    if due and members == 0 then
      redis.call("HDEL", dues, group.name)
    elseif due and tonumber(due) <= now then
      local size = members + group.partitions
      if not room or size <= room then
        room = (room or 6000) - size
        compute(group)
        redis.call("HDEL", dues, group.name)
      else
        redis.call("PUBLISH", string.sub(leases, 1, -8) .. "wake:" .. redis.call("HRANDFIELD", group.members), "")
      end
    end
  end
end
`
