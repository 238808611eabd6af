/**
 * Enqueueing: two scripts, one for jobs that are ready at once, alone or in groups, and one for all that jobs may ask for
 * (delay, deduplication, jobs to wait for), so that the first pays nothing for the second.
 */
import type { Enqueued, NewJob } from "../JobStore.ts"
import { type Argument, script } from "./client.ts"
import {
  before,
  bind,
  bindBehind,
  clock,
  fields,
  free,
  laneOf,
  laneRows,
  over,
  put,
  type QueueKeys,
  wake
} from "./jobKeys.ts"

const lua = String.raw
const separator = "\u001f"

/** What stands behind the id, the same for most jobs of one call. */
const middleOf = ({ after, format, group, headers, name, priority }: NewJob): string =>
  `\t${name}\t${priority[0]}\t${format ?? ""}\t${group ?? ""}\t${headers}\t${after?.join(separator) ?? ""}\n`

const areAlike = (one: NewJob, other: NewJob): boolean =>
  one.name === other.name &&
  one.priority === other.priority &&
  one.format === other.format &&
  one.group === other.group &&
  one.headers === other.headers

/** What is stored behind "j<enqueued at>\t". */
const recordOf = (job: NewJob, middle = middleOf(job)): string | Uint8Array => {
  const head = job.id + middle
  return typeof job.payload === "string" ? head + job.payload : Buffer.concat([Buffer.from(head), job.payload])
}

const isPlain = ({ after, at, deduplicate, delay }: NewJob): boolean =>
  delay === undefined && at === undefined && deduplicate === undefined && after === undefined

/** Lua: new jobs, each to the end of its group; lanes that stand in no list go into theirs. */
const lineUp = lua`
${laneRows}
local function lineUp(list, ids, lanesOf, n)
  local rowsOf, names, offered, put, l, p = {}, {}, {}, {}, 0, 0
  for i = 1, n do
    local lane = lanesOf[i]
    if not rowsOf[lane] then
      l = l + 1
      rowsOf[lane], names[l] = true, lane
    end
  end
  local known = redis.call("HMGET", lanes, unpack(names))
  for i = 1, l do rowsOf[names[i]] = { numbersOf(known[i]) } end
  for i = 1, n do
    local lane = lanesOf[i]
    local r = rowsOf[lane]
    p = p + 2
    put[p - 1], put[p] = itemOf(lane, r[NEXT]), ids[i]
    r[NEXT] = r[NEXT] + 1
    if r[QUEUED] == 0 then
      offered[#offered + 1] = lane
      r[QUEUED] = 1
    end
  end
  redis.call("HSET", items, unpack(put))
  local set = {}
  for i = 1, l do set[2 * i - 1], set[2 * i] = names[i], rowOf(unpack(rowsOf[names[i]])) end
  redis.call("HSET", lanes, unpack(set))
  if #offered == 0 then return end
  redis.call("RPUSH", list, unpack(offered))
  redis.call("HINCRBY", meta, "tokens", #offered)
end
`

/**
 * ARGV: queue, then sections of one name and priority: name, number of the list's key, jobs, whether they have groups, and
 * for each its place among all jobs, its id, its record, and its lane if it has a group. Gives the places of those that
 * were there.
 */
export const enqueue = script<ReadonlyArray<string>>(
  "enqueueJobs",
  lua`#!lua
${bind("jobs", "meta", "names", "gone", "lanes", "items")}${clock}${wake}${lineUp}
local head = "j" .. text(now) .. "\t"
local answer, at, size = {}, 2, #ARGV
local some = redis.call("EXISTS", gone) == 1
redis.call("SADD", KEYS[${before + 1}], ARGV[1])
while at < size do
  local name, list, n = ARGV[at], KEYS[tonumber(ARGV[at + 1])], tonumber(ARGV[at + 2])
  local grouped, width = ARGV[at + 3] == "1", ARGV[at + 3] == "1" and 4 or 3
  at = at + 4
  local ids, rows, lanesOf, seen = {}, {}, {}, {}
  for i = 1, n do ids[i] = ARGV[at + width * (i - 1) + 1] end
  local known = redis.call("HMGET", jobs, unpack(ids))
  local fresh = 0
  for i = 1, n do
    local id, there = ids[i], known[i]
    if there and string.byte(there) == 102 and tonumber(string.match(there, "^f(%d+)")) <= now then there = false end
    if there or seen[id] then
      answer[#answer + 1] = ARGV[at]
    else
      seen[id], fresh = true, fresh + 1
      ids[fresh], rows[2 * fresh - 1], rows[2 * fresh] = id, id, head .. ARGV[at + 2]
      if grouped then lanesOf[fresh] = ARGV[at + 3] end
    end
    at = at + width
  end
  if fresh > 0 then
    redis.call("HSET", jobs, unpack(rows, 1, 2 * fresh))
    -- A cancelled one of this id may still be in its place: that is its place now.
    if some then
      local left, mark = 0, string.gsub(list, "^.*:ready:([^:]+):(.)$", "%1\t%2")
      for i = 1, fresh do
        if redis.call("HDEL", gone, (lanesOf[i] or mark) .. "\t" .. ids[i]) == 0 then
          left = left + 1
          ids[left], lanesOf[left] = ids[i], lanesOf[i]
        end
      end
      fresh = left
    end
    if fresh > 0 and grouped then
      lineUp(list, ids, lanesOf, fresh)
    elseif fresh > 0 then
      redis.call("RPUSH", list, unpack(ids, 1, fresh))
    end
    redis.call("SADD", names, name)
    wake(name)
  end
end
return answer
`
)

/**
 * Lua: `enqueuerAt(offset)` gives a function that enqueues one job in the queue whose keys stand behind the first `offset`
 * ones: `ARGV[a]` and the nine behind it, as `enqueueAny` says. It gives the id that is there, or "" for its own.
 */
export const enqueuer = lua`
local function enqueuerAt(offset)
  ${bindBehind("offset", "jobs", "state", "meta", "names", "dead", "gone", "forget", "dedup", "waiting", "parents")}
  ${bindBehind("offset", "lanes", "items", "freed", "progress", "cancels", "awaited")}${fields}${free}${put}${over}
  local function dueOf(delay)
    local n = tonumber(string.sub(delay, 2))
    if not n then return now end
    return string.sub(delay, 1, 1) == "+" and now + n or n
  end
  local function isPending(id)
    local record = redis.call("HGET", jobs, id)
    return record and string.byte(record) == 106 and not redis.call("ZSCORE", dead, id)
  end
  -- The job under the key, if a second one is not wanted; changed as asked for.
  local function under(key, within, flags, base, delay, record)
    local row = redis.call("HGET", dedup, key)
    if not row then return end
    local till, other = string.match(row, "^(%d+) (.*)$")
    if till == "0" and not isPending(other) or till ~= "0" and tonumber(till) <= now then return end
    local failures, lost, place, reason, ledger = stateOf(other)
    local due = place ~= "0" and redis.call("ZSCORE", KEYS[base + 4], place .. other)
    if due and string.find(flags, "p", 1, true) then
      local since = string.match(redis.call("HGET", jobs, other), "^(j%d+\t)")
      redis.call("HSET", jobs, other, since .. other .. string.sub(record, string.find(record, "\t", 1, true), -1))
    end
    if due and string.find(flags, "s", 1, true) then
      redis.call("ZREM", KEYS[base + 4], place .. other)
      setState(other, failures, lost, later(base, other, dueOf(delay)), reason, ledger)
    end
    return other
  end
  -- Jobs that it waits for; nil: one of them is not coming.
  local function unfinished(id, after)
    local count, whole = 0, true
    for other in string.gmatch(after, "[^\31]+") do
      local record = redis.call("HGET", jobs, other)
      if not record then
        whole = false
      elseif string.byte(record) == 102 then
        if not string.find(record, "^f%d+\t%d+\tS") then whole = false end
      elseif redis.call("ZSCORE", dead, other) then
        whole = false
      else
        count = count + 1
        local row = redis.call("HGET", parents, other)
        redis.call("HSET", parents, other, row and row .. "\t" .. id or id)
      end
    end
    if whole then return count end
  end
  return function(a)
    local id, name, base, record, delay, group = ARGV[a], ARGV[a + 1], tonumber(ARGV[a + 2]), ARGV[a + 3], ARGV[a + 4], ARGV[a + 5]
    local key, within, flags, after = ARGV[a + 6], tonumber(ARGV[a + 7]), ARGV[a + 8], ARGV[a + 9]
    local there = redis.call("HGET", jobs, id)
    if there and string.byte(there) == 102 and tonumber(string.match(there, "^f(%d+)")) <= now then there = false end
    there = there and id or key ~= "" and under(key, within, flags, base, delay, record)
    if there then return there end
    record = "j" .. text(now) .. "\t" .. record
    redis.call("HSET", jobs, id, record)
    redis.call("SADD", names, name)
    if key ~= "" then
      redis.call("HSET", dedup, key, (within > 0 and text(now + within) or "0") .. " " .. id)
      if within > 0 then
        redis.call("ZADD", forget, text(now + within), "\1" .. id .. "\t" .. key)
      else
        redis.call("HSET", dedup, "\1" .. id, key)
      end
    end
    local count = after == "" and 0 or unfinished(id, after)
    local due = dueOf(delay)
    if not count then
      die(id, 0, 0, "Child", '{"at":' .. text(now) .. ',"exit":"Child"}\n')
      over(id, false)
    elseif count > 0 then
      redis.call("HSET", waiting, id, count)
    elseif due > now then
      setState(id, 0, 0, later(base, id, due), "", "")
    else
      put(base, id, record, false)
    end
    wake(name)
    return ""
  end
end
`

/**
 * ARGV: queue, then for each job: id, name, number of its name's first key less one, record, delay ("+<ms>", "@<moment>",
 * ""), group, then key, time and flags of its deduplication, and the ids it comes after. Gives for each the id that is
 * there, or "" for its own.
 */
export const enqueueAny = script<ReadonlyArray<string>>(
  "enqueueAnyJobs",
  lua`#!lua
${clock}${enqueuer}
local answer, enqueue = {}, enqueuerAt(0)
redis.call("SADD", KEYS[${before + 1}], ARGV[1])
for a = 2, #ARGV, 10 do answer[#answer + 1] = enqueue(a) end
return answer
`
)

interface Call {
  readonly script: typeof enqueue
  readonly keys: ReadonlyArray<string>
  readonly args: ReadonlyArray<Argument>
  readonly answer: (reply: ReadonlyArray<string>) => ReadonlyArray<Enqueued>
}

/** The keys of all queues of a shard come behind the fixed ones, then those of each name. */
export const first = before + 1

const plain = (queue: QueueKeys, jobs: ReadonlyArray<NewJob>): Call => {
  const names: Array<string> = []
  const sections = new Map<string, Array<Argument>>()
  const sectionOf = (job: NewJob): Array<Argument> => {
    const { group, name, priority } = job
    const at = `${name}:${priority}:${group === undefined ? 0 : 1}`
    let section = sections.get(at)
    if (section === undefined) {
      let place = names.indexOf(name)
      if (place < 0) place = names.push(name) - 1
      // Groups stand in the list of the medium ones.
      const list = first + 5 * place + 1 + (group === undefined ? "hml".indexOf(priority[0]!) : 1)
      sections.set(at, (section = [name, list, 0, group === undefined ? 0 : 1]))
    }
    return section
  }
  let middle = ""
  let section: Array<Argument> = []
  for (let i = 0; i < jobs.length; i++) {
    const job = jobs[i]!
    if (i === 0 || !areAlike(jobs[i - 1]!, job)) {
      middle = middleOf(job)
      section = sectionOf(job)
    }
    section.push(i, job.id, recordOf(job, middle))
    if (job.group !== undefined) section.push(laneOf(job.name, job.group))
  }
  const args: Array<Argument> = [queue.queue]
  for (const section of sections.values()) {
    section[2] = (section.length - 4) / (section[3] === 1 ? 4 : 3)
    for (const argument of section) args.push(argument)
  }
  return {
    script: enqueue,
    keys: keysFor(queue, names),
    args,
    answer: (there) => {
      const answer = jobs.map(({ id }) => ({ id, repeated: false }))
      for (const place of there) answer[Number(place)]!.repeated = true
      return answer
    }
  }
}

/** The ten arguments of a job; `base` is what stands before the keys of its name. */
export const pushJob = (args: Array<Argument>, job: NewJob, base: number): void => {
  const { after, at, deduplicate, delay, group, id, name } = job
  const due = delay !== undefined ? `+${Math.ceil(delay)}` : at !== undefined ? `@${Math.ceil(at)}` : ""
  const { key = "", replace = false, restart = false, within = 0 } = deduplicate ?? {}
  const flags = `${replace ? "p" : ""}${restart ? "s" : ""}`
  args.push(id, name, base, recordOf(job), due, group ?? "")
  args.push(key, Math.ceil(within), flags, after?.join(separator) ?? "")
}

const any = (queue: QueueKeys, jobs: ReadonlyArray<NewJob>): Call => {
  const names = Array.from(new Set(jobs.map((job) => job.name)))
  const args: Array<Argument> = [queue.queue]
  for (const job of jobs) pushJob(args, job, first + 5 * names.indexOf(job.name))
  return {
    script: enqueueAny,
    keys: keysFor(queue, names),
    args,
    answer: (there) => there.map((id, i) => ({ id: id === "" ? jobs[i]!.id : id, repeated: id !== "" }))
  }
}

export const keysFor = (queue: QueueKeys, names: ReadonlyArray<string>): ReadonlyArray<string> =>
  queue.fixed.concat(queue.queues, ...names.map((name) => queue.of(name)))

/** What to run for these jobs. */
export const callOf = (queue: QueueKeys, jobs: ReadonlyArray<NewJob>): Call =>
  jobs.every(isPlain) ? plain(queue, jobs) : any(queue, jobs)
