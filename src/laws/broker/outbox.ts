/** Laws of what goes to other shards: stored once and in order, whoever delivers it, when, and how often. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { Broker, type Commit, type Layout } from "../../Broker.ts"
import * as Retention from "../../Retention.ts"
import {
  batch,
  claimed,
  commit,
  commitOf,
  eventsOf,
  fence,
  from,
  type Laws,
  range,
  register,
  single,
  topicOf,
  unique
} from "./support.ts"

const partitions = 6

/** All events of a topic, by partition. */
const all = (topic: Layout) =>
  Effect.gen(function* () {
    const broker = yield* Broker
    return yield* Effect.forEach(range(topic.partitions), (_, partition) =>
      Effect.scoped(
        Effect.flatMap(broker.reader(partition % broker.shards), (reader) =>
          Effect.map(reader.read([from(topic, partition)], { count: 1_000, block: 0 }), eventsOf)
        )
      )
    )
  })

/** Everything that the outbox holds behind an id; gives the last id. */
const deliver = (processor: string, after?: string, partition = 0) =>
  Effect.gen(function* () {
    const broker = yield* Broker
    let upTo = after
    while (true) {
      const page = yield* broker.deliver({ processor, partition, after: upTo }, "memory")
      upTo = page.upTo ?? upTo
      if (!page.more) return upTo
    }
  })

/** One event to each partition. */
const everywhere = (topic: Layout, name: string): Commit["emits"] =>
  range(topic.partitions).map((_, partition) => ({ topic, partition, entries: [single(`${name}${partition}`)] }))

const each = (...names: ReadonlyArray<string>): ReadonlyArray<ReadonlyArray<string>> =>
  range(partitions).map((_, partition) => names.map((name) => `${name}${partition}`))

const setup = Effect.gen(function* () {
  const [topic, output, processor] = [topicOf(partitions), topicOf(partitions), unique("p")]
  yield* register(processor, [topic])
  yield* claimed(processor, [topic], fence(1))
  return { topic, output, processor }
})

export const outboxLaws = ({ it }: Laws): void => {
  it.effect("what a commit emits to any partition is there once it is delivered, however often that is done", () =>
    Effect.gen(function* () {
      const { output, processor } = yield* setup
      yield* commit(commitOf(processor, fence(1), 1, { emits: everywhere(output, "a") }))
      yield* deliver(processor)
      yield* deliver(processor)
      assert.deepStrictEqual(yield* all(output), each("a"))
    })
  )

  it.effect("nothing is seen in another shard before it is committed, or if it was refused", () =>
    Effect.gen(function* () {
      const { output, processor, topic } = yield* setup
      yield* claimed(processor, [topic], fence(2, "two"))
      yield* commit(commitOf(processor, fence(1), 1, { emits: everywhere(output, "zombie") }))
      yield* commit(commitOf(processor, fence(2, "two"), 7, { emits: everywhere(output, "gap") }))
      yield* deliver(processor)
      assert.deepStrictEqual(yield* all(output), each())
    })
  )

  it.effect("a commit that is sent twice is delivered once", () =>
    Effect.gen(function* () {
      const { output, processor } = yield* setup
      const first = commitOf(processor, fence(1), 1, { emits: everywhere(output, "a") })
      assert.deepStrictEqual(yield* commit(first), [{ _tag: "Done" }])
      yield* deliver(processor)
      assert.deepStrictEqual(yield* commit(first), [{ _tag: "DoneBefore" }])
      yield* deliver(processor)
      assert.deepStrictEqual(yield* all(output), each("a"))
    })
  )

  it.effect("order is that of the commits, over pages, batches and owners", () =>
    Effect.gen(function* () {
      const { output, processor, topic } = yield* setup
      const target = { topic: output, partition: 1 }
      const many = range(250, "m")
      const emits = [{ ...target, entries: [...many.map((name) => single(name)), batch("x", "y")] }]
      yield* commit(commitOf(processor, fence(1), 1, { emits }))
      // The next owner finds it there, and goes on behind it.
      yield* claimed(processor, [topic], fence(2, "two"))
      yield* commit(commitOf(processor, fence(2, "two"), 2, { emits: [{ ...target, entries: [single("z")] }] }))
      const upTo = yield* deliver(processor)
      assert.deepStrictEqual((yield* all(output))[1], [...many, "x", "y", "z"])
      const broker = yield* Broker
      const [info] = yield* broker.inspect(output, [1])
      assert.deepStrictEqual([info!.added, info!.extra], [252, 1])
      assert.strictEqual(yield* deliver(processor, upTo), upTo)
    })
  )

  it.effect("an old owner that delivers late adds nothing", () =>
    Effect.gen(function* () {
      const { output, processor, topic } = yield* setup
      yield* commit(commitOf(processor, fence(1), 1, { emits: everywhere(output, "a") }))
      yield* claimed(processor, [topic], fence(2, "two"))
      yield* commit(commitOf(processor, fence(2, "two"), 2, { emits: everywhere(output, "b") }))
      yield* deliver(processor)
      // All of it once more, from where the old owner stands.
      yield* deliver(processor, undefined)
      yield* commit(commitOf(processor, fence(2, "two"), 3, { emits: everywhere(output, "c") }))
      yield* deliver(processor, undefined)
      assert.deepStrictEqual(yield* all(output), each("a", "b", "c"))
    })
  )

  it.effect("a later commit removes what is delivered, and only that", () =>
    Effect.gen(function* () {
      const { output, processor } = yield* setup
      yield* commit(commitOf(processor, fence(1), 1, { emits: everywhere(output, "a") }))
      const delivered = yield* deliver(processor)
      yield* commit(commitOf(processor, fence(1), 2, { emits: everywhere(output, "b"), delivered }))
      // Who begins anew finds the second only; its numbers go on.
      const broker = yield* Broker
      const first = yield* broker.deliver({ processor, partition: 0, after: undefined }, "memory")
      yield* commit(commitOf(processor, fence(1), 3, { delivered: first.upTo }))
      assert.deepStrictEqual(yield* broker.deliver({ processor, partition: 0, after: undefined }, "memory"), {
        upTo: undefined,
        more: false
      })
      yield* commit(commitOf(processor, fence(1), 4, { emits: everywhere(output, "c") }))
      yield* deliver(processor)
      assert.deepStrictEqual(yield* all(output), each("a", "b", "c"))
    })
  )

  it.effect("sources are told apart: partitions of one processor, and processors", () =>
    Effect.gen(function* () {
      const { output, processor, topic } = yield* setup
      const other = unique("p")
      yield* register(other, [topic])
      const sources = [
        { processor, partition: 0 },
        { processor, partition: 1 },
        { processor: other, partition: 0 }
      ]
      for (const [i, source] of sources.entries()) {
        yield* claimed(source.processor, [topic], fence(1), source.partition)
        const emits = everywhere(output, "abc"[i]!)
        yield* commit({ ...commitOf(source.processor, fence(1), 1, { emits }), partition: source.partition })
        yield* deliver(source.processor, undefined, source.partition)
      }
      assert.deepStrictEqual(yield* all(output), each("a", "b", "c"))
    })
  )

  it.effect("what is delivered is taken beyond capacity, and a retention that trims does trim", () =>
    Effect.gen(function* () {
      const { processor } = yield* setup
      const full = topicOf(partitions, Retention.consumed({ capacity: 1 }))
      const short = topicOf(partitions, Retention.maxLength(2))
      const entries = range(3, "e").map((name) => single(name))
      const emits = [full, short].map((topic) => ({ topic, partition: 1, entries }))
      yield* commit(commitOf(processor, fence(1), 1, { emits }))
      yield* deliver(processor)
      assert.deepStrictEqual((yield* all(full))[1], ["e0", "e1", "e2"])
      assert.deepStrictEqual((yield* all(short))[1], ["e1", "e2"])
    })
  )

  it.effect("a reset drops what was not delivered; a processor that is removed leaves none", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const { output, processor, topic } = yield* setup
      const isEmpty = Effect.map(
        broker.deliver({ processor, partition: 0, after: undefined }, "memory"),
        ({ upTo }) => upTo === undefined
      )
      const emits = everywhere(output, "a").filter(({ partition }) => partition % broker.shards !== 0)
      yield* commit(commitOf(processor, fence(1), 1, { emits }))
      const request = { ...fence(1), processor, partition: 0, number: 2, topics: [topic], to: "earliest" as const }
      yield* broker.seek({ ...request, reset: true })
      assert.isTrue(yield* isEmpty)
      yield* commit(commitOf(processor, fence(1), 3, { emits }))
      yield* broker.unregister(processor)
      assert.isTrue(yield* isEmpty)
      assert.deepStrictEqual(yield* all(output), each())
    })
  )
}
