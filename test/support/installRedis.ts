/**
 * Run before the tests: if `redis-server` is missing and this is a Linux with apt-get and the right to use it, installs
 * it, without starting a service; otherwise says in one line how to get it. `MILLRACE_TEST_REDIS` makes it unnecessary
 * for most tests, but those that kill and restart servers need the program all the same.
 */
import { spawnSync } from "node:child_process"
import { existsSync, rmSync, writeFileSync } from "node:fs"
import { pathToFileURL } from "node:url"

const succeeds = (command: string, ...args: ReadonlyArray<string>): boolean =>
  spawnSync(command, args, { stdio: "ignore" }).status === 0

const run = (sudo: ReadonlyArray<string>, ...command: ReadonlyArray<string>): boolean => {
  const [program, ...args] = [...sudo, "env", "DEBIAN_FRONTEND=noninteractive", ...command] as [
    string,
    ...Array<string>
  ]
  return spawnSync(program, args, { stdio: ["ignore", "inherit", "inherit"] }).status === 0
}

/** Packages ask this script before they start what they install; 101 means no. */
const policy = "/usr/sbin/policy-rc.d"

const withoutServices = (sudo: ReadonlyArray<string>, action: () => boolean): boolean => {
  if (existsSync(policy)) return action()
  const refusal = "#!/bin/sh\nexit 101\n"
  const root = sudo.length === 0
  if (root) writeFileSync(policy, refusal, { mode: 0o755 })
  else spawnSync("sudo", ["-n", "install", "-m", "755", "/dev/stdin", policy], { input: refusal })
  try {
    return action()
  } finally {
    if (root) rmSync(policy, { force: true })
    else succeeds("sudo", "-n", "rm", "-f", policy)
  }
}

export const installRedis = (): boolean => {
  if (succeeds("redis-server", "--version")) return true
  const root = process.getuid?.() === 0
  const sudo = root ? [] : ["sudo", "-n"]
  const mayInstall =
    process.platform === "linux" && succeeds("apt-get", "--version") && (root || succeeds("sudo", "-n", "true"))
  if (!mayInstall) return false
  console.error("redis-server is missing: installing it with apt-get")
  return (
    withoutServices(
      sudo,
      () =>
        run(sudo, "apt-get", "update", "-q") &&
        run(sudo, "apt-get", "install", "-y", "-q", "--no-install-recommends", "redis-server")
    ) && succeeds("redis-server", "--version")
  )
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href && !installRedis()) {
  console.error(
    "The tests need redis-server 7.0 or later on the PATH: apt-get install redis-server, dnf install redis, " +
      "brew install redis, or see https://redis.io/docs/latest/operate/oss_and_stack/install/"
  )
  process.exitCode = 1
}
