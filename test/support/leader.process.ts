/**
 * A worker for tests that kill leaders: `MILLRACE_URL`. Its timer ticks every 100 ms on the leader, and stores each tick
 * in a topic under its own number. Prints a line of JSON when it has joined, when
 * it leads, and for each run.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Effect, Stream } from "effect"
import { Engine, Scheduler, Topic, Worker } from "../../src/index.ts"
import { ticked } from "./chaos.ts"

const say = (what: string, more: object = {}): void => {
  process.stdout.write(`${JSON.stringify({ what, ...more })}\n`)
}

const timer = Scheduler.timer(
  "every",
  { every: "100 millis", onLeader: true, rerun: true },
  Effect.gen(function* () {
    const { again, schedule, tick } = yield* Scheduler.Tick
    say("runs", { tick, again })
    yield* Topic.publish(ticked, tick, { producer: schedule, sequence: BigInt(tick) })
  })
)

const program = Effect.gen(function* () {
  yield* Effect.forkChild(
    Stream.runForEach(Scheduler.leadership, (leads) => Effect.sync(() => (leads ? say("leads") : undefined)))
  )
  say("joined")
  yield* Worker.join
}).pipe(Effect.provide(Worker.layer([timer], { lease: "2 seconds" })))

program.pipe(Effect.provide(Engine.layerConfig), NodeRuntime.runMain({ teardown: Worker.teardown }))
