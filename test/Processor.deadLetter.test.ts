/** Dead letters: what is kept of an event, in the commit that acknowledges it, exactly once. */
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Deferred, Effect, Fiber, Metric, Option, Result, Schema, Stream } from "effect"
import * as Admin from "../src/Admin.ts"
import { Broker } from "../src/Broker.ts"
import * as Event from "../src/Event.ts"
import * as Metrics from "../src/Metrics.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Serializer from "../src/Serializer.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { hanging, losingReply, through } from "./support/brokers.ts"
import { behaviour, counts, drain, halted, numbers, start, until } from "./support/engines.ts"
import { collect, type Reading, reading, readings } from "./support/readings.ts"

class Declined extends Schema.TaggedError<Declined>()("Declined", { n: Schema.Int }) {
  override get message() {
    return `no to ${this.n}`
  }
}

const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })
const lettersOf = <A>(topic: Topic.Topic<A, any>, options?: Topic.DeadOptions) =>
  Stream.runCollect(Topic.deadLetters(topic, options))
const headers = Topic.deadHeaders
const behind = (name: string) =>
  Effect.map(Processor.lag(name), (lags) => lags.reduce((sum, lag) => sum + lag.events, 0))

/** The stored entries of a partition, fields as text. */
const stored = (topic: Topic.Any, partition = 0) =>
  Effect.scoped(
    Effect.gen(function* () {
      const broker = yield* Broker
      const reader = yield* broker.reader(partition % broker.shards)
      const batches = yield* reader.read([{ topic, partition, after: "0-0", entriesRead: 0 }], {
        count: 1_000,
        block: 0
      })
      return batches.flatMap((batch) =>
        batch.entries.map((entry) => {
          const fields = new Map<string, string>()
          for (let i = 0; i < entry.fields.length; i += 2) {
            fields.set(Buffer.from(entry.fields[i]!).toString(), Buffer.from(entry.fields[i + 1]!).toString("latin1"))
          }
          return fields
        })
      )
    })
  )

const failing = (n: number) => (value: Reading) => (value.n === n ? Effect.fail(new Declined({ n })) : Effect.void)

/** A foreign entry as it is. */
const append = (topic: Topic.Any, fields: ReadonlyArray<string | Uint8Array>, count = 1) =>
  Broker.use((broker) =>
    broker.append(
      [{ topic, partition: 0, publisher: crypto.randomUUID(), number: 1, entries: [{ count, fields }] }],
      "memory"
    )
  )

describe("a dead letter", () => {
  // What is stored is looked at afterwards.
  const options = { partitions: 2, retention: Retention.forever }
  const Sample = Schema.Struct({ key: Schema.String, value: Schema.Int })
  const sample = (n: number) => ({ key: `k${n % 3}`, value: n })
  const topics = {
    JSON: () => Topic.make("samples", { schema: Sample, partitionBy: "key", ...options }),
    flat: () => Topic.make("samples", { schema: Sample, partitionBy: "key", encoding: "flat", ...options }),
    compressed: () =>
      Topic.make("samples", {
        schema: Sample,
        partitionBy: "key",
        ...options,
        serializer: Serializer.compressed(Serializer.msgpack, { with: "gzip", above: 0 })
      })
  }
  for (const kind of ["JSON", "flat", "compressed"] as const) {
    behaviour(`is the event with its own bytes, key, headers and time, and says what happened to it: ${kind}`, () =>
      Effect.gen(function* () {
        const topic = topics[kind]()
        const target = Topic.variant(topic, "target")
        const timestamp = DateTime.makeUnsafe(1_700_000_000_123)
        const positions = []
        for (const n of numbers(6)) {
          positions.push(yield* Topic.publish(topic, sample(n), { headers: { from: `till ${n}` }, timestamp }))
        }
        const at = positions[3]!
        const summary = yield* drain([
          Processor.make(
            "p",
            { topic, tables: [totals] },
            Effect.fnUntraced(function* (value) {
              yield* Table.update(totals, value.key, (total) => total + 1)
              yield* Topic.emit(target, value)
              if (value.value === 3) return yield* new Declined({ n: 3 })
            })
          ).pipe(Processor.retry({ times: 2 }), Processor.catchTag("Declined", Policy.deadLetter()))
        ])
        assert.deepStrictEqual(summary.parts.p, counts({ processed: 5, failed: 3, retried: 2, deadLettered: 1 }))
        assert.strictEqual(yield* behind("p"), 0)
        // What the handler staged is gone; what it staged for others is there.
        assert.strictEqual(yield* Table.lookup(totals, "k0"), 1)
        assert.deepStrictEqual(
          (yield* Stream.runCollect(Topic.stream(target, { until: "now" })))
            .map((event) => event.value.value)
            .toSorted(),
          [0, 1, 2, 4, 5]
        )

        const dead = Topic.dead(topic)
        assert.deepStrictEqual([dead.name, dead.partitions, dead.retention._tag], ["samples.dead", 2, "Forever"])
        const [event, ...others] = yield* Stream.runCollect(Topic.stream(dead, { until: "now" }))
        assert.deepStrictEqual(others, [])
        assert.deepStrictEqual(event!.value, sample(3))
        assert.strictEqual(event!.key, "k0")
        assert.strictEqual(event!.partition, at.partition)
        assert.deepStrictEqual(event!.timestamp, timestamp)
        const { [headers.errorStack]: stack, [headers.failedAt]: failedAt, ...rest } = event!.headers
        assert.deepStrictEqual(rest, {
          from: "till 3",
          [headers.errorTag]: "Declined",
          [headers.errorMessage]: "no to 3",
          [headers.attempts]: "3",
          [headers.processor]: "p",
          [headers.sourceTopic]: "samples",
          [headers.sourcePartition]: String(at.partition),
          [headers.sourceOffset]: at.offset
        })
        assert.include(stack!, "Declined")
        assert.isTrue(Option.isSome(DateTime.make(failedAt!)))

        const own = (fields: ReadonlyMap<string, string>) =>
          Array.from(fields).filter(([name]) => !["k", "h", "t", "~k", "~h", "~t"].includes(name))
        const before = yield* stored(topic, at.partition)
        const [letter] = yield* stored(dead, at.partition)
        const here = positions.filter(({ partition }) => partition === at.partition)
        assert.isAbove(own(letter!).length, 0)
        assert.deepStrictEqual(own(letter!), own(before[here.indexOf(at)]!))

        const [listed, ...more] = yield* lettersOf(topic)
        assert.deepStrictEqual(more, [])
        assert.deepInclude(listed!, { attempts: 3, processor: "p", partition: at.partition, offset: event!.offset })
        assert.deepInclude(listed!.error, { tag: "Declined", message: "no to 3" })
        assert.deepStrictEqual(listed!.source, { topic: "samples", partition: at.partition, offset: at.offset })
        assert.deepStrictEqual(Result.getOrThrow(listed!.event).value, sample(3))
        assert.isDefined(listed!.failedAt)
      })
    )
  }

  behaviour("has the stored bytes of its event, to the last one, out of a batch too", () =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      yield* append(topic, ["v", ` { "n": 1.0 ,"key" : "k1", "more": [true] } `])
      yield* Topic.publishAll(topic, [reading(2), reading(3), reading(4)])
      yield* drain([
        Processor.make("p", { topic }, ({ n }) => (n === 1 || n === 3 ? Effect.fail("no") : Effect.void)).pipe(
          Processor.catch(Policy.deadLetter())
        )
      ])
      const letters = yield* stored(Topic.dead(topic))
      assert.deepStrictEqual(
        letters.map((fields) => fields.get("v")),
        [` { "n": 1.0 ,"key" : "k1", "more": [true] } `, `{"key":"k3","n":3}`]
      )
    })
  )

  for (const shape of ["perKey", "batch", "stream", "before", "around"] as const) {
    behaviour(`is stored once for each event that failed, in order: ${shape}`, () =>
      Effect.gen(function* () {
        const topic = readings(1)
        yield* Topic.publishAll(
          topic,
          numbers(12).map((n) => reading(n, 1))
        )
        const fails = ({ n }: Reading) => n % 4 === 1
        const handle = (value: Reading) => (fails(value) ? Effect.fail(new Declined({ n: value.n })) : Effect.void)
        const shapes = {
          perKey: Processor.make("p", { topic, concurrency: { perKey: 3 } }, handle),
          batch: Processor.batch("p", { topic, size: 2, within: "1 hour" }, (values) => Effect.forEach(values, handle)),
          stream: Processor.stream("p", { topic }, Event.mapEffect(handle)),
          before: Processor.make("p", { topic, acknowledge: "before" }, handle),
          around: Processor.make("p", { topic }, handle)
        }
        const settled = shapes[shape].pipe(Processor.catchTag("Declined", Policy.deadLetter()))
        const part = shape === "around" ? settled.pipe(Processor.around((handle) => handle)) : settled
        const summary = yield* drain([part])
        // The whole of a failed batch.
        const expected = shape === "batch" ? [0, 1, 4, 5, 8, 9] : [1, 5, 9]
        assert.deepStrictEqual(yield* collect(Topic.dead(topic)), expected)
        assert.strictEqual(summary.parts.p!.deadLettered, expected.length)
        assert.strictEqual(yield* behind("p"), 0)
      })
    )
  }

  behaviour("goes to the topic that was named, and a choice may send it anywhere", () =>
    Effect.gen(function* () {
      const topic = readings(2)
      yield* Topic.publishAll(
        topic,
        numbers(8).map((n) => reading(n))
      )
      yield* drain([
        Processor.make("p", { topic }, ({ n }) => (n > 3 ? Effect.fail({ code: n }) : Effect.void)).pipe(
          Processor.catch(
            Policy.choose((error) => {
              if (!("code" in error) || error.code === 4) return Policy.ignore
              return error.code < 7 ? Policy.deadLetter({ topic: "errors" }) : Policy.deadLetter()
            })
          )
        )
      ])
      const errors = Topic.variant(topic, "errors", { retention: Retention.forever })
      assert.deepStrictEqual((yield* collect(errors)).toSorted(), [5, 6])
      assert.deepStrictEqual(yield* collect(Topic.dead(topic)), [7])
      const named = yield* lettersOf(topic, { topic: "errors" })
      assert.deepStrictEqual(
        named.map((letter) => letter.error.tag),
        ["Unknown", "Unknown"]
      )
      assert.deepStrictEqual(named.map((letter) => letter.error.message).toSorted(), [`{"code":5}`, `{"code":6}`])
    })
  )

  behaviour("says by the error's fields what happened, if it has no message", () =>
    Effect.gen(function* () {
      class Declined extends Schema.TaggedError<Declined>()("Declined", { customer: Schema.String }) {}
      const topic = readings(1)
      yield* Topic.publish(topic, reading(1))
      yield* drain([
        Processor.make("p", { topic }, () => Effect.fail(new Declined({ customer: "ada" }))).pipe(
          Processor.catch(Policy.deadLetter())
        )
      ])
      const [letter] = yield* lettersOf(topic)
      assert.strictEqual(letter!.error.tag, "Declined")
      assert.strictEqual(letter!.error.message, `{"customer":"ada"}`)
    })
  )

  behaviour("two tags get two policies; a defect has one too", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(4).map((n) => reading(n))
      )
      const summary = yield* drain([
        Processor.make("p", { topic }, ({ n }) => {
          if (n === 2) throw new TypeError("not a function")
          if (n === 0) return Effect.void
          return Effect.fail<Declined | "other">(n === 1 ? new Declined({ n }) : "other")
        }).pipe(
          Processor.catchTag("Declined", Policy.ignore),
          Processor.catch(Policy.deadLetter({ topic: "others" })),
          Processor.catchDefect(Policy.deadLetter())
        )
      ])
      assert.deepStrictEqual(summary.parts.p, counts({ processed: 1, failed: 3, ignored: 1, deadLettered: 2 }))
      const [defect] = yield* lettersOf(topic)
      assert.deepInclude(defect!.error, { tag: "TypeError", message: "not a function" })
      const [other] = yield* lettersOf(topic, { topic: "others" })
      assert.deepInclude(other!.error, { tag: "Unknown", message: "other" })
    })
  )

  behaviour("can be worked on by a processor of its own, typed", () =>
    Effect.gen(function* () {
      const topic = readings(2)
      yield* Topic.publishAll(
        topic,
        numbers(10).map((n) => reading(n))
      )
      const seen: Array<readonly [number, string]> = []
      yield* drain([
        Processor.make("p", { topic }, failing(4)).pipe(Processor.catch(Policy.deadLetter())),
        Processor.make("clerk", { topic: Topic.dead(topic) }, ({ n }, event) =>
          Effect.sync(() => void seen.push([n, event.headers[headers.errorTag]!]))
        )
      ])
      assert.deepStrictEqual(seen, [[4, "Declined"]])
    })
  )

  behaviour("keeps texts short, however long they were", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publish(topic, reading(0))
      yield* drain([
        Processor.make("p", { topic }, () => Effect.fail(new Error("x".repeat(100_000)))).pipe(
          Processor.catch(Policy.deadLetter())
        )
      ])
      const [letter] = yield* lettersOf(topic)
      assert.isBelow(letter!.error.message.length, 1_100)
      assert.isBelow(letter!.error.stack.length, 4_100)
    })
  )
})

describe("an entry that cannot be decoded", () => {
  const shapes = (topic: ReturnType<typeof readings>, seen: Array<number>) => {
    const note = ({ n }: Reading) => Effect.sync(() => void seen.push(n))
    return {
      make: Processor.make("p", { topic }, note),
      perKey: Processor.make("p", { topic, concurrency: { perKey: 3 } }, note),
      batch: Processor.batch("p", { topic, size: 3, within: "10 millis" }, (values) => Effect.forEach(values, note)),
      stream: Processor.stream("p", { topic }, Event.mapEffect(note))
    }
  }
  for (const shape of ["make", "perKey", "batch", "stream"] as const) {
    behaviour(`is kept with its bytes, among good ones and inside a batch: ${shape}`, (engine) =>
      Effect.gen(function* () {
        const topic = readings(1, Retention.forever)
        yield* Topic.publish(topic, reading(0))
        yield* append(topic, ["v", "{ no json", "k", "k1", "h", `{"a":"b"}`])
        yield* append(topic, ["n", "3", "v", `[{"key":"k1","n":1},{"key":"k2","n":"two"},{"key":"k3","n":3}]`], 3)
        yield* append(topic, ["other", "field"])
        yield* Topic.publish(topic, reading(4))
        const seen: Array<number> = []
        const part = shapes(topic, seen)[shape].pipe(
          Processor.retry({ times: 5 }),
          Processor.catchTag("DecodeError", Policy.deadLetter())
        )
        const worker = yield* start([part])
        const idle = yield* Effect.forkChild(worker.idle)
        yield* until(engine, "all is done", () => idle.pollUnsafe() !== undefined)
        const summary = yield* worker.stop
        assert.deepStrictEqual(seen.toSorted(), [0, 1, 3, 4])
        assert.deepStrictEqual(summary.parts.p, counts({ processed: 4, failed: 3, deadLettered: 3 }))
        const letters = yield* stored(Topic.dead(topic))
        assert.deepStrictEqual(
          letters.map((fields) => fields.get("v")),
          ["{ no json", `{"key":"k2","n":"two"}`, undefined]
        )
        assert.strictEqual(letters[0]!.get("k"), "k1")
        assert.deepInclude(JSON.parse(letters[0]!.get("h")!), { a: "b", [headers.attempts]: "1" })
        assert.strictEqual(letters[2]!.get("other"), "field")
        const listed = yield* lettersOf(topic)
        assert.deepStrictEqual(
          listed.map(({ error, event }) => [error.tag, Result.isFailure(event)]),
          [
            ["DecodeError", true],
            ["DecodeError", true],
            ["DecodeError", true]
          ]
        )
      })
    )
  }

  behaviour("in a batch that nobody can take apart, keeps the whole of it and says which event it is", () =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      yield* append(topic, ["n", "2", "v", "[broken", "k", `["k1","k2"]`], 2)
      yield* drain([Processor.make("p", { topic }, () => Effect.void).pipe(Processor.catch(Policy.deadLetter()))])
      const letters = yield* stored(Topic.dead(topic))
      assert.deepStrictEqual(
        letters.map((fields) => [fields.get("v"), fields.get("k"), JSON.parse(fields.get("h")!)[headers.batch]]),
        [
          ["[broken", "k1", "0/2"],
          ["[broken", "k2", "1/2"]
        ]
      )
    })
  )
})

describe("exactly once", () => {
  const emitsTo =
    (name: string) => (commit: { readonly emits: ReadonlyArray<{ readonly topic: { readonly name: string } }> }) =>
      commit.emits.some(({ topic }) => topic.name === name)

  behaviour("also when the answer to its commit is lost", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(20).map((n) => reading(n))
      )
      const { change, state } = losingReply(emitsTo("readings.dead"))
      yield* Effect.gen(function* () {
        const worker = yield* start([
          Processor.make("p", { topic }, failing(7)).pipe(Processor.catch(Policy.deadLetter()))
        ])
        const idle = yield* Effect.forkChild(worker.idle)
        yield* until(engine, "all is done", () => idle.pollUnsafe() !== undefined)
        yield* worker.stop
      }).pipe(through(change))
      assert.strictEqual(state.lost, 1)
      assert.deepStrictEqual(yield* collect(Topic.dead(topic)), [7])
      assert.strictEqual(yield* behind("p"), 0)
    })
  )

  behaviour("also when the worker is gone at that very moment", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(20).map((n) => reading(n))
      )
      const part = Processor.make("p", { topic }, failing(7)).pipe(Processor.catch(Policy.deadLetter()))
      const { applied, change } = hanging(emitsTo("readings.dead"))
      yield* Effect.gen(function* () {
        const worker = yield* start([part], { grace: 0, lease: "1 second" })
        yield* applied
        const closing = yield* Effect.forkChild(worker.close)
        yield* until(engine, "the worker is gone", () => closing.pollUnsafe() !== undefined)
      }).pipe(through(change))
      yield* drain([part])
      assert.deepStrictEqual(yield* collect(Topic.dead(topic)), [7])
      assert.strictEqual(yield* behind("p"), 0)
    })
  )

  behaviour("and not at all if the handler's failure was never committed", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publishAll(
        topic,
        numbers(3).map((n) => reading(n))
      )
      yield* halted([
        Processor.make("p", { topic }, ({ n }) => (n === 1 ? Effect.die("boom") : Effect.void)).pipe(
          Processor.catch(Policy.deadLetter())
        )
      ])
      assert.deepStrictEqual(yield* collect(Topic.dead(topic)), [])
      assert.strictEqual(yield* behind("p"), 2)
    })
  )

  behaviour("a letter that cannot be written leaves its event unacknowledged", () =>
    Effect.gen(function* () {
      const topic = readings(2)
      yield* Topic.publish(Topic.variant(topic, "errors", { partitions: 3 }), reading(0))
      yield* Topic.publish(topic, reading(1))
      const chosen = Processor.make("p", { topic }, () => Effect.fail("no")).pipe(
        Processor.catch(Policy.choose(() => Policy.deadLetter({ topic: "errors" })))
      )
      const failure = yield* halted([chosen])
      assert.include(failure.message, "3 partitions")
      assert.strictEqual(yield* behind("p"), 1)
      // Known before: refused at the start.
      const refused = yield* Effect.flip(
        drain([
          Processor.make("p", { topic }, () => Effect.fail("no")).pipe(
            Processor.catch(Policy.deadLetter({ topic: "errors" }))
          )
        ])
      )
      assert.deepInclude(refused as object, { _tag: "Misconfigured", reason: "LayoutMismatch" })
    })
  )
})

describe("definition", () => {
  it("refuses names that no topic may have", () => {
    assert.throws(() => Policy.deadLetter({ topic: "a b" }), /topic name "a b"/)
    const long = Topic.make("t".repeat(125), { schema: Schema.Int })
    const part = Processor.make("p", { topic: long }, () => Effect.fail("no"))
    assert.throws(() => part.pipe(Processor.catch(Policy.deadLetter())), /1 to 128/)
    // Elsewhere there is room.
    part.pipe(Processor.catch(Policy.deadLetter({ topic: "errors" })))
  })
})

describe("interruption", () => {
  behaviour("in the middle of a try leaves neither a letter nor an acknowledgement", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* Topic.publish(topic, reading(0))
      const started = yield* Deferred.make<void>()
      const part = (stuck: boolean) =>
        Processor.make("p", { topic }, ({ n }) =>
          Effect.andThen(Deferred.succeed(started, undefined), stuck ? Effect.never : Effect.fail(new Declined({ n })))
        ).pipe(Processor.catchTag("Declined", Policy.deadLetter()), Processor.catchDefect(Policy.deadLetter()))
      const worker = yield* start([part(true)], { grace: 0 })
      yield* Deferred.await(started)
      const closing = yield* Effect.forkChild(worker.close)
      yield* until(engine, "the worker is gone", () => closing.pollUnsafe() !== undefined)
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* collect(Topic.dead(topic)), [])
      yield* drain([part(false)])
      assert.deepStrictEqual(yield* collect(Topic.dead(topic)), [0])
    })
  )

  behaviour(
    "a retention bounds the dead topic; what it drops is counted, and what is left is put back once",
    (engine) =>
      Effect.gen(function* () {
        const topic = readings(1, Retention.forever)
        const name = `bounded-${engine.name}`
        let isBad = true
        const part = Processor.make(name, { topic }, ({ n }) =>
          isBad ? Effect.fail(new Declined({ n })) : Effect.void
        ).pipe(Processor.catchTag("Declined", Policy.deadLetter({ retention: Retention.maxLength(4) })))
        const dead = Topic.dead(topic)
        assert.deepStrictEqual(dead.retention, Retention.maxLength(4), "the same topic, whoever asks for it")
        const fail = (count: number, from: number) =>
          Effect.gen(function* () {
            isBad = true
            for (const n of numbers(count, from)) yield* Topic.publish(topic, reading(n))
            yield* drain([part])
            yield* Broker.use((broker) => broker.trim(dead))
          })
        const listed = Effect.map(lettersOf(topic), (letters) =>
          letters.map(({ event }) => Result.getOrThrow(event).value.n)
        )
        const counted = Effect.map(Admin.deadTopics, ([one]) => [one!.letters, one!.dropped])
        // A processor that has read none of them.
        const late = Processor.make(`late-${engine.name}`, { topic: dead, onLost: "resume" }, () => Effect.void)
        yield* Broker.use((broker) => broker.register(`late-${engine.name}`, [dead], "earliest"))
        yield* fail(10, 0)
        assert.deepStrictEqual(yield* listed, numbers(4, 6))
        assert.deepStrictEqual(yield* counted, [4, 6])
        yield* drain([late])
        const lost = yield* Metric.value(Metric.withAttributes(Metrics.lost, { processor: `late-${engine.name}` }))
        assert.strictEqual(Number(lost.count), 6)
        // One of them alone; then others are dropped, that one among them.
        isBad = false
        const [, second] = yield* lettersOf(topic)
        assert.strictEqual(yield* Topic.redrive(topic, { offsets: [{ partition: 0, offset: second!.offset }] }), 1)
        assert.deepStrictEqual(yield* counted, [3, 6])
        yield* drain([part])
        yield* fail(2, 20)
        assert.deepStrictEqual(yield* listed, [8, 9, 20, 21])
        assert.deepStrictEqual(yield* counted, [4, 7])
        isBad = false
        assert.strictEqual(yield* Topic.redrive(topic), 4)
        assert.deepStrictEqual([yield* listed, yield* counted], [[], [0, 7]])
        yield* drain([part])
        yield* fail(5, 30)
        assert.deepStrictEqual(yield* listed, numbers(4, 31))
        assert.deepStrictEqual(yield* counted, [4, 8])
        assert.strictEqual(yield* Topic.redrive(topic), 4)
      })
  )

  it("two retentions for one dead topic are refused where the second is given", () => {
    const topic = readings()
    const part = Processor.make("p", { topic }, ({ n }) => Effect.fail(new Declined({ n }))).pipe(
      Processor.catchTag("Declined", Policy.deadLetter({ retention: Retention.maxLength(4) }))
    )
    assert.throws(
      () => Topic.dead(topic, { retention: Retention.forever }),
      /readings\.dead: it was given two retentions/
    )
    assert.throws(
      () => part.pipe(Processor.catch(Policy.deadLetter({ retention: Retention.maxAge("1 day") }))),
      /two retentions/
    )
    const other = Topic.dead(topic, { topic: "others", retention: Retention.maxAge("1 day") })
    assert.strictEqual(Topic.dead(topic, { topic: "others", retention: Retention.maxAge("1 day") }), other)
    assert.deepStrictEqual(Topic.dead(readings()).retention, Retention.forever)
  })
})
