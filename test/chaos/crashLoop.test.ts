/**
 * Real processes that an event kills, again and again: after three of them its partition is put aside, alone, and the rest
 * of the cluster goes on.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule, Stream } from "effect"
import { Engine, Partitioner, Processor, Table, Topic } from "../../src/index.ts"
import { totals, work } from "../support/chaos.ts"
import { urls } from "../support/places.ts"
import { type Child, start } from "../support/processes.ts"

const keys = Array.from({ length: 40 }, (_, i) => `key-${i}`)
const partitionOf = (key: string): number => Partitioner.hash(key, work.partitions)

/** Starts a process whenever one has died, until one lives to see the partition aside; gives that one, and the deaths. */
const supervised = (env: Record<string, string>) =>
  Effect.gen(function* () {
    const deaths: Array<Child> = []
    while (true) {
      const child = yield* start("crash", env)
      const isAside = Processor.quarantined("counting").pipe(
        Effect.flatMap((all) => (all.length > 0 ? Effect.succeed(child) : Effect.fail("not yet"))),
        // Real time: another process works.
        Effect.retry(Schedule.spaced("50 millis"))
      )
      const ended = yield* Effect.raceFirst(isAside, Effect.as(child.exit, undefined))
      if (ended !== undefined) return { alive: ended, deaths }
      deaths.push(child)
    }
  })

/** Waits, in real time, until the totals are these. */
const settled = (expected: ReadonlyMap<string, number>) =>
  Stream.runCollect(Table.entries(totals)).pipe(
    Effect.map((rows) => new Map(rows)),
    Effect.flatMap((rows) =>
      [...expected].every(([key, total]) => (rows.get(key) ?? 0) === total)
        ? Effect.void
        : Effect.fail(`${JSON.stringify([...rows])} is not ${JSON.stringify([...expected])}`)
    ),
    Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 200 })
  )

for (const [name, makeUrl] of urls) {
  describe(`an event that kills its process, on ${name}`, () => {
    it.live(
      "kills three, then its partition is aside and all others are done; idle ones never count",
      () =>
        Effect.gen(function* () {
          const url = yield* makeUrl
          yield* Effect.gen(function* () {
            const poison = yield* Topic.publish(work, { key: "key-0", n: -1, gate: false })
            // Some partitions stay without any event.
            const used = keys.filter((key) => partitionOf(key) % 2 === partitionOf("key-0") % 2)
            yield* Topic.publishAll(
              work,
              used.flatMap((key) => [0, 1, 2].map((n) => ({ key, n, gate: false })))
            )
            const { alive, deaths } = yield* supervised({ MILLRACE_URL: url, KILLS: "-1" })
            assert.strictEqual(deaths.length, 3)
            for (const child of deaths) assert.strictEqual(child.lines.filter(({ what }) => what === "dies").length, 1)
            const [entry, ...others] = yield* Processor.quarantined("counting")
            assert.deepStrictEqual(others, [])
            assert.deepInclude(entry!, { partition: poison.partition, reason: "crash loop", offset: poison.offset })
            const elsewhere = used.filter((key) => partitionOf(key) !== poison.partition)
            yield* settled(new Map(elsewhere.map((key) => [key, 3])))
            assert.strictEqual(yield* Table.lookup(totals, "key-0"), 0)
            // The one that lives takes it back once it is skipped.
            yield* Processor.skip("counting", poison.partition)
            yield* settled(new Map(used.map((key) => [key, 3])))
            yield* alive.signal("SIGTERM")
            assert.strictEqual(yield* alive.exit, 0)
          }).pipe(Effect.provide(Engine.layer({ url })))
        }),
      60_000
    )

    it.live(
      "is found behind events that are good, and when it is one that was parked",
      () =>
        Effect.gen(function* () {
          const url = yield* makeUrl
          yield* Effect.gen(function* () {
            const before = Array.from({ length: 30 }, (_, n) => ({ key: "key-0", n, gate: false }))
            yield* Topic.publishAll(work, before)
            const poison = yield* Topic.publish(work, { key: "key-0", n: -1, gate: false })
            yield* Topic.publishAll(work, before)
            const elsewhere = keys.filter((key) => partitionOf(key) !== poison.partition)
            yield* Topic.publishAll(
              work,
              elsewhere.flatMap((key) => before.map(({ gate, n }) => ({ key, n, gate })))
            )
            const env = { MILLRACE_URL: url, KILLS: "-1" }
            const { alive, deaths } = yield* supervised(env)
            // Up to three more deaths until it is the first of what is not committed.
            assert.isTrue(deaths.length >= 3 && deaths.length <= 6, `${deaths.length} deaths`)
            const [entry, ...others] = yield* Processor.quarantined("counting")
            assert.deepStrictEqual(others, [])
            assert.deepInclude(entry!, { reason: "crash loop", offset: poison.offset })
            yield* settled(new Map([...elsewhere.map((key) => [key, 30] as const), ["key-0", 30]]))
            yield* Processor.skip("counting", poison.partition)
            yield* settled(new Map([["key-0", 60]]))
            yield* alive.signal("SIGTERM")
            yield* alive.exit

            const parked = yield* Topic.publish(work, { key: "key-0", n: -2, gate: false })
            yield* Topic.publish(work, { key: "key-0", n: 1, gate: false })
            const second = yield* supervised({ ...env, KILLS: "-2", PARKS: "1" })
            const [again] = yield* Processor.quarantined("counting")
            assert.deepInclude(again!, { reason: "crash loop", offset: parked.offset })
            // The first of them had committed that it was parked.
            assert.isTrue(second.deaths.length >= 3 && second.deaths.length <= 4, `${second.deaths.length} deaths`)
            yield* Processor.skip("counting", parked.partition)
            yield* settled(new Map([["key-0", 61]]))
          }).pipe(Effect.provide(Engine.layer({ url })))
        }),
      90_000
    )
  })
}
