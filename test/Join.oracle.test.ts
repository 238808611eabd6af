/**
 * Joins of two topics against a plain model: random events on both sides, out of order and late, handled by one owner
 * after the other. What comes out, each pair and each lone event once, is what the model says.
 */
import { assert, describe } from "@effect/vitest"
import { Effect, Layer, Metric } from "effect"
import type * as Engine from "../src/Engine.ts"
import type * as Join from "../src/Join.ts"
import { late } from "../src/Metrics.ts"
import * as Topic from "../src/Topic.ts"
import { Choices } from "../src/testing/choices.ts"
import * as Faults from "../src/testing/Faults.ts"
import { drain, numbers, start, type TestEngine } from "./support/engines.ts"
import { type Came, expect, type Half, joining, type Side, told } from "./support/joins.ts"
import { inOurDays, never } from "./support/windows.ts"

const keys = ["a", "b", "c"]
const kinds: ReadonlyArray<Join.Kind> = ["inner", "left", "outer"]

/** Mostly forward, in steps of all sizes; some come earlier than those before them, some much too late. */
const givenBy = (random: Choices, disorder: number): ReadonlyArray<Came> => {
  let at = 5_000
  return numbers(40 + random.below(60)).map((i) => {
    at += random.below(random.chance(0.1) ? 3_000 : 200)
    const back = random.chance(0.3) ? random.below(random.chance(0.2) ? disorder : disorder / 5) : 0
    return {
      side: random.pick(["left", "right"] as const),
      key: random.pick(keys),
      at: Math.max(0, at - back),
      n: i + 1
    }
  })
}

const seedsOn = (engine: TestEngine): number => Number(process.env["SEEDS"] ?? (engine.virtual ? 30 : 3))

const publish = (topics: Record<Side, Topic.Topic<Half, string>>, given: ReadonlyArray<Came>) =>
  Effect.forEach(["left", "right"] as const, (side) =>
    Topic.publishAll(
      topics[side],
      given.filter((one) => one.side === side).map(({ at, key, n }) => ({ at, key, n }))
    )
  )

describe("joins of two topics, against a model", () => {
  for (const kind of kinds) {
    inOurDays(
      `${kind}: out of order and late`,
      (engine) =>
        Effect.gen(function* () {
          let lines = 0
          for (let seed = 0; seed < seedsOn(engine); seed++) {
            const random = new Choices(seed * 31 + kind.length)
            const within = random.below(1_500)
            const lateness = random.below(1_000)
            const processor = `${kind}-${seed}`
            const names = { processor, left: `left-${seed}`, right: `right-${seed}` }
            const { came, part, ...topics } = joining(kind, { within, lateness, ...never }, names)
            const given = givenBy(random, 4_000)
            const counter = Metric.withAttributes(late, { processor })
            const before = (yield* Metric.value(counter)).count
            for (let from = 0; from < given.length; ) {
              const count = 5 + random.below(given.length)
              yield* publish(topics, given.slice(from, from + count))
              if (random.chance(0.5)) yield* drain([part], { limit: 1 + random.below(count) })
              yield* drain([part])
              from += count
            }
            const about = `seed ${seed}: ${JSON.stringify({ within, lateness })}`
            assert.strictEqual(came().length, given.length, about)
            const expected = expect(kind, within, lateness, came())
            const found = yield* told
            assert.deepStrictEqual(found.slice(lines).toSorted(), expected.lines, about)
            lines = found.length
            assert.strictEqual((yield* Metric.value(counter)).count - before, expected.late, about)
          }
        }),
      { timeout: 30_000 }
    )
  }

  for (const kind of kinds) {
    inOurDays(
      `${kind}: with enough lateness the order does not matter`,
      (engine) =>
        Effect.gen(function* () {
          let lines = 0
          for (let seed = 0; seed < seedsOn(engine) / 2; seed++) {
            const random = new Choices(seed * 37 + kind.length)
            const within = random.below(1_500)
            const names = { processor: `${kind}-${seed}`, left: `left-${seed}`, right: `right-${seed}` }
            const { part, ...topics } = joining(kind, { within, lateness: 4_000, ...never }, names)
            const given = givenBy(random, 4_000)
            yield* publish(topics, given)
            const last = { key: "z", at: 1_000_000, n: 0 }
            yield* Effect.forEach(Object.values(topics).slice(0, 2), (topic) =>
              Topic.publish(topic as Topic.Topic<Half, string>, last)
            )
            yield* drain([part])
            const ends: ReadonlyArray<Came> = [
              { side: "left", ...last },
              { side: "right", ...last }
            ]
            const expected = expect(kind, within, Number.POSITIVE_INFINITY, [...given, ...ends], 1_000_000 - 4_000)
            const found = yield* told
            assert.deepStrictEqual(found.slice(lines).toSorted(), expected.lines, `seed ${seed}`)
            lines = found.length
          }
        }),
      { timeout: 30_000 }
    )
  }
})

describe("workers that come and go while answers are lost", () => {
  for (const kind of kinds) {
    inOurDays(
      `${kind}: each pair and each lone event once`,
      (engine) =>
        Effect.gen(function* () {
          const services = yield* Effect.context<Engine.Services>()
          const unlucky = Faults.layer((_, method, call) => {
            if (method !== "commit") return undefined
            return call % 4 === 1 ? { _tag: "LoseReply" } : call % 4 === 3 ? { _tag: "SendTwice" } : undefined
          }).pipe(Layer.provideMerge(Layer.succeedContext(services)))
          const random = new Choices(kind.length)
          const { part, ...topics } = joining(kind, { within: 600, lateness: 4_000, ...never })
          const given = givenBy(random, 4_000)
          for (let from = 0; from < given.length; from += 20) {
            yield* publish(topics, given.slice(from, from + 20))
            yield* Effect.scoped(
              Effect.gen(function* () {
                const worker = yield* start([part], { grace: 0 })
                // It is interrupted at whatever it does just then.
                if (random.chance(0.3)) yield* worker.idle
                else yield* engine.elapse(random.below(30))
                yield* worker.close
              })
            ).pipe(Effect.provide(Layer.fresh(unlucky)))
          }
          const last = { key: "z", at: 1_000_000, n: 9_999 }
          yield* Topic.publish(topics.left, last)
          yield* Topic.publish(topics.right, last)
          yield* drain([part])
          const ends = (["left", "right"] as const).map((side) => ({ side, ...last }))
          const expected = expect(kind, 600, Number.POSITIVE_INFINITY, [...given, ...ends], 1_000_000 - 4_000)
          assert.deepStrictEqual((yield* told).toSorted(), expected.lines)
        }),
      // Where time is the test's, a worker that closes waits for it: there the simulation shows the same.
      { on: ["file", "Redis"], timeout: 30_000 }
    )
  }
})
