/** What schemas mean through an engine: every kind of value, several kinds in one topic, older entries, secrets. */
import { assert, describe } from "@effect/vitest"
import {
  BigDecimal,
  Cause,
  Console,
  DateTime,
  Effect,
  Logger,
  Option,
  Redacted,
  References,
  Schema,
  Stream
} from "effect"
import { TestConsole } from "effect/testing"
import * as Job from "../src/Job.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Serializer from "../src/Serializer.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, drain, halted } from "./support/engines.ts"

const stored = <A>(topic: Topic.Topic<A, any>) =>
  Effect.map(Stream.runCollect(Topic.stream(topic, { until: "now" })), (events) => events.map(({ value }) => value))

/** A topic under one name, whatever its schema is. */
const withSchema = <S extends Schema.ConstraintCodec<any, any>>(schema: S, serializer?: Serializer.Codec) =>
  Topic.make("records", { schema, partitions: 1, retention: Retention.forever, serializer })

describe("a record", () => {
  class Line extends Schema.Class<Line>("Line")({ sku: Schema.String, count: Schema.Int }) {}
  const Everything = Schema.Struct({
    status: Schema.Literals(["open", "paid"]),
    either: Schema.Union([Schema.String, Schema.Finite]),
    perhaps: Schema.optionalKey(Schema.String),
    undefinable: Schema.optional(Schema.Int),
    nullable: Schema.NullOr(Schema.Boolean),
    counted: Schema.Int.pipe(Schema.withDecodingDefaultKey(Effect.succeed(7))),
    option: Schema.Option(Schema.Date),
    at: Schema.DateTimeUtc,
    big: Schema.BigInt,
    exact: Schema.BigDecimal,
    bytes: Schema.Uint8Array,
    pair: Schema.Tuple([Schema.String, Schema.Int]),
    list: Schema.Array(Schema.Struct({ deep: Schema.Array(Schema.NullOr(Schema.String)) })),
    byName: Schema.Record(Schema.String, Schema.Date),
    map: Schema.ReadonlyMap(Schema.BigInt, Line),
    set: Schema.ReadonlySet(Schema.String)
  })
  const full: typeof Everything.Type = {
    status: "paid",
    either: 1.5,
    perhaps: "here",
    undefinable: 3,
    nullable: false,
    counted: 1,
    option: Option.some(new Date(5)),
    at: DateTime.makeUnsafe(1_600_000_000_123),
    big: 2n ** 70n,
    exact: BigDecimal.fromStringUnsafe("12345678901234567890.000000001"),
    bytes: new Uint8Array([0, 255, 10]),
    pair: ["ß", -1],
    list: [{ deep: ["", null, "漢"] }, { deep: [] }],
    byName: { one: new Date(0), two: new Date(-1) },
    map: new Map([[1n, new Line({ sku: "a", count: 1 })]]),
    set: new Set(["x", "y"])
  }
  const { perhaps: _, undefinable: __, ...required } = full
  const sparse: typeof Everything.Type = { ...required, nullable: null, option: Option.none(), either: "" }

  for (const [name, serializer] of [
    ["JSON", Serializer.json],
    ["MessagePack", Serializer.msgpack]
  ] as const) {
    behaviour(`with enums, unions, optional fields, big numbers and collections comes back equal, as ${name}`, () =>
      Effect.gen(function* () {
        const topic = withSchema(Everything, serializer)
        yield* Topic.publish(topic, full)
        yield* Topic.publishAll(topic, [sparse, full])
        const seen: Array<typeof full> = []
        yield* drain([Processor.make("p", { topic }, (value) => Effect.sync(() => void seen.push(value)))])
        // Times and exact numbers remember what was worked out of them, so it is by the schema that they are compared.
        const equal = Schema.toEquivalence(Everything)
        assert.isFalse(equal(full, sparse))
        assert.isFalse(equal(full, { ...full, map: new Map([[1n, new Line({ sku: "a", count: 2 })]]) }))
        assert.deepStrictEqual(
          seen.map((value, n) => equal(value, [full, sparse, full][n]!)),
          [true, true, true]
        )
        assert.instanceOf(seen[0]!.map.get(1n), Line)
        assert.notProperty(seen[1], "perhaps")
      })
    )
  }

  behaviour("that is empty or missing is refused, unless its schema takes it", () =>
    Effect.gen(function* () {
      const strict = withSchema(Schema.Struct({ id: Schema.Int }))
      const nullable = withSchema(Schema.NullOr(Schema.Struct({ id: Schema.Int })))
      for (const nothing of [null, undefined, "", {}]) {
        const error = yield* Effect.flip(Topic.publish(strict, nothing as never))
        assert.deepInclude(error, { _tag: "EncodeError", reason: "Schema" })
      }
      assert.isEmpty(yield* stored(strict))
      yield* Topic.publishAll(nullable, [null, { id: 1 }, null])
      assert.deepStrictEqual(yield* stored(nullable), [null, { id: 1 }, null])
      // And so it is for who reads what others stored.
      assert.deepInclude(yield* Effect.flip(stored(strict)), { _tag: "DecodeError", reason: "Schema" })
    })
  )

  behaviour("of an older release is read by a newer schema: defaults are filled in, the rest meets the policy", () =>
    Effect.gen(function* () {
      const first = withSchema(Schema.Struct({ id: Schema.Int, gone: Schema.optionalKey(Schema.String) }))
      const second = withSchema(
        Schema.Struct({
          id: Schema.Int.check(Schema.isLessThan(100)),
          currency: Schema.String.pipe(Schema.withDecodingDefaultKey(Effect.succeed("EUR"))),
          note: Schema.optionalKey(Schema.String)
        })
      )
      yield* Topic.publishAll(first, [{ id: 1 }, { id: 100 }, { id: 2, gone: "x" }])
      yield* Topic.publish(second, { id: 3, currency: "CHF", note: "n" })
      const seen: Array<unknown> = []
      const part = Processor.make("p", { topic: second }, (value) => Effect.sync(() => void seen.push(value)))
      const summary = yield* drain([part.pipe(Processor.catchTag("DecodeError", Policy.deadLetter()))])
      assert.deepStrictEqual(seen, [
        { id: 1, currency: "EUR" },
        { id: 2, currency: "EUR" },
        { id: 3, currency: "CHF", note: "n" }
      ])
      assert.deepInclude(summary.parts["p"], { processed: 3, deadLettered: 1 })
      // The older release goes on with what the newer one writes.
      assert.deepStrictEqual((yield* stored(first)).at(-1), { id: 3 })
    })
  )
})

describe("several kinds in one topic", () => {
  class Opened extends Schema.TaggedClass<Opened>()("Opened", { by: Schema.String }) {}
  class Closed extends Schema.TaggedClass<Closed>()("Closed", { balance: Schema.BigInt }) {}
  class Frozen extends Schema.TaggedClass<Frozen>()("Frozen", { until: Schema.Date }) {}

  behaviour("are told apart by their tag; one whose tag is not known is a DecodeError of that event alone", () =>
    Effect.gen(function* () {
      const all = withSchema(Schema.Union([Opened, Closed, Frozen]))
      const known = withSchema(Schema.Union([Opened, Closed]))
      yield* Topic.publishAll(all, [
        new Opened({ by: "ada" }),
        new Frozen({ until: new Date(0) }),
        new Closed({ balance: 3n })
      ])
      const seen: Array<string> = []
      const refused: Array<unknown> = []
      const part = Processor.make("p", { topic: known }, (value) =>
        Effect.sync(() => void seen.push(value._tag === "Opened" ? `by ${value.by}` : `with ${value.balance}`))
      ).pipe(
        Processor.catchTag(
          "DecodeError",
          Policy.choose((error) => {
            refused.push([error.reason, Buffer.from(error.bytes).toString()])
            return Policy.ignore
          })
        )
      )
      yield* drain([part])
      assert.deepStrictEqual(seen, ["by ada", "with 3"])
      assert.deepStrictEqual(refused, [["Schema", `{"_tag":"Frozen","until":"1970-01-01T00:00:00.000Z"}`]])
      const read = yield* stored(all)
      assert.deepStrictEqual(
        read.map((value) => value.constructor),
        [Opened, Frozen, Closed]
      )
    })
  )
})

describe("a redacted field", () => {
  const word = "hunter2"
  const Account = Schema.Struct({ id: Schema.Int, password: Schema.Redacted(Schema.String) })
  const account = (id: number) => ({ id, password: Redacted.make(word) })
  class Refused extends Schema.TaggedError<Refused>()("Refused", { account: Account }) {}

  /** All that is logged, at any level, in every format. */
  const logged = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.gen(function* () {
      const result = yield* effect.pipe(
        Effect.provide(Logger.layer([Logger.consoleJson, Logger.consoleLogFmt, Logger.consoleStructured])),
        Effect.provideService(References.MinimumLogLevel, "All")
      )
      const lines = [...(yield* TestConsole.logLines), ...(yield* TestConsole.errorLines)]
      return [result, lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line))).join("\n")] as const
    }).pipe(Effect.provideServiceEffect(Console.Console, TestConsole.make))

  behaviour("reaches handlers, tables and jobs, and those who look them up", () =>
    Effect.gen(function* () {
      const topic = withSchema(Account)
      const accounts = Table.make("accounts", { key: Schema.Int, value: Schema.NullOr(Account), initial: () => null })
      const greet = Job.make("greet", { payload: Account, success: Schema.Redacted(Schema.String) })
      yield* Topic.publishAll(topic, [account(1), account(2)])
      const seen: Array<string> = []
      yield* drain([
        Processor.make("p", { topic, tables: [accounts] }, (value) =>
          Effect.gen(function* () {
            seen.push(Redacted.value(value.password))
            yield* Table.set(accounts, value.id, value)
          })
        )
      ])
      const { id } = yield* Job.enqueue(greet, account(3))
      yield* drain([Job.handler(greet, ({ password }) => Effect.succeed(password))])
      assert.deepStrictEqual(seen, [word, word])
      assert.strictEqual(Redacted.value((yield* Table.lookup(accounts, 2))!.password), word)
      assert.strictEqual(Redacted.value(Option.getOrThrow(yield* Job.result(greet, id))), word)
    })
  )

  behaviour("is in no log line and no text of an error, whatever fails with it", () =>
    Effect.gen(function* () {
      const topic = withSchema(Account)
      yield* Topic.publish(topic, account(1))
      const failing = (name: string) =>
        Processor.make(name, { topic }, (value) =>
          Effect.andThen(Effect.logInfo("handling", value), new Refused({ account: value }))
        )
      const job = Job.make("failing", { payload: Account, error: Refused })
      const dying = Job.make("dying", { payload: Account })
      // What was stored as an account does not fit.
      const other = withSchema(Schema.Struct({ id: Schema.String, password: Schema.Redacted(Schema.Int) }))
      const [errors, lines] = yield* logged(
        Effect.gen(function* () {
          yield* drain([failing("dead").pipe(Processor.catch(Policy.deadLetter()))])
          yield* drain([failing("aside").pipe(Processor.catch(Policy.quarantine))])
          yield* drain([failing("ignored").pipe(Processor.catch(Policy.ignore))])
          const halt = yield* halted([failing("halts")])
          yield* Job.enqueue(job, account(2))
          yield* Job.enqueue(dying, account(3))
          yield* drain([
            Job.handler(job, (value) => new Refused({ account: value })),
            Job.handler(dying, (value) => Effect.die(new Refused({ account: value })))
          ])
          return [
            halt.message,
            Cause.pretty(halt.cause),
            yield* Effect.flip(Topic.publish(topic, { id: "x", password: Redacted.make(word) } as never)),
            yield* Effect.flip(Topic.publish(topic, { id: 1, password: word } as never)),
            yield* Effect.flip(Job.enqueue(job, { id: 1, password: word } as never)),
            yield* Effect.flip(stored(other))
          ].map((error) => (typeof error === "string" ? error : `${error} ${error.message} ${JSON.stringify(error)}`))
        })
      )
      for (const text of ["dead", "aside", "ignored", "halts", "failing", "dying"]) assert.include(lines, text)
      assert.notInclude(lines, word)
      assert.notInclude(errors.join("\n"), word)
      const [letter] = yield* Stream.runCollect(Topic.stream(Topic.dead(topic), { until: "now" }))
      assert.notInclude(JSON.stringify(letter!.headers), word)
    })
  )
})
