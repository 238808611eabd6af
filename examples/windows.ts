/**
 * Windows: temperatures by sensor and hour, each hour told once, with its final value, when it is over. What comes late
 * within the lateness counts; what comes later is left out, and counted (`millrace_events_late_total`).
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, DateTime, Duration, Effect, Schema, Stream } from "effect"
import { Engine, Processor, Table, Topic, Window, Worker } from "../src/index.ts"

const Reading = Schema.Struct({ sensor: Schema.String, at: Schema.DateTimeUtcFromString, celsius: Schema.Finite })
const Hour = Schema.Struct({ sensor: Schema.String, hour: Schema.String, highest: Schema.Finite })

// The event's own time, from a field.
const readings = Topic.make("readings", {
  schema: Reading,
  partitionBy: "sensor",
  partitions: 1,
  timestamp: (reading) => reading.at
})
const hours = Topic.make("hours", { schema: Hour, partitionBy: "sensor", partitions: 1 })

const highest = Table.windowed("highest", {
  key: Schema.String,
  value: Schema.Finite,
  initial: () => Number.NEGATIVE_INFINITY,
  // These readings are of long ago and come all at once: silence between them says nothing.
  window: Window.tumbling("1 hour", { lateness: "10 minutes", retain: "1 day", idle: Duration.infinity })
})

const told = Table.onClose(highest, ({ key, start, value }) =>
  Topic.emit(hours, { sensor: key, hour: DateTime.formatIso(start).slice(11, 16), highest: value })
)
const hourly = Processor.make("hourly", { topic: readings, tables: [told] }, ({ celsius, sensor }) =>
  Table.update(highest, sensor, (so) => Math.max(so, celsius))
)

const day = (time: string) => DateTime.makeUnsafe(`2024-07-01T${time}:00Z`)
const at = (time: string, celsius: number, sensor = "roof") => ({ sensor, at: day(time), celsius })

const program = Effect.gen(function* () {
  yield* Topic.publishAll(readings, [at("09:05", 21), at("09:40", 24), at("09:50", 19, "cellar"), at("10:04", 23)])
  // In time: ten minutes are allowed. The last but one is too late: its hour is over.
  yield* Topic.publishAll(readings, [at("09:59", 26), at("10:15", 22), at("09:58", 99), at("11:30", 25)])
  yield* Worker.idle.pipe(Effect.provide(Worker.layer([hourly])))
  const lines = yield* Stream.runCollect(Topic.stream(hours, { until: "now" }))
  for (const { value } of lines) yield* Console.log(`${value.hour} ${value.sensor}: ${value.highest}`)
  const nine = yield* Table.lookup(highest, "roof", { at: day("09:30") })
  const eleven = yield* Table.lookup(highest, "roof", { at: day("11:30") })
  yield* Console.log(`kept: ${nine}, still open: ${eleven}`)
})

const engine = process.env.MILLRACE_URL ? Engine.layerConfig : Engine.layerMemory

program.pipe(Effect.provide(engine), NodeRuntime.runMain)
