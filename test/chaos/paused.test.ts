/**
 * Real processes that are paused, killed or doubled: whatever they do afterwards, nothing is committed twice and nothing
 * is lost.
 */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule, Stream } from "effect"
import { Engine, Table, Topic } from "../../src/index.ts"
import { totals, work } from "../support/chaos.ts"
import { directory, urls } from "../support/places.ts"
import { type Line, start } from "../support/processes.ts"

/** Waits, in real time, until the totals of all keys are there, and gives them. */
const settled = (events: number) =>
  Stream.runCollect(Table.entries(totals)).pipe(
    Effect.flatMap((rows) => {
      const sum = rows.reduce((sum, [, total]) => sum + total, 0)
      return sum >= events ? Effect.succeed(new Map(rows)) : Effect.fail(`${sum} of ${events} are committed`)
    }),
    Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 400 })
  )

const joined = (line: Line): boolean => line.what === "joined"

for (const [name, makeUrl] of urls) {
  describe(`processes on ${name}`, () => {
    it.live(
      "a worker paused for longer than its lease cannot commit what it then finishes",
      () =>
        Effect.gen(function* () {
          const url = yield* makeUrl
          const path = yield* directory
          const gate = join(path, "gate")
          yield* Effect.gen(function* () {
            yield* Topic.publish(work, { key: "gate", n: 0, gate: true })
            yield* Topic.publishAll(
              work,
              Array.from({ length: 20 }, (_, n) => ({ key: "gate", n: n + 1, gate: false }))
            )
            const first = yield* start("worker", { MILLRACE_URL: url, GATE: gate })
            const begun = yield* first.until((line) => line.what === "begun" && line["n"] === 0, "begun 0")
            yield* first.signal("SIGSTOP")
            const second = yield* start("worker", { MILLRACE_URL: url, GATE: gate })
            const again = yield* second.until((line) => line.what === "begun" && line["n"] === 0, "begun 0")
            assert.isTrue(
              BigInt(String(again["epoch"])) > BigInt(String(begun["epoch"])),
              "the new owner has a higher epoch"
            )
            writeFileSync(gate, "open")
            assert.deepStrictEqual(yield* settled(21), new Map([["gate", 21]]))
            yield* first.signal("SIGCONT")
            // It finishes the event under its old epoch, or has been told to stop; either way it lets the partition go.
            yield* first.until(
              (line) => line.what === "change" && (line["change"] as { _tag: string })._tag === "Released",
              "a released partition"
            )
            yield* Topic.publish(work, { key: "gate", n: 21, gate: false })
            assert.deepStrictEqual(yield* settled(22), new Map([["gate", 22]]))
            const late = first.lines.filter((line) => line.what === "begun" && line["epoch"] === begun["epoch"])
            assert.strictEqual(late.length, 1, "nothing more was started under the old epoch")
          }).pipe(Effect.provide(Engine.layer({ url })))
        }),
      60_000
    )

    it.live(
      "a killed worker's events are handled again elsewhere, its commits stand",
      () =>
        Effect.gen(function* () {
          const url = yield* makeUrl
          yield* Effect.gen(function* () {
            const keys = Array.from({ length: 50 }, (_, i) => `key-${i}`)
            const all = Array.from({ length: 3_000 }, (_, n) => ({ key: keys[n % 50]!, n, gate: false }))
            const first = yield* start("worker", { MILLRACE_URL: url })
            yield* first.until(joined, "joined")
            const second = yield* start("worker", { MILLRACE_URL: url })
            yield* Topic.publishAll(work, all.slice(0, 1_500))
            yield* first.until((line) => line.what === "handled", "handled")
            yield* first.signal("SIGKILL")
            yield* Topic.publishAll(work, all.slice(1_500))
            const rows = yield* settled(3_000)
            for (const key of keys) assert.strictEqual(rows.get(key), 60, key)
            // Per key, whoever handled them: the numbers rise, but for what was handled again after the kill.
            const seen = second.lines.filter((line) => line.what === "handled")
            const last = new Map<unknown, number>()
            for (const { key, n } of seen) {
              assert.isTrue(Number(n) > (last.get(key) ?? -1), `${String(key)} went back to ${String(n)}`)
              last.set(key, Number(n))
            }
          }).pipe(Effect.provide(Engine.layer({ url })))
        }),
      60_000
    )

    it.live(
      "of two processes under one member name the older stops, and nothing is counted twice",
      () =>
        Effect.gen(function* () {
          const url = yield* makeUrl
          yield* Effect.gen(function* () {
            const all = Array.from({ length: 2_000 }, (_, n) => ({ key: `key-${n % 20}`, n, gate: false }))
            const first = yield* start("worker", { MILLRACE_URL: url, MEMBER: "same" })
            yield* first.until(joined, "joined")
            yield* Topic.publishAll(work, all.slice(0, 1_000))
            const second = yield* start("worker", { MILLRACE_URL: url, MEMBER: "same" })
            yield* second.until(joined, "joined")
            yield* Topic.publishAll(work, all.slice(1_000))
            const failed = yield* first.until((line) => line.what === "failed", "failed")
            assert.strictEqual(failed["tag"], "MemberReplaced")
            assert.strictEqual(yield* first.exit, 1)
            const rows = yield* settled(2_000)
            for (const [key, total] of rows) assert.strictEqual(total, 100, key)
            yield* second.signal("SIGTERM")
            assert.strictEqual(yield* second.exit, 0, "a drained worker exits with 0")
          }).pipe(Effect.provide(Engine.layer({ url })))
        }),
      60_000
    )
  })
}
