/**
 * Positions: where a start (`earliest`, an offset, a time ...) lies in a log, and the scripts that put a group there:
 * `register` for a new one, `seek` for one that exists.
 *
 * Gotcha: entries are counted from the position to the end, in slices of one call each, so a long log holds up nobody.
 * What is added meanwhile lies behind the end that was seen first and changes nothing; if unread entries were trimmed
 * meanwhile, the scripts answer "again".
 */
import { Effect } from "effect"
import type { Committed, Start } from "../Broker.ts"
import { EngineError } from "../Errors.ts"
import { type Redis, script } from "./client.ts"
import { extraDone, row } from "./commit.ts"
import * as Lua from "./lua.ts"

type Client = Redis["Service"]

/** A start as the scripts take it: computed by them in the same moment, or found before. */
export type Place =
  | { readonly mode: "e" | "l" }
  | { readonly mode: "p"; readonly committed: Committed }
  | { readonly mode: "x"; readonly first: string }

/** Mode, offset, entry, entries, events, extra done, row. */
export const placeArguments = (place: Place): ReadonlyArray<string | number> =>
  place.mode === "p"
    ? ["p", place.committed.entry, place.committed.entries, extraDone(place.committed), row(place.committed)]
    : [place.mode, "", "", "", ""]

const parseStart = (offset: string): Effect.Effect<{ readonly id: string; readonly index: number }, EngineError> => {
  const match = /^(\d{1,20}-\d{1,20})(?:\.(\d{1,6}))?$/.exec(offset)
  if (match === null) {
    return Effect.fail(
      new EngineError({
        operation: "position",
        reason: "Refused",
        detail: `"${offset}" is no offset: it must be <millis>-<seq>.<index>`
      })
    )
  }
  return Effect.succeed({ id: match[1]!.replace(/(^|-)0+(?=\d)/g, "$1"), index: Number(match[2] ?? 0) })
}

/**
 * KEYS: log, count. ARGV: where to count from, up to where ("+" at first). Gives entries and events counted, where to go
 * on ("" at the end), and at first also facts of the log, the entry before, and the first entry counted.
 */
const measure = script<ReadonlyArray<string>>(
  "measure",
  /* lua */ `#!lua flags=no-writes
${Lua.facts}${Lua.events}
local log, from, upTo = KEYS[1], ARGV[1], ARGV[2]
local page = redis.pcall("XRANGE", log, from, upTo, "COUNT", 200)
if page.err then page = {} end
local events = 0
for i = 1, #page do events = events + eventsOf(page[i][2]) end
local answer = { text(#page), text(events), #page == 200 and "(" .. page[#page][1] or "" }
if upTo == "+" then
  local length, added, first, last = stream(log)
  local extra, gone = extras(KEYS[2])
  local before = length > 0 and redis.call("XREVRANGE", log, "(" .. from, "-", "COUNT", 1)[1]
  answer[4], answer[5], answer[6], answer[7] = text(length), text(added), first, last
  answer[8], answer[9] = text(extra), before and before[1] or ""
  answer[10] = before and text(eventsOf(before[2])) or "0"
  answer[11] = page[1] and page[1][1] or ""
  answer[12] = page[1] and text(eventsOf(page[1][2])) or "0"
end
return answer
`
)

/** Where the event that starts there is the next one. `strict`: an offset before the first retained event is lost. */
export const locate = Effect.fnUntraced(function* (
  redis: Client,
  log: string,
  count: string,
  topic: string,
  start: Start,
  strict: boolean
): Effect.fn.Return<Place, EngineError> {
  if (start === "earliest") return { mode: "e" }
  if (start === "latest") return { mode: "l" }
  const { id, index } =
    "offset" in start ? yield* parseStart(start.offset) : { id: `${Math.max(0, Math.floor(start.time))}-0`, index: 0 }
  if (id === "0-0") return { mode: "e" }
  let slice = yield* redis.run(measure, [log, count], [id, "+"])
  const [, , , length, added, first, last, extra, before, beforeEvents, target, targetEvents] = slice
  let entries = 0
  let events = 0
  while (true) {
    entries += Number(slice[0])
    events += Number(slice[1])
    if (slice[2] === "") break
    slice = yield* redis.run(measure, [log, count], [slice[2]!, last!])
  }
  if (entries === 0) {
    // Nothing is retained there: the end, unless it was trimmed away.
    const gone = strict && "offset" in start && Number(length) === 0 && compareIds(id, last!) <= 0
    return gone ? { mode: "x", first: first! } : { mode: "l" }
  }
  const trimmed = Number(added) - Number(length)
  if (before === "" && trimmed > 0 && strict && "offset" in start && target !== id) return { mode: "x", first: first! }
  const done = { topic, entries: Number(added) - entries, events: Number(added) + Number(extra) - events }
  const within = target === id ? Math.min(index, Number(targetEvents)) : 0
  if (within > 0 && within === Number(targetEvents)) {
    const offset = `${id}.${within - 1}`
    return {
      mode: "p",
      committed: { ...done, offset, entry: id, entries: done.entries + 1, events: done.events + within }
    }
  }
  const entry = before === "" ? "0-0" : before!
  const offset = within > 0 ? `${id}.${within - 1}` : before === "" ? "0-0.0" : `${before}.${Number(beforeEvents) - 1}`
  return { mode: "p", committed: { ...done, offset, entry, events: done.events + within } }
})

/**
 * Entries ever added below an id. What is trimmed while it is counted is trimmed from the front, with entries that the
 * first slice counted, so a reader from there is told of a loss.
 */
export const entriesBefore = Effect.fnUntraced(function* (
  redis: Client,
  log: string,
  count: string,
  id: string
): Effect.fn.Return<number, EngineError> {
  // There is no range below the lowest id, and no entry has it.
  let slice = yield* redis.run(measure, [log, count], [id === "0-0" ? "0-1" : id, "+"])
  const [, , , , added, , last] = slice
  let entries = Number(slice[0])
  while (slice[2] !== "") {
    slice = yield* redis.run(measure, [log, count], [slice[2]!, last!])
    entries += Number(slice[0])
  }
  return Number(added) - entries
})

const compareHalves = (a: string, b: string): number => a.length - b.length || (a < b ? -1 : a > b ? 1 : 0)

/** Ids by their halves as numbers of any size. */
const compareIds = (a: string, b: string): number => {
  const [am, as] = a.split("-") as [string, string]
  const [bm, bs] = b.split("-") as [string, string]
  return compareHalves(am, bm) || compareHalves(as, bs)
}

/** Where a place lies now: id, entries, extra done, row. nil: entries after it were trimmed since it was found. */
const resolve = /* lua */ `
local function resolve(log, count, mode, entry, entries, done, row)
  local length, added, _, last = stream(log)
  if mode == "p" then
    if added - length > tonumber(entries) then return nil end
    return entry, entries, done, row
  end
  local extra, gone = extras(count)
  if mode == "e" then
    entry, entries, done = "0-0", added - length, length > 0 and gone or extra
    row = "0-0.0 0-0"
  else
    local newest = length > 0 and redis.call("XREVRANGE", log, "+", "-", "COUNT", 1)[1]
    entry, entries, done = last, added, extra
    row = last .. "." .. (newest and newest[1] == last and eventsOf(newest[2]) - 1 or 0) .. " " .. last
  end
  row = row .. " " .. text(entries) .. " " .. text(entries + done)
  return entry, text(entries), done > 0 and text(done) .. " " .. text(done) or "", row
end
`

/**
 * Makes the groups that do not exist, all in one moment. A group that exists without a row keeps its place.
 * KEYS: owner; log and count of each. ARGV: processor; of each: the owner's field, then the place. Mode "?" makes
 * nothing. Gives the numbers (from 0) of those that are still missing.
 */
export const register = script<ReadonlyArray<number>>(
  "register",
  /* lua */ `#!lua flags=allow-oom
${Lua.facts}${Lua.events}${resolve}
local owner, processor, missing = KEYS[1], ARGV[1], {}
local function groupOf(log)
  local groups = redis.pcall("XINFO", "GROUPS", log)
  for i = 1, groups.err and 0 or #groups do
    local group = named(groups[i])
    if group["name"] == processor then return group end
  end
end
local function one(log, count, field, mode, entry, entries, done, row)
  local known, group = redis.call("HGET", owner, field), groupOf(log)
  if known then
    if group then return true end
    entry, entries = string.match(known, "^%S+ (%S+) (%S+)")
    redis.call("XGROUP", "CREATE", log, processor, entry, "MKSTREAM", "ENTRIESREAD", entries)
    return true
  end
  if group and group["entries-read"] then
    local id, read = group["last-delivered-id"], text(group["entries-read"])
    redis.call("HSET", owner, field, id .. ".0 " .. id .. " " .. read .. " " .. read)
    return true
  end
  if mode == "?" then return false end
  entry, entries, done, row = resolve(log, count, mode, entry, entries, done, row)
  if not entry then return false end
  if group then
    redis.call("XGROUP", "SETID", log, processor, entry, "ENTRIESREAD", entries)
  else
    redis.call("XGROUP", "CREATE", log, processor, entry, "MKSTREAM", "ENTRIESREAD", entries)
  end
  if done ~= "" then redis.call("HSET", count, "g:" .. processor, done) end
  redis.call("HSET", owner, field, row)
  redis.call("HDEL", count, "floor")
  return true
end
for i = 0, (#KEYS - 1) / 2 - 1 do
  local k, at = 2 + 2 * i, 2 + 6 * i
  if not one(KEYS[k], KEYS[k + 1], unpack(ARGV, at, at + 5)) then missing[#missing + 1] = i end
end
return missing
`
)

/**
 * A commit that puts all topics of a partition to new places. KEYS: owner; log and count of each topic; the tables and
 * lanes to empty. ARGV: processor, partition, epoch, incarnation, number, topics; of each: events to keep (-1: does not trim), the
 * owner's field, then the place. Gives what `commit` gives, or "again".
 */
export const seek = script<string>(
  "seek",
  /* lua */ `#!lua flags=allow-oom
${Lua.ids}${Lua.facts}${Lua.events}${Lua.judge}${Lua.place}${Lua.dropDone}${resolve}
local owner, processor, partition, epoch, incarnation, number, topics =
  KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local answer = judge(redis.call("HGET", owner, partition), epoch, incarnation, number)
if answer ~= "a" then return answer end
local found = {}
for i = 1, topics do
  local at = 7 * i
  local entry, entries, done, row = resolve(KEYS[2 * i], KEYS[2 * i + 1], unpack(ARGV, at + 2, at + 6))
  if not entry then return "again" end
  found[i] = { entry, entries, done, row }
end
for i = 1, topics do
  local log, count, entry, entries, done, row = KEYS[2 * i], KEYS[2 * i + 1], unpack(found[i])
  place(log, processor, entry, entries)
  if done == "" then
    redis.call("HDEL", count, "g:" .. processor, "floor")
  else
    redis.call("HSET", count, "g:" .. processor, done)
    redis.call("HDEL", count, "floor")
  end
  redis.call("HSET", owner, ARGV[7 * i + 1], row)
end
for i = 2 * topics + 2, #KEYS do redis.call("UNLINK", KEYS[i]) end
if #KEYS > 2 * topics + 1 then
  redis.call("HDEL", owner, partition .. ": time")
  for i = 1, topics do redis.call("HDEL", owner, ARGV[7 * i + 1] .. " time") end
end
redis.call("HSET", owner, partition, epoch .. " " .. text(number + 1) .. " " .. incarnation)
for i = 1, topics do
  local keep, events = tonumber(ARGV[7 * i]), string.match(found[i][4], "%d+$")
  if keep >= 0 then
    dropDone(KEYS[2 * i], KEYS[2 * i + 1], processor, keep, tonumber(found[i][2]), tonumber(events))
  end
end
return answer
`
)
