/**
 * Real processes that lead, and are killed for it, one each second: every tick is claimed exactly once, and what it stores
 * under its number is there exactly once. `LEADER_SECONDS=60` makes it a minute.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule, Stream } from "effect"
import { Coordinator, Engine, Topic } from "../../src/index.ts"
import { ticked } from "../support/chaos.ts"
import { urls } from "../support/places.ts"
import { type Child, start } from "../support/processes.ts"

const seconds = Number(process.env["LEADER_SECONDS"] ?? 3)

/** Real time: other processes work, and a busy machine takes its time to start them. */
const soon = Effect.retry({ schedule: Schedule.spaced("10 millis"), times: 10_000 })

for (const [name, makeUrl] of urls) {
  describe(`leaders that are killed every second, on ${name}`, () => {
    it.live(
      "each tick is claimed exactly once, and stored exactly once",
      () =>
        Effect.gen(function* () {
          const url = yield* makeUrl
          const begin = start("leader", { MILLRACE_URL: url })
          const all: Array<Child> = []
          const alive = new Set<Child>()
          const add = Effect.map(begin, (child) => {
            all.push(child)
            alive.add(child)
          })
          const leads = (child: Child): boolean => child.lines.some(({ what }) => what === "leads")
          const leader = Effect.suspend(() => {
            const found = [...alive].find(leads)
            return found === undefined ? Effect.fail("nobody leads") : Effect.succeed(found)
          }).pipe(soon)
          // With nobody in their group the leaders would begin anew.
          const joined = Effect.suspend(() =>
            [...alive].every((child) => child.lines.some(({ what }) => what === "joined"))
              ? Effect.void
              : Effect.fail("one has not joined yet")
          ).pipe(soon)
          for (let i = 0; i < 3; i++) yield* add
          for (let kill = 0; kill < seconds; kill++) {
            yield* joined
            const victim = yield* leader
            // In real time: it leads for a while, at any place of what it does.
            yield* Effect.sleep(`${700 + ((kill * 137) % 600)} millis`)
            alive.delete(victim)
            yield* victim.signal("SIGKILL")
            yield* victim.exit
            yield* add
          }
          const last = yield* leader
          yield* last.until(({ what }) => what === "runs", "that it runs")
          for (const child of alive) yield* child.signal("SIGTERM")
          for (const child of alive) yield* child.exit

          const { state, stored } = yield* Effect.gen(function* () {
            const [state] = yield* (yield* Coordinator.Coordinator).ticks()
            const events = yield* Stream.runCollect(Topic.stream(ticked, { until: "now" }))
            return { state: state!, stored: events.map(({ value }) => value) }
          }).pipe(Effect.provide(Engine.layer({ url })))
          const runs = all.flatMap(({ lines }) => lines).filter(({ what }) => what === "runs")
          const first = runs.filter(({ again }) => again === false).map(({ tick }) => tick as number)
          const again = runs.filter(({ again }) => again === true)
          const row = Array.from({ length: (state.last - stored[0]!) / 100 + 1 }, (_, i) => stored[0]! + i * 100)
          const skipped = row.filter((tick) => !stored.includes(tick))
          if (process.env["LEADER_SECONDS"] !== undefined) {
            yield* Effect.logInfo(
              `${name}: ${all.length - 3} leaders killed, ${row.length} ticks, ${stored.length} stored, ` +
                `${skipped.length} skipped, ${again.length} run again`
            )
          }
          // Claimed twice, a tick would begin for the first time twice.
          assert.strictEqual(new Set(first).size, first.length)
          // In order and without a repeat, and all of the row but what a run of more than 100 ms kept out.
          assert.deepStrictEqual(
            stored,
            row.filter((tick) => !skipped.includes(tick))
          )
          assert.isAtMost(skipped.length, row.length / 10)
          assert.isAtLeast(row.length, seconds * 10)
          assert.deepStrictEqual(state.open, [])
        }),
      30_000 + seconds * 10_000
    )
  })
}
