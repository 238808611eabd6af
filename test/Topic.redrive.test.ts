/** Dead letters put back: to the end of their source, each exactly once, whatever dies in between. */
import { assert, describe } from "@effect/vitest"
import { Effect, type Exit, Fiber, Redacted, Result, Schema, Stream } from "effect"
import { Broker, type Commit } from "../src/Broker.ts"
import { EngineError } from "../src/Errors.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Serializer from "../src/Serializer.ts"
import type { TableStore } from "../src/TableStore.ts"
import * as Topic from "../src/Topic.ts"
import { hanging, losingReply, through } from "./support/brokers.ts"
import { behaviour, counts, drain, numbers, until } from "./support/engines.ts"
import { collect, type Reading, reading, readings } from "./support/readings.ts"

const headers = Topic.deadHeaders
const listed = <A>(topic: Topic.Topic<A, any>, options?: Topic.DeadOptions) =>
  Stream.runCollect(Topic.deadLetters(topic, options))
const values = (topic: Topic.Topic<Reading, any>) =>
  Effect.map(listed(topic), (letters) =>
    letters.map((letter) => Result.getOrThrow(letter.event).value.n).toSorted((a, b) => a - b)
  )
const events = (topic: ReturnType<typeof readings>) => Stream.runCollect(Topic.stream(topic, { until: "now" }))

/** Handles readings; those for which it fails become dead letters. */
const handling = (topic: ReturnType<typeof readings>, fails: (n: number) => boolean, seen: Array<number> = []) =>
  Processor.make("p", { topic }, ({ n }) => {
    seen.push(n)
    return fails(n) ? Effect.fail("no") : Effect.void
  }).pipe(Processor.catch(Policy.deadLetter()))

const prepare = Effect.fnUntraced(function* (partitions: number, count: number, fails: (n: number) => boolean) {
  const topic = readings(partitions, Retention.forever)
  for (const n of numbers(count)) yield* Topic.publish(topic, reading(n), { headers: { first: `${n}` } })
  yield* drain([handling(topic, fails)])
  return topic
})

const toSource = (commit: Commit) => commit.emits.some(({ topic }) => topic.name === "readings")

describe("redrive", () => {
  behaviour("puts all back in order, marked with their origin, handled once, and no longer listed", () =>
    Effect.gen(function* () {
      const topic = yield* prepare(2, 20, (n) => n % 3 === 0)
      const wanted = [0, 3, 6, 9, 12, 15, 18]
      const letters = yield* listed(topic)
      assert.deepStrictEqual(yield* values(topic), wanted)
      assert.strictEqual(yield* Topic.redrive(topic), 7)
      assert.deepStrictEqual(yield* listed(topic), [])
      const back = (yield* events(topic)).filter((event) => event.headers[headers.redrivenFrom] !== undefined)
      assert.deepStrictEqual(
        back.map((event) => event.value.n).toSorted((a, b) => a - b),
        wanted
      )
      for (const event of back) {
        const letter = letters.find((one) => Result.getOrThrow(one.event).value.n === event.value.n)!
        assert.strictEqual(event.partition, letter.source.partition)
        assert.strictEqual(event.key, reading(event.value.n).key)
        assert.deepStrictEqual(event.headers, {
          first: `${event.value.n}`,
          [headers.redrivenFrom]: `readings.dead/${letter.partition}@${letter.offset}`
        })
      }
      // In order within a partition.
      for (const partition of [0, 1]) {
        const here = back.filter((event) => event.partition === partition).map((event) => event.value.n)
        assert.deepStrictEqual(
          here,
          here.toSorted((a, b) => a - b)
        )
      }
      const seen: Array<number> = []
      const summary = yield* drain([handling(topic, () => false, seen)])
      assert.deepStrictEqual(
        seen.toSorted((a, b) => a - b),
        wanted
      )
      assert.deepStrictEqual(summary.parts.p, counts({ processed: 7 }))
      // Nothing is left to put back.
      assert.strictEqual(yield* Topic.redrive(topic), 0)
    })
  )

  behaviour("attempts begin afresh; what fails again is a new letter", () =>
    Effect.gen(function* () {
      const topic = yield* prepare(1, 3, (n) => n === 1)
      yield* Topic.redrive(topic)
      const attempts: Array<number> = []
      yield* drain([
        Processor.make("p", { topic }, (_, event) => {
          attempts.push(event.attempt)
          return Effect.fail("again")
        }).pipe(Processor.retry({ times: 1 }), Processor.catch(Policy.deadLetter()))
      ])
      assert.deepStrictEqual(attempts, [1, 2])
      const [letter, ...others] = yield* listed(topic)
      assert.deepStrictEqual(others, [])
      assert.deepInclude(letter!, { attempts: 2 })
      assert.strictEqual(letter!.error.message, "again")
      const { headers: own } = Result.getOrThrow(letter!.event)
      assert.match(own[headers.redrivenFrom]!, /^readings\.dead\/0@\d+-\d+\.0$/)
    })
  )

  behaviour("takes only the letters that were asked for; the others stay listed, and can follow", () =>
    Effect.gen(function* () {
      const topic = yield* prepare(2, 20, () => true)
      const all = yield* listed(topic)
      const pick = (n: (n: number) => boolean) => all.filter((one) => n(Result.getOrThrow(one.event).value.n))
      assert.strictEqual(yield* Topic.redrive(topic, { offsets: pick((n) => n % 5 === 2) }), 4)
      assert.deepStrictEqual(
        yield* values(topic),
        numbers(20).filter((n) => n % 5 !== 2)
      )
      // Some of these were taken before, and one letter nobody has.
      const again = [...pick((n) => n % 5 < 3), { partition: 0, offset: "1-1.0" }]
      assert.strictEqual(yield* Topic.redrive(topic, { offsets: again }), 8)
      assert.deepStrictEqual(
        yield* values(topic),
        numbers(20).filter((n) => n % 5 > 2)
      )
      assert.strictEqual(yield* Topic.redrive(topic, { offsets: [] }), 0)
      assert.strictEqual(yield* Topic.redrive(topic), 8)
      assert.deepStrictEqual(yield* values(topic), [])
      const back = (yield* events(topic)).filter((event) => event.headers[headers.redrivenFrom] !== undefined)
      assert.deepStrictEqual(
        back.map((event) => event.value.n).toSorted((a, b) => a - b),
        numbers(20)
      )
    })
  )

  behaviour("each exactly once when an answer is lost", (engine) =>
    Effect.gen(function* () {
      const topic = yield* prepare(1, 10, () => true)
      const { change, state } = losingReply(toSource)
      const redriving = yield* Effect.forkChild(Topic.redrive(topic).pipe(through(change)))
      yield* until(engine, "it was sent again", () => redriving.pollUnsafe() !== undefined)
      assert.strictEqual(yield* Fiber.join(redriving), 10)
      assert.strictEqual(state.lost, 1)
      assert.strictEqual((yield* events(topic)).length, 20)
      assert.deepStrictEqual(yield* listed(topic), [])
    })
  )

  behaviour("each exactly once when it dies in between and is run again", () =>
    Effect.gen(function* () {
      const topic = yield* prepare(2, 30, () => true)
      const { applied, change } = hanging(toSource)
      const first = yield* Effect.forkChild(Topic.redrive(topic).pipe(through(change)))
      yield* applied
      yield* Fiber.interrupt(first)
      const left = (yield* listed(topic)).length
      assert.isAbove(left, 0)
      assert.isBelow(left, 30)
      assert.strictEqual(yield* Topic.redrive(topic), left)
      const back = (yield* events(topic)).filter((event) => event.headers[headers.redrivenFrom] !== undefined)
      assert.deepStrictEqual(
        back.map((event) => event.value.n).toSorted((a, b) => a - b),
        numbers(30)
      )
    })
  )

  behaviour("of two runs at a time one gives way, and nothing is put back twice", () =>
    Effect.gen(function* () {
      const topic = yield* prepare(1, 10, () => true)
      let other: Effect.Effect<Exit.Exit<number, unknown>> | undefined
      const context = yield* Effect.context<Topic.Client | TableStore>()
      // Before the first run commits, a second one goes all the way.
      const meddle = (broker: Broker["Service"]) =>
        Broker.of({
          ...broker,
          commit: (commits, durability) =>
            Effect.suspend(() => {
              const before = other ?? Effect.void
              other = undefined
              return Effect.andThen(before, broker.commit(commits, durability))
            })
        })
      other = Effect.exit(Effect.provideContext(Topic.redrive(topic), context))
      const refused = yield* Effect.flip(Topic.redrive(topic).pipe(through(meddle)))
      assert.instanceOf(refused, EngineError)
      assert.include((refused as EngineError).message, "another run puts back the letters of readings.dead/0")
      assert.strictEqual((yield* events(topic)).length, 20)
      assert.deepStrictEqual(yield* listed(topic), [])
    })
  )

  behaviour("letters of several topics in one place go back each to its own", () =>
    Effect.gen(function* () {
      const left = Topic.variant(readings(2), "left", { retention: Retention.forever })
      const right = Topic.variant(readings(2), "right", { retention: Retention.forever })
      yield* Topic.publishAll(left, [reading(1), reading(2)])
      yield* Topic.publishAll(right, [reading(3), reading(4)])
      yield* drain([
        Processor.make("p", { topic: [left, right] }, () => Effect.fail("no")).pipe(
          Processor.catch(Policy.deadLetter({ topic: "errors" }))
        )
      ])
      const at = { topic: "errors" }
      assert.strictEqual((yield* listed(left, at)).length, 2)
      assert.strictEqual(yield* Topic.redrive(left, at), 2)
      assert.strictEqual((yield* listed(left, at)).length, 0)
      assert.strictEqual((yield* listed(right, at)).length, 2)
      assert.strictEqual(yield* Topic.redrive(right, at), 2)
      assert.deepStrictEqual((yield* collect(left)).toSorted(), [1, 1, 2, 2])
      assert.deepStrictEqual((yield* collect(right)).toSorted(), [3, 3, 4, 4])
    })
  )

  behaviour("what could not be decoded comes back as it was; out of a whole batch, once somebody can read it", () =>
    Effect.gen(function* () {
      const key = { id: "1", key: Redacted.make(new Uint8Array(32).fill(7)) }
      const options = {
        schema: Schema.Struct({ key: Schema.String, n: Schema.Int }),
        partitionBy: "key",
        partitions: 1,
        retention: Retention.forever
      } as const
      const sealed = Topic.make("readings", { ...options, serializer: Serializer.encrypted(Serializer.json, [key]) })
      const keyless = Topic.make("readings", options)
      yield* Topic.publishAll(sealed, [reading(1), reading(2), reading(3)])
      yield* drain([
        Processor.make("p", { topic: keyless }, () => Effect.void).pipe(Processor.catch(Policy.deadLetter()))
      ])
      const letters = yield* listed(keyless)
      assert.deepStrictEqual(
        letters.map(({ error, event }) => [error.tag, Result.isFailure(event)]),
        Array.from({ length: 3 }, () => ["DecodeError", true])
      )
      assert.strictEqual(yield* Topic.redrive(sealed, { offsets: letters.slice(0, 2) }), 2)
      const seen: Array<number> = []
      const keys: Array<string | undefined> = []
      yield* drain([
        Processor.make("q", { topic: sealed }, ({ n }, event) => {
          seen.push(n)
          keys.push(event.key)
          return Effect.void
        })
      ])
      assert.deepStrictEqual(seen, [1, 2, 3, 1, 2])
      assert.deepStrictEqual(keys, ["k1", "k2", "k3", "k1", "k2"])
      // Without the key it stays where it is.
      assert.strictEqual(yield* Topic.redrive(keyless), 0)
      assert.strictEqual((yield* listed(keyless)).length, 1)
      assert.strictEqual(yield* Topic.redrive(sealed), 1)
      assert.deepStrictEqual(yield* listed(keyless), [])
      yield* drain([Processor.make("q", { topic: sealed }, ({ n }) => Effect.sync(() => void seen.push(n)))])
      assert.deepStrictEqual(seen.slice(5), [3])
    })
  )

  behaviour("more letters than one commit takes, and what others published there is left alone", () =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      yield* Topic.publishAll(
        topic,
        numbers(1_300).map((n) => reading(n))
      )
      yield* Topic.publish(Topic.dead(topic), reading(5_000))
      yield* drain([handling(topic, () => true)])
      yield* Topic.publish(Topic.dead(topic), reading(5_001))
      const all = yield* listed(topic)
      assert.strictEqual(all.length, 1_300)
      assert.strictEqual(yield* Topic.redrive(topic, { offsets: all.slice(600, 700) }), 100)
      assert.strictEqual(yield* Topic.redrive(topic), 1_200)
      assert.deepStrictEqual(yield* listed(topic), [])
      const back = (yield* collect(topic)).slice(1_300)
      assert.deepStrictEqual(back, [...numbers(100, 600), ...numbers(600), ...numbers(600, 700)])
    })
  )
})
