/**
 * Another process on an embedded file, for tests: `node embedded.process.ts <role> <file> <topic>`. It tells what it does
 * line by line on its output.
 *
 * - `read`: prints each event and when it came (nanoseconds of the monotonic clock, which processes share)
 * - `write`: appends and commits for ever, and prints each number once both are answered
 * - `hold`: keeps a write transaction open for the milliseconds given in place of a topic
 * - `open`: prints the error with which the file cannot be opened; as the user whose number stands in place of a topic
 */
import { DatabaseSync } from "node:sqlite"
import { Effect, Layer } from "effect"
import { Broker, type Layout } from "../../src/Broker.ts"
import * as EmbeddedBroker from "../../src/embedded/broker.ts"
import { layerFile } from "../../src/embedded/client.ts"
import * as Retention from "../../src/Retention.ts"

const [role, file, argument] = process.argv.slice(2) as [string, string, string]
const topic: Layout = { name: argument, partitions: 1, retention: Retention.forever }
const say = (line: string): Effect.Effect<void> => Effect.sync(() => process.stdout.write(`${line}\n`))

const read = Effect.gen(function* () {
  const reader = yield* (yield* Broker).reader(0)
  let after = "0-0"
  let entriesRead = 0
  yield* say("ready")
  while (true) {
    const batches = yield* reader.read([{ topic, partition: 0, after, entriesRead }], { count: 100, block: 60_000 })
    const now = process.hrtime.bigint()
    for (const entry of batches[0]?.entries ?? []) {
      after = entry.id
      entriesRead++
      yield* say(`${Buffer.from(entry.fields[1]!).toString()} ${now}`)
    }
  }
})

const write = Effect.gen(function* () {
  const broker = yield* Broker
  const fence = { epoch: 1n, incarnation: "writer" }
  yield* broker.register("writer", [topic], "earliest")
  yield* broker.claim("writer", 0, [topic], fence)
  for (let number = 1; ; number++) {
    const entries = [{ count: 1, fields: ["v", `${number}`] }]
    const [answer] = yield* broker.append([{ topic, partition: 0, publisher: "writer", number, entries }], "memory")
    const id = answer?._tag === "Stored" ? answer.ids[0]! : "none"
    const place = { topic: topic.name, offset: `${id}.0`, entry: id, entries: number, events: number, layout: topic }
    const rows = [{ table: "count", key: "n", value: `${number}` }]
    yield* broker.commit(
      [{ ...fence, processor: "writer", partition: 0, number, offsets: [place], rows, emits: [] }],
      "memory"
    )
    yield* say(`${number} ${id}`)
  }
})

const hold = Effect.gen(function* () {
  const database = new DatabaseSync(file)
  database.exec("BEGIN IMMEDIATE")
  yield* say("holding")
  yield* Effect.sleep(Number(argument))
  database.exec("COMMIT")
  database.close()
})

const engine = EmbeddedBroker.layer.pipe(Layer.provide(layerFile({ file })))
const open = Effect.suspend(() => {
  // Not when it is spawned: that user may not reach the folder that node stands in.
  if (argument !== "") process.setuid!(Number(argument))
  return Effect.flatMap(Effect.flip(Effect.scoped(Layer.build(engine))), (error) => say(error.message))
})
const roles: Record<string, Effect.Effect<void, unknown>> = {
  read: Effect.scoped(read).pipe(Effect.provide(engine)),
  write: write.pipe(Effect.provide(engine)),
  hold,
  open
}
await Effect.runPromise(roles[role]!)
