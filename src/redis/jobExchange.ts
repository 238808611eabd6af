/**
 * The exchange: one script that settles what a worker has done and claims what it does next. What most jobs never need
 * (retries, groups, cancelled ones, somebody who waits) is asked for once per run, by one EXISTS, and not at all per job.
 */
import type { Exchange, Settlement } from "../JobStore.ts"
import { type Argument, script } from "./client.ts"
import { claimRare, take } from "./jobClaim.ts"
import { followUps, hasFollowUps, settleFollowed } from "./jobFollow.ts"
import { before, bind, clock, laneOf, type QueueKeys } from "./jobKeys.ts"
import { purge, settleDone, settleRare } from "./jobSettle.ts"

const lua = String.raw

/** A slot's claims are scores above `slot * 2^31`. */
export const claimsPerSlot = 2 ** 31

/**
 * ARGV: slot, number, lease, count, high, medium, low, alone, names; for each name: itself, room, concurrency of a group (0:
 * it has none), and a group's limit (count, milliseconds or 0); then settlements: "D", time to live, claim, name, jobs, whether
 * they have groups, then the ids, their records if they are to be kept, and their lanes; or "O" for one of another kind.
 * Gives "0" for a session that is not known; else "1", now, when to look again or "", whether there are suspects, whether a
 * lease has ended, the ids refused, records, states, when the next slot of a recurrence is due or "", "1" if there is
 * something in the outbox, and the number of the last hint of work or "".
 */
const exchangeWith = (sections: string): string => lua`#!lua flags=allow-oom
${bind("jobs", "state", "active", "leases", "sessions", "meta", "dead", "gone", "cancels", "awaited", "forget", "progress")}
${bind("dedup", "waiting", "parents", "lanes", "items", "freed", "outbox")}${clock}
local slot, number = ARGV[1], tonumber(ARGV[2])
local from = slot * ${claimsPerSlot}
local row = redis.call("HGET", sessions, slot)
if not row then return { "0" } end
local worker, last, refusedThen, claimedThen = string.match(row, "^([^\n]*)\n(%d+)\n([^\n]*)\n(.*)$")
last = tonumber(last)
if number < last then return { "0" } end
local count, names = tonumber(ARGV[4]), tonumber(ARGV[9])
local refused, ids, room, missed, done, nextLook, recordOf = {}, {}, {}, false, 0, nil, {}
local function look(at) if not nextLook or at < nextLook then nextLook = at end end
local settings = redis.call("HMGET", meta, "paused", "limit", "used", "keepDone", "slot", "outbox", "hint")
if number == last then
  look(now)
  for id in string.gmatch(refusedThen, "[^\t]+") do refused[#refused + 1] = id end
  for id in string.gmatch(claimedThen, "[^\t]+") do
    if tonumber(redis.call("ZSCORE", active, id) or -1) == from + number then ids[#ids + 1] = id end
  end
else
  local finish, bury, settleOther, tellReturned
  local at = 10 + 5 * names
  local some = at <= #ARGV and
    redis.call("EXISTS", state, lanes, awaited, progress, cancels, parents, dedup) > 0
  if some or ARGV[at] == "O" then
    some = true
    ${settleRare}
  end
  ${settleDone}
  ${sections}
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
          local n, popped = take(i, list, most)
          share = share - n
          if popped < most and ARGV[7 + 5 * i] == "0" then empty[3 * i + list] = true end
        end
      end
    end
    for list = 1, 3 do
      for i = 1, names do
        if not empty[3 * i + list] then takeMore(i, list) end
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
  if tellReturned then tellReturned() end
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
for i = 1, names do suspects = suspects + redis.call("LLEN", KEYS[${before} + 5 * i]) end
if #ids < tonumber(ARGV[4]) then
  local lease = redis.call("ZRANGE", leases, 0, 0, "WITHSCORES")
  if lease[2] and tonumber(lease[2]) <= now then expired = 1 end
end
local answer = { "1", text(now), nextLook and text(nextLook) or "", suspects, expired, refused, {}, {}, settings[5] or "", settings[6] or "", settings[7] or "" }
if #ids > 0 then
  if next(recordOf) then
    for i = 1, #ids do answer[7][i] = recordOf[ids[i]] or redis.call("HGET", jobs, ids[i]) end
  else
    answer[7] = redis.call("HMGET", jobs, unpack(ids))
  end
  if redis.call("EXISTS", state) == 1 then answer[8] = redis.call("HMGET", state, unpack(ids)) end
end
return answer
`

/** Each section of the settlements. */
const settleAll = lua`
  while ARGV[at] do
    if ARGV[at] == "D" then at = settleDone(at) else at = settleOther(at) end
  end
`

export const exchange = script<ReadonlyArray<unknown>>("exchangeJobs", exchangeWith(settleAll))

/** The same for settlements that enqueue: apart, so that all others pay nothing for it. */
export const exchangeFollowed = script<ReadonlyArray<unknown>>(
  "exchangeFollowedJobs",
  exchangeWith(lua`
  local settleFollowed
  ${settleFollowed}
  while ARGV[at] do
    if ARGV[at] == "F" then at = settleFollowed(at) elseif ARGV[at] == "D" then at = settleDone(at) else at = settleOther(at) end
  end
`)
)

type Done = Extract<Settlement["outcome"], { readonly _tag: "Done" }>

/** What a finished job's row holds behind "f<expires>\t<at>\t<S or C>\t". */
const finishedOf = ({ failures, name, priority }: Settlement["job"], format: string | undefined): string =>
  `${name}\t${priority[0]}\t${failures}\t${format ?? ""}\t0\n`

const kinds = { Retry: "R", Dead: "X", Cancelled: "C", Back: "B" } as const

/** What to run for one exchange. */
export const callOf = (queue: QueueKeys, of: (queue: string) => QueueKeys, request: Exchange) => {
  const keys = queue.with(request.rooms.map((room) => room.name))
  if (!hasFollowUps(request.settle)) return { script: exchange, keys, args: argsOf(request, undefined) }
  const further = followUps(queue, of, request.settle, keys.length)
  return { script: exchangeFollowed, keys: keys.concat(further.keys), args: argsOf(request, further.push) }
}

/** Done jobs that differ in little; see `exchange`. */
interface Section {
  readonly ttl: number
  readonly claim: number
  readonly name: string
  readonly grouped: boolean
  readonly ids: Array<Argument>
  readonly records: Array<Argument>
  readonly lanes: Array<Argument>
}

const fits = ({ claim, grouped, name, ttl }: Section, job: Settlement["job"], outcome: Done): boolean =>
  claim === job.claim && ttl === Math.ceil(outcome.ttl) && name === job.name && grouped === (job.group !== undefined)

const sectionOf = ({ claim, group, name }: Settlement["job"], { ttl }: Done): Section => ({
  ttl: Math.ceil(ttl),
  claim,
  name,
  grouped: group !== undefined,
  ids: [],
  records: [],
  lanes: []
})

const addDone = (section: Section, job: Settlement["job"], { format, result }: Done): void => {
  section.ids.push(job.id)
  if (section.grouped) section.lanes.push(laneOf(job.name, job.group!))
  if (section.ttl === 0) return
  const head = finishedOf(job, format)
  section.records.push(typeof result === "string" ? head + result : Buffer.concat([Buffer.from(head), result]))
}

const pushSection = (args: Array<Argument>, section: Section): void => {
  const { claim, grouped, ids, lanes, name, records, ttl } = section
  args.push("D", ttl, claim, name, ids.length, grouped ? "1" : "0")
  for (const part of [ids, records, lanes]) for (const argument of part) args.push(argument)
}

const argsOf = (
  { alone, count, lease, number, rooms, session, settle, shares }: Exchange,
  pushFollowUps: ReturnType<typeof followUps>["push"] | undefined
): ReadonlyArray<Argument> => {
  const args: Array<Argument> = [session.slot, number, lease, count, ...shares, alone ? "1" : "0", rooms.length]
  for (const { count, group, name } of rooms) {
    args.push(name, count, group?.concurrency ?? 0, group?.limit?.count ?? 0, Math.ceil(group?.limit?.per ?? 0))
  }
  const sections: Array<Section> = []
  // These first: the script looks at the first one to see whether there are any.
  for (const { job, outcome } of settle) {
    if (outcome._tag === "Done") {
      if (outcome.jobs !== undefined) continue
      let section = sections.findLast((section) => fits(section, job, outcome))
      if (section === undefined) sections.push((section = sectionOf(job, outcome)))
      addDone(section, job, outcome)
      continue
    }
    const name = rooms.findIndex((room) => room.name === job.name)
    const delay = outcome._tag === "Retry" ? outcome.delay : outcome._tag === "Cancelled" ? outcome.ttl : 0
    const counted = outcome._tag === "Retry" && outcome.counted ? 1 : 0
    const entry = outcome._tag === "Retry" || outcome._tag === "Dead" ? outcome.entry : ""
    const word =
      outcome._tag === "Dead" ? outcome.reason : outcome._tag === "Cancelled" ? finishedOf(job, undefined) : ""
    args.push("O", job.id, job.claim, kinds[outcome._tag], before + 5 * name, Math.ceil(delay), counted, entry, word)
  }
  for (const { job, outcome } of settle) {
    if (outcome._tag !== "Done" || outcome.jobs === undefined) continue
    pushFollowUps!(args, outcome.jobs)
    const section = sectionOf(job, outcome)
    addDone(section, job, outcome)
    pushSection(args, section)
  }
  for (const section of sections) pushSection(args, section)
  return args
}
