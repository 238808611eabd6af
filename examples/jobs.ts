/**
 * Jobs: a contract, a handler with retries, one job that waits for others, one that recurs, and a look at what died.
 *
 *     node examples/jobs.ts
 *     MILLRACE_URL=redis://localhost:6379 node examples/jobs.ts
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Option, Schema, Stream } from "effect"
import { Engine, Job, Queue, Worker } from "../src/index.ts"

class NoSuchPage extends Schema.TaggedError<NoSuchPage>()("NoSuchPage", { url: Schema.String }) {}

const fetchPage = Job.make("fetch-page", {
  payload: Schema.Struct({ url: Schema.String }),
  success: Schema.Int,
  error: NoSuchPage,
  retries: 3,
  backoff: () => "10 millis",
  retryable: () => false
})

const report = Job.make("report", { payload: Schema.Void, success: Schema.Int })

const handlers = [
  Job.handler(fetchPage, ({ url }, run) => {
    if (url.endsWith("/gone")) return Effect.fail(new NoSuchPage({ url }))
    // The network is what it is: the first run dies, the second one is well.
    return run.attempt === 1 ? Effect.die(new Error("connection reset")) : Effect.succeed(url.length)
  }),
  Job.handler(report, (_, run) =>
    Effect.map(
      Effect.forEach(run.after, (id) => Effect.orDie(Job.result(fetchPage, id))),
      (sizes) => sizes.reduce((sum, size) => sum + Option.getOrElse(size, () => 0), 0)
    )
  )
]

const program = Effect.gen(function* () {
  const pages = yield* Job.enqueueAll(fetchPage, [{ url: "/looms" }, { url: "/mills" }])
  const { id } = yield* Job.enqueue(report, undefined, { after: pages })
  yield* Console.log(`bytes: ${yield* Job.await(report, id)}`)

  // Stored beside the queue: every process may set it, and one of their workers enqueues each slot.
  yield* Job.cron(report, "nightly", { expression: "30 2 * * *", timezone: "Europe/Vienna", payload: undefined })
  const [nightly] = yield* Queue.schedules("default", { runs: 2 })
  yield* Console.log(`recurs: ${nightly!.name}, next ${nightly!.next.length} slots known`)

  const failure = yield* Effect.flip(Job.execute(fetchPage, { url: "/gone" }))
  yield* Console.log(`failed: ${failure._tag}`)
  const dead = yield* Stream.runCollect(Queue.peek("default", "dead"))
  yield* Console.log(`dead: ${dead.map((item) => item.job).join(", ")}`)
})

const engine = process.env.MILLRACE_URL ? Engine.layerConfig : Engine.layerMemory
program.pipe(Effect.provide(Worker.layer(handlers)), Effect.provide(engine), NodeRuntime.runMain)
