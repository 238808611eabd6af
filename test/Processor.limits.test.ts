/** What one commit carries: 5,000 writes and 1 MiB, cut at the borders of units; a unit above that fails, typed. */
import { assert, describe } from "@effect/vitest"
import { Cause, Clock, Effect, Schema, Stream } from "effect"
import type { Commit } from "../src/Broker.ts"
import { UnitTooLarge } from "../src/Errors.ts"
import * as Event from "../src/Event.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { recording, through } from "./support/brokers.ts"
import { behaviour, counts, drain, halted, numbers, start } from "./support/engines.ts"
import { type Reading, reading, readings } from "./support/readings.ts"

const MiB = 1024 * 1024
const rows = Table.make("rows", { key: Schema.String, value: Schema.String, initial: () => "", scope: "partition" })
const lines = Topic.make("lines", { schema: Schema.String, partitions: 1, retention: Retention.forever })
const large = "x".repeat(20_000)

const bytesOf = (commit: Commit): number => {
  const size = (value: string | Uint8Array | undefined) => (value === undefined ? 0 : Buffer.byteLength(value))
  let bytes = 0
  for (const { value } of commit.rows) bytes += size(value)
  for (const { entries } of commit.emits)
    for (const { fields } of entries) for (const field of fields) bytes += size(field)
  return bytes
}

const writesOf = (commit: Commit): number =>
  commit.rows.length + commit.emits.flatMap(({ entries }) => entries).reduce((sum, { count }) => sum + count, 0)

const assertBounded = (calls: ReadonlyArray<ReadonlyArray<Commit>>): void => {
  for (const call of calls) {
    assert.isAtMost(
      call.reduce((sum, commit) => sum + writesOf(commit), 0),
      5_000
    )
    // Fields that are not the values: names, keys, times.
    assert.isAtMost(
      call.reduce((sum, commit) => sum + bytesOf(commit), 0),
      1.1 * MiB
    )
  }
}

const publish = (topic: ReturnType<typeof readings>, count: number, keys = 1) =>
  Topic.publishAll(
    topic,
    numbers(count).map((n) => reading(n, keys))
  )

const emits = (count: number, text: string) =>
  Effect.forEach(numbers(count), () => Topic.emit(lines, text), { discard: true })

const writes = (count: number, text: string) =>
  Effect.forEach(numbers(count), (n) => Table.set(rows, `r${n}`, text), { discard: true })

describe("a unit that is too large", () => {
  const units = {
    "too many emits": emits(5_001, "x"),
    "too many bytes of emits": emits(60, large),
    "too many rows": writes(5_001, "x"),
    "too many bytes of rows": writes(60, large),
    "one row that is too large": Table.set(rows, "one", "x".repeat(MiB + 1)),
    "both together": Effect.andThen(emits(30, large), writes(30, large))
  }
  for (const [name, unit] of Object.entries(units)) {
    behaviour(`fails for its event, and leaves nothing: ${name}`, () =>
      Effect.gen(function* () {
        const topic = readings(1, Retention.forever)
        const positions = yield* publish(topic, 5)
        const calls: Array<ReadonlyArray<Commit>> = []
        const part = Processor.make(
          "p",
          { topic, tables: [rows] },
          Effect.fnUntraced(function* ({ n }) {
            yield* Table.set(rows, "last", `${n}`)
            if (n === 2) yield* unit
          })
        )
        const failure = yield* halted([part])
        const error = Cause.squash(failure.cause)
        assert.instanceOf(error, UnitTooLarge)
        assert.strictEqual((error as UnitTooLarge).offset, positions[2]!.offset)
        assert.include((error as UnitTooLarge).message, "5,000 writes and 1 MiB")
        const seen: Array<number> = []
        const summary = yield* drain([
          part.pipe(
            Processor.catchTag(
              "UnitTooLarge",
              Policy.choose((error, event) => {
                seen.push((event.value as Reading).n)
                assert.isTrue(error.writes > 5_000 || error.bytes > MiB)
                return Policy.ignore
              })
            )
          )
        ]).pipe(through(recording(calls)))
        assert.deepStrictEqual(seen, [2])
        assert.strictEqual(summary.parts.p!.ignored, 1)
        assertBounded(calls)
        assert.strictEqual(yield* Table.lookup(rows, "last", { partition: 0 }), "4")
        assert.strictEqual(yield* Table.lookup(rows, "r0", { partition: 0 }), "")
        assert.deepStrictEqual(yield* Stream.runCollect(Topic.stream(lines, { until: "now" })), [])
      })
    )
  }

  for (const shape of ["perKey", "batch", "stream", "before", "around"] as const) {
    behaviour(`meets its policy in ${shape}`, () =>
      Effect.gen(function* () {
        const topic = readings(1)
        yield* publish(topic, 6, 2)
        const handle = ({ n }: Reading) => (n === 2 ? emits(5_001, "x") : emits(1, `${n}`))
        const shapes = {
          perKey: Processor.make("p", { topic, concurrency: { perKey: 2 } }, handle),
          batch: Processor.batch("p", { topic, size: 1, within: "1 hour" }, ([value]) => handle(value)),
          stream: Processor.stream("p", { topic }, Event.mapEffect(handle)),
          before: Processor.make("p", { topic, acknowledge: "before" }, handle),
          around: Processor.make("p", { topic }, handle).pipe(Processor.around((handle) => handle))
        }
        const summary = yield* drain([shapes[shape].pipe(Processor.catch(Policy.deadLetter()))])
        assert.deepStrictEqual(summary.parts.p, counts({ processed: 5, failed: 1, deadLettered: 1 }))
        const texts = (yield* Stream.runCollect(Topic.stream(lines, { until: "now" }))).map((event) => event.value)
        assert.deepStrictEqual(texts.toSorted(), ["0", "1", "3", "4", "5"])
      })
    )
  }

  behaviour("the same row again and again is one write, and a single emit is bounded by its topic alone", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* publish(topic, 2)
      const wide = Topic.make("wide", { schema: Schema.String, partitions: 1, maxBytes: 4 * MiB })
      const summary = yield* drain([
        Processor.make("p", { topic, tables: [rows] }, ({ n }) =>
          n === 0
            ? Effect.forEach(numbers(6_000), (n) => Table.set(rows, "one", `${n}`), { discard: true })
            : Topic.emit(wide, "x".repeat(3 * MiB))
        )
      ])
      assert.deepStrictEqual(summary.parts.p, counts({ processed: 2 }))
      assert.strictEqual(yield* Table.lookup(rows, "one", { partition: 0 }), "5999")
      const [event] = yield* Stream.runCollect(Topic.stream(wide, { until: "now" }))
      assert.strictEqual(event!.value.length, 3 * MiB)
    })
  )
})

describe("a commit", () => {
  behaviour(
    "is cut at the borders of units: by writes, by bytes of emits, by bytes of rows",
    () =>
      Effect.gen(function* () {
        const topic = readings(4, Retention.forever)
        yield* publish(topic, 120, 40)
        const work = {
          count: emits(900, "x"),
          bytes: emits(10, large),
          rows: writes(10, large)
        }
        for (const [name, unit] of Object.entries(work)) {
          const calls: Array<ReadonlyArray<Commit>> = []
          const one = ({ n }: Reading, { partition }: Event.Event<Reading>) =>
            Effect.andThen(
              unit,
              Table.update(rows, "seen", (seen) => `${seen},${partition}:${n}`)
            )
          // Emits of one topic with one partition go to the shard of partition 0.
          const part = Processor.make(name, { topic, tables: [rows] }, one)
          const summary = yield* drain([part]).pipe(through(recording(calls)))
          assert.deepStrictEqual(summary.parts[name], counts({ processed: 120 }))
          assertBounded(calls)
          yield* Processor.remove(name)
        }
        assert.strictEqual((yield* Stream.runCollect(Topic.stream(lines, { until: "now" }))).length, 120 * 910)
      }),
    { timeout: 30_000 }
  )

  behaviour("holds no part of a unit when many are done behind one that is slow", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* publish(topic, 40, 40)
      const calls: Array<ReadonlyArray<Commit>> = []
      let others = 0
      const part = Processor.make("p", { topic, concurrency: { perKey: 8 } }, ({ n }) =>
        Effect.gen(function* () {
          yield* emits(500, `${n}`)
          // The first waits for all the others: then 20,000 writes are done at once.
          if (n > 0) others++
          else while (others < 39) yield* Effect.yieldNow
        })
      )
      yield* drain([part]).pipe(through(recording(calls)))
      assertBounded(calls)
      const commits = calls.flat().filter((commit) => commit.emits.length > 0)
      assert.isAtLeast(commits.length, 4)
      // Each holds whole units, and as many events as its offset has moved.
      let events = 0
      for (const commit of commits) {
        assert.strictEqual(writesOf(commit), 500 * (commit.offsets[0]!.events - events))
        events = commit.offsets[0]!.events
      }
      assert.strictEqual(events, 40)
      const texts = (yield* Stream.runCollect(Topic.stream(lines, { until: "now" }))).map((event) => event.value)
      assert.deepStrictEqual(
        texts,
        numbers(40).flatMap((n) => numbers(500).map(() => `${n}`))
      )
    })
  )

  behaviour("a batch and its offset are in one commit, also where several are done at once", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* publish(topic, 40)
      const calls: Array<ReadonlyArray<Commit>> = []
      yield* drain([Processor.batch("p", { topic, size: 8, within: "1 hour" }, () => emits(4_000, "x"))]).pipe(
        through(recording(calls))
      )
      assertBounded(calls)
      let events = 0
      for (const commit of calls.flat().filter((commit) => commit.offsets.length > 0)) {
        assert.strictEqual(writesOf(commit), 500 * (commit.offsets[0]!.events - events))
        events = commit.offsets[0]!.events
      }
      assert.strictEqual(events, 40)
    })
  )
})

describe("commits", () => {
  const part = (topic: ReturnType<typeof readings>) =>
    Processor.make("p", { topic, tables: [rows] }, ({ n }) => Table.set(rows, `r${n % 10}`, String(n)))

  behaviour("are far fewer than events where there is much to do: what is done meanwhile goes into the next", () =>
    Effect.gen(function* () {
      const topic = readings(4)
      yield* publish(topic, 5_000, 40)
      const calls: Array<ReadonlyArray<Commit>> = []
      const summary = yield* drain([part(topic)]).pipe(through(recording(calls)))
      assert.strictEqual(summary.parts.p!.processed, 5_000)
      // Fifty events to a commit at least; usual are hundreds.
      assert.isAtMost(calls.length, 100)
    })
  )

  behaviour(
    "of a single event on an idle system come at once: no time has to pass",
    () =>
      Effect.gen(function* () {
        const topic = readings(4)
        const worker = yield* start([part(topic)], { settle: 0 })
        yield* worker.idle
        const before = yield* Clock.currentTimeMillis
        for (const n of numbers(5)) {
          yield* publish(topic, 1, n + 1)
          yield* worker.idle
          assert.deepStrictEqual(
            (yield* Processor.lag("p")).map(({ events }) => events),
            [0, 0, 0, 0]
          )
        }
        assert.strictEqual(yield* Clock.currentTimeMillis, before)
      }),
    // On its clock time stands still unless it is moved.
    { on: ["memory"] }
  )
})
