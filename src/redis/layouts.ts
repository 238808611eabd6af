/**
 * What is stored about topics, processors and tables, checked before anything else is written: partition counts, the
 * number of shards, which topics a processor reads, whose a table is. And the end of a processor.
 */
import { script } from "./client.ts"

/**
 * KEYS: hash. ARGV: names and values. Stores those that are new, all or none; gives name and stored value of the first
 * that differs.
 */
export const declare = script<readonly [] | readonly [name: string, stored: string]>(
  "declare",
  /* lua */ `#!lua flags=allow-oom
for i = 1, #ARGV, 2 do
  local stored = redis.call("HGET", KEYS[1], ARGV[i])
  if stored and stored ~= ARGV[i + 1] then return { ARGV[i], stored } end
end
for i = 1, #ARGV, 2 do redis.call("HSETNX", KEYS[1], ARGV[i], ARGV[i + 1]) end
return {}
`
)

/** KEYS: hash, and the hash of what need not agree (see `internal/topicFacts.ts`). ARGV: names, values and facts. */
export const declareTopics = script<readonly [] | readonly [name: string, stored: string]>(
  "declareTopics",
  /* lua */ `#!lua flags=allow-oom
for i = 1, #ARGV, 3 do
  local stored = redis.call("HGET", KEYS[1], ARGV[i])
  if stored and stored ~= ARGV[i + 1] then return { ARGV[i], stored } end
end
for i = 1, #ARGV, 3 do
  redis.call("HSETNX", KEYS[1], ARGV[i], ARGV[i + 1])
  if redis.call("HGET", KEYS[2], ARGV[i]) ~= ARGV[i + 2] then redis.call("HSET", KEYS[2], ARGV[i], ARGV[i + 2]) end
end
return {}
`
)

/** KEYS: hash. A script, since ioredis makes an object of the reply to HGETALL. */
export const rowsOf = script<ReadonlyArray<string>>(
  "rows",
  /* lua */ `#!lua flags=no-writes
return redis.call("HGETALL", KEYS[1])
`
)

/** Names and values in turn, as `rowsOf` gives them, by name. */
export const pairs = (rows: ReadonlyArray<string>): ReadonlyArray<readonly [name: string, value: string]> => {
  const all: Array<readonly [string, string]> = []
  for (let i = 0; i < rows.length; i += 2) all.push([rows[i]!, rows[i + 1]!])
  return all.sort(([a], [b]) => (a < b ? -1 : 1))
}

/** KEYS: owner, tables set; log and count of each; the tables' hashes and the lanes' keys. ARGV: processor, logs. */
export const unregister = script<number>(
  "unregister",
  /* lua */ `#!lua flags=allow-oom
local processor, logs = ARGV[1], tonumber(ARGV[2])
for i = 1, logs do
  local log, count = KEYS[2 * i + 1], KEYS[2 * i + 2]
  redis.pcall("XGROUP", "DESTROY", log, processor)
  redis.call("HDEL", count, "g:" .. processor, "floor")
end
redis.call("UNLINK", KEYS[1], KEYS[2])
for k = 2 * logs + 3, #KEYS do redis.call("UNLINK", KEYS[k]) end
return 1
`
)

/**
 * KEYS: hash. ARGV: table, "<processor> <partitions>" and "0" or "1" (hashed), with paths in JSON behind it if some of a
 * row is not to be shown, of each; the last may change. Gives name and stored value of the first that differs.
 */
export const declareTables = script<readonly [] | readonly [name: string, stored: string]>(
  "declareTables",
  /* lua */ `#!lua flags=allow-oom
for i = 1, #ARGV, 3 do
  local stored = redis.call("HGET", KEYS[1], ARGV[i])
  if stored and string.match(stored, "^%S+ %S+") ~= ARGV[i + 1] then return { ARGV[i], stored } end
end
for i = 1, #ARGV, 3 do redis.call("HSET", KEYS[1], ARGV[i], ARGV[i + 1] .. " " .. ARGV[i + 2]) end
return {}
`
)

/** KEYS: processors, tables. ARGV: processor. Its tables' names are free again. */
export const forget = script<number>(
  "forget",
  /* lua */ `#!lua flags=allow-oom
local tables, names = redis.call("HGETALL", KEYS[2]), {}
for i = 1, #tables, 2 do
  if string.match(tables[i + 1], "^%S+") == ARGV[1] then names[#names + 1] = tables[i] end
end
for i = 1, #names do redis.call("HDEL", KEYS[2], names[i]) end
return redis.call("HDEL", KEYS[1], ARGV[1])
`
)
