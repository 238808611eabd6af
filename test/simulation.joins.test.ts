/**
 * Joins in simulated trouble: workers crash, hang and lose answers while events of both sides come and time goes over
 * them. Whatever happens, each pair comes once, and what nothing belongs to comes once. `SEEDS` as in `simulation.test.ts`.
 */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Schema, Stream } from "effect"
import * as Event from "../src/Event.ts"
import * as Join from "../src/Join.ts"
import * as Processor from "../src/Processor.ts"
import * as Topic from "../src/Topic.ts"
import { Simulation, TestProcessor } from "../src/testing/index.ts"
import { numbers } from "./support/engines.ts"
import { type Came, expect, lineOf, sideOf } from "./support/joins.ts"

/** Before any time that a simulation begins at. */
const zero = -1_000_000_000
const topics = { left: sideOf("left", 2, zero), right: sideOf("right", 2, zero) }
const pairs = Topic.make("pairs", { schema: Schema.String, partitions: 2 })
const keys = ["a", "b", "c", "d"]

/** Every fourth of the left has nothing on the right, and the other way round. */
const given = numbers(48).map((n): Came => {
  const side = n % 2 === 0 ? "left" : "right"
  const turn = n >> 1
  const at = turn * 500 + (side === "right" ? 120 : 0) + (turn % 4 === 3 ? (side === "left" ? 250 : 0) : 0)
  return { side, key: keys[turn % keys.length]!, at, n }
})
/** Far behind all others, in each partition of both. */
const last = (["left", "right"] as const).flatMap((side) =>
  keys.map((key, i): Came => ({ side, key, at: 1_000_000, n: (side === "left" ? 1_000 : 2_000) + i }))
)
const within = 200
const all = [...given, ...last]

const handle = (pair: Join.Pair<unknown, unknown>, { partition }: Event.Event<unknown>) =>
  Topic.emit(pairs, lineOf(pair), { partition })

const shapes = (["inner", "left", "outer"] as const).map((kind, i) => {
  const topic = Join.streams(topics.left, topics.right, { within, kind, lateness: "1 minute", idle: Duration.infinity })
  const part = [
    Processor.make(kind, { topic }, handle),
    Processor.make(kind, { topic, concurrency: { perKey: 2 } }, (pair, event) =>
      Effect.andThen(Effect.yieldNow, handle(pair, event))
    ),
    Processor.stream(kind, { topic }, (events) => events.pipe(Event.mapEffect(handle)))
  ][i]!
  const expected = expect(kind, within, Number.POSITIVE_INFINITY, all, 1_000_000 - 60_000).lines
  const check = Effect.gen(function* () {
    const found = (yield* Stream.runCollect(Topic.stream(pairs, { until: "now" }))).map(({ value }) => value)
    const lines = found.toSorted()
    return lines.join() === expected.join() ? [] : [`${lines.join(" ")} is not ${expected.join(" ")}`]
  })
  return { kind, part, check }
})

const seeds = Number(process.env["SEEDS"] ?? 2_000) / 20

describe("joins, whatever goes wrong", () => {
  for (const [i, { check, kind, part }] of shapes.entries()) {
    it(`give each pair once, and what is left over: ${kind}`, async () => {
      for (let seed = i; seed < seeds; seed += shapes.length) {
        const events = all.map(({ at, key, n, side }) => TestProcessor.event(topics[side], { at, key, n }))
        const { steps, violations } = await Effect.runPromise(Simulation.run(seed, { parts: [part], events, check }))
        assert.isEmpty(violations, `${kind}, seed ${seed}\n${violations.join("\n")}\n${steps.join("\n")}`)
      }
    }, 1_000_000)
  }
})
