/** An engine that begins as a copy of another is that engine at that moment. */
import { assert, it } from "@effect/vitest"
import { Effect, Exit, Layer, Schema, Scope } from "effect"
import { Broker } from "../../src/Broker.ts"
import * as Engine from "../../src/Engine.ts"
import { Copies, type Copy } from "../../src/internal/copies.ts"
import * as Topic from "../../src/Topic.ts"
import { collect, reading, readings } from "../support/readings.ts"

/** An engine in memory, and how to copy it; the one before goes on beside it. */
const begun = (copy: Copy) =>
  Effect.gen(function* () {
    let take: (() => Copy) | undefined
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
    const services = yield* Layer.buildWithScope(Layer.fresh(Engine.layerMemory), scope).pipe(
      Effect.provideService(Copies, { begin: copy, opened: (opened) => (take = opened) })
    )
    assert.isDefined(take)
    return { services, copy: Effect.sync(take!) }
  })

const topic = readings(1)
const store = (...numbers: ReadonlyArray<number>) =>
  Effect.forEach(numbers, (n) => Topic.publish(topic, reading(n)), { discard: true })

it.effect("logs, epochs and commit numbers are those of the moment, and it goes on from there", () =>
  Effect.gen(function* () {
    const fence = { epoch: 5n, incarnation: "a" }
    const claim = (epoch: bigint) => Broker.use((broker) => broker.claim("p", 0, [topic], { ...fence, epoch }))
    const commit = (number: number) =>
      Broker.use((broker) =>
        broker.commit([{ ...fence, processor: "p", partition: 0, number, offsets: [], rows: [], emits: [] }], "memory")
      )
    const first = yield* begun([])
    yield* Effect.gen(function* () {
      yield* Broker.use((broker) => broker.register("p", [topic], "earliest"))
      yield* store(0, 1)
      yield* claim(5n)
      yield* commit(1)
    }).pipe(Effect.provide(first.services))
    const copy = yield* first.copy
    yield* Effect.andThen(store(2), Effect.andThen(commit(2), claim(6n))).pipe(Effect.provide(first.services))

    const second = yield* begun(copy)
    yield* Effect.gen(function* () {
      assert.deepStrictEqual(yield* collect(topic), [0, 1])
      assert.deepStrictEqual(yield* commit(2), [{ _tag: "Done" }])
      assert.deepInclude(yield* claim(4n), { _tag: "Refused", inForce: 5n })
      yield* store(3)
      assert.deepStrictEqual(yield* collect(topic), [0, 1, 3])
    }).pipe(Effect.provide(second.services))
    assert.deepStrictEqual(yield* Effect.provide(collect(topic), first.services), [0, 1, 2])
  })
)

it.effect("numbers that no number can hold are copied as they are", () =>
  Effect.gen(function* () {
    const raw = Topic.make("raw", { schema: Schema.Int, partitions: 1 })
    const first = yield* begun([])
    const offsets = ["9007199254740993-9007199254740995"]
    yield* Effect.provide(Topic.publishAll(raw, [1], { offsets }), first.services)
    const second = yield* begun(yield* first.copy)
    const [info] = yield* Effect.provide(
      Broker.use((broker) => broker.inspect(raw, [0])),
      second.services
    )
    assert.deepInclude(info, { first: offsets[0], last: offsets[0], length: 1 })
  })
)
