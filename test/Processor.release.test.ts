/** Partitions that are put aside while workers run: who stops, who goes on, and how they come back to work. */
import { assert, describe } from "@effect/vitest"
import { DateTime, Effect, Exit, Latch, Schema } from "effect"
import { Broker } from "../src/Broker.ts"
import { Coordinator } from "../src/Coordinator.ts"
import { EngineError } from "../src/Errors.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, drain, numbers, start, type TestEngine, until } from "./support/engines.ts"
import { reading, readings } from "./support/readings.ts"

const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })

type Positions = ReadonlyArray<{ readonly topic: string; readonly first: string; readonly last: string }>

/** The wake of one who has only just begun may be lost; then it hears with its next sync. */
const quick = { settle: 0, lease: "1500 millis" } as const

/** Put partition 0 of "p" aside, as its worker would. */
const putAside = (positions: Positions, partition = 0) =>
  Effect.gen(function* () {
    const coordinator = yield* Coordinator
    const { epoch, member } = (yield* coordinator.group("p")).owners[partition]!
    const grant = { processor: "p", partition, epoch }
    yield* coordinator.quarantine(grant, member, { reason: "failure", error: "Declined: no funds", positions })
    return member
  })

/** By a worker that came, handled nothing, and went. */
const putAsideBy = (member: string, positions: Positions) =>
  Effect.gen(function* () {
    const coordinator = yield* Coordinator
    const request = { member, incarnation: `${member}-1`, lease: 60_000, settle: 0, known: 0n }
    const groups = new Map([["p", 1]])
    const { mine } = yield* coordinator.sync({ ...request, groups, released: [], refused: [] })
    yield* coordinator.quarantine(mine![0]!, member, { reason: "crash loop", error: "", positions })
    yield* coordinator.leave(member, request.incarnation)
  })

const offsetsOf = (topic: ReturnType<typeof readings>, values: ReadonlyArray<number>) =>
  Effect.map(
    Topic.publishAll(
      topic,
      values.map((n) => reading(n, 1))
    ),
    (positions) => positions.map(({ offset }) => offset)
  )

/** Hands on what it gets, but holds fast at one event, until it is let through. */
const holdingAt = (poison: number) => {
  const state = { poison: poison as number | undefined, held: 0, interrupted: 0, seen: [] as Array<number> }
  const handle = (n: number) =>
    Effect.suspend(() => {
      if (n !== state.poison) {
        state.seen.push(n)
        return Table.update(totals, "all", (total) => total + 1)
      }
      state.held++
      return Effect.onInterrupt(Effect.never, () => Effect.sync(() => void state.interrupted++))
    })
  return { state, part: (topic: ReturnType<typeof readings>) => partOf(topic, handle) }
}

const partOf = (topic: ReturnType<typeof readings>, handle: (n: number) => Effect.Effect<void, any, any>) =>
  Processor.make("p", { topic, tables: [totals] }, ({ n }) => handle(n) as Effect.Effect<void>)

/** The worker stands at the poison event, with all before it committed. */
const atPoison = (engine: TestEngine, held: () => number, left: number) =>
  until(engine, "it holds at the event, and what is before it is committed", () =>
    held() === 0
      ? false
      : Effect.map(Processor.lag("p"), (lags) => lags.reduce((sum, lag) => sum + lag.events, 0) === left)
  )

describe("release", () => {
  behaviour(
    "the worker stops that partition at its next statement, also a new one; released, it meets the event again",
    (engine) =>
      Effect.gen(function* () {
        const topic = readings(1, Retention.forever)
        const offsets = yield* offsetsOf(topic, numbers(10))
        const { part, state } = holdingAt(4)
        const worker = yield* start([part(topic)], quick)
        yield* atPoison(engine, () => state.held, 6)
        const before = yield* Processor.quarantined("p")
        assert.deepStrictEqual(before, [])
        const positions = [{ topic: "readings", first: offsets[4]!, last: offsets[4]! }]
        const member = yield* putAside(positions)
        yield* until(engine, "the handler was interrupted", () => state.interrupted === 1)
        const [entry, ...others] = yield* Processor.quarantined("p")
        assert.deepStrictEqual(others, [])
        const { since, ...rest } = entry!
        const expected = { processor: "p", partition: 0, offset: offsets[4], member, reason: "failure" }
        assert.deepStrictEqual(rest, { ...expected, error: "Declined: no funds", positions } as never)
        assert.isTrue(DateTime.isDateTime(since))
        yield* start([part(topic)], quick)
        // What does not happen has no event: time for a rebalance and more.
        yield* engine.elapse(300)
        assert.strictEqual(state.held, 1)
        assert.deepStrictEqual(state.seen, numbers(4))
        state.poison = undefined
        yield* Processor.release("p", 0)
        yield* until(engine, "all is done", () => state.seen.length === 10)
        assert.deepStrictEqual(state.seen, numbers(10))
        assert.deepStrictEqual(yield* Processor.quarantined("p"), [])
        yield* worker.idle
        assert.strictEqual(yield* Table.lookup(totals, "all"), 10)
      })
  )

  behaviour("exactly that partition stops; the others of the same worker go on", (engine) =>
    Effect.gen(function* () {
      const topic = readings(4, Retention.forever)
      const seen: Array<number> = []
      let interrupted = 0
      const part = Processor.make("p", { topic }, ({ n }) =>
        n === 10 && interrupted === 0
          ? Effect.onInterrupt(Effect.never, () => Effect.sync(() => void interrupted++))
          : Effect.sync(() => void seen.push(n))
      )
      yield* Topic.publish(topic, reading(10), { partition: 1 })
      const worker = yield* start([part], quick)
      yield* until(engine, "it owns all", () =>
        Effect.map(
          Coordinator.use((coordinator) => coordinator.group("p")),
          ({ owners }) => owners.filter((owner) => owner !== undefined).length === 4
        )
      )
      yield* engine.elapse(50)
      yield* putAside([], 1)
      yield* until(engine, "the handler was interrupted", () => interrupted === 1)
      for (let partition = 0; partition < 4; partition++) {
        yield* Topic.publish(topic, reading(partition), { partition })
      }
      yield* until(engine, "the three are handled", () => seen.length === 3)
      yield* engine.elapse(100)
      assert.deepStrictEqual(seen.toSorted(), [0, 2, 3])
      yield* Processor.release("p", 1)
      yield* until(engine, "and the fourth", () => seen.length === 5)
      assert.deepStrictEqual(seen.slice(3), [10, 1])
      yield* worker.close
    })
  )

  behaviour("what is not quarantined, not there or not known is a typed error that says so", (engine) =>
    Effect.gen(function* () {
      const topic = readings(2)
      const worker = yield* start([Processor.make("p", { topic }, () => Effect.void)])
      yield* worker.idle
      const operations = { release: Processor.release, skip: Processor.skip }
      for (const operation of ["release", "skip"] as const) {
        const messageOf = (name: string, partition: number) =>
          Effect.map(Effect.flip(operations[operation](name, partition)), (error) => {
            assert.strictEqual(error._tag, "Misconfigured")
            return error.message
          })
        const message = yield* messageOf("p", 1)
        assert.include(message, `${operation}: partition 1 of processor p is not quarantined; none is`)
        assert.include(yield* messageOf("p", 7), `${operation}: processor p has 2 partitions, there is no partition 7`)
        assert.include(yield* messageOf("p", -1), "there is no partition -1")
        assert.include(yield* messageOf("q", 0), `${operation}: there is no processor q that ever ran here`)
      }
      yield* putAside([])
      yield* engine.elapse(50)
      assert.include((yield* Effect.flip(Processor.release("p", 1))).message, "these are: 0")
      yield* worker.close
      yield* Processor.remove("p")
      assert.deepStrictEqual(yield* Processor.quarantined("p"), [])
    })
  )
})

describe("seek", () => {
  behaviour("is refused while the other partitions run, and moves not even the one that is aside", (engine) =>
    Effect.gen(function* () {
      const topic = readings(2, Retention.forever)
      yield* Topic.publish(topic, reading(0), { partition: 0 })
      yield* Topic.publish(topic, reading(1), { partition: 1 })
      const part = Processor.make("p", { topic }, () => Effect.void)
      const worker = yield* start([part], quick)
      yield* worker.idle
      yield* putAside([])
      yield* engine.elapse(50)
      const refused = yield* Effect.flip(Processor.seek(part, "earliest"))
      assert.include(refused.message, "seek: processor p is running")
      assert.deepStrictEqual(
        (yield* Processor.lag("p")).map((lag) => lag.events),
        [0, 0]
      )
    })
  )

  behaviour("that moves nothing leaves nobody to be taken for dead", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.maxLength(3))
      const [first] = yield* Topic.publishAll(topic, [reading(0)])
      yield* Effect.forEach(numbers(9, 1), (n) => Topic.publish(topic, reading(n)))
      const part = Processor.make("p", { topic }, () => Effect.void)
      // Registered, and stopped with nothing done.
      yield* (yield* start([part], { ...quick, limit: 1 })).join
      yield* engine.elapse(50)
      const error = yield* Effect.flip(Processor.seek(part, { offset: first!.offset }))
      assert.strictEqual(error._tag, "EventsLost")
      const probe = { epoch: 1n << 62n, incarnation: "probe" }
      const claim = yield* (yield* Broker).claim("p", 0, [topic], probe)
      assert(claim._tag === "Claimed")
      assert.isUndefined(claim.probation)
    })
  )
})

describe("skip", () => {
  behaviour("goes on at the next event, live; nothing else is left out or done twice", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      // One entry of ten events: the offset moves within it.
      const offsets = yield* offsetsOf(topic, numbers(10))
      const { part, state } = holdingAt(4)
      const worker = yield* start([part(topic)], quick)
      yield* atPoison(engine, () => state.held, 6)
      yield* putAside([{ topic: "readings", first: offsets[4]!, last: offsets[4]! }])
      yield* until(engine, "the handler was interrupted", () => state.interrupted === 1)
      yield* Processor.skip("p", 0)
      yield* until(engine, "the rest is done", () => state.seen.length === 9)
      assert.deepStrictEqual(
        state.seen,
        numbers(10).filter((n) => n !== 4)
      )
      yield* worker.idle
      assert.strictEqual(yield* Table.lookup(totals, "all"), 9)
      assert.deepStrictEqual(
        (yield* Processor.lag("p")).map(({ entries, events }) => [entries, events]),
        [[0, 0]]
      )
      yield* worker.close
      assert.include((yield* Effect.flip(Processor.skip("p", 0))).message, "is not quarantined")
    })
  )

  behaviour("passes the whole unit, entry by entry, in each of its topics, and never moves back", (engine) =>
    Effect.gen(function* () {
      const a = readings(1, Retention.forever)
      const b = Topic.make("others", { schema: a.schema, partitions: 1, retention: Retention.forever })
      const seen: Array<string> = []
      const gate = Latch.makeUnsafe(false)
      let interrupted = 0
      const part = Processor.make("p", { topic: [a, b] }, ({ key, n }) =>
        Effect.andThen(
          Effect.onInterrupt(gate.await, () => Effect.sync(() => void interrupted++)),
          Effect.sync(() => void seen.push(`${key}${n}`))
        )
      )
      const inA: Array<string> = []
      // More entries than are looked at in one go.
      for (const n of numbers(123)) inA.push((yield* Topic.publish(a, { key: "a", n })).offset)
      const inB = (yield* Topic.publishAll(
        b,
        numbers(4).map((n) => ({ key: "b", n }))
      )).map(({ offset }) => offset)
      const worker = yield* start([part], quick)
      const positions = [
        { topic: "readings", first: inA[0]!, last: inA[120]! },
        { topic: "others", first: inB[0]!, last: inB[2]! }
      ]
      yield* until(engine, "it owns the partition", () =>
        Effect.map(
          Coordinator.use((coordinator) => coordinator.group("p")),
          ({ owners }) => owners[0] !== undefined
        )
      )
      yield* engine.elapse(100)
      yield* putAside(positions)
      yield* until(engine, "the handler was interrupted", () => interrupted === 1)
      yield* Processor.skip("p", 0)
      yield* gate.open
      yield* until(engine, "the rest is done", () => seen.length === 3)
      yield* worker.idle
      assert.deepStrictEqual(seen.toSorted(), ["a121", "a122", "b3"])
      // The same unit again, long passed.
      yield* putAside(positions)
      yield* Processor.skip("p", 0)
      yield* Topic.publish(a, { key: "a", n: 123 })
      // It may have handled that one before it heard of the quarantine, and again after it.
      yield* until(engine, "it goes on at the end", () =>
        Effect.map(Processor.lag("p"), (lags) => lags.every((lag) => lag.events === 0))
      )
      assert.deepStrictEqual([...new Set(seen)].toSorted(), ["a121", "a122", "a123", "b3"])
      yield* worker.close
    })
  )

  behaviour("is refused while events before the unit are not committed, and changes nothing", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      const offsets = yield* offsetsOf(topic, numbers(3))
      offsets.push(...(yield* offsetsOf(topic, [3, 4, 5])))
      const { part, state } = holdingAt(1)
      const worker = yield* start([part(topic)], quick)
      yield* atPoison(engine, () => state.held, 5)
      yield* putAside([{ topic: "readings", first: offsets[4]!, last: offsets[4]! }])
      yield* until(engine, "the handler was interrupted", () => state.interrupted === 1)
      const { message } = yield* Effect.flip(Processor.skip("p", 0))
      assert.include(message, `has events of readings from ${offsets[1]} on that are not committed yet`)
      assert.include(message, "release it (Processor.release)")
      assert.strictEqual((yield* Processor.quarantined("p")).length, 1)
      state.poison = undefined
      yield* Processor.release("p", 0)
      yield* until(engine, "all is done", () => state.seen.length === 6)
      assert.deepStrictEqual(state.seen, numbers(6))
      yield* worker.close
    })
  )

  behaviour("does not move back what was sought forward meanwhile", () =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      const coordinator = yield* Coordinator
      const seen: Array<number> = []
      const part = Processor.make("p", { topic }, ({ n }) => Effect.sync(() => void seen.push(n)))
      yield* drain([part])
      const offsets = yield* offsetsOf(topic, numbers(4))
      yield* putAsideBy("m", [{ topic: "readings", first: offsets[0]!, last: offsets[1]! }])
      yield* Processor.seek(part, { offset: offsets[3]! })
      assert.deepStrictEqual((yield* coordinator.group("p")).quarantined, [0])
      yield* Processor.skip("p", 0)
      assert.strictEqual((yield* Processor.lag("p"))[0]!.events, 1)
      yield* drain([part])
      assert.deepStrictEqual(seen, [3])
    })
  )

  behaviour("that dies between its steps leaves the partition aside, and may be done again", () =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      const broker = yield* Broker
      const coordinator = yield* Coordinator
      const lost = new EngineError({ operation: "commit", reason: "Unreachable", detail: "the answer was lost" })
      const dies = Effect.die(new Error("dies here"))
      /** Each way to die, and how many events the skip has passed by then. */
      const deaths = [
        [{ ...broker, claim: () => dies }, coordinator, 0],
        [{ ...broker, commit: () => dies }, coordinator, 0],
        [
          {
            ...broker,
            commit: (...args: Parameters<typeof broker.commit>) =>
              Effect.andThen(broker.commit(...args), Effect.fail(lost))
          },
          coordinator,
          1
        ],
        [broker, { ...coordinator, release: () => dies }, 1]
      ] as const
      const seen: Array<number> = []
      let wanted: Array<number> = []
      const part = Processor.make("p", { topic }, ({ n }) => Effect.sync(() => void seen.push(n)))
      yield* drain([part])
      for (const [i, [brokerThen, coordinatorThen, passed]] of deaths.entries()) {
        const [poison] = yield* offsetsOf(topic, [i])
        yield* offsetsOf(topic, [100 + i])
        wanted = [...wanted, 100 + i]
        yield* putAsideBy(`m${i}`, [{ topic: "readings", first: poison!, last: poison! }])
        const exit = yield* Processor.skip("p", 0).pipe(
          Effect.provideService(Broker, brokerThen),
          Effect.provideService(Coordinator, coordinatorThen),
          Effect.exit
        )
        assert.isTrue(Exit.isFailure(exit))
        assert.strictEqual((yield* Processor.quarantined("p")).length, 1)
        assert.strictEqual((yield* Processor.lag("p"))[0]!.events, 2 - passed)
        yield* Processor.skip("p", 0)
        assert.strictEqual((yield* Processor.lag("p"))[0]!.events, 1)
        yield* drain([part])
        assert.deepStrictEqual(seen, wanted)
      }
    })
  )
})
