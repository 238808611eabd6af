/** Jobs that recur: each slot once, by whichever worker, through pauses, restarts and changes of daylight saving. */
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Cron, DateTime, Duration, Effect, Layer, Option, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Engine, Errors, Job, JobStore, Queue } from "../src/index.ts"
import { Firing } from "../src/internal/jobs/firing.ts"
import { firingOf, read, slotAfter, write } from "../src/internal/jobs/recurrence.ts"
import * as Timing from "../src/internal/schedule/timing.ts"
import { Faults } from "../src/testing/index.ts"
import { behaviour, numbers, start, until } from "./support/engines.ts"
import { directory } from "./support/places.ts"
import { eventually, makeServer } from "./support/redis.ts"

const report = Job.make("report", { payload: Schema.String })
const minute = 60_000
const day = 24 * 60 * minute

/** The slots that ran, as their ids say, each as often as it ran. */
const recorder = () => {
  const ran: Array<number> = []
  const part = Job.handler(report, (_, run) => Effect.sync(() => ran.push(Number(run.id.split("@")[1]))))
  return { ran, part }
}

behaviour("each slot runs once, though several workers set and fire it, and answers are lost", (engine) =>
  Effect.gen(function* () {
    const { part, ran } = recorder()
    const set = Job.every(report, "pulse", { every: "1 second", payload: "beat" })
    const plan: Faults.Plan = (port, method, call) => {
      if (port !== "JobStore" || (method !== "fire" && method !== "recur")) return undefined
      return ([{ _tag: "LoseReply" }, { _tag: "SendTwice" }, { _tag: "Fail" }] as const)[call % 4]
    }
    yield* Effect.forEach(numbers(4), () => Effect.ignore(set), { concurrency: 4 }).pipe(
      Effect.provide(Faults.layer(plan))
    )
    yield* set
    const faulty = start([part]).pipe(Effect.provide(Faults.layer(plan)))
    yield* faulty
    yield* faulty
    // A period is a second at least.
    yield* until(engine, "three of them ran", () => ran.length >= 3)
    yield* engine.elapse(100)
    assert.deepStrictEqual(
      ran.toSorted((a, b) => a - b),
      numbers(ran.length).map((n) => ran[0]! + n * 1_000)
    )
    const [schedule] = yield* Queue.schedules("default", { runs: 2 })
    assert.deepInclude(schedule, { name: "pulse", job: "report", paused: false, missed: "skip" })
    assert.deepStrictEqual(schedule!.every, Option.some(Duration.seconds(1)))
    const [next, second] = schedule!.next.map(DateTime.toEpochMillis)
    assert.deepStrictEqual(
      [next! - DateTime.toEpochMillis(Option.getOrThrow(schedule!.last)), second! - next!],
      [1_000, 1_000]
    )
  })
)

behaviour("one that is set while a worker sleeps is heard of, also by a worker that has its hands full", (engine) =>
  Effect.gen(function* () {
    const { part, ran } = recorder()
    const busy = Job.make("busy", { payload: Schema.Int })
    let begun = 0
    const stuck = Job.handler(busy, () =>
      Effect.andThen(
        Effect.sync(() => begun++),
        Effect.never
      )
    )
    yield* Job.enqueue(busy, 1)
    const worker = yield* start([stuck], { jobs: { concurrency: 1 }, grace: 0 })
    yield* until(engine, "it is busy", () => begun === 1)
    yield* engine.elapse(200)
    yield* Job.every(report, "pulse", { every: "1 second", payload: "beat" })
    yield* until(engine, "its job is there", () => Effect.map(Queue.counts("default"), ({ ready }) => ready === 1))
    yield* worker.close
    yield* start([part])
    yield* until(engine, "it ran", () => ran.length > 0)
  })
)

behaviour(
  "paused it does not run, resumed it goes on without those of the pause, removed it is gone",
  (engine) =>
    Effect.gen(function* () {
      const { part, ran } = recorder()
      yield* Job.every(report, "pulse", { every: "1 minute", payload: "beat", missed: "last" })
      yield* start([part], { lease: "1 hour" })
      yield* engine.elapse(2.5 * minute)
      assert.lengthOf(ran, 2)
      assert.isTrue(yield* Queue.pauseSchedule("default", "pulse"))
      yield* engine.elapse(10 * minute)
      assert.lengthOf(ran, 2)
      assert.deepInclude((yield* Queue.schedules("default"))[0], { paused: true, next: [] })
      // A deployment does not end the pause.
      yield* Job.every(report, "pulse", { every: "1 minute", payload: "other", missed: "last" })
      yield* engine.elapse(2 * minute)
      assert.lengthOf(ran, 2)
      assert.isTrue(yield* Queue.resumeSchedule("default", "pulse"))
      yield* engine.elapse(2 * minute)
      assert.lengthOf(ran, 4)
      assert.isTrue(yield* Queue.removeSchedule("default", "pulse"))
      yield* engine.elapse(5 * minute)
      assert.lengthOf(ran, 4)
      assert.deepStrictEqual(yield* Queue.schedules("default"), [])
      assert.isFalse(yield* Queue.resumeSchedule("default", "pulse"))
    }),
  { on: ["memory"] }
)

behaviour(
  "a run that fails does not keep the next one from coming, with retries of its own",
  (engine) =>
    Effect.gen(function* () {
      const flaky = Job.make("flaky", { payload: Schema.Void, retries: 1, backoff: () => "1 second" })
      const attempts: Array<string> = []
      const part = Job.handler(flaky, (_, run) =>
        Effect.andThen(
          Effect.sync(() => attempts.push(`${run.headers["schedule"]} ${run.attempt}`)),
          Effect.die(new Error("no"))
        )
      )
      yield* Job.every(flaky, "unlucky", { every: "1 minute", payload: undefined })
      yield* start([part], { lease: "1 hour" })
      yield* engine.elapse(3.5 * minute)
      assert.deepStrictEqual(
        attempts,
        numbers(6).map((n) => `unlucky ${(n % 2) + 1}`)
      )
      assert.strictEqual((yield* Queue.counts("default")).dead, 3)
    }),
  { on: ["memory"] }
)

behaviour(
  "slots that nobody came for do not run, or as one",
  (engine) =>
    Effect.gen(function* () {
      const { part, ran } = recorder()
      yield* Job.every(report, "skipping", { every: "10 minutes", payload: "" })
      yield* Job.every(report, "catching-up", { every: "10 minutes", payload: "", missed: "last" })
      yield* engine.elapse(65 * minute)
      yield* start([part], { lease: "1 hour" })
      yield* engine.elapse(minute)
      assert.lengthOf(ran, 1)
      yield* engine.elapse(5 * minute)
      assert.lengthOf(ran, 3)
      assert.deepStrictEqual([ran[1]! - ran[0]!, ran[2]! - ran[0]!], [10 * minute, 10 * minute])
    }),
  { on: ["memory"] }
)

it.effect("a year of a cron entry, both changes of daylight saving among its days, in under a second", () =>
  Effect.gen(function* () {
    const began = process.cpuUsage()
    yield* TestClock.setTime(Date.UTC(2026, 0, 1))
    yield* Job.cron(report, "nightly", { expression: "30 2 * * *", timezone: "Europe/Vienna", payload: "" })
    const store = yield* JobStore.JobStore
    const firing = new Firing("default", store, yield* Clock.Clock)
    firing.look()
    yield* Effect.forkScoped(firing.run, { startImmediately: true })
    for (const _ of numbers(365)) yield* TestClock.adjust(day)
    const items = yield* Stream.runCollect(Queue.peek("default", "ready"))
    const ran = items.map(({ id }) => Number(id.split("@")[1]))
    const local = ran.map((slot) =>
      DateTime.formatIsoZoned(DateTime.makeZonedUnsafe(slot, { timeZone: "Europe/Vienna" }))
    )
    assert.lengthOf(new Set(local.map((text) => text.slice(0, 10))), 365)
    assert.lengthOf(ran, 365)
    const odd = local.filter((text) => !text.includes("T02:30:00.000"))
    // The hour from two to three is left out on this day.
    assert.deepStrictEqual(
      odd.map((text) => text.slice(0, 16)),
      ["2026-03-29T03:30"]
    )
    assert.deepStrictEqual(
      local.filter((text) => text.startsWith("2026-10-25")),
      ["2026-10-25T02:30:00.000+02:00[Europe/Vienna]"]
    )
    const { system, user } = process.cpuUsage(began)
    // Of processor time: others may be at work on the machine.
    assert.isBelow((system + user) / 1_000, 1_000)
  }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Engine.layerMemory)))
)

it.live("it survives the restart of everything, on a file", () =>
  Effect.gen(function* () {
    const engine = Engine.layerEmbedded({ file: join(yield* directory, "jobs.db") })
    yield* Effect.provide(Job.every(report, "pulse", { every: "1 second", payload: "" }), Layer.fresh(engine))
    const { part, ran } = recorder()
    yield* Effect.gen(function* () {
      yield* start([part])
      yield* eventually("it runs", Effect.sync(() => ran.length > 0))
    }).pipe(Effect.scoped, Effect.provide(Layer.fresh(engine)))
    assert.lengthOf(new Set(ran), ran.length)
  })
)

it.live(
  "it survives the restart of everything, on Redis",
  () =>
    Effect.gen(function* () {
      const server = yield* makeServer(["--appendonly", "yes", "--appendfsync", "always"])
      const engine = Engine.layerRedis({ url: server.url })
      const { part, ran } = recorder()
      yield* Effect.provide(Job.every(report, "pulse", { every: "1 second", payload: "" }), Layer.fresh(engine))
      yield* server.kill
      yield* server.again
      yield* Effect.gen(function* () {
        yield* start([part])
        yield* eventually("it runs", Effect.sync(() => ran.length > 0))
      }).pipe(Effect.scoped, Effect.provide(Layer.fresh(engine)))
      assert.lengthOf(new Set(ran), ran.length)
    }),
  30_000
)

describe("timings", () => {
  it("are the same when they were stored, slot by slot", () => {
    const tz = DateTime.zoneMakeNamedUnsafe("Asia/Tokyo")
    const crons = [
      Cron.parseUnsafe("*/7 3-9 1,15 * 1-5", "America/New_York"),
      Cron.parseUnsafe("15 30 2 * * 0", "+02:00"),
      Cron.parseUnsafe("30 2 * * *", "Europe/Vienna", { onDstOverlap: "both" }),
      Cron.make({ minutes: [0], hours: [9], days: [13], months: [], weekdays: [5], and: true, tz })
    ]
    for (const cron of crons) {
      const timing = { _tag: "Cron", cron } as const
      const again = read(write(timing))
      assert.strictEqual(write(again), write(timing))
      let [one, other] = [Date.UTC(2026, 2, 1), Date.UTC(2026, 2, 1)]
      for (const _ of numbers(50)) {
        one = slotAfter(timing, one)
        other = slotAfter(again, other)
        assert.strictEqual(one, other)
      }
    }
    assert.strictEqual(write(read(`{"every":5000}`)), `{"every":5000}`)
  })

  it("keep their rate, however late a slot is fired", () => {
    const stored = {
      name: "n",
      timing: write(Timing.every("here", "10 seconds") as never),
      job: { name: "j", priority: "low", format: undefined, payload: "", headers: `{"a":"b"}` },
      paused: false,
      last: undefined,
      revision: 1
    } as const
    const skipping = firingOf({ ...stored, missed: "skip", slot: 100_000 }, 127_123)
    assert.deepInclude(skipping, { slot: 100_000, next: 130_000 })
    assert.strictEqual(skipping.run?.job.id, "n@120000")
    assert.deepStrictEqual(JSON.parse(skipping.run!.job.headers), {
      a: "b",
      schedule: "n",
      slot: "1970-01-01T00:02:00.000Z"
    })
    const hourly = { ...stored, timing: `{"every":3600000}`, slot: 0 }
    assert.isUndefined(firingOf({ ...hourly, missed: "skip" }, 61_000).run)
    assert.strictEqual(firingOf({ ...hourly, missed: "last" }, 3 * 3_600_000 + 61_000).run?.slot, 3 * 3_600_000)
  })
})

describe("definitions", () => {
  const payload = ""
  const wrong: ReadonlyArray<readonly [string, () => unknown, RegExp]> = [
    ["half a second", () => Job.every(report, "a", { every: "500 millis", payload }), /at least 1 second/],
    ["no duration", () => Job.every(report, "a", { every: "soon" as never, payload }), /every is "soon"/],
    [
      "both kinds",
      () => Job.every(report, "a", { every: "1 minute", expression: "* * * * *", payload } as never),
      /use Job.every for a period/
    ],
    [
      "both kinds",
      () => Job.cron(report, "a", { every: "1 minute", expression: "* * * * *", payload } as never),
      /use Job.every for a period/
    ],
    ["an expression", () => Job.cron(report, "a", { expression: "* * *", payload }), /is no cron expression/],
    ["30 February", () => Job.cron(report, "a", { expression: "0 0 30 2 *", payload }), /never comes/],
    ["a zone", () => Job.cron(report, "a", { expression: "0 0 * * *", timezone: "Mars", payload }), /is no time zone/],
    ["a name", () => Job.every(report, "a@b", { every: "1 minute", payload }), /schedule name "a@b"/],
    ["missed", () => Job.every(report, "a", { every: "1 minute", missed: "all" as never, payload }), /missed is "skip"/]
  ]
  it.each(wrong)("%s", (_, define, message) => {
    assert.throws(define, message)
    try {
      define()
    } catch (error) {
      assert.instanceOf(error, Errors.Misconfigured)
    }
  })
})
