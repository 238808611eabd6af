/**
 * Re-keying: a topic copied into one with another key or count holds every event once, whoever dies in between, and those
 * of one source partition stand in each target partition in their order. `SEEDS` as in `simulation.test.ts`.
 */
import { randomUUID } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Layer, Schema, Stream } from "effect"
import * as Engine from "../src/Engine.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Topic from "../src/Topic.ts"
import * as Faults from "../src/testing/Faults.ts"
import { Simulation, TestProcessor } from "../src/testing/index.ts"
import { behaviour, drain, halted, numbers, start } from "./support/engines.ts"
import { sharedUrl } from "./support/redis.ts"

const Numbered = Schema.Struct({ from: Schema.String, n: Schema.Int })
type Numbered = typeof Numbered.Type

const source = Topic.make("source", { schema: Numbered, partitionBy: "from", partitions: 3 })
const retention = Retention.forever
const rekeyed = Topic.make("rekeyed", { schema: Numbered, partitionBy: ({ n }) => n % 7, partitions: 5, retention })
/** Without a key function of its own the target keeps the key. */
const wider = Topic.make("wider", { schema: Numbered, partitions: 8, retention })
const parts = [
  Processor.repartition("rekey", { topic: source, to: rekeyed }),
  Processor.repartition("widen", { topic: source, to: wider })
]
const names = ["a", "b", "c", "d", "e", "f"]
const eventsOf = (count: number) => numbers(count).map((n): Numbered => ({ from: names[n % names.length]!, n }))

/** What is wrong with the copy. */
const problemsOf = (
  given: ReadonlyArray<Numbered>,
  to: Topic.Topic<Numbered, any>,
  keyOf: (value: Numbered) => string
) =>
  Effect.gen(function* () {
    const problems: Array<string> = []
    const copied = yield* Stream.runCollect(Topic.stream(to, { until: "now" }))
    const all = copied.map(({ value }) => value.n).toSorted((a, b) => a - b)
    if (all.join() !== given.map(({ n }) => n).join()) problems.push(`${to.name} holds ${all.join(" ")}`)
    const last = new Map<string, number>()
    for (const { key, partition, value } of copied) {
      if (key !== keyOf(value)) problems.push(`${value.n} has key ${key}`)
      if (partition !== to.partitioner(keyOf(value), to.partitions)) problems.push(`${value.n} is in ${partition}`)
      const way = `${source.partitioner(value.from, source.partitions)} to ${partition}`
      if (value.n < (last.get(way) ?? -1)) problems.push(`${value.n} is behind ${last.get(way)} on the way ${way}`)
      last.set(way, value.n)
    }
    return problems
  })

const problems = (given: ReadonlyArray<Numbered>) =>
  Effect.map(
    Effect.all([problemsOf(given, rekeyed, ({ n }) => String(n % 7)), problemsOf(given, wider, ({ from }) => from)]),
    (all) => all.flat()
  )

const seeds = Number(process.env["SEEDS"] ?? 2_000) / 40

describe("repartition", () => {
  it("copies each event once, in the order of its source partition, whatever goes wrong", async () => {
    const given = eventsOf(48)
    for (let seed = 0; seed < seeds; seed++) {
      const events = given.map((value) => TestProcessor.event(source, value))
      const run = Simulation.run(seed, { parts, events, check: problems(given) })
      const { steps, violations } = await Effect.runPromise(run)
      assert.isEmpty(violations, `seed ${seed}\n${violations.join("\n")}\n${steps.join("\n")}`)
    }
  }, 120_000)

  it.live("over several shards, by workers that take each other's place while answers are lost", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(sharedUrl)
      const redis = Engine.layerRedis({ url, namespace: `repartition-${randomUUID()}`, shards: 3 })
      const plan: Faults.Plan = (_, method, call) =>
        /commit|deliver/.test(method)
          ? [undefined, { _tag: "LoseReply" as const }, { _tag: "SendTwice" as const }][call % 3]
          : undefined
      yield* Effect.gen(function* () {
        const given = eventsOf(600)
        for (let from = 0; from < given.length; from += 100) {
          yield* Topic.publishAll(source, given.slice(from, from + 100))
          const worker = yield* start(parts)
          if (from % 200 === 0) yield* worker.idle
          yield* worker.close
        }
        yield* drain(parts)
        assert.deepStrictEqual(yield* problems(given), [])
      }).pipe(Effect.provide(Layer.fresh(Faults.layer(plan)).pipe(Layer.provideMerge(redis))))
    }).pipe(Effect.scoped)
  )
})

describe("a key function that fails", () => {
  const to = Topic.make("keyless", {
    schema: Numbered,
    partitionBy: ({ n }) => {
      if (n === 5) throw new Error(`nothing to group ${n} by`)
      return n
    },
    partitions: 2,
    retention
  })
  const kept = Topic.variant(source, "kept", { retention, partitions: 1 })
  const part = Processor.repartition("rekey", { topic: kept, to })
  const copied = Effect.map(Stream.runCollect(Topic.stream(to, { until: "now" })), (events) =>
    events.map(({ value }) => value.n).toSorted((a, b) => a - b)
  )

  behaviour("halts at that event, with the reason and nothing of it copied", () =>
    Effect.gen(function* () {
      const positions = yield* Topic.publishAll(kept, eventsOf(10))
      const failure = yield* halted([part])
      assert.strictEqual(failure.offset, positions[5]!.offset)
      const error = Cause.squash(failure.cause)
      assert.deepInclude(error, { _tag: "EncodeError", target: "keyless", reason: "Key" })
      assert.include(String((error as Error).message), "nothing to group 5 by")
      assert.deepStrictEqual(yield* copied, numbers(5))
    })
  )

  behaviour("is a dead letter where a policy says so, and the others are copied", () =>
    Effect.gen(function* () {
      yield* Topic.publishAll(kept, eventsOf(10))
      const summary = yield* drain([part.pipe(Processor.catchTag("EncodeError", Policy.deadLetter()))])
      assert.deepInclude(summary.parts["rekey"], { processed: 9, deadLettered: 1 })
      assert.deepStrictEqual(
        yield* copied,
        numbers(10).filter((n) => n !== 5)
      )
      const letters = yield* Stream.runCollect(Topic.stream(Topic.dead(kept), { until: "now" }))
      assert.deepStrictEqual(
        letters.map(({ value }) => value.n),
        [5]
      )
    })
  )

  behaviour("puts its partition aside where a policy says so, until it is skipped", () =>
    Effect.gen(function* () {
      const aside = part.pipe(Processor.catchTag("EncodeError", Policy.quarantine))
      const positions = yield* Topic.publishAll(kept, eventsOf(10))
      yield* drain([aside])
      const [quarantined] = yield* Processor.quarantined("rekey")
      assert.deepInclude(quarantined, { partition: 0, offset: positions[5]!.offset })
      yield* Processor.skip("rekey", 0)
      yield* drain([aside])
      assert.deepStrictEqual(
        yield* copied,
        numbers(10).filter((n) => n !== 5)
      )
    })
  )
})
