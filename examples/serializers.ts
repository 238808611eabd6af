/**
 * How values become bytes: JSON by schema unless a topic says otherwise. Every entry says how it was written, so a topic
 * can change its serializer while old entries are still there. A flat topic stores the record's own fields, for Redis
 * tools and programs in other languages: `XADD {app:0}:log:prices:0 * symbol ACME cents 120`.
 */
import { randomBytes } from "node:crypto"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Redacted, Schema, Stream } from "effect"
import { Engine, Serializer, Topic } from "../src/index.ts"

const Note = Schema.Struct({ author: Schema.String, text: Schema.String })

// Above 256 bytes, measured over a whole batch of events.
const compressed = Topic.make("notes-compressed", {
  schema: Note,
  serializer: Serializer.compressed(Serializer.json, { with: "zstd", above: 256 })
})

// The first key encrypts, all decrypt: put a new one in front to rotate. Compression comes first, on the inside.
const keys = [{ id: "2026-07", key: Redacted.make<Uint8Array>(randomBytes(32)) }] as const
const encrypted = Topic.make("notes-encrypted", {
  schema: Note,
  serializer: Serializer.encrypted(Serializer.compressed(Serializer.msgpack, { with: "gzip" }), keys)
})

// Strings, numbers, booleans and bytes; anything else is refused when the topic is defined.
const prices = Topic.make("prices", {
  schema: Schema.Struct({ symbol: Schema.String, cents: Schema.Int, closed: Schema.Boolean }),
  encoding: "flat",
  partitionBy: "symbol"
})

const readAll = <A, K>(topic: Topic.Topic<A, K>) =>
  Stream.runCollect(Topic.stream(topic, { until: "now" })).pipe(
    Effect.map((events) => events.map(({ value }) => value))
  )

const program = Effect.gen(function* () {
  const note = { author: "ada", text: "weaves algebraical patterns ".repeat(20).trim() }
  for (const topic of [compressed, encrypted]) {
    yield* Topic.publish(topic, note)
    const [read] = yield* readAll(topic)
    yield* Console.log(`${topic.name} (${topic.serializer?.transforms.length} transforms): ${read?.text === note.text}`)
  }
  yield* Topic.publish(prices, { symbol: "ACME", cents: 120, closed: false })
  yield* Console.log(`${prices.name}: ${JSON.stringify(yield* readAll(prices))}`)
})

const engine = process.env.MILLRACE_URL ? Engine.layerConfig : Engine.layerMemory

program.pipe(Effect.provide(engine), NodeRuntime.runMain)
