/**
 * Where the jobs of a queue lie in Redis. All keys of a queue share the hash tag of one shard. Ids, names and group keys
 * hold no control character, so a tab separates them. The lane of a group is "\\1<name>\\1<group>"; it stands for its jobs
 * where an id may stand.
 *
 * `K` is `{ns:s}:queue:<queue>`:
 *
 * | key | type | what | lifetime |
 * | --- | --- | --- | --- |
 * | `K:jobs` | hash | id to "j<enqueued at> <id> <name> <priority> <format> <group> <headers> <after>\n<payload>", or "f<expires> <at> <S or C> <name> <priority> <enqueued at> <failures> <format> <headers> <length of its ledger>\n<ledger><result>" of one that is over; by tabs | until forgotten |
 * | `K:state` | hash | id to "<failures> <lost> <number in due> <reason>\n<ledger>", only where one of them is not zero | as the job |
 * | `K:active` | zset | id to its claim: slot · 2^31 + number of the exchange | while claimed |
 * | `K:leases` | zset | slot to the end of its lease | session |
 * | `K:sessions` | hash | slot to "<worker>\n<number of its last exchange>\n<ids refused>\n<ids claimed>" | session |
 * | `K:meta` | hash | `paused`, `limit`, `used`, `keepDone`, `keepDead`, `done` (finished jobs kept), `seq`, `slots`, `grace`, `tokens` and `blocked` (lanes in ready lists and in due), `w:<name>` (somebody waits for one), `hint` (number of the last message about that), `slot` (the first of `slots`), `outbox` (there is something in it) | queue |
 * | `K:names` | set | job names that have keys | queue |
 * | `K:dead` | zset | id to when it died | until redriven |
 * | `K:gone` | hash | "<name> <priority> <id>" of a cancelled job that is still in its ready list, "<lane> <id>" in its group | until it is met there |
 * | `K:cancels` | hash | ids of running jobs that are to stop | while active |
 * | `K:awaited` | hash | ids whose end somebody waits for | until then |
 * | `K:forget` | zset | "<unique> <id> <id> ..." to when these are forgotten | until then |
 * | `K:progress` | hash | id to what its handler told | while active |
 * | `K:dedup` | hash | key to "<until> <id>" (until 0: while that job is not over); "\\1<id>" to its key | until then |
 * | `K:waiting` | hash | id to how many jobs it waits for | until then |
 * | `K:parents` | hash | id to the ids of those that wait for it | until it is over |
 * | `K:lanes` | hash | lane to first, next, running, 1 if offered, not before, begin of its window, used of it; see `laneRows` | while in use |
 * | `K:items` | hash | "<lane><number as a double>" to id | while it waits |
 * | `K:freed` | hash | name to ids that are to be ready again, at the head; whoever knows the name puts them there | until the next claim |
 * | `K:plans` | hash | name of a recurrence to "<timing>\n<missed and job as JSON>\n<payload>"; "\\1<name>" to "<revision> <1 if paused> <last slot or -> <next slot>" | until removed |
 * | `K:slots` | zset | name of a recurrence that is not paused to its next slot | until removed |
 * | `K:facts` | hash | job name to what is kept for tools, as JSON (see `internal/jobFacts.ts`) | for ever |
 * | `K:outbox` | stream | jobs for queues of other shards, from settlements; see `jobFollow.ts` | until delivered |
 * | `K:ready:<name>:<h, m or l>` | list | ids, and lanes | while waiting |
 * | `K:due:<name>` | zset | "<12 digits><id>" to when it is due; lanes likewise | while delayed |
 * | `K:suspects:<name>` | list | ids that lost two leases: to be claimed alone | while waiting |
 * | `{ns:s}:queues` | set | queues of this shard | until removed |
 *
 * Messages on the channel `K:meta`: "w<number of the hint>" or "w" (work), "c<id>" (cancelled), "s<id>" (settled), "p<id>" (progress), "t" (slots).
 */
import { shardTag } from "./keys.ts"
import * as Lua from "./lua.ts"

const fixed = [
  ...["jobs", "state", "active", "leases", "sessions", "meta", "names", "dead", "gone", "cancels", "awaited", "forget"],
  ...["progress", "dedup", "waiting", "parents", "lanes", "items", "freed", "plans", "slots", "outbox"]
] as const

type Fixed = (typeof fixed)[number]

const ofName = ["ready:NAME:h", "ready:NAME:m", "ready:NAME:l", "due:NAME", "suspects:NAME"]

/** FNV-1a: any process finds the same shard. */
const shardOf = (queue: string, shards: number): number => {
  let hash = 0x811c9dc5
  for (let i = 0; i < queue.length; i++) hash = Math.imul(hash ^ queue.charCodeAt(i), 0x01000193)
  return (hash >>> 0) % shards
}

export const queues = (namespace: string, shard: number): string => `${shardTag(namespace, shard)}:queues`

/** All keys of one queue. */
export class QueueKeys {
  readonly queue: string
  readonly shard: number
  readonly queues: string
  readonly facts: string
  /** Every script begins with these, in this order; see `bind`. */
  readonly fixed: ReadonlyArray<string>
  private readonly prefix: string
  constructor(namespace: string, shards: number, queue: string) {
    this.queue = queue
    this.shard = shardOf(queue, shards)
    this.queues = queues(namespace, this.shard)
    this.prefix = `${shardTag(namespace, this.shard)}:queue:${queue}:`
    this.facts = `${this.prefix}facts`
    this.fixed = fixed.map((key) => this.prefix + key)
  }
  key(name: Fixed): string {
    return this.prefix + name
  }
  /** The fixed keys, and behind them five for each name. */
  with(names: ReadonlyArray<string>): ReadonlyArray<string> {
    return names.length === 0 ? this.fixed : this.fixed.concat(...names.map((name) => this.of(name)))
  }
  of(name: string): ReadonlyArray<string> {
    return ofName.map((key) => this.prefix + key.replace("NAME", name))
  }
}

export const laneOf = (name: string, group: string): string => `\u0001${name}\u0001${group}`

/** Lua: fixed keys as locals of their names. */
export const bind = (...names: ReadonlyArray<Fixed>): string =>
  `local ${names.join(", ")} = ${names.map((name) => `KEYS[${fixed.indexOf(name) + 1}]`).join(", ")}\n`

/** The same for a queue whose keys stand behind the first `offset` ones. */
export const bindBehind = (offset: string, ...names: ReadonlyArray<Fixed>): string =>
  `local ${names.join(", ")} = ${names.map((name) => `KEYS[${offset} + ${fixed.indexOf(name) + 1}]`).join(", ")}\n`

/** Lua: what stands before the keys of the first name. */
export const before = fixed.length

const lua = String.raw

/** Lua: the server's time in milliseconds, as `now`, and numbers as text. */
export const clock = lua`
${Lua.clock}
local function text(n) return string.format("%.0f", n) end
`

/** Lua: a job's own fields, and what changes. */
export const fields = lua`
local function fieldsOf(record)
  return string.match(record, "^j%d+\t([^\t]*)\t([^\t]*)\t(.)\t[^\t]*\t([^\t\n]*)")
end
local function stateOf(id)
  local row = redis.call("HGET", state, id)
  if not row then return 0, 0, "0", "", "" end
  local failures, lost, place, reason, ledger = string.match(row, "^(%d+) (%d+) (%d+) (%S*)\n(.*)$")
  return tonumber(failures), tonumber(lost), place, reason, ledger
end
local function setState(id, failures, lost, place, reason, ledger)
  if failures == 0 and lost == 0 and place == "0" and ledger == "" then return redis.call("HDEL", state, id) end
  local head = string.format("%.0f %.0f %s %s\n", failures, lost, place, reason)
  redis.call("HSET", state, id, head .. ledger)
end
-- The last lines of a ledger, with one more.
local function written(ledger, entry)
  if entry == "" then return ledger end
  ledger = ledger .. entry .. "\n"
  local _, lines = string.gsub(ledger, "\n", "")
  while lines > 20 do
    ledger, lines = string.sub(ledger, string.find(ledger, "\n", 1, true) + 1), lines - 1
  end
  return ledger
end
`

/** Lua: tells those who wait for jobs of a name. Needs the clock. */
export const wake = lua`
local function wake(name)
  if redis.call("HDEL", meta, "w:" .. name) == 0 then return end
  -- Not before the time, so that they rise also where the queue was removed meanwhile, or the server went back.
  local hint = text(math.max(now, 1 + (redis.call("HGET", meta, "hint") or 0)))
  redis.call("HSET", meta, "hint", hint)
  redis.call("PUBLISH", meta, "w" .. hint)
end
`

/** Lua: makes ids, or groups, ready again at the next claim of somebody who has the name: the last one freed is the first. */
export const free = lua`${wake}
local function free(name, element)
  local known = redis.call("HGET", freed, name)
  redis.call("HSET", freed, name, known and element .. "\t" .. known or element)
  wake(name)
end
`

/**
 * Lua: groups as they are stored. A lane stands in a ready list (or in due) once for being offered, and once for each of its
 * jobs that is done: a settlement only puts it there, and whoever takes it out counts `running` down. Most rows have no need
 * of the last three numbers. They are packed, since text would cost Redis more than all else that is done with a group.
 */
export const laneRows = lua`
local FIRST, NEXT, RUNNING, QUEUED, FROM, WINDOW, USED = 1, 2, 3, 4, 5, 6, 7
local function laneOf(name, group) return "\1" .. name .. "\1" .. group end
local function itemOf(lane, number) return struct.pack("<c0d", lane, number) end
local function numbersOf(row)
  if not row then return 0, 0, 0, 0, 0, 0, 0 end
  if #row > 25 then return struct.unpack("<dddBddd", row) end
  local first, next, running, queued = struct.unpack("<dddB", row)
  return first, next, running, queued, 0, 0, 0
end
local function rowOf(first, next, running, queued, from, window, used)
  if from > now or used > 0 then return struct.pack("<dddBddd", first, next, running, queued, from, window, used) end
  if first ~= next or running > 0 or queued > 0 then return struct.pack("<dddB", first, next, running, queued) end
end
local function setLane(lane, r)
  local row = rowOf(unpack(r))
  if row then redis.call("HSET", lanes, lane, row) else redis.call("HDEL", lanes, lane) end
end
`

/** Lua: puts what is ready into its list or its group, what is not into due. Needs the keys of its name. */
export const put = lua`
${laneRows}
local function numbers(lane) return { numbersOf(redis.call("HGET", lanes, lane)) } end
local function line(lane, r, id, atHead)
  if atHead then r[FIRST] = r[FIRST] - 1 end
  redis.call("HSET", items, itemOf(lane, atHead and r[FIRST] or r[NEXT]), id)
  if not atHead then r[NEXT] = r[NEXT] + 1 end
end
local function offer(base, lane, r)
  if r[QUEUED] == 1 or r[FIRST] == r[NEXT] then return end
  redis.call("RPUSH", KEYS[base + 2], lane)
  redis.call("HINCRBY", meta, "tokens", 1)
  r[QUEUED] = 1
end
local function put(base, id, record, atHead)
  local _, name, priority, group = fieldsOf(record)
  local lane = group ~= "" and laneOf(name, group)
  -- A cancelled one of this id may still be in the list: that is its place now.
  if redis.call("HDEL", gone, (lane or name .. "\t" .. priority) .. "\t" .. id) == 1 then return end
  if lane then
    local r = numbers(lane)
    line(lane, r, id, atHead)
    offer(base, lane, r)
    return setLane(lane, r)
  end
  local list = priority == "h" and 1 or priority == "m" and 2 or 3
  redis.call(atHead and "LPUSH" or "RPUSH", KEYS[base + list], id)
end
local function later(base, element, due)
  local place = string.format("%012.0f", redis.call("HINCRBY", meta, "seq", 1))
  redis.call("ZADD", KEYS[base + 4], text(due), place .. element)
  return place
end
`

/** Lua: a running job of a group is not running any more; with `back` it goes to the head of its group. Needs `put`, `free`. */
export const leave = lua`
local function leave(name, group, back, from)
  local lane = laneOf(name, group)
  local r = numbers(lane)
  r[RUNNING] = math.max(0, r[RUNNING] - 1)
  if back then line(lane, r, back, true) end
  if from then r[FROM] = math.max(r[FROM], from) end
  if r[QUEUED] == 0 and r[FIRST] ~= r[NEXT] then free(name, lane) end
  setLane(lane, r)
end
`

/** Lua: what follows when a job is over, well or not. Needs `fields`, `free` and the clock. */
export const over = lua`
local function die(id, failures, lost, reason, ledger)
  redis.call("ZADD", dead, text(now), id)
  setState(id, failures, lost, "0", reason, ledger)
end
local function over(id, well)
  redis.call("HDEL", progress, id)
  redis.call("HDEL", cancels, id)
  local key = redis.call("HGET", dedup, "\1" .. id)
  if key then redis.call("HDEL", dedup, "\1" .. id, key) end
  if redis.call("HDEL", awaited, id) == 1 then redis.call("PUBLISH", meta, "s" .. id) end
  local row = redis.call("HGET", parents, id)
  if not row then return end
  redis.call("HDEL", parents, id)
  for parent in string.gmatch(row, "[^\t]+") do
    if redis.call("HEXISTS", waiting, parent) == 1 then
      if not well then
        redis.call("HDEL", waiting, parent)
        die(parent, 0, 0, "Child", '{"at":' .. text(now) .. ',"exit":"Child","child":' .. cjson.encode(id) .. "}\n")
        over(parent, false)
      elseif redis.call("HINCRBY", waiting, parent, -1) <= 0 then
        redis.call("HDEL", waiting, parent)
        local _, name = fieldsOf(redis.call("HGET", jobs, parent))
        free(name, parent)
      end
    end
  end
end
`
