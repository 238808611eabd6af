/**
 * A worker on a master that Sentinel watches: it follows a failover, ordered or after a death, and notices what a failover
 * took back. The tests share one set and leave it with a master and a replica.
 */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Option, Schedule, Stream } from "effect"
import { Engine, Errors, Processor, Table, Topic, Worker } from "../../src/index.ts"
import { counting, totals, work } from "../support/chaos.ts"
import { underLoad } from "../support/load.ts"
import { eventually, inStep, makeSentinels, type SentinelSet, type Server } from "../support/redis.ts"
import { sharedInFile } from "../support/sharedInFile.ts"

const set = sharedInFile(makeSentinels)

/** Master and replica as the sentinels have them, in step. */
const roles = ({ master, servers }: SentinelSet) =>
  Effect.gen(function* () {
    const port = yield* master
    const [first, second] = servers
    const [from, to] = first.port === port ? [first, second] : [second, first]
    yield* inStep(to)
    return { from, to }
  })

const promoted = ({ master }: SentinelSet, server: Server) =>
  eventually(
    "Sentinel has promoted the replica",
    Effect.map(master, (port) => port === server.port),
    30
  )

/** The sentinels have seen to it that the old master follows the new one, and are ready for the next failover. */
const quiet = ({ sentinels }: SentinelSet, replica: Server) =>
  Effect.andThen(
    inStep(replica),
    eventually(
      "sentinels that see a master and its replica",
      Effect.map(
        Effect.forEach(sentinels, (sentinel) => sentinel.call("info", "sentinel")),
        (all) => all.every((info) => /status=ok,address=\S+,slaves=1,sentinels=3/.test(String(info)))
      )
    )
  )

const some = (from: number, count: number) =>
  Array.from({ length: count }, (_, i) => ({ key: `key-${i % 10}`, n: from + i, gate: false }))

const sum = Effect.map(Stream.runCollect(Table.entries(totals)), (rows) => rows.reduce((all, [, n]) => all + n, 0))

const settled = (events: number) =>
  sum.pipe(
    Effect.flatMap((total) => (total === events ? Effect.void : Effect.fail(`${total} of ${events}`))),
    Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 400 })
  )

describe("a worker behind Sentinel", () => {
  it.live(
    "follows an ordered failover at once, and gives nothing to the old master, which would lose it",
    () =>
      Effect.gen(function* () {
        const sentinels = yield* set
        const { from, to } = yield* roles(sentinels)
        yield* Effect.gen(function* () {
          yield* Topic.publishAll(work, some(0, 200))
          yield* settled(200)
          yield* sentinels.sentinels[0]!.call("sentinel", "failover", "main")
          yield* promoted(sentinels, to)
          const began = performance.now()
          yield* eventually(
            "the worker reads from the new master",
            Effect.map(to.call("client", "list"), (list) => String(list).includes("cmd=xread"))
          )
          assert.isBelow(performance.now() - began, 2_000)
          yield* Topic.publishAll(work, some(200, 100))
          yield* settled(300)
          // Sentinel itself would take its time for that.
          yield* from.call("replicaof", "127.0.0.1", to.port)
        }).pipe(
          Effect.provide(Worker.layer([counting(() => Effect.void)], { lease: "2 seconds" })),
          Effect.provide(Engine.layer({ url: sentinels.url, namespace: crypto.randomUUID() }))
        )
        yield* quiet(sentinels, from)
      }),
    60_000
  )

  it.live(
    "follows a failover after the master's death",
    () =>
      Effect.gen(function* () {
        const sentinels = yield* set
        yield* underLoad({ url: sentinels.url }, (load) =>
          Effect.gen(function* () {
            const { from, to } = yield* roles(sentinels)
            // What it answered has left for its replica in the same turn: nothing is lost.
            yield* from.kill
            yield* promoted(sentinels, to)
            assert.isBelow(yield* load.resumes, 3_000)
            yield* from.again
            yield* quiet(sentinels, from)
            assert.deepStrictEqual(load.failures, [])
          })
        )
      }),
    60_000
  )

  /** A hundred events are handled and committed by a master that its replica does not hear any more; then it dies. */
  const losing = <A, E>(
    part: Processor.Processor<any, never>,
    after: Effect.Effect<A, E, Engine.Services | Worker.Worker<unknown>>
  ) =>
    Effect.gen(function* () {
      const sentinels = yield* set
      const { from, to } = yield* roles(sentinels)
      return yield* Effect.gen(function* () {
        yield* Topic.publishAll(work, some(0, 200))
        yield* settled(200)
        yield* inStep(to)
        yield* to.pause
        // Or it would find in its socket what came meanwhile.
        yield* from.call("client", "kill", "type", "replica")
        yield* Topic.publishAll(work, some(200, 100))
        yield* settled(300)
        yield* from.kill
        yield* to.goOn
        yield* promoted(sentinels, to)
        const answer = yield* after
        yield* from.again
        yield* quiet(sentinels, from)
        return answer
      }).pipe(
        Effect.provide(Worker.layer([part], { lease: "2 seconds" })),
        Effect.provide(Engine.layer({ url: sentinels.url, namespace: crypto.randomUUID() }))
      )
    })

  it.live(
    "halts when a failover took back what it had committed",
    () =>
      Effect.gen(function* () {
        const exit = yield* losing(
          counting(() => Effect.void),
          Effect.exit(Effect.timeout(Worker.join, "20 seconds"))
        )
        const error = Exit.isFailure(exit) ? Option.getOrUndefined(Cause.findErrorOption(exit.cause)) : undefined
        assert(error instanceof Errors.ProcessorHalted, String(error))
        assert.include(["WentBack", "LogTruncated"], (Cause.squash(error.cause) as { readonly _tag: string })._tag)
      }),
    60_000
  )

  it.live(
    "goes on with what is left, if it may, when a failover took back what it had committed",
    () =>
      losing(
        Processor.make("counting", { topic: work, tables: [totals], onLost: "resume" }, (value) =>
          Table.update(totals, value.key, (total) => total + 1)
        ),
        Effect.gen(function* () {
          yield* settled(200)
          yield* Topic.publishAll(work, some(300, 50))
          yield* settled(250)
        })
      ),
    60_000
  )
})
