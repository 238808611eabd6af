/**
 * Appending one event, as a lone publisher does: what `append.ts` does for it, in a script that Redis is quick with. Where
 * anything is out of the ordinary (a number that does not follow, no room) it writes nothing and leaves it to that one.
 */
import type { Append, Appended } from "../Broker.ts"
import { limits, maxFields, type Request, remembered } from "./append.ts"
import { script } from "./client.ts"
import * as keys from "./keys.ts"

/** KEYS: publisher, log, count. ARGV: number, partition, field of the number, most events before it or "", fields. */
export const appendOne = script<string | null>(
  "appendOne",
  /* lua */ `#!lua
local call, number = redis.call, ARGV[1]
if (call("HGET", KEYS[1], ARGV[2]) or 0) + 1 ~= number + 0 then return end
if ARGV[4] ~= "" then
  local room = call("HMGET", KEYS[3], "extra", "gone")
  if call("XLEN", KEYS[2]) + (room[1] or 0) - (room[2] or 0) > ARGV[4] + 0 then return end
end
local id = call("XADD", KEYS[2], "*", unpack(ARGV, 5))
call("HSET", KEYS[1], ARGV[2], number, ARGV[3], number .. " 1 " .. id .. " -")
if call("PTTL", KEYS[1]) < 600000 then call("PEXPIRE", KEYS[1], 1200000) end
return id
`
)

/** Undefined: this one is no case for it. */
export const request = (
  tag: string,
  { entries, number, partition, producer, publisher, topic }: Append
): Request | undefined => {
  const [entry, ...others] = entries
  const isPlain = others.length === 0 && producer === undefined && entry?.count === 1 && entry.id === undefined
  if (!isPlain || entry.fields.length === 0 || entry.fields.length > maxFields) return undefined
  const [kind, limit] = limits(topic.retention)
  if (kind !== "C" && kind !== "F") return undefined
  const { name } = topic
  return {
    keys: [keys.publisher(tag, name, publisher), keys.log(tag, name, partition), keys.count(tag, name, partition)],
    args: [number, partition, `${partition}:${number % remembered}`, kind === "C" ? limit - 1 : "", ...entry.fields]
  }
}

export const answer = (id: string): ReadonlyArray<Appended> => [{ _tag: "Stored", ids: [id], repeated: false }]
