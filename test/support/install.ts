/**
 * Programs that the tests need, put there with apt-get where they are missing and this is a Linux that has it and the right
 * to use it; no service is started.
 */
import { spawnSync } from "node:child_process"
import { existsSync, rmSync, writeFileSync } from "node:fs"

export const succeeds = (command: string, ...args: ReadonlyArray<string>): boolean =>
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

/** Whether the program is there at the end: it was, or a package of this name brought it. */
export const install = (program: string, name: string, isThere: () => boolean): boolean => {
  if (isThere()) return true
  const root = process.getuid?.() === 0
  const sudo = root ? [] : ["sudo", "-n"]
  const mayInstall =
    process.platform === "linux" && succeeds("apt-get", "--version") && (root || succeeds("sudo", "-n", "true"))
  if (!mayInstall) return false
  console.error(`${program} is missing: installing it with apt-get`)
  return (
    withoutServices(
      sudo,
      () =>
        run(sudo, "apt-get", "update", "-q") &&
        run(sudo, "apt-get", "install", "-y", "-q", "--no-install-recommends", name)
    ) && isThere()
  )
}
