/**
 * The scripts of the coordinator. All run in the slot of `{ns}` on the server's own clock. `sync` has a path for the
 * steady heartbeat, which touches nothing but the caller's lease: keep it free of whatever grows with members or
 * partitions.
 */

import { quarantineSettleMillis } from "../internal/quarantine.ts"
import { assignLua, books, head, settle } from "./books.ts"
import { script } from "./client.ts"

export type GroupStatement = readonly [string, number, ...ReadonlyArray<number>]

export type Synced =
  /** Number, milliseconds to the next sync. */
  | readonly ["Same", string, number]
  /** The same, then for each group its name, 1 if paused, and partition and epoch in turn, -epoch for what to give up. */
  | readonly ["Whole", string, number, ...ReadonlyArray<GroupStatement>]
  | readonly ["Replaced"]
  /** There is more to do than one run may take: ask again, without the changes that were sent. */
  | readonly ["More"]
  /** Group, stored and asked partition count. */
  | readonly ["Partitions", string, number, number]
  | readonly ["Declare", ...ReadonlyArray<string>]

/** Partitions that one run grants, frees or computes targets for, before it leaves the rest to the next one. */
export const runLimit = 1_000

/**
 * ARGV: member, incarnation, lease, settle, known, the member's groups as "name count name count ...", further declared
 * groups in the same form, changes as JSON: for each group its place among the member's, then what is released and what
 * was refused, both as [partition, epoch, partition, epoch ...]; behind a "+" if more of them follow in a next run.
 */
export const sync = script<Synced>(
  "sync",
  /* lua */ `${head}
local me, incarnation, known = ARGV[1], ARGV[2], ARGV[5]
local lease, delay, asked, further, changes = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[6], ARGV[7], ARGV[8]
local more = string.sub(changes, 1, 1) == "+"
if more then changes = string.sub(changes, 2) end
local before = redis.call("HGET", incarnations, me)
local said = redis.call("HGET", stated, me)
local first = redis.call("ZRANGE", leases, 0, 1, "WITHSCORES")
local earliest = tonumber(first[2])
local wait = math.floor(lease / 3)
if said == known and changes == "" and earliest and earliest > now and before == incarnation .. " " .. asked
  and redis.call("EXISTS", dues) == 0 then
  redis.call("ZADD", leases, string.format("%.0f", now + lease), me)
  local other = first[1] == me and first[4] or first[2]
  if first[1] ~= me or first[4] then wait = math.min(wait, tonumber(other) - now) end
  return { "Same", known, wait }
end
${assignLua}${books}${settle}
-- Nothing is written before all that can refuse has been looked at.
local old, oldGroups = string.match(before or "", "^(%S+) (.*)$")
local since, gone = string.match(redis.call("HGET", replaced, me) or "0 ", "^(%d+)(.*)$")
local isNew = old ~= incarnation
-- An old start is one that was seen to be replaced, or one whose last statement is older than the start in the books. (A
-- later statement than that start means that the server went back: then it is the books that are old.)
local isOld = string.find(gone, " " .. incarnation .. " ", 1, true) or (known ~= "0" and tonumber(known) < tonumber(since))
if old and isNew and isOld then return { "Replaced" } end
local mine = {}
for name, partitions in string.gmatch(asked, "(%S+) (%d+)") do
  local group = declare(name)
  group.asked = tonumber(partitions)
  mine[#mine + 1] = group
  if group.partitions > 0 and group.partitions ~= group.asked then
    return { "Partitions", name, group.partitions, group.asked }
  end
end
for name in string.gmatch(further, "(%S+) %d+") do declare(name) end

-- Two or more, and more than half of all, ended at once: the server was away, and they get the time to come back. Those
-- that had that time already (their leases ended before the absence was noticed) are dropped.
local ended, absent, missing, inGroups = {}, false, {}, {}
if earliest and earliest <= now then
  local from, till = string.match(redis.call("GET", away) or "0 0", "^(%d+) (%d+)$")
  if now >= tonumber(till) then
    local fresh = redis.call("ZCOUNT", leases, "(" .. from, text(now))
    absent = fresh >= 2 and fresh * 2 > redis.call("ZCARD", leases)
    -- Those that are left over are dropped by the next sync, which is due at once.
    ended = redis.call("ZRANGEBYSCORE", leases, "-inf", absent and from or text(now), "LIMIT", 0, 100)
  end
end
for i, member in ipairs(ended) do
  inGroups[i] = member ~= me and string.match(redis.call("HGET", incarnations, member) or "", "^%S+ (.*)$") or ""
  need(inGroups[i], missing)
end
need(oldGroups or "", missing)
if #missing > 0 then return { "Declare", unpack(missing) } end

redis.call("ZADD", leases, text(now + lease), me)
if absent then redis.call("SET", away, text(now) .. " " .. text(now + math.floor(lease / 3))) end
for i, member in ipairs(ended) do
  for name in string.gmatch(inGroups[i], "(%S+) %d+") do
    if strike(groups[name], member) then unsettle(groups[name], now + delay) end
  end
  if member ~= me then forget(member) end
end

if isNew then
  local kept, count = text(now) .. " " .. (old and old .. " " or ""), 1
  for one in string.gmatch(gone, "%S+") do
    count = count + 1
    if count <= 8 then kept = kept .. one .. " " end
  end
  redis.call("HSET", replaced, me, kept)
  concerned[me] = true
end
redis.call("HSET", incarnations, me, incarnation .. " " .. asked)
for name in string.gmatch(oldGroups or "", "(%S+) %d+") do
  if not groups[name].asked and strike(groups[name], me) then
    unsettle(groups[name], now)
    concerned[me] = true
  end
end
for _, group in ipairs(mine) do
  local slot = slotOf(group, me)
  if not slot then
    local alone = redis.call("ZCARD", group.members) == 0
    group.partitions = group.asked
    if alone then group.began = math.max(group.began + 1, now) end
    enter(group, me)
    save(group)
    unsettle(group, alone and now or now + delay)
    concerned[me] = true
  elseif isNew then
    for _, partition in ipairs(placesOf(group, "owners", slot)) do
      put(group.epochs, partition, nextEpoch(group))
      done = done + 1
    end
    save(group)
  end
end

-- A release frees its very epoch. A refusal frees any epoch up to the one that is in force at the shard.
local function free(group, released, refused)
  local slot = slotOf(group, me)
  if #released + #refused > 2 * many then open(group) end
  local function drop(partition)
    put(group.owners, partition, 0)
    concern(group, at(group.targets, partition))
    concerned[me] = true
  end
  for i = 1, #released, 2 do
    local partition = released[i]
    if at(group.owners, partition) == slot and at(group.epochs, partition) == released[i + 1] then drop(partition) end
  end
  for i = 1, #refused, 2 do
    local partition, epoch = refused[i], refused[i + 1]
    group.counter = math.max(group.counter, epoch)
    if at(group.owners, partition) == slot and at(group.epochs, partition) <= epoch then drop(partition) end
  end
  if #refused > 0 then save(group) end
end
for _, change in ipairs(changes == "" and {} or cjson.decode(changes)) do
  free(mine[change[1]], change[2], change[3])
end

if not more then settleDue() end

-- Grant what is targeted at me and free; false if that is too much for this run.
local function grant(group)
  local slot, owners, epochs, counter = slotOf(group, me), group.owners, group.epochs, group.counter
  for _, partition in ipairs(placesOf(group, "targets", slot)) do
    if at(owners, partition) == 0 then
      if done >= ${runLimit} then
        more = true
        break
      end
      done = done + 1
      counter = counter + 1
      if counter < now then counter = now end
      put(owners, partition, slot)
      put(epochs, partition, counter)
    end
  end
  if counter > group.counter then
    group.counter = counter
    save(group)
  end
end

-- All that is mine.
local function state(group)
  local slot, targets, epochs, size = slotOf(group, me), group.targets, group.epochs, 2
  local reply = { group.name, group.paused and 1 or 0 }
  for _, partition in ipairs(placesOf(group, "owners", slot)) do
    local target, epoch = at(targets, partition), at(epochs, partition)
    reply[size + 1] = partition
    reply[size + 2] = target ~= slot and target ~= 0 and -epoch or epoch
    size = size + 2
  end
  return reply
end

local reply = { "Same", known, 0 }
resolve()
if not more and (concerned[me] or said ~= known) then
  reply[1], reply[2] = "Whole", text(math.max(known + 1, (said or 0) + 1, now))
  for _, group in ipairs(mine) do grant(group) end
  for i, group in ipairs(mine) do reply[3 + i] = not more and state(group) end
end
if more or done >= ${runLimit} and reply[1] == "Whole" then
  concerned[me] = true
  tell(me)
  return { "More" }
end
tell(me)
if reply[1] == "Whole" then redis.call("HSET", stated, me, reply[2]) end

for _, group in ipairs(mine) do
  local due = redis.call("HGET", dues, group.name)
  if due then wait = math.min(wait, tonumber(due) - now) end
end
first = redis.call("ZRANGE", leases, 0, 1, "WITHSCORES")
local other = tonumber(first[1] == me and first[4] or first[2])
if first[1] ~= me or first[4] then
  if other <= now then other = tonumber(string.match(redis.call("GET", away) or "0 0", "%d+$")) end
  wait = math.min(wait, other - now)
end
reply[3] = math.max(wait, 0)
return reply
`
)

export type Left = readonly ["Left"] | readonly ["Declare", ...ReadonlyArray<string>]

/** ARGV: member, incarnation, declared groups as "name 0 name 0 ...". */
export const leave = script<Left>(
  "leave",
  /* lua */ `${head}${assignLua}${books}${settle}
local me, incarnation = ARGV[1], ARGV[2]
local old, oldGroups = string.match(redis.call("HGET", incarnations, me) or "", "^(%S+) (.*)$")
if old ~= incarnation then return { "Left" } end
for name in string.gmatch(ARGV[3], "(%S+) %d+") do declare(name) end
local missing = {}
need(oldGroups, missing)
if #missing > 0 then return { "Declare", unpack(missing) } end
for name in string.gmatch(oldGroups, "(%S+) %d+") do
  if strike(groups[name], me) then unsettle(groups[name], now) end
end
forget(me)
settleDue()
tell(me)
return { "Left" }
`
)

/** ARGV: group, "1" to pause. What `takeEpoch` held back for the length of the pause may be granted after it. */
export const pause = script<number>(
  "pause",
  /* lua */ `${head}${assignLua}${books}
local group, paused = declare(ARGV[1]), ARGV[2] == "1"
if group.paused == paused then return 0 end
if not paused then
  for _, partition in ipairs(placesOf(group, "owners", held)) do put(group.owners, partition, 0) end
end
group.paused = paused
save(group)
for _, member in ipairs(redis.call("ZRANGE", group.members, 0, -1)) do concerned[member] = true end
tell()
return 1
`
)

export type Described = readonly [
  partitions: number,
  paused: number,
  generation: number,
  /** Slot and name in turn. */
  members: ReadonlyArray<string>,
  /** Slots by partition. */
  owners: ReadonlyArray<number>,
  epochs: ReadonlyArray<number>,
  quarantined: ReadonlyArray<string>
]

/** ARGV: group. */
export const describe = script<Described>(
  "group",
  /* lua */ `${head}${assignLua}${books}
local group = declare(ARGV[1])
return {
  group.partitions, group.paused and 1 or 0, group.generation, redis.call("HGETALL", group.slots),
  all(group.owners, group.partitions), all(group.epochs, group.partitions), redis.call("HKEYS", group.quarantine)
}
`
)

/**
 * ARGV: group, partition. The epoch; nil where the group runs and the partition is not quarantined; a number for the count
 * that the partition is beyond. While the group is paused the partition is held back, so that nobody is granted it before
 * the caller is done; one that is quarantined has no target anyway.
 */
export const takeEpoch = script<string | number | null>(
  "takeEpoch",
  /* lua */ `${head}${assignLua}${books}
local group, partition = declare(ARGV[1]), tonumber(ARGV[2])
if group.partitions > 0 and partition >= group.partitions then return group.partitions end
if not group.paused and redis.call("HEXISTS", group.quarantine, partition) == 0 then
  for _, member in ipairs(redis.call("ZRANGE", group.members, 0, -1)) do
    local lease = redis.call("ZSCORE", leases, member)
    if lease and tonumber(lease) > now then return false end
  end
end
concern(group, at(group.owners, partition))
put(group.owners, partition, group.paused and held or 0)
local epoch = text(nextEpoch(group))
save(group)
tell()
return epoch
`
)

/** ARGV: group. 0 if it has a member whose lease has not ended. */
export const removeGroup = script<number>(
  "removeGroup",
  /* lua */ `${head}${assignLua}${books}
local group = declare(ARGV[1])
local members = redis.call("ZRANGE", group.members, 0, -1)
for _, member in ipairs(members) do
  local lease = redis.call("ZSCORE", leases, member)
  if lease and tonumber(lease) > now then return 0 end
end
-- One that comes back after all has to look, and joins anew.
slices("HDEL", stated, members)
redis.call("HDEL", metas, group.name)
redis.call("HDEL", dues, group.name)
redis.call("UNLINK", group.members, group.slots, group.owners.key, group.targets.key, group.epochs.key, group.quarantine)
return 1
`
)

/**
 * ARGV: group, partition, epoch, member, entry. 1 if it was put aside now. The others take over what balance demands a
 * little later, so that many that fail together are one change.
 */
export const quarantine = script<number>(
  "quarantine",
  /* lua */ `${head}${assignLua}${books}
local group, partition, epoch, member = declare(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local slot = slotOf(group, member)
if not slot or at(group.owners, partition) ~= slot or at(group.epochs, partition) ~= epoch then return 0 end
if redis.call("HSETNX", group.quarantine, partition, text(now) .. " " .. ARGV[5]) == 0 then return 0 end
concern(group, at(group.targets, partition))
concerned[member] = true
put(group.owners, partition, 0)
put(group.targets, partition, 0)
unsettle(group, now + ${quarantineSettleMillis})
tell()
return 1
`
)

/** ARGV: group, partition. 0 if it was not aside. */
export const release = script<number>(
  "release",
  /* lua */ `${head}${assignLua}${books}${settle}
local group = declare(ARGV[1])
if redis.call("HDEL", group.quarantine, ARGV[2]) == 0 then return 0 end
unsettle(group, now)
settleDue()
tell()
return 1
`
)
