/** A server that is gone for half a minute, several leases long. In a file of its own, since it does little but wait. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Engine, Topic } from "../../src/index.ts"
import { work } from "../support/chaos.ts"
import { handled, used } from "../support/outage.ts"
import { start } from "../support/processes.ts"
import { eventually, makeServer } from "../support/redis.ts"

describe("workers whose server is gone for 30 seconds", () => {
  it.live(
    "wait without work or noise, and go on within two seconds of its return",
    () =>
      Effect.gen(function* () {
        const server = yield* makeServer(["--appendonly", "yes"])
        const publish = (n: number) =>
          Effect.forEach(["one", "two", "three", "four"], (key) => Topic.publish(work, { key, n, gate: false })).pipe(
            Effect.provide(Engine.layer({ url: server.url }), { local: true })
          )
        const children = yield* Effect.forEach([0, 1], () => start("outage", { MILLRACE_URL: server.url }))
        let rounds = 0
        yield* eventually(
          "both have work",
          Effect.map(Effect.orDie(Effect.suspend(() => publish(rounds++))), () =>
            children.every((child) => child.lines.some((line) => line.what === "handled"))
          )
        )
        yield* server.kill
        // Real waits: first for what the break itself costs, then the outage.
        yield* Effect.sleep("1 second")
        const before = yield* Effect.forEach(children, (child) => used(child, 1))
        const from = performance.now()
        yield* Effect.sleep("29 seconds")
        const after = yield* Effect.forEach(children, (child) => used(child, 2))
        const passed = performance.now() - from
        yield* server.again
        const returned = performance.now()
        const goesOn = (n: number) =>
          Effect.andThen(publish(n), Effect.raceFirst(handled(children[0]!, n), handled(children[1]!, n)))
        yield* goesOn(rounds)
        assert.isBelow(performance.now() - returned, 2_000)
        for (const [i, millis] of after.entries()) assert.isBelow((millis - before[i]!) / passed, 0.05)
        yield* goesOn(rounds + 1)
        for (const child of children) {
          const logged = child.lines.filter((line) => line.what === "logged").map((line) => String(line["message"]))
          assert.isAtMost(logged.length, 2, logged.join("\n"))
          assert.include(logged[0], "is away")
          assert.include(logged[1], "is back")
          assert.isFalse(child.lines.some((line) => line.what === "failed"))
        }
      }),
    90_000
  )
})
