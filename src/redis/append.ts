/**
 * Appending: one script call carries the appends of one shard, each judged for itself. Publishers number their appends
 * per partition, so an append whose answer was lost is sent again and recognized.
 *
 * Gotcha: ids of one append follow each other without a gap (`<millis>-*` after the first), so only the first one is
 * remembered and answered. A full server refuses this script (it is not `allow-oom`): `EngineError` of reason `Full`.
 */
import type { Append, Appended, NewEntry } from "../Broker.ts"
import { EngineError } from "../Errors.ts"
import type { Retention } from "../Retention.ts"
import { type Argument, script } from "./client.ts"
import * as keys from "./keys.ts"
import * as Lua from "./lua.ts"

/** Fields of one entry, names and values: what Lua can spread over one call. */
const maxFields = 7_000

/** Kind and number of a retention, as the scripts take them. */
export const limits = (retention: Retention): readonly [kind: string, limit: number] => {
  switch (retention._tag) {
    case "Consumed":
      return ["C", retention.capacity]
    case "MaxLength":
      return ["L", retention.events]
    case "MaxAge":
      return ["A", retention.millis]
    case "Forever":
      return ["F", 0]
  }
}

/** An explicit id without leading zeros, as Redis writes it. */
const canonical = (id: string): string => {
  if (/^(0|[1-9]\d{0,19})-(0|[1-9]\d{0,19})$/.test(id)) return id
  const match = /^(\d{1,40})-(\d{1,40})$/.exec(id)
  if (match === null) {
    throw new EngineError({
      operation: "append",
      reason: "Refused",
      detail: `"${id}" is no entry id: it must be <millis>-<seq>, two whole numbers`
    })
  }
  return `${BigInt(match[1]!)}-${BigInt(match[2]!)}`
}

/** The fields of entries, one behind the other; a batch has its count in front. Gives the number of fields of each. */
export const pushFields = (into: Array<Argument>, entries: ReadonlyArray<NewEntry>): Array<number> => {
  const sizes: Array<number> = []
  for (let i = 0; i < entries.length; i++) {
    const { count, fields } = entries[i]!
    const before = into.length
    if (count > 1 && fields[0] !== "n") into.push("n", count)
    for (let j = 0; j < fields.length; j++) into.push(fields[j]!)
    const size = into.length - before
    if (size > maxFields || size === 0) {
      throw new EngineError({
        operation: "append",
        reason: "Refused",
        detail:
          size === 0
            ? "an entry needs at least one field"
            : `an entry has ${size / 2} fields; ${maxFields / 2} can be stored`
      })
    }
    sizes.push(size)
  }
  return sizes
}

/** One number if all are alike, else all of them. */
export const pack = (numbers: ReadonlyArray<number>): string => {
  const first = numbers[0]!
  for (let i = 1; i < numbers.length; i++) if (numbers[i] !== first) return numbers.join(",")
  return `${first}`
}

export interface Request {
  readonly keys: ReadonlyArray<string>
  readonly args: ReadonlyArray<Argument>
}

/** Throws `EngineError` for what can never be stored. */
export const request = (tag: string, appends: ReadonlyArray<Append>): Request => {
  const names: Array<string> = []
  const args: Array<Argument> = []
  for (const append of appends) {
    const { topic, partition, entries, producer } = append
    if (entries.length === 0) {
      throw new EngineError({ operation: "append", reason: "Refused", detail: "an append needs at least one entry" })
    }
    names.push(
      keys.log(tag, topic.name, partition),
      keys.count(tag, topic.name, partition),
      keys.publisher(tag, topic.name, append.publisher),
      keys.producer(tag, topic.name, partition)
    )
    const explicit = entries.some((entry) => entry.id !== undefined)
    const [kind, limit] = limits(topic.retention)
    const head = args.length
    args.push(partition, append.number, entries.length, "", "", "", kind, limit, "", "", "")
    if (producer !== undefined) {
      if (producer.sequence < 0n) {
        const detail = `producer "${producer.id}": a sequence must not be negative, as ${producer.sequence} is`
        throw new EngineError({ operation: "append", reason: "Refused", detail })
      }
      args[head + 8] = producer.id
      args[head + 9] = producer.sequence.toString()
    }
    if (explicit) args[head + 5] = entries.map((entry) => (entry.id === undefined ? "" : canonical(entry.id))).join(",")
    const start = args.length
    args[head + 3] = pack(pushFields(args, entries))
    args[head + 4] = pack(entries.map((entry) => entry.count))
    args[head + 10] = args.length - start
  }
  return { keys: names, args }
}

/** The ids as the script gives them: all, by commas, or the first of ids that follow each other. */
const expand = (list: string, count: number): ReadonlyArray<string> => {
  if (count === 0) return []
  if (count === 1) return [list]
  if (list.includes(",")) return list.split(",")
  const dash = list.indexOf("-")
  const head = list.slice(0, dash + 1)
  const seq = list.slice(dash + 1)
  const ids: Array<string> = []
  if (seq.length > 15) {
    const first = BigInt(seq)
    for (let i = 0; i < count; i++) ids.push(`${head}${first + BigInt(i)}`)
  } else {
    const first = Number(seq)
    for (let i = 0; i < count; i++) ids.push(head + (first + i))
  }
  return ids
}

export const answers = (reply: ReadonlyArray<string>): ReadonlyArray<Appended> => {
  const all: Array<Appended> = []
  for (let i = 0; i < reply.length; i += 4) {
    const tag = reply[i]!
    const list = reply[i + 2]!
    const ids = tag === "s" || tag === "r" || tag === "f" ? expand(list, Number(reply[i + 1])) : []
    const holder = reply[i + 3]!
    if (tag === "s" || tag === "r") all.push({ _tag: "Stored", ids, repeated: tag === "r" })
    else if (tag === "f") all.push({ _tag: "Full", ids, heldBy: holder === "-" ? undefined : holder })
    else if (tag === "c") all.push({ _tag: "Conflict", last: list })
    else all.push({ _tag: "Gap", last: Number(list) })
  }
  return all
}

/**
 * KEYS: log, count, publisher, producer of each append. ARGV of each: partition, number, entries, fields of each, events
 * of each, explicit ids, kind and limit of the retention, producer, its sequence, fields in all, the fields.
 */
export const append = script<ReadonlyArray<string>>(
  "append",
  /* lua */ `#!lua
${Lua.ids}${Lua.facts}${Lua.retain}
local function split(list, entries)
  local all = {}
  for each in string.gmatch(list .. ",", "([^,]*),") do all[#all + 1] = each end
  if #all == 1 then for i = 2, entries do all[i] = all[1] end end
  return all
end
local function eventsIn(list, entries)
  if tonumber(list) then return list * entries end
  local events = 0
  for n in string.gmatch(list, "%d+") do events = events + n end
  return events
end
-- How many entries there is room for, and who takes it up.
local function fitting(log, count, limit, entries, list)
  local counts = eventsIn(list, entries)
  local length = redis.call("XLEN", log)
  local extra, gone = extras(count)
  if length + extra - gone + counts <= limit then return entries, "-", counts end
  ${Lua.held}
  local used, holder = held(log, count, length, extra, gone)
  if used + counts <= limit then return entries, "-", counts end
  local each, taken = split(list, entries), 0
  for i = 1, entries do
    if used > 0 and used + each[i] > limit then return i - 1, holder or "-", taken end
    used, taken = used + each[i], taken + each[i]
  end
  return entries, "-", taken
end
-- Explicit ids, checked; entries without one get theirs here. false and the last id if one is not above it.
local function place(log, list, take)
  local ids, last = split(list, 0), select(4, stream(log))
  local current, now = last, redis.call("TIME")
  now = text(now[1] * 1000 + math.floor(now[2] / 1000))
  for i = 1, take do
    if ids[i] == "" then
      ids[i] = bigger(now, string.match(current, "^%d+")) and now .. "-0" or following(current)
    elseif not above(ids[i], current) then
      return false, last
    end
    current = ids[i]
  end
  return ids, table.concat(ids, ",", 1, take)
end
local function write(log, at, take, sizes, ids)
  local size, first, id = tonumber(sizes), nil, "*"
  if not size then sizes = split(sizes, take) end
  for i = 1, take do
    if type(sizes) == "table" then size = tonumber(sizes[i]) end
    if ids then id = ids[i] end
    local stored = redis.call("XADD", log, id, unpack(ARGV, at, at + size - 1))
    if i == 1 then
      first = stored
      id = string.match(stored, "^%d+-") .. "*"
    end
    at = at + size
  end
  return first
end
local function one(k, at)
  local log, count, publisher, producer = KEYS[k], KEYS[k + 1], KEYS[k + 2], KEYS[k + 3]
  local partition, number, entries, sizes, counts, explicit, kind, limit, source, sequence =
    unpack(ARGV, at, at + 9)
  number, entries = tonumber(number), tonumber(entries)
  local history, last = redis.call("HGET", publisher, partition) or "", 0
  if history ~= "" then last = tonumber(string.match(history, "^%d+")) end
  if number ~= last + 1 then
    for n, taken, list, holder in string.gmatch(history, "(%d+) (%d+) (%S*) ([^; ]+);") do
      if tonumber(n) == number then return tonumber(taken) < entries and "f" or "r", taken, list, holder end
    end
    return "g", "0", text(last), "-"
  end
  local tag, take, holder, events, list, ids = "s", entries, "-", nil, nil, nil
  local before, stored = string.match(source ~= "" and redis.call("HGET", producer, source) or "", "^(%d+) (.*)$")
  if before and not bigger(sequence, before) then
    -- The id of a sequence below the producer's last is not known any more.
    tag, list = "r", sequence == before and stored or ""
  else
    if kind == "C" then take, holder, events = fitting(log, count, tonumber(limit), entries, counts) end
    if take == 0 then return "f", "0", "", holder end
    events = events or eventsIn(counts, entries)
    if explicit ~= "" then
      ids, list = place(log, explicit, take)
      if not ids then return "c", "0", list, "-" end
    end
    local first = write(log, at + 11, take, sizes, ids)
    list = list or first
    if events > take then redis.call("HINCRBY", count, "extra", text(events - take)) end
    if source ~= "" then redis.call("HSET", producer, source, sequence .. " " .. list) end
    if take < entries then tag = "f" end
  end
  local kept = string.match(history, "^[^;]*;?[^;]*;?[^;]*;?[^;]*;?")
  redis.call("HSET", publisher, partition, text(number) .. " " .. take .. " " .. list .. " " .. holder .. ";" .. kept)
  redis.call("PEXPIRE", publisher, 600000)
  if tag ~= "r" then retain(log, count, kind, limit) end
  return tag, tostring(take), list, holder
end
local answers, at = {}, 1
for k = 1, #KEYS, 4 do
  local n = #answers
  answers[n + 1], answers[n + 2], answers[n + 3], answers[n + 4] = one(k, at)
  at = at + 11 + ARGV[at + 10]
end
return answers
`
)
