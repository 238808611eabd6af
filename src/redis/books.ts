/**
 * What the coordinator's scripts are made of: the Lua that reads and changes the books of members and groups, and that
 * computes targets. The scripts themselves stand in `sync.ts`, the keys in the table at the head of `coordinator.ts`.
 *
 * Gotcha: a script may only touch keys that were declared, and a caller cannot know which groups a dead member was in.
 * So a script that needs further groups writes nothing and answers `Declare` with their names; the caller sends it again.
 */
import * as Lua from "./lua.ts"

/** Keys that every script is given, in this order, and those that follow for each group that it may touch. */
export const sharedKeys = ["members", "incarnations", "replaced", "stated", "groups", "due", "away"]
export const groupKeys = ["members", "slots", "owners", "targets", "epochs", "quarantine"]

/**
 * `internal/targets.ts` in Lua, pass by pass. `order` has the slots of the members by rank; `owner` and `wanted` list
 * the slot of each partition, 0 for nobody; `aside` has the places in those lists that are quarantined. One slot or
 * another that `order` has not is nobody too. `rank` leaves room for a slot beside it in an exact number.
 */
export const assignLua = /* lua */ `
local function rank(group, member)
  return tonumber(string.sub(redis.sha1hex(group .. " " .. member), 1, 9), 16)
end
local function assign(order, owner, wanted, aside)
  local target, count, partitions, free = {}, #order, #owner, #owner
  for place in pairs(aside) do
    if owner[place] then target[place], free = 0, free - 1 end
  end
  if count == 0 then return target end
  local have, want, room, left, size = {}, {}, {}, {}, 0
  local base = math.floor(free / count)
  local extra = free - base * count
  for j = 1, count do
    local slot = order[j]
    have[slot], want[slot], room[slot] = 0, 0, base
  end
  for i = 1, partitions do
    if not target[i] then
      local o, w = owner[i], wanted[i]
      local had, wished = have[o], want[w]
      size = size + 1
      left[size] = i
      if had then have[o] = had + 1 end
      if wished then want[w] = wished + 1 end
    end
  end
  for pass = 1, 4 do
    for j = 1, count do
      if extra == 0 then break end
      local slot = order[j]
      local owns, wants = have[slot] > base, want[slot] > base
      local chosen = pass == 4 or (pass == 1 and owns and wants) or (pass == 2 and owns) or (pass == 3 and wants)
      if chosen and room[slot] == base then room[slot], extra = base + 1, extra - 1 end
    end
  end
  -- Each pass leaves fewer to the next one.
  for pass = 1, 3 do
    local rest, candidates, kept = {}, pass == 3 and wanted or owner, 0
    for k = 1, size do
      local i = left[k]
      local slot = candidates[i]
      local space = room[slot]
      if space and space > 0 and (pass ~= 1 or slot == wanted[i]) then
        target[i], room[slot] = slot, space - 1
      else
        kept = kept + 1
        rest[kept] = i
      end
    end
    left, size = rest, kept
  end
  local j, space = 0, 0
  for k = 1, size do
    while space == 0 do
      j = j + 1
      space = room[order[j]]
    end
    target[left[k]], space = order[j], space - 1
  end
  return target
end
`

export const head = /* lua */ `#!lua flags=allow-oom
local leases, incarnations, replaced, stated = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local metas, dues, away = KEYS[5], KEYS[6], KEYS[7]
${Lua.clock}`

/**
 * The books. Within a group a member is its slot, a number from 1 to 65,534; owners, targets and epochs are strings with
 * a number of fixed width for each partition, since one field for each, or one record for each member, took most of the
 * time of the long runs. `concerned` gathers those for whom something changed; `tell`, the end of every script that
 * changes the books, makes their next statement a whole one.
 */
export const books = /* lua */ `
local concerned, groups, declared = {}, {}, 0
-- From so many partitions on it pays to look at all.
local many = 100
-- In the place of an owner: held back by takeEpoch.
local held = 65535

local function text(number) return string.format("%.0f", number) end

-- unpack takes only so many at once.
local function slices(command, key, values)
  for i = 1, #values, 500 do
    redis.call(command, key, unpack(values, i, math.min(i + 499, #values)))
  end
end

local function array(key, form, width)
  return { key = key, form = form, one = "<" .. form, width = width, new = {}, changes = 0 }
end

local function bodyOf(map)
  if not map.body then map.body = redis.call("GET", map.key) or "" end
  return map.body
end

-- The number at a partition; 0 where there never was one.
local function at(map, partition)
  local list = map.list
  if list then return list[partition + 1] end
  local new = map.new[partition]
  if new then return new end
  local body, from = bodyOf(map), partition * map.width
  if #body < from + map.width then return 0 end
  return (struct.unpack(map.one, body, from + 1))
end

local function put(map, partition, number)
  map.changes = map.changes + 1
  if map.list then
    map.list[partition + 1] = number
  else
    map.new[partition] = number
    if number > 0 then map.filled = true end
  end
end

-- All numbers as a list, for runs that look at many: partition p is at p + 1.
local function all(map, size)
  if map.list then return map.list end
  local list, body = {}, bodyOf(map)
  body = body .. string.rep("\\0", size * map.width - #body)
  for from = 0, size - 1, 1000 do
    local count = math.min(1000, size - from)
    local values = { struct.unpack("<" .. string.rep(map.form, count), body, from * map.width + 1) }
    for i = 1, count do list[from + i] = values[i] end
  end
  for partition, number in pairs(map.new) do list[partition + 1] = number end
  map.list, map.new = list, {}
  return list
end

local function putAll(map, list)
  local parts, size = {}, #list
  for from = 1, size, 1000 do
    local last = math.min(from + 999, size)
    parts[#parts + 1] = struct.pack("<" .. string.rep(map.form, last - from + 1), unpack(list, from, last))
  end
  map.body, map.list, map.changes = table.concat(parts), list, 0
  redis.call("SET", map.key, map.body)
end

local function open(group)
  for _, map in ipairs({ group.owners, group.targets, group.epochs }) do all(map, group.partitions) end
end

-- The partitions of a slot, in order, by owners or by targets (their map is named). With many of them all is opened.
local function placesOf(group, name, slot)
  local map, found, size = group[name], {}, 0
  if not map.list then
    local new, body, mark, find, from = map.new, bodyOf(map), struct.pack(map.one, slot), string.find, 1
    while size <= many do
      local i = find(body, mark, from, true)
      if not i then break end
      from = i + 1
      -- A find between two numbers is none.
      if i % 2 == 1 then
        from = i + 2
        if not new[(i - 1) / 2] then
          size = size + 1
          found[size] = (i - 1) / 2
        end
      end
    end
    if size <= many then
      for partition, number in pairs(map.filled and new or {}) do
        if number == slot then found[#found + 1] = partition end
      end
      if map.filled then table.sort(found) end
      return found
    end
    open(group)
  end
  local list = map.list
  found, size = {}, 0
  for i = 1, #list do
    if list[i] == slot then
      size = size + 1
      found[size] = i - 1
    end
  end
  return found
end

local function write(map, size)
  if map.changes == 0 then return end
  if map.list or map.changes > many then return putAll(map, all(map, size)) end
  for partition, number in pairs(map.new) do
    redis.call("SETRANGE", map.key, partition * map.width, struct.pack(map.one, number))
  end
end

local function declare(name)
  local first = ${sharedKeys.length} + ${groupKeys.length} * declared
  declared = declared + 1
  local meta = redis.call("HGET", metas, name) or "0 0 0 0 0 0"
  local partitions, paused, generation, counter, slot, began =
    string.match(meta, "^(%d+) (%d) (%d+) (%d+) (%d+) ?(%d*)$")
  local group = { name = name, members = KEYS[first + 1], slots = KEYS[first + 2], concerned = {} }
  group.owners, group.targets = array(KEYS[first + 3], "H", 2), array(KEYS[first + 4], "H", 2)
  group.epochs, group.quarantine = array(KEYS[first + 5], "I8", 8), KEYS[first + 6]
  group.partitions, group.paused = tonumber(partitions), paused == "1"
  group.generation, group.counter, group.slot = tonumber(generation), tonumber(counter), tonumber(slot)
  group.began = tonumber(began) or 0
  groups[name] = group
  return group
end

local function save(group)
  local flag = group.paused and "1" or "0"
  redis.call("HSET", metas, group.name, text(group.partitions) .. " " .. flag .. " " .. text(group.generation)
    .. " " .. text(group.counter) .. " " .. text(group.slot) .. " " .. text(group.began))
end

local function nextEpoch(group)
  group.counter = math.max(group.counter + 1, now)
  return group.counter
end

local function slotOf(group, member)
  local score = redis.call("ZSCORE", group.members, member)
  return score and tonumber(score) % 65536
end

-- Slots go round, so that one is not given again soon.
local function enter(group, member)
  repeat group.slot = group.slot % 65534 + 1 until redis.call("HSETNX", group.slots, group.slot, member) == 1
  redis.call("ZADD", group.members, text(rank(group.name, member) * 65536 + group.slot), member)
end

local function concern(group, slot)
  if slot > 0 and slot ~= held then group.concerned[slot] = true end
end

-- From the first change that is not settled yet; an earlier time is kept.
local function unsettle(group, at)
  local due = redis.call("HGET", dues, group.name)
  if not due or tonumber(due) > at then redis.call("HSET", dues, group.name, text(at)) end
end

-- Strike a member from a group, and free what it had there; false if it was not in the group.
local function strike(group, member)
  local slot = slotOf(group, member)
  if not slot then return false end
  -- Who waited for one of its partitions may have it, and who was to give one up to it may keep it.
  for _, partition in ipairs(placesOf(group, "owners", slot)) do
    concern(group, at(group.targets, partition))
    put(group.owners, partition, 0)
  end
  for _, partition in ipairs(placesOf(group, "targets", slot)) do
    concern(group, at(group.owners, partition))
    put(group.targets, partition, 0)
  end
  redis.call("ZREM", group.members, member)
  redis.call("HDEL", group.slots, slot)
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

-- The names of those who are concerned.
local function resolve()
  for _, group in pairs(groups) do
    local slots = {}
    for slot in pairs(group.concerned) do slots[#slots + 1] = slot end
    for i = 1, #slots, 500 do
      local names = redis.call("HMGET", group.slots, unpack(slots, i, math.min(i + 499, #slots)))
      for j = 1, #names do
        if names[j] then concerned[names[j]] = true end
      end
    end
    group.concerned = {}
  end
end

local function tell(except)
  local channel, names = string.sub(leases, 1, -8) .. "wake:", {}
  resolve()
  for member in pairs(concerned) do
    names[#names + 1] = member
    if member ~= except then redis.call("PUBLISH", channel .. member, "") end
  end
  slices("HDEL", stated, names)
  for _, group in pairs(groups) do
    write(group.owners, group.partitions)
    write(group.targets, group.partitions)
    write(group.epochs, group.partitions)
  end
end
`

/**
 * Targets, written where they differ from those before; concerned is who must stop, or may begin. `done` counts the
 * partitions that a run has dealt with at length.
 */
export const settle = /* lua */ `
local done = 0
local function compute(group)
  local members, order, aside = redis.call("ZRANGE", group.members, 0, -1, "WITHSCORES"), {}, {}
  for i = 2, #members, 2 do order[i / 2] = members[i] % 65536 end
  for _, partition in ipairs(redis.call("HKEYS", group.quarantine)) do aside[tonumber(partition) + 1] = true end
  local owner, wanted = all(group.owners, group.partitions), all(group.targets, group.partitions)
  local target = assign(order, owner, wanted, aside)
  local changed, involved = false, group.concerned
  for i = 1, #target do
    local to = target[i]
    if to ~= wanted[i] then
      local from = owner[i]
      changed = true
      if from == 0 or from == held then from = to end
      if from ~= 0 then involved[from] = true end
    end
  end
  if changed then putAll(group.targets, target) end
  group.generation = group.generation + 1
  save(group)
  done = done + group.partitions
end

-- What is due, as much as one run may take; for what is left over somebody is called at once.
local function settleDue()
  local room
  for _, group in pairs(groups) do
    local due = redis.call("HGET", dues, group.name)
    local members = due and redis.call("ZCARD", group.members)
    if due and members == 0 then
      redis.call("HDEL", dues, group.name)
    elseif due and tonumber(due) <= now then
      local size = members + group.partitions
      if not room or size <= room then
        room = (room or 6000) - size
        compute(group)
        redis.call("HDEL", dues, group.name)
      else
        redis.call("PUBLISH", string.sub(leases, 1, -8) .. "wake:" .. redis.call("ZRANDMEMBER", group.members), "")
      end
    end
  end
end
`
