/** The rule that `acl` prints: the laws of the engine hold for a user of it, and nothing in it is for nothing. */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as Engine from "../../src/Engine.ts"
import * as Laws from "../../src/laws/Laws.ts"
import * as RedisModule from "../../src/Redis.ts"
import * as RedisBroker from "../../src/redis/broker.ts"
import { Redis } from "../../src/redis/client.ts"
import * as RedisCoordinator from "../../src/redis/coordinator.ts"
import * as RedisJobs from "../../src/redis/jobStore.ts"
import * as RedisTables from "../../src/redis/tableStore.ts"
import { layerRedis, makeServer, sharedUrl } from "../support/redis.ts"
import { shop as app } from "./shop.app.ts"
import { drained, good, json, refused, run, shop } from "./support.ts"

const namespace = "acl.test"

/** A server whose one user has the rule, as it is printed. */
const restricted = Effect.gen(function* () {
  const server = yield* makeServer()
  const { rules }: { readonly rules: ReadonlyArray<string> } = json(
    yield* run(["acl", "--namespace", namespace, "--user", "app", "--json"])
  )
  yield* server.call("acl", "setuser", "app", ...rules.map((rule) => (rule === ">PASSWORD" ? ">secret" : rule)))
  return { server, url: `redis://app:secret@127.0.0.1:${server.port}` }
})

const client = (shards: number) =>
  Layer.unwrap(Effect.map(restricted, ({ url }) => RedisModule.layer({ url, namespace, shards })))

const engine = (shards: number) =>
  Layer.mergeAll(RedisBroker.layer, RedisTables.layer).pipe(Layer.provide(client(shards)))

Laws.broker("as a user of the rule, 3 shards", engine(3))
Laws.tableStore("as a user of the rule", engine(1))

/** A user of its own for each namespace, on one server: laws of ownership run side by side. */
const coordinator = Layer.unwrap(
  Effect.gen(function* () {
    const [own, url] = [`acl.${crypto.randomUUID()}`, new URL(yield* Effect.promise(sharedUrl))]
    const { rules }: { readonly rules: ReadonlyArray<string> } = json(
      yield* run(["acl", "--namespace", own, "--user", own, "--json"])
    )
    const { call } = yield* Redis
    yield* Effect.acquireRelease(
      call("acl", "setuser", own, ...rules.map((rule) => (rule === ">PASSWORD" ? ">secret" : rule))),
      () => Effect.ignore(call("acl", "deluser", own))
    )
    Object.assign(url, { username: own, password: "secret" })
    return Layer.provide(RedisCoordinator.layer, RedisModule.layer({ url: url.href, namespace: own }))
  })
).pipe(Layer.provide(layerRedis()))

Laws.coordinator("as a user of the rule", coordinator, { seeds: 1 })
Laws.jobStore("as a user of the rule", Layer.provide(RedisJobs.layer, client(1)))

describe("the rule", () => {
  it.live("is enough for a whole app: processors, agents, jobs, schedules", () =>
    Effect.gen(function* () {
      const { server, url } = yield* restricted
      const at = ["--url", url, "--namespace", namespace]
      const orders = [1, -1, 666, 555].map((amount, id) => JSON.stringify({ id, customer: `c${id}`, amount }))
      for (const order of orders) good(yield* run(["send", shop, "orders", order, ...at]))
      good(yield* run(["agents", "cast", shop, "shout", '{"text":"a"}', ...at]))
      const place = { name: "Redis" as const, at, layer: Engine.layer({ url, namespace }) }
      yield* drained(place, app.parts)
      for (const command of ["topics", "processors", "lag", "workers", "schedules"]) good(yield* run([command, ...at]))
      assert.lengthOf(json(yield* run(["dead", "list", "orders.dead", "--json", ...at])), 1)
      assert.lengthOf(json(yield* run(["quarantine", "list", "--json", ...at])), 1)
      assert.lengthOf(json(yield* run(["parked", "list", "billing", "--json", ...at])), 1)
      assert.strictEqual(json(yield* run(["dead", "redrive", "orders.dead", "--yes", "--json", ...at])).redriven, 1)
      // Nothing was refused on the way, not even what was tried and done otherwise.
      assert.deepStrictEqual(yield* server.call("acl", "log"), [])
    })
  )

  it.live("keeps the user out of everything else", () =>
    Effect.gen(function* () {
      const { url } = yield* restricted
      const other = yield* run(["send", shop, "receipts", '"x"', "--url", url, "--namespace", "other"])
      refused(other, 1, "NOPERM")
    })
  )

  it.live("names users and namespaces, and refuses what is no name", () =>
    Effect.gen(function* () {
      const line = good(yield* run(["acl", shop]))
      assert.match(line, /^ACL SETUSER shop\.1\.2 reset on >PASSWORD ~\{shop\.1\.2\}:\* /)
      assert.include(good(yield* run(["acl", "--user", "me", "--cluster", "--database", "--fsync"])), "ACL SETUSER me ")
      refused(yield* run(["acl", "--namespace", "a b"]), 2, '"a b" is no name')
      refused(yield* run(["acl", "--user", "a *"]), 2, '"a *" is no name')
    })
  )

  it("holds no command that the sources do not know", () => {
    const root = fileURLToPath(new URL("../../src/redis", import.meta.url))
    const sources = readdirSync(root)
      .filter((file) => file !== "acl.ts" && file !== "examine.ts")
      .map((file) => readFileSync(join(root, file), "utf8"))
      .join("\n")
    const words = new Set(
      Array.from(sources.matchAll(/"([A-Za-z]+)"(?:, "([A-Z]+)")?/g), ([, command, sub]) => [
        command!.toLowerCase(),
        `${command}|${sub}`.toLowerCase()
      ]).flat()
    )
    // What ioredis sends by itself, or what is written in another form.
    const known = new Set(["client|id", "client|unblock", "cluster|slots", "cluster|info", "select", "multi"])
    const { commands } = RedisModule.rule("x", { cluster: true, database: true, fsync: true })
    assert.deepStrictEqual(
      commands.filter((command) => !words.has(command) && !known.has(command)),
      []
    )
  })
})
