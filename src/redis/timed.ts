/**
 * Rows that expire: reading those that have not, on the server's clock, and asking for those that have. When a row expires
 * stands in a sorted set beside the table's hash; commits write both (see `commit.ts`).
 */
import { Effect } from "effect"
import type { EngineError } from "../Errors.ts"
import type { Due, TableStore, TimedRow } from "../TableStore.ts"
import { type Redis, script } from "./client.ts"
import * as Lua from "./lua.ts"

/** KEYS: rows, due. ARGV: keys. Gives values, then the milliseconds that each has left ("": it does not expire). */
export const readTimed = script<unknown>(
  "readTimed",
  /* lua */ `#!lua flags=no-writes
${Lua.clock}
local values, ends = redis.call("HMGET", KEYS[1], unpack(ARGV)), redis.call("ZMSCORE", KEYS[2], unpack(ARGV))
local left = {}
for i = 1, #ARGV do
  local rest = ends[i] and ends[i] - now
  if rest and rest <= 0 then values[i] = false end
  left[i] = rest and string.format("%.0f", rest) or ""
end
return { values, left }
`
)

/** KEYS: rows, due. ARGV: cursor, rows of a page, about. Gives what HSCAN gives, without the rows that have expired. */
export const scanTimed = script<unknown>(
  "scanTimed",
  /* lua */ `#!lua flags=no-writes
${Lua.clock}
local page = redis.call("HSCAN", KEYS[1], ARGV[1], "COUNT", ARGV[2])
local rows = {}
for i = 1, #page[2], 2 do
  local ends = redis.call("ZSCORE", KEYS[2], page[2][i])
  if not ends or ends - now > 0 then rows[#rows + 1], rows[#rows + 2] = page[2][i], page[2][i + 1] end
end
return { page[1], rows }
`
)

/** KEYS: due. ARGV: keys at most. Gives the keys that have expired, and how long the next one has ("": there is none). */
export const due = script<readonly [keys: ReadonlyArray<string>, next: string]>(
  "due",
  /* lua */ `#!lua flags=no-writes
${Lua.clock}
local all, most = redis.call("ZRANGE", KEYS[1], 0, ARGV[1], "WITHSCORES"), tonumber(ARGV[1])
local keys = {}
for i = 1, #all, 2 do
  local rest = all[i + 1] - now
  if rest > 0 or #keys == most then return { keys, string.format("%.0f", math.max(rest, 0)) } end
  keys[#keys + 1] = all[i]
end
return { keys, "" }
`
)

type Client = Redis["Service"]

export const read = (
  redis: Client,
  keys: ReadonlyArray<string>,
  wanted: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<TimedRow | undefined>, EngineError> =>
  Effect.map(
    redis.runBuffer<readonly [values: ReadonlyArray<Buffer | null>, left: ReadonlyArray<Buffer>]>(
      readTimed,
      keys,
      wanted
    ),
    ([values, left]) =>
      values.map((value, i) => {
        const text = left[i]!.toString()
        return value === null ? undefined : { value, left: text === "" ? undefined : Number(text) }
      })
  )

export const scan = (redis: Client, keys: ReadonlyArray<string>, cursor: string, count: number) =>
  redis.runBuffer<readonly [next: Buffer, pairs: ReadonlyArray<Buffer>]>(scanTimed, keys, [cursor, count])

export const ask = (redis: Client, key: string, count: number): ReturnType<TableStore["Service"]["due"]> =>
  Effect.map(
    redis.run(due, [key], [count]),
    ([keys, next]): Due => ({ keys, next: next === "" ? undefined : Number(next) })
  )
