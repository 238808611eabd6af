/** How long a blocking read waits is nothing that anybody waits for: events, hand-overs, pauses and the end wake it. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import * as Processor from "../src/Processor.ts"
import * as Settings from "../src/Settings.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, numbers, start, until } from "./support/engines.ts"
import { reading, readings } from "./support/readings.ts"

/** Far below the read's minute, and below the ten seconds of the lease, whose third is the heartbeat. */
const soon = 2_500

behaviour(
  "with reads of a minute everything is as quick as ever",
  (engine) =>
    Effect.gen(function* () {
      const topic = readings(4)
      const by: Array<string> = []
      const part = (name: string) => Processor.make("p", { topic }, () => Effect.sync(() => void by.push(name)))
      const put = Effect.forEach(numbers(4), (partition) => Topic.publish(topic, reading(partition), { partition }))
      const within = <A, E, R>(what: string, effect: Effect.Effect<A, E, R>) =>
        Effect.gen(function* () {
          const began = performance.now()
          const result = yield* effect
          assert.isBelow(performance.now() - began, soon, what)
          return result
        })
      const handled = (count: number) => until(engine, `${count} are handled`, () => by.length === count)

      const first = yield* start([part("first")])
      yield* first.idle
      // A real wait: reads block by now.
      yield* engine.elapse(200)
      yield* within("events", Effect.andThen(put, handled(4)))
      const second = yield* start([part("second")])
      yield* within(
        "a hand-over",
        until(engine, "both handle some", () => Effect.as(Effect.andThen(put, Effect.sleep(20)), by.includes("second")))
      )
      yield* first.idle
      yield* within("a pause", Processor.pause("p"))
      yield* engine.elapse(300)
      const before = by.length
      yield* put
      yield* within("resuming", Effect.andThen(Processor.resume("p"), handled(before + 4)))
      yield* within("a shutdown", first.close)
      yield* within("what it had, elsewhere", Effect.andThen(put, handled(before + 8)))
      yield* within("the last shutdown", second.close)
    }).pipe(Effect.provide(Settings.layer({ readTimeout: "1 minute" }))),
  { on: ["file", "Redis"], timeout: 30_000 }
)
