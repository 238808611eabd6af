/**
 * Leaders that die in virtual time, hundreds of them, at any place of what they do: between a claim and its answer, in the
 * middle of a run, before it is told that it is done. A dead one is one whose calls are never answered again.
 */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, type Fiber, Layer, Metric } from "effect"
import { TestClock } from "effect/testing"
import { Coordinator } from "../src/Coordinator.ts"
import * as Engine from "../src/Engine.ts"
import * as Metrics from "../src/Metrics.ts"
import * as Scheduler from "../src/Scheduler.ts"
import { Faults } from "../src/testing/index.ts"
import * as Worker from "../src/Worker.ts"
import { type Seeded, seeded } from "./support/seeded.ts"

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

/** Starts a worker that dies when it is told to, or, by chance, at one of its calls. */
const begin = (random: Seeded, part: (alive: () => boolean) => Scheduler.Scheduled<never, never>) =>
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
          const random = seeded(rerun ? 11 : 7)
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
            const add = Effect.map(begin(random, part), (member) => void members.push(member))
            const living = (): ReadonlyArray<Member> => members.filter(({ dead }) => !dead)
            for (let i = 0; i < 3; i++) yield* add
            let deaths = 0
            let waits = 0
            while (deaths < 250) {
              yield* TestClock.adjust(10)
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
