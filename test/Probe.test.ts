/** A probe passes when its signals come, and says so once when they do not, or when nothing happens any more. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Metric, Schema } from "effect"
import { ended, fresh, type Suite, silent } from "../src/internal/probe/suite.ts"
import * as Metrics from "../src/Metrics.ts"
import * as Probe from "../src/Probe.ts"
import * as Processor from "../src/Processor.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, numbers, start, until } from "./support/engines.ts"

const outcomes = (reports: ReadonlyArray<Probe.Report>) => reports.map(({ outcome }) => outcome)

/** A system to be probed: it signals what comes, as late as it is told to. */
const system = (name: string, probe: Probe.Address, late: () => number) => {
  const orders = Topic.make(`${name}-orders`, { schema: Schema.String, partitions: 2, partitionBy: (id) => id })
  const part = Processor.make(`${name}-charging`, { topic: orders, concurrency: { unordered: 10 } }, (id) =>
    Effect.andThen(Effect.sleep(late()), Effect.orDie(Probe.signal(probe, id, "charged", { cents: 7 })))
  )
  return { orders, part }
}

describe("at an interval", () => {
  behaviour(
    "a run passes, a late signal is a timeout, 30 of them fail the suite, and it recovers: each reported once",
    (engine) =>
      Effect.gen(function* () {
        const name = `checkout-${engine.name}`
        const reports: Array<Probe.Report> = []
        const values: Array<unknown> = []
        let late = 1_000
        const { orders, part } = system(name, { name, share: 0 }, () => late)
        const probe = Probe.make(
          name,
          { every: "1 minute", onReport: (report) => Effect.sync(() => reports.push(report)) },
          Effect.gen(function* () {
            yield* Topic.publish(orders, yield* Probe.id)
            values.push(yield* Probe.wait("charged", { timeout: "10 seconds" }))
          })
        )
        const worker = yield* start([part, probe])
        const minutes = function* (count: number) {
          for (let second = 0; second < count * 60; second++) yield* engine.elapse(1_000)
        }
        yield* minutes(2)
        yield* until(engine, "two have run", () => reports.length === 2)
        assert.deepStrictEqual(outcomes(reports), ["passed", "passed"])
        assert.deepStrictEqual(values, [{ cents: 7 }, { cents: 7 }])
        assert.match(reports[0]!.id!, new RegExp(`^${name}@\\d+$`))
        assert.isAtLeast(reports[0]!.millis, 1_000)

        late = 15_000
        reports.length = 0
        yield* minutes(31)
        assert.deepStrictEqual(outcomes(reports).slice(0, 31), [...Array(30).fill("timeout"), "suiteFailed"])
        assert.strictEqual(outcomes(reports).filter((outcome) => outcome === "suiteFailed").length, 1)
        const [first] = reports
        assert.strictEqual((Cause.squash(first!.cause!) as { _tag: string })._tag, "SignalTimeout")
        assert.strictEqual(reports[30]!.failures, 30)
        const failing = Metric.value(Metric.withAttributes(Metrics.probeFailing, { probe: name }))
        assert.strictEqual((yield* failing).value, 1)

        late = 0
        reports.length = 0
        yield* minutes(3)
        assert.deepStrictEqual(
          outcomes(reports)
            .filter((outcome) => outcome !== "timeout")
            .slice(0, 3),
          ["passed", "recovered", "passed"]
        )
        assert.strictEqual((yield* failing).value, 0)
        const runs = (outcome: string) =>
          Metric.value(Metric.withAttributes(Metrics.probeRuns, { probe: name, outcome }))
        assert.isAtLeast((yield* runs("timeout")).count, 30)
        assert.isAtLeast((yield* runs("passed")).count, 4)
        yield* worker.close
      }),
    { on: ["memory"], timeout: 30_000 }
  )

  behaviour(
    "a run that fails, and one that takes too long, do not pass; a probe that stands still is reported once",
    (engine) =>
      Effect.gen(function* () {
        const name = `failing-${engine.name}`
        const reports: Array<Probe.Report> = []
        let check: Effect.Effect<unknown, string> = Effect.fail("no")
        const probe = Probe.make(
          name,
          {
            every: "1 minute",
            timeout: "2 hours",
            stalledAfter: "5 minutes",
            failures: 3,
            onReport: (report) => Effect.sync(() => reports.push(report))
          },
          Effect.suspend(() => check)
        )
        yield* start([probe])
        const until1 = (count: number) => until(engine, `${count} reports`, () => reports.length >= count)
        for (let minute = 0; minute < 2; minute++) yield* engine.elapse(60_000)
        yield* until1(2)
        check = Effect.die("bug")
        yield* engine.elapse(60_000)
        yield* until1(4)
        assert.deepStrictEqual(outcomes(reports), ["failed", "failed", "failed", "suiteFailed"])
        check = Effect.sleep("3 hours")
        for (let minute = 0; minute < 30; minute++) yield* engine.elapse(60_000)
        assert.deepStrictEqual(outcomes(reports).slice(4), ["stalled"])
        check = Effect.void
        for (let minute = 0; minute < 120; minute++) yield* engine.elapse(60_000)
        assert.deepStrictEqual(outcomes(reports).slice(5, 8), ["timeout", "passed", "recovered"])
        assert.notInclude(outcomes(reports).slice(5), "stalled")
      }),
    { on: ["memory"], timeout: 30_000 }
  )
})

describe("for real traffic", () => {
  behaviour("a share of the ids is run, by whichever worker, and the signals find their run", (engine) =>
    Effect.gen(function* () {
      const name = `real-${engine.name}`
      const reports: Array<Probe.Report> = []
      const onReport = (report: Probe.Report) => Effect.sync(() => reports.push(report))
      const probe = Probe.make(name, { onReport }, Probe.wait("charged"))
      assert.strictEqual(probe.share, 0.5)
      const { orders, part } = system(name, probe, () => 0)
      // The system and its probe in workers of their own.
      yield* start([part], { member: "system" })
      yield* start([probe], { member: "probing" })
      const ids = numbers(100).map((n) => `order-${n}`)
      const chosen: Array<string> = []
      for (const id of ids) {
        if (yield* Probe.trigger(probe, id)) chosen.push(id)
        yield* Topic.publish(orders, id)
      }
      assert.isAtLeast(chosen.length, 35)
      assert.isAtMost(chosen.length, 65)
      yield* until(engine, "all have run", () => reports.length === chosen.length)
      assert.deepStrictEqual(reports.map(({ id }) => id).toSorted(), chosen.toSorted())
      assert.deepStrictEqual(Array.from(new Set(outcomes(reports))), ["passed"])
    })
  )
})

describe("what the runs add up to", () => {
  const play = (steps: string, most: number): ReadonlyArray<string> => {
    let suite: Suite = fresh
    return Array.from(steps, (step) => {
      const { suite: next, told } =
        step === "-" ? silent(suite) : ended(suite, step === "p" ? "passed" : step === "f" ? "failed" : "timeout", most)
      suite = next
      return told.join("+")
    })
  }

  it("is told once for each change", () => {
    assert.deepStrictEqual(play("pfpft", 2), ["passed", "failed", "passed", "failed", "timeout+suiteFailed"])
    assert.deepStrictEqual(play("ffffpp", 2).slice(1), [
      "failed+suiteFailed",
      "failed",
      "failed",
      "passed+recovered",
      "passed"
    ])
    assert.deepStrictEqual(play("p--p-", 2), ["passed", "stalled", "", "passed", "stalled"])
    assert.deepStrictEqual(play("f-fp", 2), ["failed", "stalled", "failed+suiteFailed", "passed+recovered"])
  })
})

it("wrong options are refused", () => {
  assert.throws(() => Probe.make("p", { every: "1 minute", share: 1 }, Effect.void), /leave out one of the two/)
  assert.throws(() => Probe.make("p", { share: 2 }, Effect.void), /share is a number from 0 to 1, not 2/)
  assert.throws(() => Probe.make("p", { failures: 0 }, Effect.void), /probe p: failures/)
  assert.throws(() => Probe.make("p", { timeout: 0 }, Effect.void), /probe p: timeout is a duration/)
  assert.throws(() => Probe.make("no name", {}, Effect.void), /no name/)
})
