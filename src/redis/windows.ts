/**
 * What is due of tables with windows (a sorted set for each table and partition), and how far partitions have come in
 * time (fields of the owner hash): part of a commit, beside the rows. See `commit.ts`.
 */
import { Effect } from "effect"
import type { Layout, Time, Windows } from "../Broker.ts"
import type { EngineError } from "../Errors.ts"
import type { WindowsDue } from "../TableStore.ts"
import { type Argument, type Redis, script } from "./client.ts"
import * as Lua from "./lua.ts"

/** The field of the owner hash. */
const timeField = (partition: number, source: string): string => `${partition}:${source} time`

/**
 * Groups as those of rows: key, how many arguments set (marked with a z where it is a sorted set) and how many remove,
 * then those. Gives how many groups there are.
 */
export const pushWindows = (
  args: Array<Argument>,
  { due, times }: Windows,
  partition: number,
  owner: number,
  keyOf: (table: string) => number
): number => {
  const byTable = new Map<string, { readonly set: Array<Argument>; readonly remove: Array<Argument> }>()
  for (const { at, key, table } of due) {
    let parts = byTable.get(table)
    if (parts === undefined) byTable.set(table, (parts = { set: [], remove: [] }))
    if (at === undefined) parts.remove.push(key)
    else parts.set.push(at, key)
  }
  for (const [table, { remove, set }] of byTable) {
    args.push(keyOf(table), `z${set.length}`, remove.length)
    for (const each of set) args.push(each)
    for (const each of remove) args.push(each)
  }
  if (times.length === 0) return byTable.size
  args.push(owner, 2 * times.length, 0, 0)
  for (const { source, time } of times) args.push(timeField(partition, source), time)
  return byTable.size + 1
}

/** As a claim's script answers them: that of the clock first, then that of each topic. */
export const toTimes = (topics: ReadonlyArray<Layout>, found: ReadonlyArray<string | null>): ReadonlyArray<Time> =>
  ["", ...topics.map(({ name }) => name)].flatMap((source, i) => {
    const time = found[i]
    return typeof time === "string" ? [{ source, time: Number(time) }] : []
  })

/** KEYS: windows. ARGV: rows at most. Gives the server's time, then keys and times in turn. */
export const due = script<ReadonlyArray<string>>(
  "windowsDue",
  /* lua */ `#!lua flags=no-writes
${Lua.clock}
local answer, most = { string.format("%.0f", now) }, tonumber(ARGV[1])
local rows = most > 0 and redis.call("ZRANGE", KEYS[1], 0, most - 1, "WITHSCORES") or {}
for i = 1, #rows, 2 do
  answer[i + 1], answer[i + 2] = rows[i], string.format("%.0f", rows[i + 1])
end
return answer
`
)

export const ask = (redis: Redis["Service"], key: string, count: number): Effect.Effect<WindowsDue, EngineError> =>
  Effect.map(redis.run(due, [key], [count]), ([now, ...rows]): WindowsDue => {
    const found: Array<{ readonly key: string; readonly at: number }> = []
    for (let i = 0; i < rows.length; i += 2) found.push({ key: rows[i]!, at: Number(rows[i + 1]) })
    return { rows: found, now: Number(now) }
  })
