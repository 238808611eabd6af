/** Keeping a lease while something else of the engine does not answer. */
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Broker } from "../../src/Broker.ts"
import { Coordinator } from "../../src/Coordinator.ts"
import { Engine, Processor, Topic, Worker } from "../../src/index.ts"

const topic = Topic.make("numbers", { schema: Schema.Int, partitions: 4 })

it.effect("a claim that is not answered does not cost a worker its lease, and is made again", () =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const coordinator = yield* Coordinator
    let silent = true
    let asked = 0
    const deaf = Broker.of({
      ...broker,
      claim: (processor, partition, topics, fence) =>
        Effect.suspend(() => {
          if (partition === 3) asked++
          return partition === 3 && silent ? Effect.never : broker.claim(processor, partition, topics, fence)
        })
    })
    const part = Processor.make("reading", { topic }, () => Effect.void)
    const worker = Layer.build(Worker.layer([part], { lease: "3 seconds" })).pipe(Effect.provideService(Broker, deaf))
    // It is ready only when it has all that it was granted.
    yield* Effect.forkScoped(Effect.andThen(worker, Effect.never), { startImmediately: true })
    const later = (seconds: number) => Effect.forEach(Array.from({ length: seconds * 10 }), () => TestClock.adjust(100))
    yield* later(1)
    const before = yield* coordinator.group("reading")
    yield* later(8)
    const after = yield* coordinator.group("reading")
    assert.deepStrictEqual(after.owners, before.owners)
    assert.isAbove(asked, 2)
    silent = false
    const calls = asked
    yield* later(3)
    assert.strictEqual(asked, calls + 1)
  }).pipe(Effect.provide(Engine.layerMemory))
)
