/**
 * A topic read without a group: nothing is acknowledged, and nobody's lag changes. For looking, exporting, and feeding
 * something live. `until: "now"` ends at what was the end when the reading began; without it the stream goes on.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Fiber, Schema, Stream } from "effect"
import { Engine, Retention, Topic } from "../src/index.ts"

const Visit = Schema.Struct({ user: Schema.String, page: Schema.String })
// Kept whether anybody has read them or not; the default keeps what some processor has not committed.
const visits = Topic.make("visits", {
  schema: Visit,
  partitionBy: "user",
  partitions: 2,
  retention: Retention.maxLength(10_000)
})

const program = Effect.gen(function* () {
  yield* Topic.publishAll(visits, [
    { user: "ada", page: "/" },
    { user: "ada", page: "/engines" }
  ])
  const soFar = yield* Stream.runCollect(Topic.stream(visits, { until: "now" }))
  for (const { key, partition, value } of soFar) yield* Console.log(`stored: ${key} in ${partition} at ${value.page}`)

  // Live, from the last one on (an offset is that of the first event wanted); in order within each partition.
  const last = soFar[soFar.length - 1]!
  const live = yield* Topic.stream(visits, { from: { offset: last.offset }, partitions: [last.partition] }).pipe(
    Stream.drop(1),
    Stream.map((event) => `live: ${event.value.user} at ${event.value.page}`),
    Stream.tap(Console.log),
    Stream.take(2),
    Stream.runDrain,
    Effect.forkChild
  )
  yield* Topic.publish(visits, { user: "ada", page: "/looms" })
  yield* Topic.publish(visits, { user: "ada", page: "/mills" })
  yield* Fiber.join(live)
})

const engine = process.env.MILLRACE_URL ? Engine.layerConfig : Engine.layerMemory

program.pipe(Effect.provide(engine), NodeRuntime.runMain)
