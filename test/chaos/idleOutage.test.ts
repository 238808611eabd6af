/** What a worker process costs while its server is away, in whatever way: hardly any processor time, and few words. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { Engine, Topic } from "../../src/index.ts"
import { work } from "../support/chaos.ts"
import { handled, used } from "../support/outage.ts"
import { start } from "../support/processes.ts"
import { makeReplica, makeServer, type Server } from "../support/redis.ts"

const durable = ["--appendonly", "yes", "--repl-diskless-sync-delay", "0"]

interface Outage {
  readonly name: string
  readonly begin: (server: Server) => Effect.Effect<unknown, never, Scope.Scope>
  /** Given what `begin` gave. */
  readonly end: (server: Server, begun: unknown) => Effect.Effect<unknown, never, Scope.Scope>
}

const outages: ReadonlyArray<Outage> = [
  {
    name: "is gone",
    begin: (server) => server.kill,
    end: (server) => server.again
  },
  { name: "stands still", begin: (server) => server.pause, end: (server) => server.goOn },
  {
    name: "has become a replica",
    begin: (server) => Effect.tap(makeReplica(server), (other) => server.call("replicaof", "127.0.0.1", other.port)),
    end: (server) => server.call("replicaof", "no", "one")
  }
]

describe("a worker whose server", { concurrent: true }, () => {
  for (const { begin, end, name } of outages) {
    it.live(
      `${name} waits without work or noise, says so, and goes on within two seconds`,
      () =>
        Effect.gen(function* () {
          const server = yield* makeServer(durable)
          const publish = (n: number) =>
            Topic.publish(work, { key: "one", n, gate: false }).pipe(
              Effect.provide(Engine.layer({ url: server.url }), { local: true })
            )
          yield* publish(0)
          const child = yield* start("outage", { MILLRACE_URL: server.url })
          yield* handled(child, 0)
          const begun = yield* begin(server)
          // Real waits: first for what the break itself costs, then the time that is measured.
          yield* Effect.sleep("1 second")
          const before = yield* used(child, 1)
          const from = performance.now()
          yield* Effect.sleep("5500 millis")
          const share = ((yield* used(child, 2)) - before) / (performance.now() - from)
          yield* end(server, begun)
          const back = performance.now()
          yield* publish(1)
          yield* handled(child, 1)
          assert.isBelow(performance.now() - back, 2_000)
          // A busy loop would take all of it; how little a long outage takes is shown by longOutage.test.ts.
          assert.isBelow(share, 0.2)
          const logged = child.lines.filter((line) => line.what === "logged").map((line) => String(line["message"]))
          assert.strictEqual(logged.length, 2, logged.join("\n"))
          assert.include(logged[0], "is away")
          assert.include(logged[1], "is back")
          assert.isFalse(child.lines.some((line) => line.what === "failed"))
        }),
      60_000
    )
  }
})
