/** What programs say of the jobs of a queue, for those who show them (see `internal/jobFacts.ts`). */
import { script } from "./client.ts"

/** KEYS: facts. ARGV: names and facts; "" for none. */
export const declare = script<number>(
  "declareJobs",
  /* lua */ `#!lua flags=allow-oom
for i = 1, #ARGV, 2 do
  if ARGV[i + 1] == "" then redis.call("HDEL", KEYS[1], ARGV[i]) else redis.call("HSET", KEYS[1], ARGV[i], ARGV[i + 1]) end
end
return 1
`
)
