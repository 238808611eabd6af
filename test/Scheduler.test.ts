/** Schedules on every worker and on the leader: when they tick, what becomes of each tick, and how they end. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Cron, DateTime, Effect, Latch, Layer, Logger, Metric, References, Schema, Stream } from "effect"
import { TestClock, TestConsole } from "effect/testing"
import { Coordinator } from "../src/Coordinator.ts"
import * as Engine from "../src/Engine.ts"
import { Misconfigured } from "../src/Errors.ts"
import * as Metrics from "../src/Metrics.ts"
import * as Part from "../src/Part.ts"
import * as Scheduler from "../src/Scheduler.ts"
import * as Settings from "../src/Settings.ts"
import * as Topic from "../src/Topic.ts"
import * as Worker from "../src/Worker.ts"
import { behaviour, start, until } from "./support/engines.ts"

const timing = { lease: "600 millis", settle: "10 millis" } as const

/** Notes the ticks that it runs for. */
const noting = (ticks: Array<number>) => Effect.map(Scheduler.Tick, ({ tick }) => void ticks.push(tick))
const differences = (ticks: ReadonlyArray<number>): ReadonlyArray<number> =>
  ticks.slice(1).map((tick, i) => tick - ticks[i]!)

const ticksCounted = (schedule: string, outcome: string) =>
  Effect.map(Metric.value(Metric.withAttributes(Metrics.ticks, { schedule, outcome })), ({ count }) => count)

describe("tasks", () => {
  behaviour("run once on each worker when it is ready, and idle waits for them", () =>
    Effect.gen(function* () {
      let runs = 0
      const task = Scheduler.task(
        "warm",
        Effect.gen(function* () {
          yield* Effect.yieldNow
          runs++
        })
      )
      for (let worker = 1; worker <= 3; worker++) {
        const { idle } = yield* start([task])
        yield* idle
        assert.strictEqual(runs, worker)
      }
    })
  )

  behaviour("on the leader run once for the cluster, however many workers lead after it", (engine) =>
    Effect.gen(function* () {
      let runs = 0
      const task = Scheduler.task(
        "migrate",
        Effect.sync(() => void runs++),
        { onLeader: true }
      )
      const [a, b, c] = [yield* start([task], timing), yield* start([task], timing), yield* start([task], timing)]
      yield* until(engine, "it ran", () => runs > 0)
      for (const worker of [a, b]) {
        yield* worker.stop
        yield* engine.elapse(100)
      }
      assert.strictEqual(runs, 1)
      // When the last one has left it is a new cluster that starts.
      yield* c.stop
      yield* start([task], timing)
      yield* until(engine, "it ran again", () => runs > 1)
      yield* engine.elapse(100)
      assert.strictEqual(runs, 2)
    })
  )

  behaviour("on the leader, cut short, run again on the next one, which is told so", (engine) =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const gate = yield* Latch.make(false)
      const task = Scheduler.task(
        "migrate",
        Effect.gen(function* () {
          const { again, id } = yield* Scheduler.Tick
          seen.push(`${id} ${again ? "again" : "first"}`)
          yield* gate.await
          seen.push("end")
        }),
        { onLeader: true }
      )
      const a = yield* start([task], { ...timing, grace: 0 })
      const b = yield* start([task], timing)
      yield* until(engine, "it has begun", () => seen.length === 1)
      yield* a.stop
      yield* until(engine, "it has begun again", () => seen.length === 2)
      yield* gate.open
      yield* b.idle
      const [first, second, ...rest] = seen
      assert.strictEqual(second, first!.replace("first", "again"))
      assert.match(first!, /^migrate@\d+ first$/)
      assert.deepStrictEqual(rest, ["end"])
    })
  )
})

describe("timers", () => {
  it.effect("keep their rate without drift, from one interval after the start on", () =>
    Effect.gen(function* () {
      const ticks: Array<number> = []
      const timer = Scheduler.timer("t", { every: "1 second" }, noting(ticks))
      yield* TestClock.adjust("5 minutes")
      yield* start([timer])
      const began = yield* DateTime.now
      yield* TestClock.adjust("999 millis")
      assert.deepStrictEqual(ticks, [])
      yield* TestClock.adjust("1 seconds")
      for (let step = 0; step < 20; step++) yield* TestClock.adjust("50 seconds")
      assert.deepStrictEqual(
        ticks,
        Array.from({ length: ticks.length }, (_, i) => DateTime.toEpochMillis(began) + (i + 1) * 1_000)
      )
      assert.isAtLeast(ticks.length, 1_000)
    }).pipe(Effect.provide(Engine.layerMemory))
  )

  for (const onLeader of [false, true]) {
    const where = onLeader ? "on the leader" : "on every worker"
    it.effect(`skip what comes due while a run goes on, and count it, ${where}`, () =>
      Effect.gen(function* () {
        const ticks: Array<number> = []
        let most = 0
        let now = 0
        const body = Effect.gen(function* () {
          ticks.push((yield* Scheduler.Tick).tick)
          most = Math.max(most, ++now)
          yield* Effect.sleep("2500 millis")
          now--
        })
        yield* start([Scheduler.timer("slow", { every: "1 second", onLeader }, body)], { settle: 0, grace: 0 })
        for (let step = 0; step < 105; step++) yield* TestClock.adjust("100 millis")
        const first = ticks[0]!
        assert.deepStrictEqual(
          ticks.map((tick) => tick - first),
          [0, 3_000, 6_000, 9_000]
        )
        assert.strictEqual(most, 1)
        assert.strictEqual(yield* ticksCounted("slow", "skipped"), 6)
        assert.strictEqual(yield* ticksCounted("slow", "done"), 3)
      }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()), Effect.provide(Engine.layerMemory))
    )
  }

  it.effect("may run beside themselves, if they are to", () =>
    Effect.gen(function* () {
      let most = 0
      let now = 0
      const body = Effect.gen(function* () {
        most = Math.max(most, ++now)
        yield* Effect.sleep("2500 millis")
        now--
      })
      yield* start([Scheduler.timer("slow", { every: "1 second", overlap: "allow" }, body)], { grace: 0 })
      for (let step = 0; step < 100; step++) yield* TestClock.adjust("100 millis")
      assert.strictEqual(most, 3)
    }).pipe(Effect.provide(Engine.layerMemory))
  )

  behaviour("a run that fails or dies is logged and counted, the next one runs, and the worker lives", (engine) => {
    const logs: Array<string> = []
    const logger = Logger.make<unknown, void>(({ fiber, logLevel, message }) => {
      const { schedule, tick } = fiber.getRef(References.CurrentLogAnnotations)
      const text = String(Array.isArray(message) ? message[0] : message)
      // A tick that a busy machine comes too late for is told of too, and none of this test's.
      if (logLevel === "Warn" && schedule === "moody" && text.startsWith("a run")) {
        logs.push(`${text} ${schedule} ${typeof tick}`)
      }
    })
    return Effect.gen(function* () {
      let runs = 0
      const body = Effect.suspend((): Effect.Effect<void, string> => {
        runs++
        return runs % 3 === 1 ? Effect.fail("no") : runs % 3 === 2 ? Effect.die("ouch") : Effect.void
      })
      const worker = yield* start([Scheduler.timer("moody", { every: "20 millis" }, body)])
      yield* until(engine, "six runs", () => runs >= 6)
      const { parts } = yield* worker.stop
      const { failed, processed } = parts["moody"]!
      assert.strictEqual(failed + processed, runs)
      assert.isTrue(failed >= 4 && processed >= 2)
      assert.strictEqual(yield* ticksCounted("moody", "failed"), failed)
      assert.strictEqual(yield* ticksCounted("moody", "done"), processed)
      // The first of each kind is said, and then one a minute.
      assert.deepStrictEqual(logs, [
        "a run of the timer failed: the next tick runs all the same moody string",
        "a run of the timer failed: the next tick runs all the same moody string"
      ])
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()), Effect.provide(Logger.layer([logger])))
  })
})

describe("on the leader", () => {
  behaviour("through changes of leader the ticks of a timer are an unbroken row", (engine) =>
    Effect.gen(function* () {
      const ticks: Array<number> = []
      const timer = Scheduler.timer("t", { every: "20 millis", onLeader: true }, noting(ticks))
      let leader = yield* start([timer], timing)
      for (let change = 1; change <= 5; change++) {
        const next = yield* start([timer], timing)
        const before = ticks.length
        yield* until(engine, "it ticks", () => ticks.length > before + 3)
        yield* leader.stop
        leader = next
      }
      const before = ticks.length
      yield* until(engine, "it ticks", () => ticks.length > before + 3)
      yield* leader.stop
      // On a busy machine even such a run may last for more than 20 ms now and then; each such tick is counted.
      const row = (ticks.at(-1)! - ticks[0]!) / 20 + 1
      const skipped = yield* ticksCounted("t", "skipped")
      if (engine.virtual) assert.strictEqual(skipped, 0)
      assert.strictEqual(ticks.length + skipped, row)
      assert.isTrue(differences(ticks).every((millis) => millis > 0 && millis % 20 === 0))
      assert.deepStrictEqual([yield* ticksCounted("t", "missed"), yield* ticksCounted("t", "cutShort")], [0, 0])
      const [state] = yield* Coordinator.use((coordinator) => coordinator.ticks())
      assert.isTrue(state!.last >= ticks.at(-1)!)
      assert.deepStrictEqual(state!.open, [])
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )

  behaviour("one of several workers leads, and programs can ask and watch", (engine) =>
    Effect.gen(function* () {
      const seen: Array<boolean> = []
      yield* Effect.forkChild(
        Stream.runForEach(Scheduler.leadership, (leads) => Effect.sync(() => seen.push(leads))),
        {
          startImmediately: true
        }
      )
      assert.isFalse(yield* Scheduler.isLeader)
      const timer = Scheduler.timer("t", { every: "1 hour", onLeader: true }, Effect.void)
      // Nobody leads where no schedule asks for it.
      const other = yield* start([Scheduler.timer("own", { every: "1 hour" }, Effect.void)], timing)
      assert.isFalse(yield* Scheduler.isLeader)
      const a = yield* start([timer], timing)
      yield* until(engine, "it leads", () => Scheduler.isLeader)
      yield* start([timer], timing)
      yield* a.stop
      yield* until(engine, "the other one leads", () => Scheduler.isLeader)
      yield* other.stop
      assert.deepStrictEqual(seen.slice(0, 2), [false, true])
    })
  )

  it.effect("a tick that was begun and cut short is counted, or run again where that is wanted", () =>
    Effect.gen(function* () {
      for (const rerun of [false, true]) {
        const name = rerun ? "again" : "once"
        const seen: Array<string> = []
        const body = Effect.gen(function* () {
          const { again, tick } = yield* Scheduler.Tick
          seen.push(`${tick}${again ? " again" : ""}`)
          if (!again) yield* Effect.sleep("30 seconds")
        })
        const timer = Scheduler.timer(name, { every: "10 seconds", onLeader: true, rerun }, body)
        const a = yield* start([timer], { settle: 0, grace: 0 })
        const b = yield* start([timer], { settle: 0, grace: 0 })
        yield* TestClock.adjust("10 seconds")
        yield* until(virtual, "it has begun", () => seen.length === 1)
        yield* a.stop
        yield* TestClock.adjust("5 seconds")
        const [first] = seen
        assert.deepStrictEqual(seen, rerun ? [first, `${first} again`] : [first])
        assert.strictEqual(yield* ticksCounted(name, "cutShort"), rerun ? 0 : 1)
        yield* b.stop
      }
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()), Effect.provide(Engine.layerMemory))
  )

  it.effect("after downtime the last missed tick of a cron entry runs if it is to, and is counted otherwise", () =>
    Effect.gen(function* () {
      for (const catchUp of [false, true]) {
        const name = catchUp ? "caught" : "missed"
        const ticks: Array<number> = []
        const entry = Scheduler.cron(name, { expression: "0 * * * *", onLeader: true, catchUp }, noting(ticks))
        const run = Effect.scoped(
          Effect.gen(function* () {
            yield* start([entry], { lease: "1 minute" })
            yield* TestClock.adjust("70 seconds")
          })
        )
        yield* run
        assert.deepStrictEqual(ticks, [])
        yield* TestClock.adjust("3 hours")
        yield* run
        assert.strictEqual(ticks.length, catchUp ? 1 : 0)
        if (catchUp) assert.strictEqual(ticks[0]! % 3_600_000, 0)
        assert.strictEqual(yield* ticksCounted(name, "missed"), catchUp ? 2 : 3)
        // And no second time.
        yield* run
        assert.strictEqual(ticks.length, catchUp ? 1 : 0)
      }
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()), Effect.provide(Engine.layerMemory))
  )

  behaviour("what a tick publishes under its id is stored once, though the tick runs again", (engine) =>
    Effect.gen(function* () {
      const reports = Topic.make("reports", { schema: Schema.String, partitions: 1 })
      let begun = 0
      const task = Scheduler.task(
        "report",
        Effect.gen(function* () {
          const { id, schedule, tick } = yield* Scheduler.Tick
          yield* Topic.publish(reports, id, { producer: schedule, sequence: BigInt(tick) })
          if (++begun === 1) yield* Effect.never
        }),
        { onLeader: true }
      )
      const a = yield* start([task], { ...timing, grace: 0 })
      const b = yield* start([task], timing)
      yield* until(engine, "it has begun", () => begun === 1)
      yield* a.stop
      yield* until(engine, "it has begun again", () => begun === 2)
      yield* b.idle
      const stored = yield* Stream.runCollect(Topic.stream(reports, { until: "now" }))
      assert.strictEqual(stored.length, 1)
      assert.match(stored[0]!.value, /^report@\d+$/)
    })
  )
})

describe("cron entries", () => {
  it.effect("over a virtual year fire once on each day, also on those of the changes of daylight saving", () =>
    Effect.gen(function* () {
      const ticks: Array<number> = []
      yield* TestClock.setTime(Date.UTC(2026, 0, 1))
      const expression = "30 2 * * *"
      yield* start([Scheduler.cron("daily", { expression, timezone: "Europe/Vienna" }, noting(ticks))])
      // Of this process: other programs are none of its affair.
      const before = process.cpuUsage().user
      yield* TestClock.adjust("365 days")
      const took = (process.cpuUsage().user - before) / 1_000
      const days = new Set(ticks.map((tick) => local(tick).slice(0, 10)))
      assert.deepStrictEqual([ticks.length, days.size], [365, 365])
      const times = new Map(ticks.map((tick) => [local(tick).slice(0, 10), new Date(tick).toISOString().slice(11, 19)]))
      // 02:30 is left out on the first, and comes twice on the second: at +02:00 and an hour later at +01:00.
      assert.strictEqual(times.get("2026-03-28"), "01:30:00")
      assert.strictEqual(times.get("2026-03-29"), "01:30:00")
      assert.strictEqual(times.get("2026-03-30"), "00:30:00")
      assert.strictEqual(times.get("2026-10-24"), "00:30:00")
      assert.strictEqual(times.get("2026-10-25"), "00:30:00")
      assert.strictEqual(times.get("2026-10-26"), "01:30:00")
      assert.isBelow(took, 1_000)
    }).pipe(Effect.provide(Engine.layerMemory))
  )

  it.effect("are in UTC unless told otherwise; a Cron keeps its zone", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.UTC(2026, 0, 1))
      const [utc, tokyo, zoned]: Array<Array<number>> = [[], [], []]
      yield* start([
        Scheduler.cron("utc", { expression: "0 0 9 * * *" }, noting(utc!)),
        Scheduler.cron("tokyo", { expression: "0 9 * * *", timezone: "Asia/Tokyo" }, noting(tokyo!)),
        Scheduler.cron("zoned", { expression: Cron.parseUnsafe("0 9 * * *", "Asia/Tokyo") }, noting(zoned!)),
        Scheduler.cron("bare", { expression: Cron.parseUnsafe("0 9 * * *") }, noting(utc!))
      ])
      yield* TestClock.adjust("1 day")
      const at = (ticks: ReadonlyArray<number> | undefined) => ticks?.map((tick) => new Date(tick).toISOString())
      assert.deepStrictEqual(at(utc), ["2026-01-01T09:00:00.000Z", "2026-01-01T09:00:00.000Z"])
      assert.deepStrictEqual([at(tokyo), at(zoned)], [["2026-01-02T00:00:00.000Z"], ["2026-01-02T00:00:00.000Z"]])
    }).pipe(Effect.provide(Engine.layerMemory))
  )

  it.effect("are in the zone of the settings where they name none; their own beats it", () =>
    Effect.gen(function* () {
      // Nine o'clock in New York is two minutes away.
      yield* TestClock.setTime(Date.UTC(2026, 0, 1, 13, 58))
      const [utc, tokyo, text, cron, leader]: Array<Array<number>> = [[], [], [], [], []]
      yield* start([
        Scheduler.cron("utc", { expression: "0 9 * * *", timezone: "UTC" }, noting(utc!)),
        Scheduler.cron("tokyo", { expression: "0 23 * * *", timezone: "Asia/Tokyo" }, noting(tokyo!)),
        Scheduler.cron("text", { expression: "0 9 * * *" }, noting(text!)),
        Scheduler.cron("cron", { expression: Cron.parseUnsafe("0 9 * * *") }, noting(cron!)),
        Scheduler.cron("leader", { expression: "0 9 * * *", onLeader: true }, noting(leader!))
      ])
      for (let minute = 0; minute < 4; minute++) yield* TestClock.adjust("1 minute")
      const at = Date.UTC(2026, 0, 1, 14)
      assert.deepStrictEqual([utc, tokyo, text, cron, leader], [[], [at], [at], [at], [at]])
    }).pipe(Effect.provide(Settings.layer({ timezone: "America/New_York" })), Effect.provide(Engine.layerMemory))
  )
})

describe("the worker", () => {
  behaviour("lets a run finish within the grace when it is stopped, and begins no other", (engine) =>
    Effect.gen(function* () {
      for (const onLeader of [false, true]) {
        const seen: Array<string> = []
        const gate = yield* Latch.make(false)
        const body = Effect.gen(function* () {
          seen.push("begin")
          yield* gate.await
          seen.push("end")
        })
        const name = onLeader ? "leader" : "own"
        const worker = yield* start(
          [Scheduler.timer(name, { every: "30 millis", onLeader, overlap: "allow" }, body)],
          timing
        )
        yield* until(engine, "it has begun", () => seen.length > 0)
        const closing = yield* Effect.forkChild(worker.close)
        yield* engine.elapse(100)
        const begun = seen.length
        yield* engine.elapse(100)
        assert.isUndefined(closing.pollUnsafe())
        assert.strictEqual(seen.length, begun)
        yield* gate.open
        yield* until(engine, "it is closed", () => closing.pollUnsafe() !== undefined)
        assert.strictEqual(seen.filter((what) => what === "end").length, begun)
      }
      const states = yield* Coordinator.use((coordinator) => coordinator.ticks())
      assert.deepStrictEqual(
        states.map(({ open, schedule }) => [schedule, open.length]),
        [["leader", 0]]
      )
    })
  )

  it.effect("tells on SIGUSR1 what each schedule is doing, and who leads", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.UTC(2026, 0, 1))
      const parts = [
        Scheduler.cron("nightly", { expression: "0 2 * * *" }, Effect.void),
        Scheduler.timer("slow", { every: "10 seconds", onLeader: true }, Effect.sleep("1 hour"))
      ]
      yield* start(parts, { signals: true, grace: 0, settle: 0, lease: "1 minute" })
      yield* start([parts[1]!], { signals: true, grace: 0, settle: 0, lease: "1 minute" })
      yield* TestClock.adjust("15 seconds")
      process.emit("SIGUSR1", "SIGUSR1")
      assert.deepStrictEqual(yield* TestConsole.errorLines, [
        [
          "nightly: nothing runs, next at 2026-01-01T02:00:00.000Z",
          "slow: 1 in hand since 5 s, 2026-01-01T00:00:10.000Z, next at 2026-01-01T00:00:20.000Z"
        ].join("\n"),
        "slow: nothing runs, another worker leads"
      ])
    }).pipe(Effect.provide(Engine.layerMemory))
  )

  behaviour("gives each schedule its own layers, and the effect a scope", (engine) =>
    Effect.gen(function* () {
      class Greeting extends Context.Service<Greeting, string>()("test/Greeting") {}
      const seen: Array<string> = []
      const task = Scheduler.task(
        "greet",
        Effect.gen(function* () {
          yield* Effect.addFinalizer(() => Effect.sync(() => void seen.push("closed")))
          seen.push(yield* Greeting)
        })
      ).pipe(Part.provide(Layer.succeed(Greeting, "hello")))
      const worker = yield* start([task])
      yield* until(engine, "it ran", () => seen.length === 2)
      assert.deepStrictEqual(seen, ["hello", "closed"])
      yield* worker.stop
    })
  )

  it.effect("of nothing but its own schedules asks the engine nothing", () =>
    Effect.gen(function* () {
      const ticks: Array<number> = []
      const worker = yield* start([Scheduler.cron("c", { expression: "0 0 * * *" }, noting(ticks))])
      yield* TestClock.adjust("2 days")
      yield* worker.stop
      assert.strictEqual(ticks.length, 2)
    }).pipe(Effect.provide(Layer.mock(Coordinator, {})), Effect.provide(Engine.layerMemory))
  )

  it.effect("runs nothing by itself under the manual scheduler; a test calls the effect", () =>
    Effect.gen(function* () {
      const ticks: Array<number> = []
      const timer = Scheduler.timer("t", { every: "1 second" }, noting(ticks))
      const worker = yield* start([timer])
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(ticks, [])
      const tick = { id: "t@5", schedule: "t", tick: 5, due: DateTime.makeUnsafe(5), again: false }
      yield* Effect.scoped(Effect.provideService(timer.effect, Scheduler.Tick, tick))
      assert.deepStrictEqual(ticks, [5])
      yield* worker.idle
      yield* worker.stop
    }).pipe(Effect.provide(Layer.provideMerge(Scheduler.layerManual, Engine.layerMemory)))
  )

  it.effect("runs only the schedules that it is told to", () =>
    Effect.gen(function* () {
      const [one, two]: Array<Array<number>> = [[], []]
      yield* start(
        [
          Scheduler.timer("one", { every: "1 second" }, noting(one!)),
          Scheduler.timer("two", { every: "1 second" }, noting(two!))
        ],
        { processors: ["two"] }
      )
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual([one!.length, two!.length], [0, 3])
    }).pipe(Effect.provide(Engine.layerMemory))
  )
})

describe("definitions", () => {
  const refused: ReadonlyArray<readonly [string, () => unknown, ReadonlyArray<string>]> = [
    ["a name with a slash", () => Scheduler.task("a/b", Effect.void), ["task name", '"a/b"']],
    ["an empty name", () => Scheduler.timer("", { every: 1_000 }, Effect.void), ["timer name"]],
    ["an interval of nothing", () => Scheduler.timer("t", { every: 0 }, Effect.void), ["timer t", "every is 0"]],
    ["a negative interval", () => Scheduler.timer("t", { every: -5 }, Effect.void), ["every is -5", "1 milli"]],
    ["no number", () => Scheduler.timer("t", { every: Number.NaN }, Effect.void), ["every is NaN"]],
    ["for ever", () => Scheduler.timer("t", { every: "infinity" as never }, Effect.void), ["every"]],
    ["no duration", () => Scheduler.timer("t", { every: "soon" as never }, Effect.void), ['every is "soon"']],
    [
      "an overlap of its own",
      () => Scheduler.timer("t", { every: 5, overlap: "queue" as never }, Effect.void),
      ["timer t", '"queue"', '"skip" or "allow"']
    ],
    ["rerun on every worker", () => Scheduler.task("t", Effect.void, { rerun: true }), ["task t", "onLeader"]],
    ["four fields", () => Scheduler.cron("c", { expression: "* * * *" }, Effect.void), ["cron c", '"* * * *"', "five"]],
    ["61 minutes", () => Scheduler.cron("c", { expression: "61 * * * *" }, Effect.void), ["cron c", "61"]],
    [
      "no expression",
      () => Scheduler.cron("c", { expression: 5 as never }, Effect.void),
      ["cron c", "expression is 5"]
    ],
    ["30 February", () => Scheduler.cron("c", { expression: "0 0 30 2 *" }, Effect.void), ["never comes"]],
    [
      "a zone that is none",
      () => Scheduler.cron("c", { expression: "* * * * *", timezone: "Europe/Atlantis" }, Effect.void),
      ["cron c", '"Europe/Atlantis" is no time zone', "Europe/Vienna"]
    ],
    [
      "two zones",
      () =>
        Scheduler.cron("c", { expression: Cron.parseUnsafe("* * * * *", "Asia/Tokyo"), timezone: "UTC" }, Effect.void),
      ["cron c", "leave out timezone"]
    ],
    ["no effect", () => Scheduler.task("t", (() => {}) as never), ["task t", "effect"]],
    ["leadership by halves", () => Scheduler.task("t", Effect.void, { onLeader: "yes" as never }), ["onLeader"]]
  ]
  for (const [what, make, words] of refused) {
    it(`are refused with ${what}`, () => {
      let thrown: unknown
      try {
        make()
      } catch (error) {
        thrown = error
      }
      assert.instanceOf(thrown, Misconfigured)
      for (const word of words) assert.include((thrown as Misconfigured).message, word)
    })
  }

  behaviour("two parts of one name are refused", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        Worker.run([Scheduler.task("same", Effect.void), Scheduler.timer("same", { every: 5 }, Effect.void)])
      )
      assert.strictEqual(error._tag === "Misconfigured" && error.reason, "DuplicateName")
    })
  )
})

const virtual = {
  name: "memory",
  virtual: true,
  elapse: (millis: number) => TestClock.adjust(millis)
} as const

/** In Vienna, as `YYYY-MM-DD hh:mm:ss`. */
const local = (tick: number): string => new Date(tick).toLocaleString("sv-SE", { timeZone: "Europe/Vienna" })
