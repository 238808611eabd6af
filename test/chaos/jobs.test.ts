/** Real processes that run jobs and are killed at random: none is lost, each result is there, killers end up dead. */
import { assert, it } from "@effect/vitest"
import { Effect, Option, Stream } from "effect"
import { Engine, Job, Queue } from "../../src/index.ts"
import { chore } from "../support/chores.ts"
import { fileUrl } from "../support/places.ts"
import { start } from "../support/processes.ts"
import { eventually, makeServer } from "../support/redis.ts"

const engines = [
  ["a file", fileUrl],
  ["Redis", Effect.map(makeServer(), ({ url }) => url)]
] as const

for (const [name, url] of engines) {
  it.live(
    `workers on ${name} that are killed again and again lose no job, and one that kills its worker dies after three`,
    () =>
      Effect.gen(function* () {
        const at = yield* url
        const env = { MILLRACE_URL: at }
        yield* Effect.gen(function* () {
          const payloads = Array.from({ length: 600 }, (_, n) => ({ n, kills: false }))
          const handles = yield* Job.enqueueAll(chore, payloads)
          const { id: killer } = yield* Job.enqueue(chore, { n: -1, kills: true }, { priority: "high" })
          let done = 0
          const count = Effect.map(Queue.counts("default"), (counts) => (done = counts.done))
          // They die by the killer too, so there are always new ones.
          let workers = [yield* start("jobs", env), yield* start("jobs", env)]
          for (let kill = 0; kill < 3; kill++) {
            const [victim, ...rest] = workers
            yield* victim!.until(() => true, "a run")
            victim!.process.kill("SIGKILL")
            workers = [...rest, yield* start("jobs", env)]
          }
          const alive = Effect.gen(function* () {
            for (const [i, worker] of workers.entries()) {
              if (worker.process.exitCode !== null || worker.process.signalCode !== null) {
                workers[i] = yield* start("jobs", env)
              }
            }
          })
          yield* eventually(
            () => `600 done, and the killer dead; ${done} are done`,
            Effect.gen(function* () {
              yield* alive
              const item = Option.getOrThrow(yield* Job.info(chore, killer))
              return (yield* count) === 600 && item.state === "dead"
            }).pipe(Effect.orDie) as Effect.Effect<boolean>,
            90
          )
          for (const worker of workers) worker.process.kill("SIGTERM")
          const results = yield* Effect.forEach(handles, ({ id }) => Job.result(chore, id), { concurrency: 20 })
          assert.deepStrictEqual(
            results.map((result) => Option.getOrThrow(result)),
            payloads.map(({ n }) => n)
          )
          const dead = yield* Stream.runCollect(Queue.peek("default", "dead"))
          assert.deepStrictEqual(
            dead.map(({ failures, id, lost, reason }) => [id, lost, failures, Option.getOrThrow(reason)]),
            [[killer, 3, 0, "Lost"]]
          )
        }).pipe(Effect.provide(Engine.layer({ url: at })))
      }),
    120_000
  )
}
