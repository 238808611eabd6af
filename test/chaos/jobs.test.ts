/**
 * Real processes that run jobs and are killed at random: every job ran, none is lost, each result and each dead letter is
 * there, nothing runs again after it has succeeded, what kills its worker ends up dead, and groups keep their order.
 *
 * `MILLRACE_TEST_JOBS=50000 MILLRACE_TEST_SECONDS=300 npx vitest run test/chaos/jobs.test.ts` does it for five minutes.
 */
import { assert, it } from "@effect/vitest"
import { DateTime, Effect, Option, Random, Result, type Scope, Stream } from "effect"
import { Engine, Job, Queue } from "../../src/index.ts"
import { chore, step } from "../support/chores.ts"
import { fileUrl } from "../support/places.ts"
import { type Child, start } from "../support/processes.ts"
import { eventually, makeServer } from "../support/redis.ts"

const engines = [
  ["a file", fileUrl],
  ["Redis", Effect.map(makeServer(), ({ url }) => url)]
] as const

const jobs = Number(process.env.MILLRACE_TEST_JOBS ?? 400)
const seconds = Number(process.env.MILLRACE_TEST_SECONDS ?? 3)
const workersAtOnce = 3
/** So that there is work for nearly all of that time: three workers run twenty each. */
const millis = Math.min(2_000, Math.max(20, Math.floor((seconds * 1_000 * workersAtOnce * 20 * 0.6) / jobs)))
/** Groups, and jobs of each, one after the other: work for about half of that time, as each kill holds some up for a lease. */
const lanes = Array.from({ length: 10 }, (_, lane) => `lane-${lane}`)
const stepMillis = 20
const stepsOfLane = Math.ceil((seconds * 1_000) / stepMillis / 5)
/** One in so many fails, always. */
const failing = 50
/** Milliseconds by which the clocks of engine and processes may seem to differ. */
const slack = 1_000

const kindOf = (n: number) => (n % failing === 0 ? "fails" : "works")

for (const [name, url] of engines) {
  it.live(
    `workers on ${name} that are killed again and again lose no job, and one that kills its worker dies after three`,
    () =>
      Effect.gen(function* () {
        const at = yield* url
        const env = { MILLRACE_URL: at }
        yield* Effect.gen(function* () {
          const payloads = Array.from({ length: jobs }, (_, n) => ({ n, kind: kindOf(n), millis }) as const)
          // Every other one has an id of its own, under which it is asked for again below.
          const handles = yield* Effect.forEach(
            payloads,
            (payload) => Job.enqueue(chore, payload, payload.n % 2 === 0 ? { id: `chore-${payload.n}` } : {}),
            { concurrency: 200 }
          )
          const steps = Array.from({ length: stepsOfLane }, (_, n) =>
            lanes.map((lane) => ({ lane, n, millis: stepMillis }))
          ).flat()
          const stepIds = (yield* Job.enqueueAll(step, steps)).map(({ id }) => id)
          const { id: killer } = yield* Job.enqueue(chore, { n: -1, kind: "kills", millis }, { priority: "high" })

          const children: Array<Child> = []
          const begin = Effect.map(start("jobs", env), (child) => void children.push(child))
          const running = (): ReadonlyArray<Child> =>
            children.filter(({ process }) => process.exitCode === null && process.signalCode === null)
          // They die by the killer, too, so there are always new ones.
          const filled: Effect.Effect<void, never, Scope.Scope> = Effect.suspend(() =>
            running().length < workersAtOnce ? Effect.andThen(begin, filled) : Effect.void
          )
          const again = Effect.gen(function* () {
            const n = 2 * (yield* Random.nextIntBetween(0, Math.floor(jobs / 2) - 1))
            const { repeated } = yield* Job.enqueue(chore, payloads[n]!, { id: `chore-${n}` })
            assert.isTrue(repeated || kindOf(n) === "fails", `chore-${n} is a job a second time`)
          })
          yield* filled
          yield* children[0]!.until(() => true, "a run")

          const until = performance.now() + seconds * 1_000
          let kills = 0
          while (performance.now() < until) {
            // Real time: processes work meanwhile.
            yield* Effect.sleep(yield* Random.nextIntBetween(200, Math.max(600, seconds * 8)))
            yield* again
            const victims = running()
            const victim = victims[yield* Random.nextIntBetween(0, victims.length, { halfOpen: true })]
            if (victim?.process.kill("SIGKILL") === true) kills++
            yield* filled
          }

          const left = Effect.map(Queue.counts("default"), ({ active, delayed, ready }) => active + delayed + ready)
          let open = 0
          const done = eventually(
            () => `nothing is left to do; ${open} are`,
            Effect.gen(function* () {
              yield* filled
              open = yield* left
              return open === 0
            }).pipe(Effect.orDie) as Effect.Effect<boolean>,
            90 + seconds
          )
          yield* done
          // Whose workers were killed three times, by chance, is put back by whoever looks at it.
          const isUnlucky = ({ id, lost, reason }: Queue.Item) =>
            id !== killer && lost === 3 && Option.getOrUndefined(reason) === "Lost"
          const unlucky = (yield* Stream.runCollect(Queue.peek("default", "dead"))).filter(isUnlucky)
          assert.isAtMost(unlucky.length, jobs / 1_000)
          const outOfTurn = new Set(unlucky.map(({ id }) => id))
          yield* Queue.redrive("default", { ids: [...outOfTurn] })
          yield* done
          for (const { process } of running()) process.kill("SIGTERM")
          yield* Effect.forEach(children, ({ exit }) => exit, { concurrency: "unbounded" })

          const runs = new Map<number, Array<number>>()
          // What they wrote last is read a moment later: real files.
          yield* Effect.sleep("100 millis")
          const begun: Array<{ readonly at: number; readonly lane: string; readonly n: number }> = []
          for (const { lines } of children) {
            for (const { at, lane, n, what } of lines) {
              if (what === step.name) {
                begun.push({ at: at as number, lane: lane as string, n: n as number })
                continue
              }
              const known = runs.get(n as number)
              if (known === undefined) runs.set(n as number, [at as number])
              else known.push(at as number)
            }
          }
          let repeats = 0
          yield* Effect.forEach(
            handles,
            ({ id }, n) =>
              Effect.gen(function* () {
                const began = runs.get(n) ?? []
                assert.isAtLeast(began.length, 1, `job ${n} never ran`)
                repeats += began.length - 1
                const item = Option.getOrThrow(yield* Job.info(chore, id))
                const result = yield* Effect.result(Job.result(chore, id))
                if (kindOf(n) === "fails") {
                  assert.strictEqual(item.state, "dead", `job ${n}`)
                  assert.strictEqual(Result.isFailure(result) && result.failure._tag, "Refused", `job ${n}`)
                  return
                }
                assert.strictEqual(item.state, "done", `job ${n}`)
                assert.deepStrictEqual(result, Result.succeed(Option.some(n)))
                const ended = DateTime.toEpochMillis(item.at) + slack
                assert.isEmpty(
                  began.filter((at) => at > ended),
                  `job ${n} ran again after it had succeeded`
                )
              }),
            { concurrency: 50, discard: true }
          )
          const late = new Set(steps.filter((_, i) => outOfTurn.has(stepIds[i]!)).map(({ lane, n }) => `${lane} ${n}`))
          begun.sort((a, b) => a.at - b.at)
          for (const lane of lanes) {
            const order = begun.filter((one) => one.lane === lane).map(({ n }) => n)
            assert.strictEqual(new Set(order).size, stepsOfLane, `${lane}: a step never ran`)
            const inTurn = order.filter((n) => !late.has(`${lane} ${n}`))
            assert.deepStrictEqual(
              inTurn.filter((n, i) => i > 0 && n < inTurn[i - 1]!),
              [],
              `${lane}: a step ran after the one behind it`
            )
          }
          const dead = yield* Stream.runCollect(Queue.peek("default", "dead"))
          assert.strictEqual(dead.length, 1 + Math.ceil(jobs / failing))
          const { failures, lost, reason } = dead.find(({ id }) => id === killer)!
          assert.deepStrictEqual([lost, failures, Option.getOrThrow(reason)], [3, 0, "Lost"])
          if (seconds > 10) console.log(`${jobs} jobs on ${name}, ${kills} kills, ${repeats} runs cut short`)
        }).pipe(Effect.provide(Engine.layer({ url: at })))
      }),
    120_000 + 3_000 * seconds
  )
}
