/**
 * The scripts of the coordinator. All run in the slot of `{ns}` on the server's own clock. `sync` has a path for the
 * steady heartbeat, which touches nothing but the caller's lease: keep it free of whatever grows with members or
 * partitions.
 */
import { assignLua, books, head, settle } from "./books.ts"
import { script } from "./client.ts"

export type Synced =
  /** Number, milliseconds to the next sync. */
  | readonly ["Same", string, number]
  /** The same, then for each group its name, "1" if paused, and `partition:epoch` with "!" for what to give up. */
  | readonly ["Whole", string, number, ...ReadonlyArray<string>]
  | readonly ["Replaced"]
  /** Group, stored and asked partition count. */
  | readonly ["Partitions", string, number, number]
  | readonly ["Declare", ...ReadonlyArray<string>]

/**
 * ARGV: member, incarnation, lease, settle, known, the member's groups as "name count name count ...", further declared
 * groups in the same form, changes as JSON: for each group its place among the member's, then what is released and what
 * was refused, both as [partition, epoch, partition, epoch ...].
 */
export const sync = script<Synced>(
  "sync",
  /* lua */ `${head}
local me, incarnation, known = ARGV[1], ARGV[2], ARGV[5]
local lease, delay, asked, further, changes = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[6], ARGV[7], ARGV[8]
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
${books}${assignLua}${settle}
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
    ended = redis.call("ZRANGEBYSCORE", leases, "-inf", absent and from or text(now))
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
  if not groups[name].asked and strike(groups[name], me) then unsettle(groups[name], now) end
end
for _, group in ipairs(mine) do
  local record = recordOf(group, me)
  if not record then
    local alone = redis.call("HLEN", group.members) == 0
    group.partitions = group.asked
    save(group)
    store(group, me, { {}, {} })
    unsettle(group, alone and now or now + delay)
    concerned[me] = true
  elseif isNew then
    for i = 2, #record[1], 2 do record[1][i] = nextEpoch(group) end
    save(group)
    store(group, me, record)
  end
end

-- A release frees its very epoch. A refusal frees any epoch up to the one that is in force at the shard.
local function free(group, released, refused)
  local record, freed, has = recordOf(group, me), {}, {}
  for i = 1, #record[1], 2 do has[record[1][i]] = record[1][i + 1] end
  for i = 1, #released, 2 do
    local partition = released[i]
    if has[partition] == released[i + 1] then
      has[partition] = nil
      freed[#freed + 1] = partition
    end
  end
  for i = 1, #refused, 2 do
    local partition, epoch = refused[i], refused[i + 1]
    group.counter = math.max(group.counter, epoch)
    if has[partition] and has[partition] <= epoch then
      has[partition] = nil
      freed[#freed + 1] = partition
    end
  end
  if #refused > 0 then save(group) end
  if #freed == 0 then return end
  local owned = {}
  for i = 1, #record[1], 2 do
    if has[record[1][i]] then
      owned[#owned + 1] = record[1][i]
      owned[#owned + 1] = record[1][i + 1]
    end
  end
  store(group, me, { owned, record[2] })
  for _, partition in ipairs(freed) do
    put(group.owners, partition, false)
    local target = at(group.targets, partition)
    if target then concerned[target] = true end
  end
  concerned[me] = true
end
if changes ~= "" then
  for _, change in ipairs(cjson.decode(changes)) do free(mine[change[1]], change[2], change[3]) end
end

settleDue()

-- Grant what is targeted at me and free; then all that is mine, as text.
local function state(group, reply)
  local record, has, isTarget, parts = recordOf(group, me), {}, {}, {}
  local owned, before = record[1], #record[1]
  for i = 1, #owned, 2 do has[owned[i]] = true end
  for _, p in ipairs(record[2]) do
    isTarget[p] = true
    if not has[p] and not at(group.owners, p) then
      owned[#owned + 1] = p
      owned[#owned + 1] = nextEpoch(group)
      put(group.owners, p, me)
    end
  end
  if #owned > before then
    store(group, me, record)
    save(group)
  end
  for i = 1, #owned, 2 do
    local giveUp = not isTarget[owned[i]] and at(group.targets, owned[i])
    parts[#parts + 1] = string.format(giveUp and "%d:%.0f!" or "%d:%.0f", owned[i], owned[i + 1])
  end
  reply[#reply + 1] = group.name
  reply[#reply + 1] = group.paused and "1" or "0"
  reply[#reply + 1] = table.concat(parts, " ")
end

local reply = { "Same", known, 0 }
if concerned[me] or said ~= known then
  reply[1], reply[2] = "Whole", text(math.max(known + 1, (said or 0) + 1, now))
  for _, group in ipairs(mine) do state(group, reply) end
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
  /* lua */ `${head}${books}${assignLua}${settle}
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
  /* lua */ `${head}${books}
local group, paused = declare(ARGV[1]), ARGV[2] == "1"
if group.paused == paused then return 0 end
if not paused then
  for p = 0, group.partitions - 1 do if at(group.owners, p) == "" then put(group.owners, p, false) end end
end
group.paused = paused
save(group)
for _, member in ipairs(redis.call("HKEYS", group.members)) do concerned[member] = true end
tell()
return 1
`
)

/** ARGV: group. Partitions, paused, generation, then each member and what it owns as `partition:epoch ...`. */
export const describe = script<readonly [number, number, number, ...ReadonlyArray<string>]>(
  "group",
  /* lua */ `${head}${books}
local group = declare(ARGV[1])
local reply, all = { group.partitions, group.paused and 1 or 0, group.generation }, redis.call("HGETALL", group.members)
for i = 1, #all, 2 do
  local owned, parts = cmsgpack.unpack(all[i + 1])[1], {}
  for j = 1, #owned, 2 do parts[#parts + 1] = string.format("%d:%.0f", owned[j], owned[j + 1]) end
  reply[#reply + 1] = all[i]
  reply[#reply + 1] = table.concat(parts, " ")
end
return reply
`
)

/**
 * ARGV: group, partition. The epoch; nil where the group runs; a number for the count that the partition is beyond.
 * While the group is paused the partition has the owner "", so that nobody is granted it before the caller is done.
 */
export const takeEpoch = script<string | number | null>(
  "takeEpoch",
  /* lua */ `${head}${books}
local group, partition = declare(ARGV[1]), tonumber(ARGV[2])
if group.partitions > 0 and partition >= group.partitions then return group.partitions end
if not group.paused then
  for _, member in ipairs(redis.call("HKEYS", group.members)) do
    local lease = redis.call("ZSCORE", leases, member)
    if lease and tonumber(lease) > now then return false end
  end
end
local owner = at(group.owners, partition)
local record = owner and owner ~= "" and recordOf(group, owner)
if record then
  local owned = {}
  for i = 1, #record[1], 2 do
    if record[1][i] ~= partition then
      owned[#owned + 1] = record[1][i]
      owned[#owned + 1] = record[1][i + 1]
    end
  end
  store(group, owner, { owned, record[2] })
  concerned[owner] = true
end
put(group.owners, partition, group.paused and "")
local epoch = text(nextEpoch(group))
save(group)
tell()
return epoch
`
)

/** ARGV: group. 0 if it has a member whose lease has not ended. */
export const removeGroup = script<number>(
  "removeGroup",
  /* lua */ `${head}${books}
local group = declare(ARGV[1])
local members = redis.call("HKEYS", group.members)
for _, member in ipairs(members) do
  local lease = redis.call("ZSCORE", leases, member)
  if lease and tonumber(lease) > now then return 0 end
end
-- One that comes back after all has to look, and joins anew.
slices("HDEL", stated, members)
redis.call("HDEL", metas, group.name)
redis.call("HDEL", dues, group.name)
redis.call("UNLINK", group.members, group.owners.key, group.targets.key)
return 1
`
)
