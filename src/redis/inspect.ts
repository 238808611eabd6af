/** What is asked about logs: their facts, a processor's lag, whether there is room, and trimming by hand. */
import type { Lag } from "../Broker.ts"
import { type Facts, factsOf } from "./claim.ts"
import { script } from "./client.ts"
import { parseRow } from "./commit.ts"
import * as Lua from "./lua.ts"

/** KEYS: log and count of each. */
export const inspect = script<ReadonlyArray<Facts>>(
  "inspect",
  /* lua */ `#!lua flags=no-writes
${Lua.facts}${factsOf}
local answer = {}
for k = 1, #KEYS, 2 do answer[#answer + 1] = factsOf(KEYS[k], KEYS[k + 1]) end
return answer
`
)

/** KEYS: owner; log and count of each. ARGV: the owner's field of each. Gives facts, row, id of the first entry not done. */
export const lag = script<ReadonlyArray<readonly [facts: Facts, row: string | null, oldest: string]>>(
  "lag",
  /* lua */ `#!lua flags=no-writes
${Lua.facts}${factsOf}
local answer = {}
for i = 1, #ARGV do
  local log, count = KEYS[2 * i], KEYS[2 * i + 1]
  local row = redis.call("HGET", KEYS[1], ARGV[i])
  local facts = factsOf(log, count)
  local entry, entries = string.match(row or "0-0.0 0-0 0 0", "^%S+ (%S+) (%S+)")
  local oldest = ""
  if tonumber(facts[2]) > tonumber(entries) then
    local next = redis.call("XRANGE", log, "(" .. entry, "+", "COUNT", 1)[1]
    oldest = next and next[1] or ""
  end
  answer[i] = { facts, row, oldest }
end
return answer
`
)

export const toLag = (
  topic: string,
  partition: number,
  [[, added, , , extra], row, oldest]: readonly [Facts, string | null, string]
): Lag => {
  const committed = parseRow(topic, row)
  const entries = Math.max(0, Number(added) - committed.entries)
  return {
    topic,
    partition,
    // How many events were in entries that were lost unread nobody knows: at the end of the log none are left.
    events: entries === 0 ? 0 : Math.max(0, Number(added) + Number(extra) - committed.events),
    entries,
    oldest: oldest === "" ? undefined : Number(oldest.slice(0, oldest.indexOf("-"))),
    committed: committed.offset
  }
}

/** KEYS: log and count. ARGV: capacity. 1 if an event may be appended. */
export const room = script<number>(
  "room",
  /* lua */ `#!lua flags=no-writes
${Lua.facts}${Lua.held}
local length, capacity = redis.call("XLEN", KEYS[1]), tonumber(ARGV[1])
local extra, gone = extras(KEYS[2])
if length + extra - gone < capacity then return 1 end
return held(KEYS[1], KEYS[2], length, extra, gone) < capacity and 1 or 0
`
)

/** KEYS: log and count. ARGV: kind and limit of the retention. Gives the entries dropped; call it until there are none. */
export const trim = script<number>(
  "trim",
  /* lua */ `#!lua flags=allow-oom
${Lua.facts}${Lua.retain}
return retain(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
`
)
