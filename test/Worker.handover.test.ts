/** Hand-overs that are slow, that nobody announces, or that are many at once; and what goes on meanwhile. */
import { readdirSync } from "node:fs"
import { assert, describe } from "@effect/vitest"
import { Clock, Effect, Latch, Stream } from "effect"
import { Coordinator, type Owned } from "../src/Coordinator.ts"
import { FakeMember } from "../src/laws/coordinator/fakeMember.ts"
import * as Processor from "../src/Processor.ts"
import * as Topic from "../src/Topic.ts"
import type * as Worker from "../src/Worker.ts"
import { behaviour, numbers, start, type TestEngine, until } from "./support/engines.ts"
import { reading, readings } from "./support/readings.ts"

const group = Coordinator.use((coordinator) => coordinator.group("p"))

/** Two workers, the first of which holds on to what it has in hand until it is let go, partition by partition. */
const contested = (engine: TestEngine, options: Worker.Options) =>
  Effect.gen(function* () {
    const topic = readings(2)
    const gates = [yield* Latch.make(false), yield* Latch.make(false)]
    const log: Array<string> = []
    const part = (name: string) =>
      Processor.make("p", { topic }, ({ n }, { partition }) =>
        Effect.gen(function* () {
          log.push(`${name}: ${partition}/${n}`)
          if (n === 0) yield* gates[partition]!.await
        })
      )
    const put = (n: number) =>
      Effect.forEach([0, 1], (partition) => Topic.publish(topic, reading(n), { partition }), { discard: true })
    const coordinator = yield* Coordinator
    let mine: ReadonlyArray<Owned> = []
    const told = Coordinator.of({
      ...coordinator,
      sync: (request) =>
        Effect.tap(coordinator.sync(request), (statement) => Effect.sync(() => void (mine = statement.mine ?? mine)))
    })
    const both = { settle: 0, ...options }
    const first = yield* Effect.provideService(start([part("first")], { ...both, member: "first" }), Coordinator, told)
    yield* put(0)
    yield* until(engine, "the first has both in hand", () => log.length === 2)
    const second = yield* start([part("second")], { ...both, member: "second" })
    yield* until(engine, "one of them is to go", () => mine.filter(({ giveUp }) => giveUp).length === 1)
    const goes = mine.find(({ giveUp }) => giveUp)!.partition
    return { first, second, put, log, goes, stays: 1 - goes, gates }
  })

describe("a hand-over", () => {
  behaviour(
    "that takes a minute is waited for: nobody takes the partition before it is let go, and both workers live",
    (engine) =>
      Effect.gen(function* () {
        const options = { grace: "5 minutes", lease: "3 seconds" } as const
        const { first, gates, goes, log, put, second, stays } = yield* contested(engine, options)
        yield* put(1)
        yield* gates[stays]!.open
        yield* engine.elapse(60_000)
        assert.deepStrictEqual(log.slice(2), [`first: ${stays}/1`])
        assert.strictEqual((yield* group).owners[goes]?.member, "first")
        assert.deepStrictEqual((yield* group).members.toSorted(), ["first", "second"])
        yield* gates[goes]!.open
        yield* until(engine, "the second has it", () => log.includes(`second: ${goes}/1`))
        // What took a minute was done: it does not come again.
        assert.lengthOf(log, 4)
        for (const { stop } of [first, second]) assert.strictEqual((yield* stop).parts["p"]!.failed, 0)
      }),
    { on: ["memory"] }
  )

  behaviour("pauses only what changes hands: the partition that stays goes on all the while", (engine) =>
    Effect.gen(function* () {
      const { gates, goes, log, put, stays } = yield* contested(engine, {})
      const { epoch } = (yield* group).owners[stays]!
      yield* gates[stays]!.open
      for (const n of numbers(20, 1)) {
        yield* put(n)
        yield* until(engine, `event ${n} is handled where it was`, () => log.includes(`first: ${stays}/${n}`))
      }
      assert.deepStrictEqual(
        log.filter((line) => line.includes(`: ${goes}/`)),
        [`first: ${goes}/0`]
      )
      yield* gates[goes]!.open
      yield* until(engine, "the other one goes on at its new owner", () => log.includes(`second: ${goes}/20`))
      assert.isFalse(log.some((line) => line.startsWith(`second: ${stays}/`)))
      // Not even let go and taken up again.
      assert.strictEqual((yield* group).owners[stays]!.epoch, epoch)
    })
  )

  behaviour("from a member that died is over within its lease and a second, though no hint ever comes", (engine) =>
    Effect.gen(function* () {
      const topic = readings(4)
      const lease = 1_500
      const coordinator = yield* Coordinator
      const deaf = Coordinator.of({ ...coordinator, wakes: () => Stream.never })
      const dead = new FakeMember(coordinator, "dead", { p: 4 }, { lease, settle: 0 })
      yield* dead.sync()
      assert.strictEqual(dead.running.size, 4)
      const died = yield* Clock.currentTimeMillis
      const handled: Array<number> = []
      const part = Processor.make("p", { topic }, () =>
        Effect.map(Clock.currentTimeMillis, (now) => void handled.push(now - died))
      )
      yield* Effect.provideService(start([part], { lease, settle: 0 }), Coordinator, deaf)
      yield* Effect.forEach(numbers(4), (partition) => Topic.publish(topic, reading(partition), { partition }))
      yield* until(engine, "all of it is handled", () => handled.length === 4)
      // Not while it may still live, and not much later.
      assert.isAtLeast(Math.max(...handled), lease * 0.9)
      assert.isBelow(Math.max(...handled), lease + 1_000)
    })
  )
})

describe("many workers that start at the same moment", () => {
  for (const settle of [undefined, 0]) {
    behaviour(
      `share 256 partitions evenly, and handle each event once: settle ${settle ?? "as it is by default"}`,
      (engine) =>
        Effect.gen(function* () {
          const topic = readings(256)
          const workers = 16
          const [files, began] = [readdirSync("."), yield* Clock.currentTimeMillis]
          const listening = () => process.getActiveResourcesInfo().filter((kind) => kind === "TCPServerWrap").length
          const ports = listening()
          yield* Effect.forEach(numbers(1_024), (n) => Topic.publish(topic, reading(n), { partition: n % 256 }), {
            concurrency: "unbounded",
            discard: true
          })
          const seen: Array<number> = []
          const part = Processor.make("p", { topic }, ({ n }) => Effect.sync(() => void seen.push(n)))
          yield* Effect.forEach(numbers(workers), (n) => start([part], { member: `w${n}`, settle }), {
            concurrency: "unbounded"
          })
          yield* until(engine, "all is handled, and each has its share", () =>
            Effect.map(group, ({ owners }) => {
              const shares = Map.groupBy(owners, (owner) => owner?.member)
              const even = shares.size === workers && [...shares.values()].every((share) => share.length === 16)
              return even && seen.length >= 1_024
            })
          )
          assert.deepStrictEqual(
            seen.toSorted((a, b) => a - b),
            numbers(1_024)
          )
          if (settle === undefined) {
            // Targets are computed when it was quiet for 50 ms: not with each of the sixteen that join, if they are quick.
            const elapsed = (yield* Clock.currentTimeMillis) - began
            assert.isAtMost((yield* group).generation, Math.min(workers, 2 + elapsed / 50))
          }
          // They need nothing of the host that another could have.
          assert.strictEqual(listening(), ports)
          assert.deepStrictEqual(readdirSync("."), files)
        }),
      { timeout: 60_000, on: settle === undefined ? ["memory", "file", "Redis"] : ["memory"] }
    )
  }
})
