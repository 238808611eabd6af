/**
 * Batches into a store of your own: up to 50 readings, or what came within 100 milliseconds of the first, as
 * `Stream.groupedWithin` makes them. A batch is one unit of work of one partition, and is acknowledged as one.
 *
 * Outside the engine delivery is at least once: after a crash a batch may come again. So rows are keyed by what
 * identifies the event, and writing one twice changes nothing.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Context, Effect, Layer, Schema } from "effect"
import { Engine, Processor, Topic, Worker } from "../src/index.ts"

const Reading = Schema.Struct({ sensor: Schema.String, celsius: Schema.Finite })
const readings = Topic.make("readings", { schema: Reading, partitionBy: "sensor", partitions: 4 })

/** Stands for a database with a bulk insert. */
class Store extends Context.Service<
  Store,
  {
    upsertAll(rows: ReadonlyArray<readonly [id: string, reading: typeof Reading.Type]>): Effect.Effect<void>
    readonly count: Effect.Effect<number>
    readonly calls: Effect.Effect<number>
  }
>()("examples/Store") {
  static readonly layer = Layer.sync(this, () => {
    const table = new Map<string, typeof Reading.Type>()
    let calls = 0
    return {
      upsertAll: (rows) =>
        Effect.sync(() => {
          calls++
          for (const [id, reading] of rows) table.set(id, reading)
        }),
      count: Effect.sync(() => table.size),
      calls: Effect.sync(() => calls)
    }
  })
}

const loader = Processor.batch("loader", { topic: readings, size: 50, within: "100 millis" }, (_, events) =>
  Store.use((store) =>
    store.upsertAll(events.map((event) => [`${event.partition}/${event.offset}`, event.value] as const))
  )
)

const program = Effect.gen(function* () {
  const values = Array.from({ length: 500 }, (_, i) => ({ sensor: `s${i % 20}`, celsius: 20 + (i % 7) }))
  yield* Topic.publishAll(readings, values)
  yield* Worker.run([loader], { limit: values.length })
  const store = yield* Store
  yield* Console.log(`${yield* store.count} rows in ${yield* store.calls} calls`)
})

const engine = process.env.MILLRACE_URL ? Engine.layerConfig : Engine.layerMemory

program.pipe(Effect.provide([Store.layer, engine]), NodeRuntime.runMain)
