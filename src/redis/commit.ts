/**
 * Commits: several partitions of one processor and shard in one call, each judged by itself. What passes is written in
 * this order: the group's position, rows, emitted entries and replies, parked events, and last the offsets and the commit
 * number. What is emitted to other shards goes to the outbox (`outbox.ts`).
 *
 * Gotcha: the group's `last-delivered-id` only mirrors the offset in the owner hash, for trimming and for Redis tools;
 * a group that is gone is made again.
 */
import type { Commit, CommitResult, Committed, Layout, NewEntry } from "../Broker.ts"
import type { Retention } from "../Retention.ts"
import { limits, pack, pushFields, type Request } from "./append.ts"
import { type Argument, script } from "./client.ts"
import * as keys from "./keys.ts"
import * as Lua from "./lua.ts"
import * as Outbox from "./outbox.ts"
import * as Parking from "./parking.ts"
import * as Windows from "./windows.ts"

/** How the commit trims: what all have done, but for so many events; other kinds are the business of appends. */
export const keepOf = (retention: Retention): number => (retention._tag === "Consumed" ? retention.keep : -1)

/** "<events done beyond one per entry> <those of entries done whole>"; "" if there never were any. */
export const extraDone = ({ offset, entry, entries, events }: Committed): string => {
  if (events === entries) return ""
  const dot = offset.lastIndexOf(".")
  const partial = offset.slice(0, dot) === entry ? 0 : Number(offset.slice(dot + 1)) + 1
  return `${events - entries} ${events - entries - partial}`
}

/** The row of a topic in the owner hash. */
export const row = (committed: Committed): string =>
  `${committed.offset} ${committed.entry} ${committed.entries} ${committed.events}`

export const parseRow = (topic: string, text: string | null): Committed => {
  const [offset = "0-0.0", entry = "0-0", entries, events] = text?.split(" ") ?? []
  return { topic, offset, entry, entries: Number(entries ?? 0), events: Number(events ?? 0) }
}

/** Throws `EngineError` for what can never be stored. */
export const request = (
  tag: string,
  shards: number,
  commits: readonly [Commit, ...ReadonlyArray<Commit>],
  compared: boolean
): Request => {
  const { processor } = commits[0]
  const index = new Map<string, number>()
  const names: Array<string> = []
  const key = (name: string): number => {
    let at = index.get(name)
    if (at === undefined) {
      at = names.push(name)
      index.set(name, at)
    }
    return at
  }
  /** The count stands behind its log. */
  const logAndCount = (topic: string, partition: number): number => {
    const log = key(keys.log(tag, topic, partition))
    key(keys.count(tag, topic, partition))
    return log
  }
  const owner = key(keys.owner(tag, processor))
  key(keys.tables(tag, processor))
  const tables = new Set<string>()
  const args: Array<Argument> = [processor, commits.length, "", compared ? 1 : 0]
  for (const commit of commits) args.push(commit.partition)
  for (const commit of commits) {
    const { partition, offsets, rows, emits, parking, windows } = commit
    const head = args.push(commit.epoch.toString(), commit.incarnation, commit.number, 0, 0) - 1
    args.push(offsets.length)
    for (const offset of offsets) {
      args.push(
        logAndCount(offset.topic, partition),
        `${partition}:${offset.topic}`,
        offset.entry,
        offset.entries,
        row(offset),
        extraDone(offset),
        keepOf(offset.layout.retention)
      )
    }
    const groups = args.push(0) - 1
    args[groups] = pushRows(args, rows, (name, timed) => {
      tables.add(name)
      const at = key(keys.table(tag, processor, name, partition))
      if (timed) key(keys.due(tag, processor, name, partition))
      return at
    })
    if (windows !== undefined) {
      const keyOf = (name: string): number => key(keys.windows(tag, processor, name, partition))
      args[groups] += Windows.pushWindows(args, windows, partition, owner, keyOf)
    }
    const targets = args.push(0) - 1
    let written = 0
    for (const { topic, partition: target, entries } of emits) {
      if (entries.length === 0) continue
      written++
      if (target % shards === partition % shards) pushEmit(args, logAndCount(topic.name, target), topic, entries)
      else Outbox.pushEmit(args, key(keys.outbox(tag, processor, partition)), topic, target, entries)
    }
    if (commit.replies !== undefined) {
      for (const { asker, entry } of commit.replies) {
        written++
        pushEntries(args, key(keys.inbox(tag, asker)), "R", 0, [entry])
      }
    }
    if (commit.jobs !== undefined) {
      written++
      Outbox.pushJobs(args, key(keys.outbox(tag, processor, partition)), commit.jobs)
    }
    if (commit.delivered !== undefined) {
      written++
      pushEntries(args, key(keys.outbox(tag, processor, partition)), "D", Outbox.following(commit.delivered), [])
    }
    args[targets] = written
    if (parking !== undefined) {
      args[head] = args.length - head
      const [first, ...others] = Parking.keysOf(tag, processor, partition)
      const at = key(first!)
      for (const other of others) key(other)
      Parking.pushParking(args, at, parking)
    }
    args[head - 1] = args.length - head
  }
  args[2] = [...tables].join(",")
  return { keys: names, args }
}

interface TableRows {
  /** 0: they do not expire. */
  readonly timeToLive: number
  readonly set: Array<Argument>
  readonly remove: Array<Argument>
}

/** By table: its key (behind it stands the one of what is due, if its rows expire), how many arguments set and how many remove, the time to live, then those. Gives how many tables there are. */
const pushRows = (
  args: Array<Argument>,
  rows: Commit["rows"],
  keyOf: (table: string, timed: boolean) => number
): number => {
  const byTable = new Map<string, TableRows>()
  for (const { key, table, timeToLive = 0, value } of rows) {
    let parts = byTable.get(table)
    if (parts === undefined) byTable.set(table, (parts = { timeToLive, set: [], remove: [] }))
    if (value === undefined) parts.remove.push(key)
    else parts.set.push(key, value)
  }
  for (const [table, { remove, set, timeToLive }] of byTable) {
    args.push(keyOf(table, timeToLive > 0), set.length, remove.length, timeToLive)
    for (const each of set) args.push(each)
    for (const each of remove) args.push(each)
  }
  return byTable.size
}

const pushEmit = (
  args: Array<Argument>,
  log: number,
  topic: Layout,
  entries: Commit["emits"][number]["entries"]
): void => {
  const [kind, limit] = limits(topic.retention)
  pushEntries(args, log, kind, limit, entries)
}

/** Entries for one key. The kind says what becomes of it: that of a retention, R for an inbox, D for what is delivered. */
const pushEntries = (
  args: Array<Argument>,
  key: number,
  kind: string,
  limit: Argument,
  entries: ReadonlyArray<NewEntry>
): void => {
  let events = 0
  for (const entry of entries) events += entry.count
  const head = args.push(key, kind, limit, entries.length, events - entries.length, "")
  args[head - 1] = entries.length === 0 ? "0" : pack(pushFields(args, entries))
}

export const result = (answer: string): CommitResult => {
  switch (answer[0]) {
    case "a":
      return { _tag: "Done" }
    case "b":
      return { _tag: "DoneBefore" }
    case "t": {
      const [topic, last] = answer.slice(1).split(" ") as [string, string]
      return { _tag: "Truncated", topic, last }
    }
    case "f":
      return { _tag: "Fenced", inForce: BigInt(answer.slice(1)) }
    default:
      return { _tag: "WentBack", found: Number(answer.slice(1)) }
  }
}

/**
 * KEYS: owner, tables, then logs, counts, tables, outbox and inboxes as their numbers in ARGV say. ARGV: processor, commits, tables, 1 to
 * compare each offset with the end of its log (a fresh connection may lead to a server that lost events); the partitions; for each commit: epoch, incarnation, number, arguments that follow; where among them parking begins (0:
 * nowhere); offsets; tables; emits; parking.
 */
export const commit = script<ReadonlyArray<string>>(
  "commit",
  /* lua */ `#!lua flags=allow-oom
${Lua.ids}${Lua.facts}${Lua.retain}${Lua.judge}${Lua.place}${Lua.dropDone}
local processor, commits = ARGV[1], tonumber(ARGV[2])
local function inSlices(command, key, at, size)
  for from = at, at + size - 1, 500 do
    redis.call(command, key, unpack(ARGV, from, math.min(from + 499, at + size - 1)))
  end
  return at + size
end
local function rows(at)
  local tables = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, tables do
    local name, set, remove = KEYS[tonumber(ARGV[at])], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    if not set then
      at = inSlices("ZADD", name, at + 3, tonumber(string.sub(ARGV[at + 1], 2)))
      at = inSlices("ZREM", name, at, remove)
    else
      local life, due, first = ARGV[at + 3], KEYS[ARGV[at] + 1], at + 4
      at = inSlices("HSET", name, first, set)
      if life ~= "0" then
        local now, pairs = redis.call("TIME"), {}
        local ends = text(now[1] * 1000 + math.floor(now[2] / 1000) + life)
        for i = first, at - 2, 2 do
          pairs[#pairs + 1], pairs[#pairs + 2] = ends, ARGV[i]
          if #pairs == 500 or i == at - 2 then
            redis.call("ZADD", due, unpack(pairs))
            pairs = {}
          end
        end
        inSlices("ZREM", due, at, remove)
      end
      at = inSlices("HDEL", name, at, remove)
    end
  end
  return at
end
local function emits(at, epoch)
  local targets = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, targets do
    local log, entries, more = tonumber(ARGV[at]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
    local kind, limit, sizes = ARGV[at + 1], ARGV[at + 2], ARGV[at + 5]
    local count = KEYS[log + 1]
    log = KEYS[log]
    local size, next = tonumber(sizes), string.gmatch(sizes, "%d+")
    at = at + 6
    local id = kind == "O" and epoch .. "-*" or "*"
    for _ = 1, entries do
      local fields = size or tonumber(next())
      if kind == "R" then
        redis.call("XADD", log, "NOMKSTREAM", id, unpack(ARGV, at, at + fields - 1))
      else
        redis.call("XADD", log, id, unpack(ARGV, at, at + fields - 1))
      end
      at = at + fields
    end
    if kind == "D" then
      redis.call("XTRIM", log, "MINID", limit)
    elseif kind ~= "R" and kind ~= "O" then
      if more > 0 then redis.call("HINCRBY", count, "extra", text(more)) end
      retain(log, count, kind, limit)
    end
  end
end
local function apply(at, partition, head, section, epoch)
  local moves, written = tonumber(ARGV[at]), { partition, head }
  local first = at + 1
  at = first
  for _ = 1, moves do
    local log, _, entry, entries, row, done = unpack(ARGV, at, at + 5)
    place(KEYS[tonumber(log)], processor, entry, entries)
    written[#written + 1], written[#written + 2] = ARGV[at + 1], row
    if done ~= "" then redis.call("HSET", KEYS[log + 1], "g:" .. processor, done) end
    at = at + 7
  end
  at = rows(at)
  if ARGV[at] ~= "0" then emits(at, epoch) end
  if section then
    -- Making functions costs microseconds, so those of parking are made only where they are used.
    ${Parking.write.trim().replaceAll("\n", "\n    ")}
  end
  redis.call("HSET", KEYS[1], unpack(written))
  at = first
  for _ = 1, moves do
    local keep = tonumber(ARGV[at + 6])
    if keep >= 0 then
      local log, events = tonumber(ARGV[at]), string.match(ARGV[at + 4], "%d+$")
      dropDone(KEYS[log], KEYS[log + 1], processor, keep, tonumber(ARGV[at + 3]), tonumber(events))
    end
    at = at + 7
  end
end
local stored, answers = redis.call("HMGET", KEYS[1], unpack(ARGV, 5, 4 + commits)), {}
local at, registered = 5 + commits, ARGV[3] == ""
-- The first of its logs that ends before the offset: its topic, and its last id.
local function truncated(at)
  local moves = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, moves do
    local id, last = string.match(ARGV[at + 4], "^%d+-%d+"), select(4, stream(KEYS[tonumber(ARGV[at])]))
    if above(id, last) then return "t" .. string.match(ARGV[at + 1], ":(.*)$") .. " " .. last end
    at = at + 7
  end
end
for i = 1, commits do
  local epoch, incarnation, number = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local answer, section = judge(stored[i], epoch, incarnation, number), nil
  if answer == "a" and ARGV[at + 4] ~= "0" then
    section = at + 4 + ARGV[at + 4]
    ${Parking.check.trim().replaceAll("\n", "\n    ")}
  end
  if answer == "a" and ARGV[4] == "1" then answer = truncated(at + 5) or answer end
  if answer == "a" then
    if not registered then
      for name in string.gmatch(ARGV[3], "[^,]+") do redis.call("SADD", KEYS[2], name) end
      registered = true
    end
    apply(at + 5, ARGV[4 + i], epoch .. " " .. text(number + 1) .. " " .. incarnation, section, epoch)
  end
  answers[i] = answer
  at = at + 4 + ARGV[at + 3]
end
return answers
`
)
