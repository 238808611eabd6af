/**
 * Pieces of Lua that several scripts share. A script names the pieces it needs; each stands before those that use it.
 *
 * Gotcha: numbers come back from Lua as text by `string.format("%.0f", n)`, since `tostring` rounds to 14 digits; ids and
 * epochs stay text, and are compared by length and text, which is exact at any size.
 */

/** The server's time in milliseconds, as `now`. */
export const clock = /* lua */ `
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`

/** Decimal numbers of any size, and entry ids. */
export const ids = /* lua */ `
local function bigger(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end
local function above(a, b)
  local am, as = string.match(a, "^(%d+)-(%d+)$")
  local bm, bs = string.match(b, "^(%d+)-(%d+)$")
  if am ~= bm then return bigger(am, bm) end
  return as ~= bs and bigger(as, bs)
end
local function following(id)
  local function plusOne(n)
    local head, nines = string.match(n, "^(%d-)(9*)$")
    local zeros = string.rep("0", #nines)
    if head == "" then return "1" .. zeros end
    return string.sub(head, 1, -2) .. (string.sub(head, -1) + 1) .. zeros
  end
  local millis, seq = string.match(id, "^(%d+)-(%d+)$")
  if seq == "18446744073709551615" then return plusOne(millis) .. "-0" end
  return millis .. "-" .. plusOne(seq)
end
`

/** What XINFO tells, by name, and the numbers of the count hash. */
export const facts = /* lua */ `
local function text(n) return string.format("%.0f", n) end
local function named(list)
  local map = {}
  for i = 1, #list, 2 do map[list[i]] = list[i + 1] end
  return map
end
local function stream(log)
  local info = redis.pcall("XINFO", "STREAM", log)
  if info.err then return 0, 0, "0-0", "0-0" end
  local map = named(info)
  local first = map["first-entry"]
  return map["length"], map["entries-added"], first and first[1] or "0-0", map["last-generated-id"]
end
local function extras(count)
  local known = redis.call("HMGET", count, "extra", "gone")
  return tonumber(known[1] or 0), tonumber(known[2] or 0)
end
`

/** Events that the slowest group has not done, and its name; all that is stored where there is no group. */
export const held = /* lua */ `
local function held(log, count, length, extra, gone)
  local groups = redis.pcall("XINFO", "GROUPS", log)
  if groups.err or #groups == 0 then return length + extra - gone, false end
  local most, holder = -1, false
  for i = 1, #groups do
    local group = named(groups[i])
    local done = redis.call("HGET", count, "g:" .. group["name"])
    -- Redis cannot tell the lag of a group that was put in mid-stream without a count.
    local events = (group["lag"] or length) + extra - tonumber(done and string.match(done, "^%d+") or gone)
    if events > most then most, holder = events, group["name"] end
  end
  return most, holder
end
`

/** How many events an entry holds. */
export const events = /* lua */ `
local function eventsOf(fields)
  for i = 1, #fields, 2 do
    if fields[i] == "n" then
      local n = string.match(fields[i + 1], "^[1-9]%d?%d?%d?%d?%d?$")
      return n and tonumber(n) <= 100000 and tonumber(n) or 1
    end
  end
  return 1
end
`

/** Trims whole entries from the oldest on, and keeps the book of extra events that went with them. Needs `facts`. */
const drops = /* lua */ `${events}
-- The oldest entries that hold no more than so many events together (and lie below an id): entries, extra events.
local function walk(log, spare, below)
  local entries, extra, from, size = 0, 0, "-", 1
  while entries < 2000 do
    local page = redis.call("XRANGE", log, from, below or "+", "COUNT", size)
    for i = 1, #page do
      local n = eventsOf(page[i][2])
      if n > spare then return entries, extra end
      spare, entries, extra = spare - n, entries + 1, extra + n - 1
    end
    if #page < size then break end
    from, size = "(" .. page[#page][1], 50
  end
  return entries, extra
end
local function drop(log, count, length, entries, more, extra, gone)
  if entries <= 0 then return 0 end
  redis.call("XTRIM", log, "MAXLEN", text(length - entries))
  gone = length == entries and extra or gone + more
  if extra > 0 then redis.call("HSET", count, "gone", text(gone)) end
  return entries
end
`

/** Applies `maxLength` and `maxAge`; gives the entries dropped. Needs `facts`. */
export const retain = /* lua */ `
local function retain(log, count, kind, limit)
  if kind ~= "L" and kind ~= "A" then return 0 end
  -- Making functions costs microseconds, so these are made only where they are used.
  ${drops.trim().replaceAll("\n", "\n  ")}
  local extra, gone = extras(count)
  local length, before, spare = redis.call("XLEN", log), nil, math.huge
  if kind == "L" then
    spare = length + extra - gone - tonumber(limit)
    if length == 0 or spare <= 0 then return 0 end
    if extra <= gone then return drop(log, count, length, spare, 0, extra, gone) end
  else
    local now = redis.call("TIME")
    before = text(math.max(0, now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(limit))) .. "-0"
    if extra <= gone then return redis.call("XTRIM", log, "MINID", before) end
  end
  local entries, more = walk(log, spare, before and "(" .. before)
  return drop(log, count, length, entries, more, extra, gone)
end
`

/** May this commit be applied? "a": yes; "b": it was before; "f..." and "w...": fenced, went back. Needs `ids`. */
export const judge = /* lua */ `
local function judge(row, epoch, incarnation, number)
  local inForce, expected, holder = string.match(row or "", "^(%d+) (%d+)%S* (.*)$")
  if not inForce then return "w0" end
  if inForce ~= epoch then return bigger(inForce, epoch) and "f" .. inForce or "w" .. expected end
  if holder ~= incarnation then return "f" .. inForce end
  if expected == number then return "a" end
  return tonumber(expected) == number + 1 and "b" or "w" .. expected
end
`

/**
 * Puts a group to its place; makes it, and the log, when they are gone.
 */
export const place = /* lua */ `
local function place(log, processor, entry, entries)
  local answer = redis.pcall("XGROUP", "SETID", log, processor, entry, "ENTRIESREAD", entries)
  if type(answer) ~= "table" or not answer.err then return end
  redis.call("XGROUP", "CREATE", log, processor, entry, "MKSTREAM", "ENTRIESREAD", entries)
end
`

/**
 * Drops what every group has done, but for `keep` events: when a hundred can go, or when this one has done all there is.
 * Only the group that held back the last trim asks again: the others could not free anything. Needs `ids`, `facts`.
 */
export const dropDone = /* lua */ `
local function dropDone(log, count, processor, keep, entries, events)
  local known = redis.call("HMGET", count, "extra", "gone", "trimmed", "floor")
  local floor = known[4]
  if floor and floor ~= processor then return end
  local extra, gone, trimmed = tonumber(known[1] or 0), tonumber(known[2] or 0), tonumber(known[3] or 0)
  local length = redis.call("XLEN", log)
  local spare = events - trimmed - gone - keep
  if length == 0 or spare <= 0 or (spare < 100 and entries - trimmed < length) then return end
  local groups, lowest, holder = redis.call("XINFO", "GROUPS", log), nil, nil
  for i = 1, #groups do
    local id = groups[i][8]
    if not lowest or above(lowest, id) then lowest, holder = id, groups[i] end
  end
  if #groups > 1 and holder[2] ~= floor then redis.call("HSET", count, "floor", holder[2]) end
  local read, lag = holder[10], holder[12]
  local added = read and lag and read + lag or select(2, stream(log))
  local total, whole
  if extra > 0 then
    total, whole = string.match(redis.call("HGET", count, "g:" .. holder[2]) or "", "^(%d+) (%d+)$")
  end
  if keep == 0 then
    local left = length - redis.call("XTRIM", log, "MINID", following(lowest))
    if left == 0 then gone = extra elseif whole then gone = math.min(extra, tonumber(whole)) end
    if left > 0 or extra > 0 then
      redis.call("HSET", count, "trimmed", text(added - left), "gone", text(gone))
    end
    return
  end
  ${drops.trim().replaceAll("\n", "\n  ")}
  local waiting = (lag or length) + extra - tonumber(total or gone)
  spare = length + extra - gone - waiting - keep
  local free, more = spare, 0
  if spare > 0 and extra > gone then free, more = walk(log, spare) end
  free = drop(log, count, length, math.min(free, length), more, extra, gone)
  redis.call("HSET", count, "trimmed", text(added - length + math.max(free, 0)))
end
`
