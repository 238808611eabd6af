/**
 * Appending: one script call carries appends of one shard, each judged for itself. Publishers number their appends per
 * partition, so an append whose answer was lost is sent again and recognized. What a publisher has stored is read with
 * one command and written with one, whatever the number of partitions: a lone event costs Redis little beyond its XADD.
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
export const maxFields = 7_000

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

/** Appends of one call: what the script takes in one read of a publisher's history. */
const maxAppends = 100

/** So many appends of a publisher and partition are known when they come again. */
export const remembered = 5

const refused = (detail: string): EngineError => new EngineError({ operation: "append", reason: "Refused", detail })

/** In calls: each has the appends of one publisher and topic, no partition twice. */
export const calls = (appends: ReadonlyArray<Append>): ReadonlyArray<ReadonlyArray<Append>> => {
  const all: Array<Array<Append>> = []
  let call: Array<Append> = []
  let seen = new Set<number>()
  for (const append of appends) {
    const first = call[0]
    const fits =
      first === undefined ||
      (first.publisher === append.publisher &&
        first.topic.name === append.topic.name &&
        !seen.has(append.partition) &&
        call.length < maxAppends)
    if (!fits) {
      all.push(call)
      call = []
      seen = new Set()
    }
    call.push(append)
    seen.add(append.partition)
  }
  if (call.length > 0) all.push(call)
  return all
}

/** One call of `calls`. Throws `EngineError` for what can never be stored. */
export const request = (tag: string, appends: ReadonlyArray<Append>): Request => {
  const { publisher, topic } = appends[0]!
  const names: Array<string> = [keys.publisher(tag, topic.name, publisher)]
  const args: Array<Argument> = [appends.length, ...limits(topic.retention)]
  for (const { partition } of appends) args.push(partition)
  for (const { entries, number, partition, producer } of appends) {
    if (entries.length === 0) throw refused("an append needs at least one entry")
    names.push(keys.log(tag, topic.name, partition), keys.count(tag, topic.name, partition))
    const at = args.length
    args.push("")
    let flags = ""
    if (entries.some((entry) => entry.id !== undefined)) {
      flags += "x"
      args.push(entries.map((entry) => (entry.id === undefined ? "" : canonical(entry.id))).join(","))
    }
    if (producer !== undefined) {
      if (producer.sequence < 0n) {
        throw refused(`producer "${producer.id}": a sequence must not be negative, as ${producer.sequence} is`)
      }
      flags += "p"
      names.push(keys.producer(tag, topic.name, partition))
      args.push(producer.sequence.toString(), producer.id)
    }
    const start = args.length
    const sizes = pushFields(args, entries)
    const [first] = entries
    const plain = entries.length === 1 && flags === ""
    args[at] = plain
      ? `${number} ${args.length - start} ${first!.count}`
      : `${number} ${args.length - start} ${pack(entries.map((entry) => entry.count))} ${entries.length} ${pack(sizes)} ${flags}`
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

/** The answers of one call: the ids alone where all was stored, else a letter, the entries taken, their ids, a name. */
export const answers = (appends: ReadonlyArray<Append>, reply: ReadonlyArray<string>): ReadonlyArray<Appended> =>
  reply.map((text, i) => {
    const letter = text[0]!
    if (letter >= "0" && letter <= "9") {
      return { _tag: "Stored", ids: expand(text, appends[i]!.entries.length), repeated: false }
    }
    const [, taken, list, holder] = text.split(" ") as [string, string, string, string]
    switch (letter) {
      case "r":
        return { _tag: "Stored", ids: expand(list, Number(taken)), repeated: true }
      case "f":
        return { _tag: "Full", ids: expand(list, Number(taken)), heldBy: holder === "-" ? undefined : holder }
      case "c":
        return { _tag: "Conflict", last: list }
      default:
        return { _tag: "Gap", last: Number(list) }
    }
  })

/** What most appends do without: functions that are made when the first of a call needs them. */
const rare = /* lua */ `
${Lua.ids}${Lua.facts}${Lua.retain}
local rare = {}
function rare.split(list, entries)
  local all = {}
  for each in string.gmatch(list .. ",", "([^,]*),") do all[#all + 1] = each end
  if #all == 1 then for i = 2, entries do all[i] = all[1] end end
  return all
end
-- How many entries there is room for, and who takes it up.
function rare.fitting(log, count, limit, entries, list, events, length, extra, gone)
  ${Lua.held}
  local used, holder = held(log, count, length, extra, gone)
  if used + events <= limit then return entries, "-" end
  local each = rare.split(list, entries)
  for i = 1, entries do
    if used > 0 and used + each[i] > limit then return i - 1, holder or "-" end
    used = used + each[i]
  end
  return entries, "-"
end
-- Explicit ids, checked; entries without one get theirs here. false and the last id if one is not above it.
function rare.place(log, list, take)
  local ids, last = rare.split(list, 0), select(4, stream(log))
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
-- An earlier append of this publisher, if it is remembered.
function rare.repeated(publisher, partition, number, entries, last)
  local known = redis.call("HGET", publisher, partition .. ":" .. number % ${remembered})
  local n, taken, list, holder = string.match(known or "", "^(%d+) (%d+) (%S*) (%S+)$")
  if tonumber(n) ~= number then return "g 0 " .. text(last) .. " -" end
  return (tonumber(taken) < entries and "f " or "r ") .. taken .. " " .. list .. " " .. holder
end
-- A user's producer: the id that an earlier sequence has. One below its last is not known any more.
function rare.produced(producer, source, sequence)
  local before, stored = string.match(redis.call("HGET", producer, source) or "", "^(%d+) (.*)$")
  if before and not bigger(sequence, before) then return sequence == before and stored or "" end
end
rare.retain = retain
return rare
`

/**
 * KEYS: the publisher, then log and count of each append, and the producer of those that have one. ARGV: how many appends,
 * kind and limit of the retention, the partitions; then of each append: its head, explicit ids (flag x), its producer's
 * sequence and name (flag p), the fields. The head is "<number> <fields> <events>" for one entry, and else "<number>
 * <fields> <events of each> <entries> <fields of each> <flags>".
 */
export const append = script<ReadonlyArray<string>>(
  "append",
  /* lua */ `#!lua
local call, match = redis.call, string.match
local function make()${rare.replaceAll("\n", "\n  ")}
end
local rare
local appends, kind, limit = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local last = call("HMGET", KEYS[1], unpack(ARGV, 4, appends + 3))
local answers, known, failure = {}, {}, nil
local k, at = 2, appends + 4
for i = 1, appends do
  local written, fields, counts, more = match(ARGV[at], "^(%d+) (%d+) (%S+)(.*)$")
  local number, entries, size, sizes = tonumber(written), 1, tonumber(fields), nil
  local log, count, explicit, sequence, source, producer = KEYS[k], KEYS[k + 1], nil, nil, nil, nil
  k, at = k + 2, at + 1
  if more ~= "" then
    local flags
    entries, sizes, flags = match(more, "^ (%d+) (%S+) (.*)$")
    entries, size = tonumber(entries), tonumber(sizes)
    if match(flags, "x") then explicit, at = ARGV[at], at + 1 end
    if match(flags, "p") then
      sequence, source, producer = ARGV[at], ARGV[at + 1], KEYS[k]
      k, at = k + 1, at + 2
    end
    rare = rare or make()
  end
  local take, list, holder, answer, ids, after = entries, nil, "-", nil, nil, at + fields
  if number ~= tonumber(last[i] or 0) + 1 then
    rare = rare or make()
    answer = rare.repeated(KEYS[1], ARGV[i + 3], number, entries, tonumber(last[i] or 0))
  elseif source then
    list = rare.produced(producer, source, sequence)
    if list then answer = "r " .. entries .. " " .. list .. " -" end
  end
  if not answer then
    local each, events = tonumber(counts), 0
    if each then
      events = each * entries
    else
      for n in string.gmatch(counts, "%d+") do events = events + n end
    end
    if kind == "C" then
      local room = call("HMGET", count, "extra", "gone")
      local length, extra, gone = call("XLEN", log), tonumber(room[1] or 0), tonumber(room[2] or 0)
      if length + extra - gone + events > limit then
        rare = rare or make()
        take, holder = rare.fitting(log, count, limit, entries, counts, events, length, extra, gone)
        if take == 0 then answer = "f 0 - " .. holder end
      end
    end
    if not answer and explicit then
      ids, list = rare.place(log, explicit, take)
      if not ids then list, answer = nil, "c 0 " .. list .. " -" end
    end
    if not answer then
      if not size then sizes = rare.split(sizes, entries) end
      local id = "*"
      for j = 1, take do
        local width = size or tonumber(sizes[j])
        if ids then id = ids[j] end
        local stored = redis.pcall("XADD", log, id, unpack(ARGV, at, at + width - 1))
        if type(stored) == "table" then
          failure = stored
          break
        end
        if j == 1 then
          list = list or stored
          if take > 1 then id = match(stored, "^%d+-") .. "*" end
        end
        at = at + width
      end
      if failure then break end
      if take < entries then
        events = 0
        local of = rare.split(counts, entries)
        for j = 1, take do events = events + of[j] end
      end
      if events > take then call("HINCRBY", count, "extra", events - take) end
      if source then call("HSET", producer, source, sequence .. " " .. list) end
      answer = take == entries and list or "f " .. take .. " " .. list .. " " .. holder
      if kind == "L" or kind == "A" then
        rare = rare or make()
        rare.retain(log, count, kind, limit)
      end
    end
  end
  if list then
    local n, partition = #known, ARGV[i + 3]
    known[n + 1], known[n + 2] = partition, written
    known[n + 3] = partition .. ":" .. number % ${remembered}
    known[n + 4] = written .. " " .. take .. " " .. list .. " " .. holder
  end
  answers[i], at = answer, after
end
if #known > 0 then
  call("HSET", KEYS[1], unpack(known))
  -- A publisher is remembered for ten minutes at least; setting it anew each time would cost more than to look.
  if call("PTTL", KEYS[1]) < 600000 then call("PEXPIRE", KEYS[1], 1200000) end
end
-- What was stored before it is remembered, so sending all of it again is safe.
if failure then return failure end
return answers
`
)
