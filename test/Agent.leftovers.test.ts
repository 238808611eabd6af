/** Asks that nobody answers leave nothing in the memory of the process that asked. */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { assert } from "@effect/vitest"
import { Effect, Fiber, Schema } from "effect"
import * as Agent from "../src/Agent.ts"
import { behaviour, numbers } from "./support/engines.ts"

const Question = Schema.Struct({ n: Schema.Int, text: Schema.String })
const silent = Agent.make("silent", { request: Question, reply: Question, partitions: 4 })

setFlagsFromString("--expose-gc")
const collect: () => void = runInNewContext("gc")

behaviour(
  "a thousand asks that time out, and a thousand that are interrupted, are forgotten",
  (engine) =>
    Effect.gen(function* () {
      const refs: Array<WeakRef<object>> = []
      const ask = Effect.suspend(() => {
        const question = { n: refs.length, text: "x".repeat(1_000) }
        refs.push(new WeakRef(question))
        return Agent.ask(silent, question, { timeout: "2 seconds" })
      })
      const timing = yield* Effect.forkChild(
        Effect.forEach(numbers(1_000), () => Effect.map(Effect.flip(ask), ({ _tag }) => _tag), {
          concurrency: "unbounded"
        })
      )
      yield* engine.elapse(2_100)
      assert.deepStrictEqual(new Set(yield* Fiber.join(timing)), new Set(["AgentTimeout"]))
      const asking = yield* Effect.forkChild(Effect.forEach(numbers(1_000), () => ask, { concurrency: "unbounded" }))
      yield* engine.elapse(100)
      yield* Fiber.interrupt(asking)
      // What ended lately may still be on somebody's stack.
      yield* engine.elapse(100)
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      collect()
      const alive = refs.filter((ref) => ref.deref() !== undefined)
      assert.lengthOf(refs, 2_000)
      assert.isAtMost(alive.length, 10)
    }),
  { on: ["memory", "Redis"] }
)
