/** What members say about themselves, on Redis: a field for each in one hash. What is kept no longer goes as others speak. */
import { Effect } from "effect"
import type { Coordinator } from "../Coordinator.ts"
import { type Redis, script } from "./client.ts"
import { clock } from "./lua.ts"

/** KEYS: reports. ARGV: member, milliseconds, text. A look at the others costs more than the write, so it is rare. */
const report = script<number>(
  "report",
  /* lua */ `#!lua flags=allow-oom
${clock}
local reports, member, millis, text = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]
if millis <= 0 then return redis.call("HDEL", reports, member) end
local row = string.format("%.0f %.0f ", now, now + millis) .. text
local isNew = redis.call("HSET", reports, member, row) == 1
if isNew then
  local rows = redis.call("HGETALL", reports)
  for i = 1, #rows, 2 do
    local kept = tonumber(string.match(rows[i + 1], "^%d+ (%d+)"))
    if kept <= now then redis.call("HDEL", reports, rows[i]) end
  end
end
return 1
`
)

/** KEYS: reports. Member, time and text of each in turn. */
const reports = script<ReadonlyArray<string>>(
  "reports",
  /* lua */ `#!lua flags=no-writes
${clock}
local rows, found = redis.call("HGETALL", KEYS[1]), {}
for i = 1, #rows, 2 do
  local at, kept, text = string.match(rows[i + 1], "^(%d+) (%d+) (.*)$")
  if tonumber(kept) > now then
    found[#found + 1] = rows[i]
    found[#found + 1] = at
    found[#found + 1] = text
  end
end
return found
`
)

export const reportsOf = (redis: Redis["Service"]): Pick<Coordinator["Service"], "report" | "reports"> => {
  const key = `{${redis.namespace}}:reports`
  return {
    report: (member, text, millis) => Effect.asVoid(redis.run(report, [key], [member, Math.ceil(millis), text])),
    reports: () =>
      Effect.map(redis.run(reports, [key], []), (rows) => {
        const found: Array<{ readonly member: string; readonly text: string; readonly at: number }> = []
        for (let i = 0; i < rows.length; i += 3) {
          found.push({ member: rows[i]!, at: Number(rows[i + 1]), text: rows[i + 2]! })
        }
        return found.sort((a, b) => (a.member < b.member ? -1 : 1))
      })
  }
}
