/** Laws of what is parked: every kind of event byte for byte, many at once, and any changes against a plain model. */
import { assert } from "@effect/vitest"
import { Effect, Schema } from "effect"
import type { Parked } from "../../Broker.ts"
import { codecOf } from "../../internal/record/record.ts"
import * as Serializer from "../../Serializer.ts"
import * as Topic from "../../Topic.ts"
import { lane, lanesOf, owner, page, park, state, wholeLane } from "./parkingSupport.ts"
import { from, type Laws, range, read, stored, topicOf } from "./support.ts"

export const parkedEventLaws = (laws: Laws): void => {
  contentLaws(laws)
  modelLaw(laws)
}

const contentLaws = ({ it }: Laws): void => {
  it.effect("fields come back byte for byte, with the place they came from", () =>
    Effect.gen(function* () {
      const { change, processor } = yield* owner()
      const all = Uint8Array.from({ length: 256 }, (_, i) => i)
      const large = Uint8Array.from({ length: 1_100_000 }, (_, i) => (i * 31) % 256)
      const contents: ReadonlyArray<ReadonlyArray<string | Uint8Array>> = [
        ["v", all],
        [all, all, "", ""],
        // Names that entries and parked events use themselves.
        ["n", "3", "v", "[1,2,3]", "~lane", "x", "~topic", "y", "~offset", "z", "lane", "w"],
        ["v", large],
        range(7_000)
      ]
      yield* change({
        park: contents.map((fields, i) => ({ lane: "a", topic: `topic.${i}`, offset: `${i}-1.${i}`, fields }))
      })
      const found = yield* wholeLane(processor, "a")
      assert.strictEqual(found.length, contents.length)
      for (const [i, { fields, offset, topic }] of found.entries()) {
        assert.deepStrictEqual([topic, offset], [`topic.${i}`, `${i}-1.${i}`])
        const expected = contents[i]!.map((field) => Buffer.from(field as string))
        assert.strictEqual(fields.length, expected.length)
        assert.isTrue(
          expected.every((field, j) => field.equals(fields[j]!)),
          `fields of ${i}`
        )
      }
    })
  )

  const Value = Schema.Struct({ key: Schema.String, place: Schema.Int, bytes: Schema.Uint8ArrayFromBase64 })
  const Flat = Schema.Struct({ key: Schema.String, place: Schema.Int, bytes: Schema.Uint8Array })
  const topics: ReadonlyArray<readonly [string, Topic.Any]> = [
    ["JSON", Topic.make("json", { schema: Value, partitionBy: (value) => value.key })],
    ["MessagePack", Topic.make("packed", { schema: Value, serializer: Serializer.msgpack })],
    ["flat", Topic.make("flat", { schema: Flat, encoding: "flat", partitionBy: (value) => value.key })]
  ]
  for (const [name, topic] of topics) {
    it.effect(`an event of a ${name} topic, alone or one of a batch, is the same when it comes back`, () =>
      Effect.gen(function* () {
        const { change, processor } = yield* owner()
        const codec = codecOf(topic, Serializer.json)
        const origin = { drop: () => {}, unit: () => assert.fail("no units here") }
        const encoded = ["a", "b", "c"].map((key, n) =>
          codec.encode({ key, place: n, bytes: Uint8Array.of(0, 255, n) }, { headers: { n: String(n) } }, () => 0)
        )
        const entries = codec.maxEvents === 1 ? encoded.map((event) => codec.pack([event])) : [codec.pack(encoded)]
        const log = topicOf()
        yield* stored(log, entries)
        const [batch] = yield* read([from(log)])
        const events = batch!.entries.flatMap((entry) => codec.unpack(entry, 0, 0, origin, 1n))
        assert.strictEqual(events.length, 3)
        yield* change({
          park: events.map((event) => ({ lane: "a", topic: event.topic, offset: event.offset, ...event.stored() }))
        })
        const found = yield* wholeLane(processor, "a")
        for (const [i, { fields, offset }] of found.entries()) {
          const [again] = codec.unpack({ id: offset.split(".")[0]!, count: 1, fields }, 0, 0, origin, 1n)
          const { headers, key, timestamp, value } = events[i]!
          assert.deepStrictEqual([again!.value, again!.key, again!.headers], [value, key, headers])
          assert.deepStrictEqual([again!.timestamp, again!.failure], [timestamp, undefined])
        }
        assert.strictEqual(found.length, 3)
      })
    )
  }

  it.effect("one commit parks 5,000 events, and another removes them", () =>
    Effect.gen(function* () {
      const { change, processor } = yield* owner()
      yield* change({ park: range(5_000).map((event, i) => park(`lane ${i % 1_250}`, event)) })
      const lanes = yield* lanesOf(processor)
      assert.deepStrictEqual([lanes.length, new Set(lanes.map(({ count }) => count))], [1_250, new Set([4])])
      assert.deepStrictEqual(yield* lane(processor, "lane 7"), ["e7", "e1257", "e2507", "e3757"])
      const remove = yield* Effect.forEach(lanes, ({ lane }) =>
        Effect.map(page(processor, lane), ({ events }) => events.map(({ id }) => ({ lane, id })))
      )
      yield* change({ remove: remove.flat() })
      assert.deepStrictEqual(yield* lanesOf(processor), [])
    })
  )
}

const Names = Schema.Literals(["a", "b", "c"])
const Step = Schema.Struct({
  drop: Schema.Array(Names).check(Schema.isMaxLength(1)),
  park: Schema.Array(Names).check(Schema.isMaxLength(6)),
  /** How many of each lane. */
  remove: Schema.Struct({ a: Schema.Literals([0, 1, 2]), b: Schema.Literals([0, 1]), c: Schema.Literals([0, 1, 9]) }),
  states: Schema.Array(Names).check(Schema.isMaxLength(2))
})

const modelLaw = ({ it }: Laws): void => {
  it.effect.prop(
    "random parks, removals, drops and states agree with a plain model",
    [Schema.Array(Step).check(Schema.isMinLength(3))],
    ([steps]) =>
      Effect.gen(function* () {
        const { change, processor } = yield* owner()
        const model = new Map<string, { events: Array<string>; attempts: number }>()
        let serial = 0
        for (const step of steps) {
          const found = new Map<string, ReadonlyArray<Parked>>()
          for (const name of ["a", "b", "c"]) found.set(name, yield* wholeLane(processor, name))
          const dropped = new Set<string>(step.drop)
          const remove = (["a", "b", "c"] as const)
            .filter((name) => !dropped.has(name))
            .flatMap((name) =>
              found
                .get(name)!
                .slice(0, step.remove[name])
                .map(({ id }) => ({ lane: name as string, id }))
            )
          const parks = step.park.map((name) => park(name, `${name}${serial++}`))
          const states = Array.from(new Set(step.states), (name) => state(name, ++serial))
          yield* change({ drop: step.drop, park: parks, remove, states })
          for (const name of dropped) model.delete(name)
          for (const { lane, offset } of parks) {
            const one = model.get(lane) ?? { events: [], attempts: 0 }
            model.set(lane, one)
            one.events.push(offset)
          }
          for (const { lane } of remove) model.get(lane)!.events.shift()
          for (const [name, { events }] of model) if (events.length === 0) model.delete(name)
          for (const { attempts, lane } of states) if (model.has(lane)) model.get(lane)!.attempts = attempts
        }
        for (const name of ["a", "b", "c"]) {
          assert.deepStrictEqual(yield* lane(processor, name), model.get(name)?.events ?? [])
        }
        const lanes = (yield* lanesOf(processor)).map(({ attempts, count, lane }) => [lane, count, attempts])
        const expected = Array.from(model, ([name, { attempts, events }]) => [name, events.length, attempts])
        assert.deepStrictEqual(lanes, expected.toSorted())
      }),
    { arbitrary: { runs: 40, size: 30 } }
  )
}
