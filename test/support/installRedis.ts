/**
 * Run before the tests: if `redis-server` is missing, installs it where that can be done; otherwise says in one line how to
 * get it. `MILLRACE_TEST_REDIS` makes it unnecessary for most tests, but those that kill and restart servers need the
 * program all the same.
 */
import { pathToFileURL } from "node:url"
import { install, succeeds } from "./install.ts"

export const installRedis = (): boolean =>
  install("redis-server", "redis-server", () => succeeds("redis-server", "--version"))

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href && !installRedis()) {
  console.error(
    "The tests need redis-server 7.0 or later on the PATH: apt-get install redis-server, dnf install redis, " +
      "brew install redis, or see https://redis.io/docs/latest/operate/oss_and_stack/install/"
  )
  process.exitCode = 1
}
