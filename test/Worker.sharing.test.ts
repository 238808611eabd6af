/** Workers that share partitions: balance, hand-over, claims, and what they tell of it. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Latch, Logger, References, Schema, Stream } from "effect"
import { Coordinator, type Group, leaderGroup } from "../src/Coordinator.ts"
import * as Surplus from "../src/internal/run/surplus.ts"
import * as Processor from "../src/Processor.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import * as Worker from "../src/Worker.ts"
import { behaviour, numbers, start, until } from "./support/engines.ts"
import { assertRising, reading, readings, Seen } from "./support/readings.ts"

const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })
const behind = Effect.map(Processor.lag("p"), (lags) => lags.reduce((sum, lag) => sum + lag.events, 0))
const publish = (topic: ReturnType<typeof readings>, count: number, from = 0) =>
  Topic.publishAll(
    topic,
    numbers(count, from).map((n) => reading(n))
  )

describe("sharing", () => {
  /** Partitions are dealt out at once. */
  const observed = (parts: Parameters<typeof start>[0], options: Worker.Options = {}) =>
    start(parts, { settle: 0, ...options })

  behaviour("its summary counts how often partitions came or went after the start", (engine) =>
    Effect.gen(function* () {
      const part = Processor.make("p", { topic: readings(6) }, () => Effect.void)
      const owners = Coordinator.use((coordinator) => coordinator.group("p")).pipe(
        Effect.map((group) => group.owners.map((owner) => owner?.member))
      )
      const dealt = (...expected: ReadonlyArray<number>) =>
        until(engine, `${expected} each`, () =>
          Effect.map(owners, (members) =>
            expected.every((count, at) => members.filter((member) => member === ["a", "b"][at]).length === count)
          )
        )
      const a = yield* observed([part], { member: "a" })
      yield* dealt(6)
      const b = yield* observed([part], { member: "b" })
      yield* dealt(3, 3)
      // At once or one by one; its own end is none.
      const { rebalances } = yield* b.stop
      assert.isTrue(1 <= rebalances && rebalances <= 3, `${rebalances} times`)
      yield* dealt(6, 0)
      yield* a.idle
      const of = (yield* a.stop).rebalances
      assert.isTrue(2 <= of && of <= 6, `${of} times`)
    })
  )

  behaviour("partitions are balanced to within one, and every event is handled once across hand-overs", (engine) =>
    Effect.gen(function* () {
      const topic = readings(6)
      const seen = new Seen()
      const owned = new Map<string, Set<number>>()
      const part = (name: string) => {
        const mine = new Set<number>()
        owned.set(name, mine)
        return Processor.make(
          "p",
          {
            topic,
            tables: [totals],
            onClaim: (partition) =>
              Effect.gen(function* () {
                mine.add(partition)
                yield* Effect.addFinalizer(() => Effect.sync(() => void mine.delete(partition)))
              })
          },
          Effect.fnUntraced(function* ({ key, n }, event) {
            assert.isTrue(mine.has(event.partition))
            yield* Effect.yieldNow
            seen.add(key, n)
            yield* Table.update(totals, key, (total) => total + 1)
          })
        )
      }
      const sizes = () => [...owned.values()].map((set) => set.size).toSorted()
      const balanced = (...expected: ReadonlyArray<number>) =>
        until(engine, `sizes ${expected}`, () => JSON.stringify(sizes()) === JSON.stringify(expected))
      yield* publish(topic, 200)
      const a = yield* observed([part("a")])
      yield* balanced(6)
      const b = yield* observed([part("b")])
      yield* publish(topic, 200, 200)
      yield* balanced(3, 3)
      const c = yield* observed([part("c")])
      yield* publish(topic, 200, 400)
      yield* balanced(2, 2, 2)
      yield* a.close
      yield* balanced(0, 3, 3)
      yield* publish(topic, 200, 600)
      yield* b.close
      yield* balanced(0, 0, 6)
      const idle = yield* Effect.forkChild(c.idle)
      yield* until(engine, "all is handled", () => idle.pollUnsafe() !== undefined)
      assert.deepStrictEqual(seen.all, numbers(800))
      assertRising(seen.lists.values())
      for (const [key, total] of yield* Stream.runCollect(Table.entries(totals))) assert.strictEqual(total, 80, key)
    })
  )

  behaviour("no two owners at once, and a claim's resource is closed before another claims", (engine) =>
    Effect.gen(function* () {
      const topic = readings(4)
      const holders = new Map<number, string>()
      const part = (name: string) =>
        Processor.make(
          "p",
          {
            topic,
            onClaim: (partition) =>
              Effect.acquireRelease(
                Effect.sync(() => {
                  assert.isUndefined(holders.get(partition), `partition ${partition} has two owners`)
                  holders.set(partition, name)
                }),
                () => Effect.sync(() => void holders.delete(partition))
              )
          },
          (_, event) =>
            Effect.gen(function* () {
              assert.strictEqual(holders.get(event.partition), name)
              yield* Effect.yieldNow
            })
        )
      const workers = []
      for (const name of ["a", "b", "c", "d", "e"]) {
        workers.push(yield* observed([part(name)]))
        yield* publish(topic, 40)
        yield* engine.elapse(20)
      }
      yield* until(engine, "four of five have one", () => new Set(holders.values()).size === 4)
      for (const worker of workers) {
        yield* publish(topic, 40)
        yield* worker.close
        yield* engine.elapse(20)
      }
      assert.strictEqual(holders.size, 0)
    })
  )

  behaviour("one more worker than partitions idles without error, and takes over when another leaves", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      const by: Array<string> = []
      const part = (name: string) => Processor.make("p", { topic }, () => Effect.sync(() => void by.push(name)))
      const first = yield* observed([part("first")])
      yield* observed([part("second")])
      yield* publish(topic, 3)
      yield* until(engine, "the first works", () => by.length === 3)
      yield* engine.elapse(50)
      yield* first.close
      yield* publish(topic, 2)
      yield* until(engine, "the second works", () => by.length === 5)
      assert.deepStrictEqual(by, ["first", "first", "first", "second", "second"])
    })
  )

  behaviour("a worker that is left without partitions says so once, and takes over when another leaves", (engine) =>
    Effect.gen(function* () {
      const topic = readings(2)
      const seen: Array<number> = []
      const lines: Array<string> = []
      const logging = Logger.layer([
        Logger.make(({ fiber, message }) => {
          const { member, processor } = fiber.getRef(References.CurrentLogAnnotations)
          if (String(message).startsWith("no partition is left")) lines.push(`${member} ${processor}: ${message}`)
        })
      ])
      const part = Processor.make("p", { topic }, ({ n }) => Effect.sync(() => void seen.push(n)))
      const alone = Topic.make("alone", { schema: Schema.Int, partitions: 1 })
      const other = Processor.make("q", { topic: alone }, () => Effect.void)
      const member = (name: string, parts: Parameters<typeof start>[0] = [part]) =>
        Effect.provide(observed(parts, { member: name, lease: 400 }), logging)
      const first = yield* member("first", [part, other])
      yield* member("second")
      yield* engine.elapse(200)
      assert.deepStrictEqual(lines, [])
      yield* member("third")
      yield* until(engine, "it says so", () => lines.length > 0)
      // Several syncs: nothing but time shows that nothing is said.
      yield* engine.elapse(600)
      assert.lengthOf(lines, 1)
      assert.match(lines[0]!, /^third p: no partition is left for this worker: there are 2, with 2 others; /)
      yield* first.close
      yield* publish(topic, 10)
      yield* until(engine, "the others do all", () => seen.length === 10)
      assert.lengthOf(lines, 1)
    })
  )

  it.effect("is not said while partitions are dealt out, nor of one that has some, and again after it had some", () =>
    Effect.gen(function* () {
      const owner = { member: "another", epoch: 1n }
      let group: Partial<Group> = { owners: [owner, undefined], partitions: 2, quarantined: [] }
      const lines: Array<unknown> = []
      let asked = 0
      const coordinator = {
        group: () =>
          Effect.sync(() => {
            asked++
            return group as Group
          })
      }
      const look = Surplus.make(coordinator, ["p", leaderGroup])
      const said = (mine: number) =>
        look(
          numbers(mine).map((partition) => ({ processor: "p", partition, epoch: 1n, paused: false, giveUp: false }))
        ).pipe(
          Effect.provide(Logger.layer([Logger.make(({ message }) => void lines.push(message))])),
          Effect.map(() => lines.length)
        )
      assert.strictEqual(yield* said(0), 0)
      group = { ...group, owners: [undefined, undefined], quarantined: [0, 1] }
      assert.strictEqual(yield* said(0), 0)
      // The other has one to give.
      group = { ...group, owners: [owner, owner], quarantined: [] }
      assert.strictEqual(yield* said(0), 0)
      group = { ...group, owners: [owner, undefined], quarantined: [1] }
      assert.strictEqual(yield* said(1), 0)
      assert.strictEqual(asked, 3)
      assert.strictEqual(yield* said(0), 1)
      assert.strictEqual(yield* said(0), 1)
      assert.strictEqual(asked, 4)
      assert.strictEqual(yield* said(1), 1)
      assert.strictEqual(yield* said(0), 2)
    })
  )

  behaviour("events read ahead and not started go to the new owner, in order", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* publish(topic, 50)
      const gate = yield* Latch.make(false)
      const started = yield* Deferred.make<void>()
      const seen: Array<string> = []
      const part = (name: string) =>
        Processor.make("p", { topic }, ({ n }) =>
          Effect.andThen(
            Effect.sync(() => void seen.push(`${name} ${n}`)),
            name === "a" && n === 4 ? Effect.andThen(Deferred.succeed(started, undefined), gate.await) : Effect.void
          )
        )
      const a = yield* observed([part("a")])
      yield* Deferred.await(started)
      const b = yield* observed([part("b")])
      const closing = yield* Effect.forkChild(a.close)
      yield* engine.elapse(50)
      assert.strictEqual(seen.length, 5)
      yield* gate.open
      yield* Fiber.join(closing)
      const idle = yield* Effect.forkChild(b.idle)
      yield* until(engine, "b is done", () => idle.pollUnsafe() !== undefined)
      assert.deepStrictEqual(
        seen,
        numbers(50).map((n) => `${n < 5 ? "a" : "b"} ${n}`)
      )
    })
  )

  behaviour("a handler that outlives its ownership does not disturb the one after it", (engine) =>
    Effect.gen(function* () {
      const topic = readings(2)
      for (const partition of [0, 1]) yield* Topic.publish(topic, reading(partition), { partition })
      const [first, second] = [yield* Latch.make(false), yield* Latch.make(false)]
      let [stuck, again, interrupted] = [0, 0, 0]
      const handler = (name: string) =>
        Processor.make("p", { topic }, () =>
          Effect.suspend(() => {
            if (name === "b") return Effect.never
            if (++stuck <= 2) return Effect.uninterruptible(first.await)
            again++
            return Effect.onInterrupt(second.await, () => Effect.sync(() => void interrupted++))
          })
        )
      const a = yield* observed([handler("a")], { grace: 0 })
      yield* until(engine, "both are in hand", () => stuck === 2)
      const b = yield* observed([handler("b")], { grace: 0 })
      // A second for the handler that cannot be interrupted; then b gets one, and gives it back.
      yield* until(engine, "b has one", () =>
        Effect.map(
          Effect.flatMap(Coordinator, (coordinator) => coordinator.group("p")),
          ({ members, owners }) => members.length === 2 && new Set(owners.map((owner) => owner?.member)).size === 2
        )
      )
      const leaving = yield* Effect.forkChild(b.close)
      yield* until(engine, "a has it back", () => leaving.pollUnsafe() !== undefined && again === 1)
      yield* first.open
      yield* engine.elapse(200)
      assert.strictEqual(interrupted, 0)
      yield* second.open
      const idle = yield* Effect.forkChild(a.idle)
      yield* until(engine, "all is done", () => idle.pollUnsafe() !== undefined)
    })
  )

  behaviour(
    "a claim that takes longer than the lease loses nothing: the heartbeats go on",
    (engine) =>
      Effect.gen(function* () {
        const topic = readings(2)
        yield* publish(topic, 20)
        let [claims, handled] = [0, 0]
        const slow = Processor.make(
          "p",
          {
            topic,
            onClaim: () =>
              Effect.andThen(
                Effect.sync(() => void claims++),
                Effect.sleep("45 seconds")
              )
          },
          () => Effect.sync(() => void handled++)
        )
        const worker = yield* start([slow])
        for (let second = 0; second < 60; second++) yield* engine.elapse(1_000)
        yield* worker.idle
        assert.deepStrictEqual([claims, handled], [2, 20])
      }),
    { on: ["memory"] }
  )

  behaviour("changes are told: who joined, what was claimed and released", (engine) =>
    Effect.gen(function* () {
      const topic = readings(2)
      const a = yield* observed([Processor.make("p", { topic }, () => Effect.void)], { member: "a" })
      const changes: Array<string> = []
      yield* Effect.forkChild(
        Worker.changes.pipe(
          Stream.runForEach((change) =>
            Effect.sync(
              () =>
                void changes.push(
                  "partition" in change ? `${change._tag} ${change.partition}` : `${change._tag} ${change.member}`
                )
            )
          ),
          Effect.provideContext(a.context)
        ),
        { startImmediately: true }
      )
      yield* observed([Processor.make("p", { topic }, () => Effect.void)], { member: "b" })
      yield* until(engine, "a gave one away", () => changes.some((change) => change.startsWith("Released")))
      assert.match(changes.filter((change) => change !== "Joined a").join(), /^Released [01]$/)
      yield* a.close
    })
  )

  behaviour("idle waits for what other workers have in hand", (engine) =>
    Effect.gen(function* () {
      const topic = readings(2)
      const gate = yield* Latch.make(false)
      let handled = 0
      const part = Processor.make("p", { topic }, () =>
        Effect.andThen(
          gate.await,
          Effect.sync(() => void handled++)
        )
      )
      const a = yield* observed([part])
      yield* observed([part])
      yield* engine.elapse(100)
      yield* Topic.publish(topic, reading(0), { partition: 0 })
      yield* Topic.publish(topic, reading(1), { partition: 1 })
      const idle = yield* Effect.forkChild(a.idle)
      yield* engine.elapse(100)
      assert.isUndefined(idle.pollUnsafe())
      yield* gate.open
      yield* until(engine, "idle", () => idle.pollUnsafe() !== undefined)
      assert.strictEqual(handled, 2)
      assert.strictEqual(yield* behind, 0)
    })
  )
})
