/**
 * Leaders that die in virtual time, hundreds of them, at any place of what they do: between a claim and its answer, in the
 * middle of a run, before it is told that it is done. A dead one is one whose calls are never answered again.
 */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Metric, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Coordinator } from "../src/Coordinator.ts"
import * as Engine from "../src/Engine.ts"
import * as Metrics from "../src/Metrics.ts"
import * as Processor from "../src/Processor.ts"
import * as Scheduler from "../src/Scheduler.ts"
import * as Topic from "../src/Topic.ts"
import { Choices } from "../src/testing/choices.ts"
import { Faults, Simulation, TestProcessor } from "../src/testing/index.ts"
import * as Worker from "../src/Worker.ts"

const timing = { lease: "300 millis", settle: "10 millis", grace: 0 } as const
const every = 100

interface Claim {
  readonly tick: number
  readonly epoch: bigint
}

/** What the engine itself has claimed, whatever became of the answer. */
const recorded = (claims: Array<Claim>) =>
  Layer.effect(
    Coordinator,
    Effect.map(Coordinator, (coordinator) =>
      Coordinator.of({
        ...coordinator,
        claimTick: (schedule, tick, epoch, done) =>
          Effect.tap(coordinator.claimTick(schedule, tick, epoch, done), (answer) =>
            Effect.sync(() => (answer === "Claimed" ? claims.push({ tick, epoch }) : undefined))
          )
      })
    )
  ).pipe(Layer.provideMerge(Engine.layerMemory))

interface Member {
  dead: boolean
  leads: boolean
  readonly fiber: Fiber.Fiber<unknown, unknown>
}

const ticked = (outcome: string) =>
  Effect.map(Metric.value(Metric.withAttributes(Metrics.ticks, { schedule: "every", outcome })), ({ count }) => count)

/** Milliseconds. Nobody is stalled before `calm`: with all stalled at once nobody would lead, and the ticks begin anew. */
interface Time {
  now: number
  calm: number
}

/** Starts a worker that dies when it is told to, or, by chance, at one of its calls. */
const begin = (random: Choices, time: Time, part: (alive: () => boolean) => Scheduler.Scheduled<never, never>) =>
  Effect.gen(function* () {
    const member = { dead: false, leads: false } as Member
    const never = { _tag: "Delay", by: Duration.infinity } as const
    const plan: Faults.Plan = (port, method) => {
      if (member.dead) return never
      if (port === "Coordinator" && /Tick/.test(method)) {
        member.leads = true
        if (random.chance(0.02)) {
          member.dead = true
          // It is done all the same, or it never arrives.
          return random.chance(0.5) ? { _tag: "DelayReply", by: Duration.infinity } : never
        }
      }
      // One that is stalled for longer than its lease goes on as if it led, until the engine tells it.
      if (method === "sync" && time.now > time.calm && random.chance(0.01)) {
        time.calm = time.now + 1_000
        return { _tag: "Delay", by: 700 }
      }
      // Now and then a connection is lost, and the question is put again.
      return random.chance(0.03) ? { _tag: random.chance(0.5) ? "LoseReply" : "Fail" } : undefined
    }
    const worker = Effect.provide(Worker.run([part(() => !member.dead)], timing), Faults.layer(plan))
    const fiber = yield* Effect.forkDetach(Effect.ignore(worker), { startImmediately: true })
    return Object.assign(member, { fiber })
  })

describe("leaders that die", () => {
  for (const rerun of [false, true]) {
    it.effect(
      `each tick is claimed by one of them, none is left out, ${rerun ? "and each is done" : "and none runs twice"}`,
      () =>
        Effect.gen(function* () {
          const random = new Choices(rerun ? 11 : 7)
          const time: Time = { now: 0, calm: 0 }
          const claims: Array<Claim> = []
          const begun: Array<number> = []
          const done = new Set<number>()
          const part = (alive: () => boolean) =>
            Scheduler.timer(
              "every",
              { every, onLeader: true, rerun },
              Effect.gen(function* () {
                const { tick } = yield* Scheduler.Tick
                if (!alive()) return
                begun.push(tick)
                yield* Effect.sleep(random.below(30))
                if (alive()) done.add(tick)
              })
            )
          yield* Effect.gen(function* () {
            const members: Array<Member> = []
            const add = Effect.map(begin(random, time, part), (member) => void members.push(member))
            const living = (): ReadonlyArray<Member> => members.filter(({ dead }) => !dead)
            for (let i = 0; i < 3; i++) yield* add
            let deaths = 0
            let waits = 0
            while (deaths < 250) {
              yield* TestClock.adjust(10)
              time.now += 10
              for (const member of members.filter(({ dead }) => dead)) {
                members.splice(members.indexOf(member), 1)
                deaths++
                yield* add
                member.fiber.interruptUnsafe()
              }
              // The leader is killed once a second, at any moment of it.
              if (++waits < 100 || random.chance(0.9)) continue
              waits = 0
              for (const leader of living().filter(({ leads }) => leads)) leader.dead = true
            }
            yield* TestClock.adjust("3 seconds")
            for (const { fiber } of members) fiber.interruptUnsafe()
            yield* TestClock.adjust("10 seconds")
          }).pipe(Effect.provide(recorded(claims)))

          const owners = new Map<number, bigint>()
          for (const { epoch, tick } of claims) {
            assert.isTrue((owners.get(tick) ?? epoch) === epoch, `tick ${tick} was claimed by two leaders`)
            owners.set(tick, epoch)
          }
          const ticks = [...owners.keys()]
          assert.isTrue(ticks.every(Number.isSafeInteger))
          assert.deepStrictEqual(
            ticks,
            Array.from(ticks, (_, i) => ticks[0]! + i * every)
          )
          assert.isAbove(ticks.length, 1_500)
          assert.isAbove(new Set(owners.values()).size, 200)
          if (!rerun) assert.strictEqual(new Set(begun).size, begun.length)
          const skipped = yield* ticked("skipped")
          const cutShort = yield* ticked("cutShort")
          if (rerun) {
            assert.strictEqual(cutShort, 0)
            assert.isAtLeast(done.size + skipped, ticks.length - 1)
            assert.isAbove(begun.length, done.size)
          } else assert.isAbove(cutShort, 20)
        }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())),
      60_000
    )
  }
})

describe("an engine that is away", () => {
  it.effect("holds ticks up, and all of them run when it is back", () =>
    Effect.gen(function* () {
      const ticks: Array<number> = []
      let away = false
      const plan: Faults.Plan = (_, method) => (away && method !== "sync" ? { _tag: "Fail" } : undefined)
      const timer = Scheduler.timer(
        "every",
        { every, onLeader: true },
        Effect.map(Scheduler.Tick, ({ tick }) => void ticks.push(tick))
      )
      const worker = Worker.run([timer], { lease: "10 seconds", settle: 0 })
      const fiber = yield* Effect.forkChild(Effect.provide(worker, Faults.layer(plan)))
      for (let step = 0; step < 20; step++) yield* TestClock.adjust("100 millis")
      const before = ticks.length
      assert.isAbove(before, 5)
      away = true
      for (let step = 0; step < 50; step++) yield* TestClock.adjust("100 millis")
      assert.isAtMost(ticks.length, before + 1)
      away = false
      for (let step = 0; step < 50; step++) yield* TestClock.adjust("100 millis")
      assert.isAtLeast(ticks.length, 115)
      assert.deepStrictEqual(
        ticks,
        Array.from(ticks, (_, i) => ticks[0]! + i * every)
      )
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(Engine.layerMemory))
  )
})

describe("in simulated trouble", () => {
  const work = Topic.make("work", { schema: Schema.Int, partitions: 3 })
  const beats = Topic.make("beats", { schema: Schema.Int, partitions: 1 })
  const parts = [
    Processor.make("p", { topic: work }, () => Effect.void),
    Scheduler.timer(
      "beat",
      { every: "200 millis", onLeader: true, rerun: true },
      Effect.gen(function* () {
        const { schedule, tick } = yield* Scheduler.Tick
        yield* Topic.publish(beats, tick, { producer: schedule, sequence: BigInt(tick) })
      })
    )
  ]
  const events = Array.from({ length: 30 }, (_, n) => TestProcessor.event(work, n))

  it.live("the ticks of a leader are stored in order, each once", () =>
    Effect.gen(function* () {
      let stored = 0
      const check = Effect.map(Stream.runCollect(Topic.stream(beats, { until: "now" })), (all) => {
        const ticks = all.map(({ value }) => value)
        stored += ticks.length
        return ticks.flatMap((tick, i) => (i > 0 && tick <= ticks[i - 1]! ? [`tick ${tick} is out of order`] : []))
      })
      for (let seed = 0; seed < 30; seed++) {
        const { steps, violations } = yield* Simulation.run(seed, { parts, events, check })
        // Of what it did not publish itself, the simulation knows nothing: that is looked at above.
        const others = violations.filter((text) => !text.startsWith("beats/"))
        assert.deepStrictEqual(others, [], steps.join("\n"))
      }
      assert.isAbove(stored, 300)
    })
  )
})
