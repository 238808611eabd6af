/** Signals to real worker processes that handle them: what ends at once, what finishes first, and with which exit code. */
import { existsSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule, Stream } from "effect"
import { Engine, Table, Topic } from "../../src/index.ts"
import { totals, work } from "../support/chaos.ts"
import { directory } from "../support/places.ts"
import { type Child, start } from "../support/processes.ts"

/** A worker whose handler stands before the gate, with one more event behind it. */
const standing = (env: Record<string, string> = {}) =>
  Effect.gen(function* () {
    const path = yield* directory
    const url = `file:${join(path, "engine.db")}`
    const gate = join(path, "gate")
    const child = yield* start("worker", { MILLRACE_URL: url, GATE: gate, SIGNALS: "yes", ...env })
    const publish = Topic.publishAll(work, [
      { key: "gate", n: 0, gate: true },
      { key: "gate", n: 1, gate: false }
    ]).pipe(Effect.provide(Engine.layer({ url })))
    yield* publish
    yield* child.until((line) => line.what === "begun" && line["n"] === 0, "begun 0")
    return { child, url, open: Effect.sync(() => writeFileSync(gate, "open")) }
  })

/** In real time: what a process writes to stderr comes when it comes. */
const said = (child: Child, text: string) =>
  Effect.suspend(() => (child.errors().includes(text) ? Effect.succeed(child.errors()) : Effect.fail(text))).pipe(
    Effect.retry({ schedule: Schedule.spaced("20 millis"), times: 200 })
  )

const total = (url: string) =>
  Stream.runCollect(Table.entries(totals)).pipe(
    Effect.map((rows) => rows.reduce((sum, [, count]) => sum + count, 0)),
    Effect.provide(Engine.layer({ url }))
  )

/** In real time: another process commits behind what it says. */
const committed = (url: string, events: number) =>
  total(url).pipe(
    Effect.flatMap((sum) => (sum === events ? Effect.void : Effect.fail(`${sum} of ${events} are committed`))),
    Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 200 })
  )

const begun = (child: Child, n: number): boolean => child.lines.some((line) => line.what === "begun" && line["n"] === n)

describe("a worker that handles signals", () => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    it.live(
      `${signal}: the running handler finishes and is committed, nothing more starts, exit 0`,
      () =>
        Effect.gen(function* () {
          const { child, open, url } = yield* standing()
          yield* child.signal(signal)
          yield* said(child, `${signal}: finishing what runs`)
          yield* open
          assert.strictEqual(yield* child.exit, 0)
          assert.isTrue(child.lines.some((line) => line.what === "handled" && line["n"] === 0))
          assert.isFalse(begun(child, 1))
          assert.strictEqual(yield* total(url), 1)
          const next = yield* start("worker", { MILLRACE_URL: url })
          yield* next.until((line) => line.what === "handled" && line["n"] === 1, "handled 1")
          assert.isFalse(begun(next, 0), "what was committed does not come again")
        }),
      60_000
    )
  }

  for (const [signals, code] of [
    [["SIGTERM", "SIGTERM"], 143],
    [["SIGTERM", "SIGINT"], 130],
    [["SIGQUIT"], 131]
  ] as const) {
    it.live(
      `${signals.join(", then ")}: it ends at once with ${code}, and its event is handled elsewhere`,
      () =>
        Effect.gen(function* () {
          const { child, open, url } = yield* standing()
          for (const signal of signals) {
            yield* child.signal(signal)
            yield* said(child, `${signal}: `)
          }
          assert.strictEqual(yield* child.exit, code)
          assert.strictEqual(yield* total(url), 0)
          yield* open
          const next = yield* start("worker", { MILLRACE_URL: url })
          yield* next.until((line) => line.what === "handled" && line["n"] === 1, "handled 1")
          assert.isTrue(begun(next, 0))
        }),
      60_000
    )
  }

  it.live(
    "what is over the grace is interrupted and handed back, and the exit code is 0 all the same",
    () =>
      Effect.gen(function* () {
        const { child, open, url } = yield* standing({ GRACE: "300" })
        yield* child.signal("SIGINT")
        assert.strictEqual(yield* child.exit, 0)
        assert.isFalse(child.lines.some((line) => line.what === "handled"))
        yield* open
        const next = yield* start("worker", { MILLRACE_URL: url })
        yield* next.until((line) => line.what === "handled" && line["n"] === 1, "handled 1")
        assert.isTrue(begun(next, 0))
        yield* committed(url, 2)
      }),
    60_000
  )

  it.live(
    "SIGUSR1: it prints what every partition is doing, and goes on",
    () =>
      Effect.gen(function* () {
        const { child, open } = yield* standing()
        yield* child.signal("SIGUSR1")
        const text = yield* said(child, " in hand since")
        assert.match(text, /counting\/\d: 2 in hand since \d+ s, after \S+, 0 read ahead, 0 not committed/)
        assert.strictEqual(text.match(/counting\/\d: nothing in hand/g)?.length, 7)
        yield* open
        yield* child.until((line) => line.what === "handled" && line["n"] === 1, "handled 1")
        yield* child.signal("SIGTERM")
        assert.strictEqual(yield* child.exit, 0)
      }),
    60_000
  )

  it.live(
    "one that was not asked to leaves them to the program",
    () =>
      Effect.gen(function* () {
        const path = yield* directory
        const child = yield* start("worker", { MILLRACE_URL: `file:${join(path, "engine.db")}` })
        yield* child.until((line) => line.what === "joined", "joined")
        yield* child.signal("SIGQUIT")
        assert.strictEqual(yield* child.exit, "SIGQUIT")
        assert.strictEqual(child.errors(), "")
        assert.isTrue(existsSync(path))
      }),
    60_000
  )
})
