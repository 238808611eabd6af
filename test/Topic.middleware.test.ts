/** What stands around every publish and emit of a program. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schema, Stream } from "effect"
import { Engine, Processor, Topic, Worker } from "../src/index.ts"

const source = Topic.make("source", { schema: Schema.String, partitions: 2 })
const target = Topic.make("target", { schema: Schema.String, partitions: 2 })

const stamp = (name: string) =>
  Topic.middleware(({ options, topic, value }) => {
    if (value === "secret") throw new Error(`${name} lets no secret through to ${topic}`)
    return { ...options, headers: { ...options.headers, by: `${options.headers?.["by"] ?? ""}${name}` } }
  })

const headers = (topic: Topic.Topic<string>) =>
  Effect.map(Stream.runCollect(Topic.stream(topic, { until: "now" })), (events) =>
    events.map((event) => event.headers["by"])
  )

describe("Topic.middleware", () => {
  it.effect("adds headers to what is published, one or many, and to what handlers emit; outer to inner", () =>
    Effect.gen(function* () {
      yield* Topic.publish(source, "a", { headers: { by: "me-" } })
      yield* Topic.publishAll(source, ["b"])
      assert.deepStrictEqual((yield* headers(source)).sort(), ["me-outer-inner", "outer-inner"])
      const copy = Processor.make("copy", { topic: source }, (value) => Topic.emit(target, value))
      yield* Worker.run([copy], { limit: 2 })
      assert.deepStrictEqual(yield* headers(target), ["outer-inner", "outer-inner"])
    }).pipe(Effect.provide(stamp("inner")), Effect.provide(stamp("outer-")), Effect.provide(Engine.layerMemory))
  )

  it.effect("refuses an event with a typed error, and nothing is stored", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Topic.publish(source, "secret"))
      assert.deepInclude(error, { _tag: "EncodeError", reason: "Refused", target: "source" })
      assert.include(error.message, "lets no secret through to source")
      assert.deepStrictEqual(yield* headers(source), [])
    }).pipe(Effect.provide(Layer.mergeAll(stamp("guard"), Engine.layerMemory)))
  )
})
