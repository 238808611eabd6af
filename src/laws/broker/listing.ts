/** The laws of the broker: what it tells those who know no names. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { Broker } from "../../Broker.ts"
import * as Retention from "../../Retention.ts"
import { batch, type Laws, register, single, stored, topicOf, unique } from "./support.ts"

export const listingLaws = ({ it }: Laws): void => {
  it.effect("topics are listed as they were declared last, by name", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const first = { ...topicOf(3, Retention.maxLength(7)), name: unique("b"), flat: true }
      const second = {
        ...topicOf(2, Retention.consumed({ capacity: 5, keep: 1 })),
        name: unique("a"),
        letters: true,
        redacted: ["/a", "/b c/*"]
      }
      yield* broker.declare([first, second])
      const ours = Effect.map(broker.topics(), (all) =>
        all.filter(({ name }) => name === first.name || name === second.name)
      )
      const told = [
        {
          name: second.name,
          partitions: 2,
          retention: second.retention,
          flat: false,
          letters: true,
          redacted: ["/a", "/b c/*"]
        },
        { name: first.name, partitions: 3, retention: first.retention, flat: true, letters: false, redacted: [] }
      ]
      assert.deepStrictEqual(yield* ours, told)
      // A refused declaration changes nothing of it.
      yield* Effect.flip(
        broker.declare([
          { ...second, retention: Retention.forever },
          { ...first, partitions: 4 }
        ])
      )
      assert.deepStrictEqual(yield* ours, told)
      yield* broker.declare([{ ...first, retention: Retention.forever }])
      assert.deepStrictEqual((yield* ours)[1]!.retention, Retention.forever)
    })
  )

  it.effect("processors are listed with their topics by name, until they are removed", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const [one, two] = [
        { ...topicOf(2), name: unique("z") },
        { ...topicOf(2), name: unique("y") }
      ]
      const [p, q] = [unique("q"), unique("p")]
      yield* register(p, [one, two])
      yield* register(q, [two])
      const ours = Effect.map(broker.processors(), (all) => all.filter(({ name }) => name === p || name === q))
      assert.deepStrictEqual(yield* ours, [
        { name: q, partitions: 2, topics: [two.name] },
        { name: p, partitions: 2, topics: [two.name, one.name] }
      ])
      yield* broker.unregister(p)
      assert.deepStrictEqual(
        (yield* ours).map(({ name }) => name),
        [q]
      )
    })
  )

  it.effect("retained events are counted, also when some of a log are trimmed", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const topic = topicOf(1, Retention.maxLength(4))
      const events = Effect.map(broker.inspect(topic, [0]), ([info]) => info!.events)
      assert.strictEqual(yield* events, 0)
      yield* stored(topic, [batch("a", "b", "c"), single("d")])
      assert.strictEqual(yield* events, 4)
      yield* stored(topic, [single("e"), batch("f", "g", "h")])
      yield* broker.trim(topic)
      // The first batch is gone, and "d" with it or not: whole entries go, and at least four events stay.
      const [info] = yield* broker.inspect(topic, [0])
      assert.strictEqual(info!.events, info!.length + 2)
      assert.isAtLeast(info!.events, 4)
      assert.isBelow(info!.events, 8)
    })
  )
}
