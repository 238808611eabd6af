/** Workers whose schedules of the leader differ: one leads for all, and runs what it has; the others say what nobody runs. */
import { assert } from "@effect/vitest"
import { Effect, Logger } from "effect"
import { Scheduler } from "../src/index.ts"
import { behaviour, start, until } from "./support/engines.ts"

const timing = { settle: "10 millis", lease: "2 seconds", grace: 0 } as const

behaviour(
  "a schedule that the leader does not have is warned of, and runs once a worker leads that has it",
  (engine) => {
    const ran: Array<string> = []
    const lines: Array<string> = []
    const timer = (name: string) =>
      Scheduler.timer(
        name,
        { every: "50 millis", onLeader: true },
        Effect.sync(() => void ran.push(name))
      )
    const logging = Logger.layer([
      Logger.make(({ logLevel, message }) => void (logLevel === "Warn" && lines.push(String(message))))
    ])
    return Effect.gen(function* () {
      const first = yield* start([timer("both"), timer("first")], { ...timing, member: "one" })
      yield* until(engine, "the first leads", () => ran.includes("both") && ran.includes("first"))
      yield* start([timer("both"), timer("second")], { ...timing, member: "two" })
      yield* until(engine, "the second says so", () => lines.length > 0)
      assert.deepStrictEqual(lines, [
        "schedule second does not run: one leads and does not have it; give all workers the same schedules of the leader"
      ])
      assert.notInclude(ran, "second")
      yield* first.close
      yield* until(engine, "the second leads", () => ran.includes("second"))
      // Which has what it needs, and nothing more to say.
      assert.lengthOf(lines, 1)
    }).pipe(Effect.provide(logging))
  }
)
