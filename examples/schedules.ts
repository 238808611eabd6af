/**
 * Schedules beside processors: a task on every worker, and one for the cluster that its leader does not survive. The next
 * leader runs the same tick again, and what it stores under the tick's number is stored once.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Deferred, Effect, Fiber, Schema, Stream } from "effect"
import { Engine, Scheduler, Topic, Worker } from "../src/index.ts"

const reports = Topic.make("reports", { schema: Schema.String, partitions: 1 })

const warm = Scheduler.task("warm", Console.log("warmed up, once on every worker"))

// By the calendar, in its time zone; on the leader, so that it runs once for the cluster.
const nightly = Scheduler.cron(
  "nightly",
  { expression: "30 2 * * *", timezone: "Europe/Vienna", onLeader: true, catchUp: true },
  Console.log("the report of the day")
)

const program = Effect.gen(function* () {
  const begun = yield* Deferred.make<void>()
  const done = yield* Deferred.make<void>()

  const first = Scheduler.task(
    "first-report",
    Effect.gen(function* () {
      const { again, id, schedule, tick } = yield* Scheduler.Tick
      yield* Topic.publish(reports, id, { producer: schedule, sequence: BigInt(tick) })
      if (again) {
        yield* Console.log(`the next leader runs tick ${tick} again`)
        return yield* Deferred.succeed(done, undefined)
      }
      yield* Console.log(`the leader has begun tick ${tick}, and is stopped in the middle of it`)
      yield* Deferred.succeed(begun, undefined)
      return yield* Effect.never
    }),
    { onLeader: true }
  )

  // A leader that has no time to finish.
  const leader = yield* Effect.forkChild(Worker.run([warm, nightly, first], { grace: 0 }))
  yield* Deferred.await(begun)
  // The next in line is there before the leader goes: with nobody left it would be a new cluster, and the task due anew.
  const ready = yield* Deferred.make<void>()
  const joined = Scheduler.task("joined", Deferred.succeed(ready, undefined))
  const other = yield* Effect.forkChild(Worker.run([joined, nightly, first]))
  yield* Deferred.await(ready)
  yield* Fiber.interrupt(leader)
  yield* Deferred.await(done)
  yield* Fiber.interrupt(other)

  const stored = yield* Stream.runCollect(Topic.stream(reports, { until: "now" }))
  yield* Console.log(`stored: ${stored.length} report of it`)
})

// The same program on Redis, or on a file: MILLRACE_URL=redis://localhost:6379
const engine = process.env.MILLRACE_URL ? Engine.layerConfig : Engine.layerMemory

program.pipe(Effect.provide(engine), NodeRuntime.runMain)
