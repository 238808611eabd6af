/** `doctor` and what stands behind it: each fault is planted in a server of its own, and named. */
import { closeSync, openSync, writeFileSync, writeSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import * as Engine from "../../src/Engine.ts"
import { makeOldServer } from "../support/oldServer.ts"
import { directory } from "../support/places.ts"
import { makeCluster, makeReplica, makeServer } from "../support/redis.ts"
import { good, json, refused, run, shop } from "./support.ts"

const doctor = (url: string, ...args: ReadonlyArray<string>) => run(["doctor", "--json", "--url", url, ...args])

type Findings = ReadonlyArray<Engine.Finding>

const of = (findings: Findings, check: Engine.Finding["check"]): Engine.Finding =>
  findings.find((one) => one.check === check)!

/** It exits with 1, and one line says how many problems there are. */
const problems = (outcome: { code: number; out: string; err: string }): Findings => {
  assert.strictEqual(outcome.code, 1, outcome.err)
  assert.match(outcome.err, /^millrace: \d+ problems? found\n$/)
  return JSON.parse(outcome.out)
}

const is = (
  findings: Findings,
  check: Engine.Finding["check"],
  status: Engine.Finding["status"],
  ...said: Array<string>
) => {
  const one = of(findings, check)
  assert.strictEqual(one.status, status, one.detail)
  for (const text of said) assert.include(one.detail, text)
}

describe("a Redis server", () => {
  it.live("that is in order passes, and what an ACL forbids is named", () =>
    Effect.gen(function* () {
      const server = yield* makeServer(["--appendonly", "yes"])
      const findings: Findings = json(yield* doctor(server.url))
      assert.deepStrictEqual(
        findings.map(({ check, status }) => [check, status]),
        [
          ["version", "ok"],
          ["eviction", "ok"],
          ["persistence", "ok"],
          ["clock", "ok"],
          ["acl", "ok"],
          ["topology", "warning"]
        ]
      )
      is(findings, "topology", "warning", "without replicas")
      assert.match(
        good(yield* run(["doctor", shop, "--url", server.url])),
        /^check +status +found\nversion +ok +Redis /
      )

      const user = (name: string, ...rules: ReadonlyArray<string>) =>
        Effect.as(
          server.call("acl", "setuser", name, "on", ">secret", ...rules),
          `redis://${name}:secret@127.0.0.1:${server.port}`
        )
      const poor = problems(yield* doctor(yield* user("poor", "~*", "&*", "+@all", "-hset", "-xgroup", "-publish")))
      is(poor, "acl", "problem", "hset", "xgroup|create", "publish", "millrace acl")
      const mute = problems(yield* doctor(yield* user("mute", "~*", "&*", "+@all", "-eval")))
      is(mute, "acl", "problem", "may not run scripts")
      const blind = yield* doctor(yield* user("blind", "~*", "&*", "+@all", "-info", "-config"))
      for (const check of ["version", "eviction", "persistence", "topology"] as const) {
        is(json(blind), check, "warning", "INFO")
      }
      const elsewhere = problems(yield* doctor(yield* user("else", "~other:*", "&*", "+@all"), "--namespace", "mine"))
      is(elsewhere, "acl", "problem", "on keys of mine")
      refused(yield* run(["doctor", "--url", `redis://poor:wrong@127.0.0.1:${server.port}`]), 3, "WRONGPASS")
    })
  )

  it.live("that drops keys and writes nothing to disk is told so, and so is a replica", () =>
    Effect.gen(function* () {
      const server = yield* makeServer(["--maxmemory-policy", "allkeys-lru"])
      const findings = problems(yield* doctor(server.url))
      is(findings, "eviction", "problem", "allkeys-lru", "noeviction")
      is(findings, "persistence", "problem", "nothing is written to disk", "appendonly")
      yield* server.call("config", "set", "save", "60 1")
      yield* server.call("config", "set", "maxmemory-policy", "noeviction")
      is(json(yield* doctor(server.url)), "persistence", "warning", "snapshots only (save 60 1)")
      const replica = yield* makeReplica(server)
      is(problems(yield* doctor(replica.url)), "topology", "problem", "replica")
      is(json(yield* doctor(server.url)), "topology", "ok", "1 replica")
    })
  )

  it.live("that is too old is told so", () =>
    Effect.gen(function* () {
      const findings = problems(yield* doctor(yield* makeOldServer("6.2.14")))
      is(findings, "version", "problem", "Redis 6.2.14 is too old")
    })
  )

  it.effect("whose clock is off is told so", () =>
    Effect.gen(function* () {
      const server = yield* makeServer(["--appendonly", "yes"])
      // The test's clock stands at 1970.
      const ahead = yield* Engine.examine({ url: server.url })
      is(ahead, "clock", "problem", "ahead of this machine", "NTP")
      yield* TestClock.setTime(Date.now() + 60_000)
      is(yield* Engine.examine({ url: server.url }), "clock", "problem", "behind this machine")
      yield* TestClock.setTime(Date.now())
      is(yield* Engine.examine({ url: server.url }), "clock", "ok")
    })
  )

  it.live(
    "of a cluster needs a URL for clusters; then each master is looked at",
    () =>
      Effect.gen(function* () {
        const cluster = yield* makeCluster
        const single = problems(yield* doctor(cluster.nodes[0]!.url))
        is(single, "topology", "problem", "redis-cluster://")
        const findings: Findings = JSON.parse((yield* doctor(cluster.url)).out)
        for (const { port } of cluster.nodes) {
          const node = findings.filter(({ detail }) => detail.startsWith(`127.0.0.1:${port}: `))
          assert.lengthOf(node, 6)
          is(node, "topology", "warning", "a master of the cluster")
        }
      }),
    60_000
  )
})

describe("a file", () => {
  it.live("is told to be sound, or damaged, or no database", () =>
    Effect.gen(function* () {
      const at = yield* directory
      const file = join(at, "engine.db")
      good(yield* run(["send", shop, "receipts", JSON.stringify("x".repeat(500_000)), "--url", `file:${file}`]))
      const findings: Findings = json(yield* doctor(`file:${file}`))
      assert.isTrue(findings.every(({ status }) => status === "ok"))
      is(findings, "version", "ok", "SQLite")
      is(findings, "persistence", "ok", "write-ahead log")
      // The middle of a table's pages.
      const handle = openSync(file, "r+")
      for (let page = 4; page < 20; page++) writeSync(handle, Buffer.alloc(4_096, 0xff), 0, 4_096, page * 4_096)
      closeSync(handle)
      const damaged = yield* doctor(`file:${file}`)
      assert.notStrictEqual(damaged.code, 0)
      assert.include(damaged.out + damaged.err, "damaged")
      writeFileSync(join(at, "text.db"), "no database, but text that is longer than a header would be".repeat(20))
      refused(yield* run(["doctor", "--url", `file:${join(at, "text.db")}`]), 3, "is not an SQLite database")
      is(json(yield* doctor("memory:")), "persistence", "warning", "gone with the process")
    })
  )
})
