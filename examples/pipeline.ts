/**
 * Any stream operators over a topic: what the pipeline emits is done, and what it drops with `Event.filter` too. Use
 * Event's `filter`, `map` and `mapEffect`: they keep the books, which Stream's own `filter` and `map` cannot do.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Schema, Stream } from "effect"
import { Engine, Event, Processor, Topic, Worker } from "../src/index.ts"

const Line = Schema.Struct({ level: Schema.Literals(["info", "error"]), service: Schema.String, text: Schema.String })
const lines = Topic.make("lines", { schema: Line, partitionBy: "service", partitions: 4 })
const alerts = Topic.make("alerts", { schema: Schema.String, partitionBy: (text) => text.split(":")[0], partitions: 4 })

const watch = Processor.stream("watch", { topic: lines }, (events) =>
  events.pipe(
    Event.filter((line) => line.level === "error"),
    Event.map((line) => `${line.service}: ${line.text.toUpperCase()}`),
    // The unit of work of one event: what it emits is stored with the commit of the event, or not at all.
    Event.mapEffect((text) => Topic.emit(alerts, text)),
    // The usual operators work on what is left; an array acknowledges all events in it.
    Stream.groupedWithin(10, "50 millis"),
    Stream.tap((batch) => Console.log(`${batch.length} alerts of ${batch[0].key}`))
  )
)

const program = Effect.gen(function* () {
  yield* Topic.publishAll(lines, [
    { level: "info", service: "shop", text: "started" },
    { level: "error", service: "shop", text: "disk full" },
    { level: "info", service: "shop", text: "order 7" },
    { level: "error", service: "shop", text: "disk full again" }
  ])
  yield* Worker.idle // nothing is left to read, all is committed
  const stored = yield* Stream.runCollect(Topic.stream(alerts, { until: "now" }))
  for (const event of stored) yield* Console.log(event.value)
  yield* Console.log(`behind: ${(yield* Processor.lag("watch")).reduce((sum, lag) => sum + lag.events, 0)}`)
})

const engine = process.env.MILLRACE_URL ? Engine.layerConfig : Engine.layerMemory

program.pipe(Effect.provide(Worker.layer([watch])), Effect.provide(engine), NodeRuntime.runMain)
