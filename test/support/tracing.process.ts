/** Runs a processor that emits, traced: `MILLRACE_URL`, `TOPIC`, `MILLRACE_TRACING_SAMPLE`. Prints its handler's span. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Effect, Option, Schema } from "effect"
import { Engine, Processor, Retention, Settings, Topic, Worker } from "../../src/index.ts"

const name = process.env["TOPIC"]!
const source = Topic.make(name, { schema: Schema.Int, partitions: 1, retention: Retention.forever })
const out = Topic.make(`${name}-out`, { schema: Schema.Int, partitions: 1, retention: Retention.forever })

const part = Processor.make(name, { topic: source }, (n) =>
  Effect.flatMap(Effect.orDie(Effect.currentSpan), ({ parent, spanId, traceId }) => {
    const told = { what: "span", spanId, traceId, parent: Option.getOrUndefined(parent)?.spanId }
    process.stdout.write(`${JSON.stringify(told)}\n`)
    return Topic.emit(out, n)
  })
)

Worker.run([part], { limit: 1 }).pipe(
  Effect.provide(Engine.layerConfig),
  Effect.provide(Settings.layerConfig),
  NodeRuntime.runMain
)
