/**
 * Parked events: the part of a commit that changes the lanes of its partition, and reading them. The events of all lanes
 * are one stream; `parkedNext` leads from each to the next of its lane, so that nothing ever looks for one.
 *
 * Gotcha: in the stream, the first three fields of an entry are ours whatever their names, and all others are the event's.
 */
import { Effect } from "effect"
import { type Lane, type LaneState, maxLaneError, type ParkedPage, type Parking } from "../Broker.ts"
import { EngineError } from "../Errors.ts"
import { type Argument, type Redis, script } from "./client.ts"
import * as keys from "./keys.ts"

/** Fields of one parked event, names and values: more than an entry may have, so whatever was stored can be parked. */
const maxFields = 7_500

/** The keys of one partition's lanes, in the order in which the scripts have them. */
export const keysOf = (tag: string, processor: string, partition: number): ReadonlyArray<string> => [
  keys.parked(tag, processor, partition),
  keys.lanes(tag, processor, partition),
  keys.parkedNext(tag, processor, partition)
]

/** What a lane's row holds behind its ends and its count. */
const stateText = ({ attempts, due, since, error }: LaneState): string =>
  `${attempts} ${due} ${since} ${error.slice(0, maxLaneError)}`

/** The number of the first of the three keys, then removals, drops, parks and states, each with their number in front. */
export const pushParking = (args: Array<Argument>, key: number, { drop, park, remove, states }: Parking): void => {
  args.push(key, remove.length)
  for (const { lane, id } of remove) args.push(lane, id)
  args.push(drop.length)
  for (const lane of drop) args.push(lane)
  args.push(park.length)
  for (const { lane, topic, offset, fields } of park) {
    if (fields.length > maxFields) {
      throw new EngineError({
        operation: "commit",
        reason: "Refused",
        detail: `an event of ${topic} at ${offset} has ${fields.length / 2} fields; ${maxFields / 2} can be parked`
      })
    }
    args.push(lane, fields.length + 6, "lane", lane, "topic", topic, "offset", offset)
    for (let i = 0; i < fields.length; i++) args.push(fields[i]!)
  }
  args.push(states.length)
  for (const state of states) args.push(state.lane, stateText(state))
}

/** Sets `answer` if a removal is not that of its lane's first event. Needs `section`, where the arguments begin. */
export const check = /* lua */ `
local key, heads = tonumber(ARGV[section]), {}
for r = section + 2, section + 2 * ARGV[section + 1], 2 do
  local lane, id = ARGV[r], ARGV[r + 1]
  local head = heads[lane]
  if head == nil then head = string.match(redis.call("HGET", KEYS[key + 1], lane) or "", "^%S+") end
  if head ~= id then
    answer = "w" .. number
    break
  end
  heads[lane] = redis.call("HGET", KEYS[key + 2], id)
end
`

/** Drops, parks, removes, sets states: each lane is read and written once. Needs `section`. */
export const write = /* lua */ `
local key, removals = tonumber(ARGV[section]), tonumber(ARGV[section + 1])
local parked, lanes, following = KEYS[key], KEYS[key + 1], KEYS[key + 2]
local known, touched = {}, {}
local function laneOf(name)
  local lane = known[name]
  if lane then return lane end
  local row = redis.call("HGET", lanes, name) or ""
  local head, tail, count, state = string.match(row, "^(%S+) (%S+) (%d+) (.*)$")
  lane = { name = name, head = head, tail = tail, count = tonumber(count or 0), state = state or "0 0 0 " }
  known[name], touched[#touched + 1] = lane, lane
  return lane
end
local function shift(lane)
  redis.call("XDEL", parked, lane.head)
  local after = lane.count > 1 and redis.call("HGET", following, lane.head)
  if after then redis.call("HDEL", following, lane.head) end
  lane.head, lane.count = after, after and lane.count - 1 or 0
end
local at = section + 2 + 2 * removals
for d = at + 1, at + ARGV[at] do
  local lane = laneOf(ARGV[d])
  while lane.count > 0 do shift(lane) end
  lane.state = "0 0 0 "
end
at = at + 1 + ARGV[at]
local parks = tonumber(ARGV[at])
at = at + 1
for _ = 1, parks do
  local lane, size = laneOf(ARGV[at]), tonumber(ARGV[at + 1])
  local id = redis.call("XADD", parked, "*", unpack(ARGV, at + 2, at + 1 + size))
  if lane.count > 0 then redis.call("HSET", following, lane.tail, id) else lane.head = id end
  lane.tail, lane.count = id, lane.count + 1
  at = at + 2 + size
end
for r = section + 2, section + 2 * removals, 2 do
  local lane = laneOf(ARGV[r])
  -- It may have been dropped just now.
  if lane.count > 0 and lane.head == ARGV[r + 1] then shift(lane) end
end
for s = at + 1, at + 2 * ARGV[at], 2 do laneOf(ARGV[s]).state = ARGV[s + 1] end
local kept, gone = {}, {}
for _, lane in ipairs(touched) do
  if lane.count > 0 then
    kept[#kept + 1] = lane.name
    kept[#kept + 1] = lane.head .. " " .. lane.tail .. " " .. lane.count .. " " .. lane.state
  else
    gone[#gone + 1] = lane.name
  end
end
for i = 1, #kept, 500 do redis.call("HSET", lanes, unpack(kept, i, math.min(i + 499, #kept))) end
for i = 1, #gone, 500 do redis.call("HDEL", lanes, unpack(gone, i, math.min(i + 499, #gone))) end
if redis.call("EXISTS", lanes) == 0 then redis.call("UNLINK", parked, following) end
`

/** KEYS: lanes. A script, since ioredis makes an object of the reply to HGETALL: any name may be a lane's, `__proto__` too. */
export const list = script<ReadonlyArray<string>>(
  "lanes",
  /* lua */ `#!lua flags=no-writes
return redis.call("HGETALL", KEYS[1])
`
)

/** Names and rows of lanes, in turn, as HGETALL gives them. */
export const parseLanes = (reply: ReadonlyArray<string>): ReadonlyArray<Lane> => {
  const all: Array<Lane> = []
  for (let i = 0; i < reply.length; i += 2) {
    const [, head, count, attempts, due, since, error] = /^(\S+) \S+ (\d+) (\d+) (\d+) (\d+) (.*)$/s.exec(
      reply[i + 1]!
    )!
    const numbers = { count: Number(count), attempts: Number(attempts), due: Number(due), since: Number(since) }
    all.push({ lane: reply[i]!, head: head!, ...numbers, error: error! })
  }
  return all
}

/**
 * KEYS: parked, lanes, parkedNext. ARGV: lane, the id behind which the page begins ("": at the first), events at most.
 * Gives "1" if there are more, then the entries.
 */
export const page = script<unknown>(
  "parked",
  /* lua */ `#!lua flags=no-writes
local parked, lanes, following, lane, after, most = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], tonumber(ARGV[3])
local head, tail = string.match(redis.call("HGET", lanes, lane) or "", "^(%S+) (%S+)")
if not head then return { "" } end
local function above(a, b)
  local am, as = string.match(a, "^(%d+)-(%d+)$")
  local bm, bs = string.match(b, "^(%d+)-(%d+)$")
  if am ~= bm then return tonumber(am) > tonumber(bm) end
  return tonumber(as) > tonumber(bs)
end
local id, answer = head, { "" }
if after ~= "" then
  -- One that was removed has taken those before it along: the lane begins behind it.
  id = after ~= tail and (redis.call("HGET", following, after) or above(head, after) and head)
end
while id and #answer <= most do
  answer[#answer + 1] = redis.call("XRANGE", parked, id, id)[1]
  id = id ~= tail and redis.call("HGET", following, id)
end
if id then answer[1] = "1" end
return answer
`
)

type Reply = readonly [more: Buffer, ...ReadonlyArray<readonly [id: Buffer, fields: ReadonlyArray<Buffer>]>]

const toPage = ([more, ...entries]: Reply): ParkedPage => {
  const events = entries.map(([id, fields]) => ({
    id: id.toString(),
    topic: fields[3]!.toString(),
    offset: fields[5]!.toString(),
    fields: fields.slice(6)
  }))
  return { events, next: more.length > 0 ? events[events.length - 1]?.id : undefined }
}

export const readPage = (
  redis: Redis["Service"],
  names: ReadonlyArray<string>,
  lane: string,
  after: string | undefined,
  count: number
): Effect.Effect<ParkedPage, EngineError> =>
  Effect.map(redis.runBuffer<Reply>(page, names, [lane, after ?? "", count]), toPage)
