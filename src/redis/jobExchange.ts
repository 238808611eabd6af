/**
 * The exchange: one script that settles what a worker has done and claims what it does next. What most jobs never need
 * (retries, groups, cancelled ones, somebody who waits) is asked for once per run, by one EXISTS, and not at all per job.
 */
import type { Exchange, Settlement } from "../JobStore.ts"
import { type Argument, script } from "./client.ts"
import { before, bind, clock, fields, free, leave, over, put, type QueueKeys } from "./jobKeys.ts"

const lua = String.raw

/** A slot's claims are scores above `slot * 2^31`. */
export const claimsPerSlot = 2 ** 31

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

/** Done jobs of one time to live, as many as they are. */
const settleDone = lua`
local function settleDone(at)
  local ttl, n = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  at = at + 3
  local ids, rows, kept = {}, {}, 0
  for i = 1, n do ids[i] = ARGV[at + 3 * i - 3] end
  local scores = redis.call("ZMSCORE", active, unpack(ids))
  local head = "f" .. text(now + ttl) .. "\t" .. text(now) .. "\tS\t"
  for i = 1, n do
    if tonumber(scores[i] or -1) == from + ARGV[at + 3 * i - 2] then
      kept = kept + 1
      ids[kept], rows[2 * kept - 1], rows[2 * kept] = ids[i], ids[i], head .. ARGV[at + 3 * i - 1]
    else
      refused[#refused + 1] = ids[i]
    end
  end
  at = at + 3 * n
  if kept == 0 then return at end
  redis.call("ZREM", active, unpack(ids, 1, kept))
  if some then finish(ids, rows, kept) end
  if ttl > 0 then
    redis.call("HSET", jobs, unpack(rows, 1, 2 * kept))
    redis.call("ZADD", forget, text(now + ttl), slot .. "." .. ARGV[2] .. "." .. at .. "\t" .. table.concat(ids, "\t", 1, kept))
    done = redis.call("HINCRBY", meta, "done", kept)
  else
    redis.call("HDEL", jobs, unpack(ids, 1, kept))
  end
  return at
end
`

/** What most done jobs do not have: a ledger, a group, somebody who waits. Made only where there is some of it. */
const settleRare = lua`
${fields}${free}${put}${leave}${over}
finish = function(ids, rows, n)
  local has = function(key) return redis.call("EXISTS", key) == 1 and redis.call("HMGET", key, unpack(ids, 1, n)) end
  local states, watched = has(state), {}
  for _, key in ipairs({ awaited, parents, progress, cancels }) do
    local found = has(key)
    for i = 1, found and n or 0 do watched[i] = watched[i] or found[i] end
  end
  local grouped, keyed = redis.call("EXISTS", lanes) == 1, redis.call("EXISTS", dedup) == 1
  for i = 1, n do
    local id = ids[i]
    if states and states[i] then
      local _, _, _, _, ledger = stateOf(id)
      redis.call("HDEL", state, id)
      if ledger ~= "" then
        local head, rest = string.match(rows[2 * i], "^([^\n]*\t)%d+(\n.*)$")
        rows[2 * i] = head .. #ledger .. "\n" .. ledger .. string.sub(rest, 2)
      end
    end
    if grouped then
      local _, name, _, group = fieldsOf(redis.call("HGET", jobs, id))
      if group ~= "" then leave(name, group) end
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

/** What a claim meets now and then: due jobs, freed ones, groups. Made only then. */
const claimRare = lua`
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
const take = lua`
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

/**
 * ARGV: slot, number, lease, count, high, medium, low, alone, names; for each name: itself, room, concurrency of a group (0:
 * it has none), and a group's limit (count, milliseconds or 0); then settlements: "D", time to live, jobs, and for each id,
 * claim and record; or "O" for one of another kind. Gives "0" for a session that is not known; else "1", now, when to look
 * again or "", whether there are suspects, whether a lease has ended, the ids refused, records, and states.
 */
export const exchange = script<ReadonlyArray<unknown>>(
  "exchangeJobs",
  lua`#!lua flags=allow-oom
${bind("jobs", "state", "active", "leases", "sessions", "meta", "dead", "gone", "cancels", "awaited", "forget", "progress")}
${bind("dedup", "waiting", "parents", "lanes", "items", "freed")}${clock}
local slot, number = ARGV[1], tonumber(ARGV[2])
local from = slot * ${claimsPerSlot}
local row = redis.call("HGET", sessions, slot)
if not row then return { "0" } end
local worker, last, refusedThen, claimedThen = string.match(row, "^([^\n]*)\n(%d+)\n([^\n]*)\n(.*)$")
last = tonumber(last)
if number < last then return { "0" } end
local count, names = tonumber(ARGV[4]), tonumber(ARGV[9])
local refused, ids, room, missed, done, nextLook = {}, {}, {}, false, 0, nil
local function look(at) if not nextLook or at < nextLook then nextLook = at end end
if number == last then
  look(now)
  for id in string.gmatch(refusedThen, "[^\t]+") do refused[#refused + 1] = id end
  for id in string.gmatch(claimedThen, "[^\t]+") do
    if tonumber(redis.call("ZSCORE", active, id) or -1) == from + number then ids[#ids + 1] = id end
  end
else
  local finish, bury, settleOther
  local at = 10 + 5 * names
  local some = at <= #ARGV and
    redis.call("EXISTS", state, lanes, awaited, progress, cancels, parents, dedup) > 0
  if some or ARGV[at] == "O" then
    some = true
    ${settleRare}
  end
  ${settleDone}
  while ARGV[at] do
    if ARGV[at] == "D" then at = settleDone(at) else at = settleOther(at) end
  end
  local settings = redis.call("HMGET", meta, "paused", "limit", "used", "keepDone")
  if settings[1] then count = 0 end
  local window, used, per
  if settings[2] and count > 0 then
    local limit
    limit, per = string.match(settings[2], "^(%d+) (%d+)$")
    window, used = string.match(settings[3] or "0 0", "^(%d+) (%d+)$")
    window, used = tonumber(window), tonumber(used)
    if now >= window + per then window, used = now, 0 end
    if used + count > tonumber(limit) then look(window + per) end
    count = math.min(count, tonumber(limit) - used)
  end
  if count > 0 then
    local promote, takeFreed, nextOf, limitCount, limitPer
    local rare = redis.call("EXISTS", freed, lanes, gone)
    local stale = rare > 0 and redis.call("EXISTS", gone) == 1
    if rare > 0 then
      ${claimRare}
    end
    local wanted = count
    for i = 1, names do
      local base = ${before} + 5 * (i - 1)
      room[i] = tonumber(ARGV[6 + 5 * i])
      if rare > 0 then takeFreed(base, ARGV[5 + 5 * i]) end
      local due = redis.call("ZRANGE", KEYS[base + 4], 0, 0, "WITHSCORES")
      if due[2] and tonumber(due[2]) <= now then
        if not promote then
          rare = 1
          ${claimRare}
        end
        promote(base, KEYS[base + 4])
        due = redis.call("ZRANGE", KEYS[base + 4], 0, 0, "WITHSCORES")
      end
      if due[2] then look(tonumber(due[2])) end
    end
    ${take}
    for i = 1, names do
      if ARGV[8] == "1" and #ids == 0 and room[i] > 0 then
        local id = redis.call("LPOP", KEYS[${before} + 5 * i])
        if id then ids[1], count = id, 0 end
      end
    end
    local empty = {}
    for list = 1, 3 do
      local share = math.min(count, tonumber(ARGV[4 + list]))
      for i = 1, names do
        local most = math.min(room[i], math.ceil(share / (names - i + 1)))
        if most > 0 then
          local n = take(i, list, most)
          share = share - n
          if n < most and not missed and ARGV[7 + 5 * i] == "0" then empty[3 * i + list] = true end
        end
      end
    end
    for list = 1, 3 do
      for i = 1, names do
        local most = math.min(room[i], count)
        if most > 0 and not empty[3 * i + list] then
          -- A group that may run more of its jobs stands in the list again.
          while take(i, list, most) > 0 and ARGV[7 + 5 * i] ~= "0" and room[i] > 0 and count > 0 do
            most = math.min(room[i], count)
          end
        end
      end
    end
    if missed then look(now) end
    if count > 0 then
      local idle = {}
      for i = 1, names do
        if room[i] > 0 then idle[#idle + 1] = "w:" .. ARGV[5 + 5 * i]; idle[#idle + 1] = "1" end
      end
      if #idle > 0 then redis.call("HSET", meta, unpack(idle)) end
    end
    if window and #ids > 0 then redis.call("HSET", meta, "used", text(window) .. " " .. text(used + #ids)) end
    if #ids > 0 then
      local scores, token = {}, text(from + number)
      for i = 1, #ids do scores[2 * i - 1], scores[2 * i] = token, ids[i] end
      redis.call("ZADD", active, unpack(scores))
    end
  end
  if #ids > 0 or at > 10 + 5 * names then
    redis.call("HSET", sessions, slot, worker .. "\n" .. ARGV[2] .. "\n" .. table.concat(refused, "\t") .. "\n" ..
      table.concat(ids, "\t"))
  end
  if done > 0 then
    ${purge}
    purge(done, tonumber(settings[4] or ${1_000_000}))
  end
end
local suspects, expired = 0, 0
if #ids < tonumber(ARGV[4]) then
  for i = 1, names do suspects = suspects + redis.call("LLEN", KEYS[${before} + 5 * i]) end
  local lease = redis.call("ZRANGE", leases, 0, 0, "WITHSCORES")
  if lease[2] and tonumber(lease[2]) <= now then expired = 1 end
end
local answer = { "1", text(now), nextLook and text(nextLook) or "", suspects, expired, refused, {}, {} }
if #ids > 0 then
  answer[7] = redis.call("HMGET", jobs, unpack(ids))
  if redis.call("EXISTS", state) == 1 then answer[8] = redis.call("HMGET", state, unpack(ids)) end
end
return answer
`
)

/** What a finished job's row holds behind "f<expires>\t<at>\t<S or C>\t". */
const finishedOf = ({ failures, name, priority }: Settlement["job"], format: string | undefined): string =>
  `${name}\t${priority[0]}\t${failures}\t${format ?? ""}\t0\n`

const kinds = { Retry: "R", Dead: "X", Cancelled: "C", Back: "B" } as const

/** The arguments of one exchange. */
export const exchangeArgs = ({
  alone,
  count,
  lease,
  number,
  rooms,
  session,
  settle,
  shares
}: Exchange): ReadonlyArray<Argument> => {
  const args: Array<Argument> = [session.slot, number, lease, count, ...shares, alone ? "1" : "0", rooms.length]
  for (const { count, group, name } of rooms) {
    args.push(name, count, group?.concurrency ?? 0, group?.limit?.count ?? 0, Math.ceil(group?.limit?.per ?? 0))
  }
  const sections = new Map<number, Array<Argument>>()
  for (let i = 0; i < settle.length; i++) {
    const { job, outcome } = settle[i]!
    if (outcome._tag === "Done") {
      const ttl = Math.ceil(outcome.ttl)
      let section = sections.get(ttl)
      if (section === undefined) sections.set(ttl, (section = []))
      const head = finishedOf(job, outcome.format)
      const { result } = outcome
      section.push(
        job.id,
        job.claim,
        typeof result === "string" ? head + result : Buffer.concat([Buffer.from(head), result])
      )
    }
  }
  // These first: the script looks at the first one to see whether there are any.
  for (const { job, outcome } of settle) {
    if (outcome._tag === "Done") continue
    const name = rooms.findIndex((room) => room.name === job.name)
    const delay = outcome._tag === "Retry" ? outcome.delay : outcome._tag === "Cancelled" ? outcome.ttl : 0
    const counted = outcome._tag === "Retry" && outcome.counted ? 1 : 0
    const entry = outcome._tag === "Retry" || outcome._tag === "Dead" ? outcome.entry : ""
    const word =
      outcome._tag === "Dead" ? outcome.reason : outcome._tag === "Cancelled" ? finishedOf(job, undefined) : ""
    args.push("O", job.id, job.claim, kinds[outcome._tag], before + 5 * name, Math.ceil(delay), counted, entry, word)
  }
  for (const [ttl, section] of sections) {
    args.push("D", ttl, section.length / 3)
    for (const argument of section) args.push(argument)
  }
  return args
}

export const exchangeKeys = (queue: QueueKeys, { rooms }: Exchange): ReadonlyArray<string> =>
  queue.with(rooms.map((room) => room.name))
