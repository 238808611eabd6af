/**
 * What the types must accept, infer and refuse. Nothing in the functions below runs: the compiler judges them. The tests
 * run it on this file as it is (clean: each `@ts-expect-error` meets an error), and on a copy without those comments, to
 * see that each is refused for the reason that is written beside it.
 */
import { spawn } from "node:child_process"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import {
  Context,
  DateTime,
  Effect,
  type HashSet,
  Layer,
  type Option,
  Schedule,
  Schema,
  type Scope,
  Stream
} from "effect"
import { afterAll, assert, beforeAll, describe, expectTypeOf, it } from "vitest"
import type {
  AgentDefect,
  AgentTimeout,
  AskCycle,
  DecodeError,
  DurabilityNotReached,
  EncodeError,
  EngineError,
  EventsLost,
  JobFailed,
  MemberReplaced,
  Misconfigured,
  OffsetConflict,
  ProcessorHalted,
  TopicFull,
  UnitTooLarge
} from "../src/Errors.ts"
import {
  Agent,
  type Engine,
  Event,
  Job,
  Join,
  Part,
  Policy,
  Processor,
  Retention,
  Scheduler,
  Serializer,
  Table,
  Topic,
  Window,
  Worker
} from "../src/index.ts"

// ------------------------------------------------------------------------------------------------------ the subjects

class Declined extends Schema.TaggedError<Declined>()("Declined", { id: Schema.Int }) {}
class Unpaid extends Schema.TaggedError<Unpaid>()("Unpaid", { amount: Schema.Finite }) {}
class Payments extends Context.Service<Payments, { charge(id: number): Effect.Effect<void, Unpaid> }>()("Payments") {}
class Clerk extends Context.Service<Clerk, { readonly name: string }>()("Clerk") {}

class Order extends Schema.Class<Order>("Order")({
  id: Schema.Int,
  customer: Schema.String,
  amount: Schema.Finite,
  paid: Schema.Boolean,
  placedAt: Schema.DateTimeUtc,
  number: Schema.BigInt
}) {}

declare const order: Order
const orders = Topic.make("orders", { schema: Order, partitionBy: (order) => order.customer })
const refunds = Topic.make("refunds", { schema: Schema.Struct({ id: Schema.Int }), partitionBy: "id" })
const Payment = Schema.Struct({ customer: Schema.String, amount: Schema.Finite })
type Payment = typeof Payment.Type
const paid = Topic.make("paid", { schema: Payment, partitionBy: "customer" })
const lefts = Join.streams(orders, paid, { within: "1 hour", kind: "left" })
const numbers = Topic.make("numbers", { schema: Schema.Finite })
const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })
const byId = Table.make("byId", { key: Schema.Int, value: Order, initial: () => order })
const local = Table.make("local", { key: Schema.String, value: Schema.Finite, initial: () => 0, scope: "partition" })

const loggedTotals = Table.make("logged", { key: Schema.String, value: Schema.Finite, initial: () => 0, changes: true })
const tags = Table.sets("tags", { key: Schema.Int, member: Schema.String })

const count = (order: Order) => Table.update(totals, order.customer, (total) => total + order.amount)
const both = Effect.fnUntraced(function* (order: Order) {
  if (order.amount < 0) return yield* new Declined({ id: order.id })
  yield* (yield* Payments).charge(order.id)
})
const billing = Processor.make("billing", { topic: orders }, both)
const counting = Processor.make("counting", { topic: orders, tables: [totals] }, count)
const plain = Processor.make("plain", { topic: orders }, () => Effect.void)

/** Accepts what a program can run: nothing is left to provide but the engine. */
const runnable = <A, E>(_: Effect.Effect<A, E, Engine.Services>): void => {}

// ------------------------------------------------------------------------------------------------ accepted, inferred

export const inferred = () => {
  expectTypeOf(orders).toEqualTypeOf<Topic.Topic<Order, string>>()
  expectTypeOf(refunds).toEqualTypeOf<Topic.Topic<{ readonly id: number }, number>>()
  expectTypeOf(numbers).toEqualTypeOf<Topic.Topic<number, undefined>>()
  const byNumber = Topic.make("by-number", { schema: Order, partitionBy: "number" })
  expectTypeOf(byNumber).toEqualTypeOf<Topic.Topic<Order, bigint>>()
  expectTypeOf(Topic.variant(orders, "old-orders")).toEqualTypeOf<Topic.Topic<Order, string>>()
  expectTypeOf(orders.pipe(Topic.variant("old-orders"))).toEqualTypeOf<Topic.Topic<Order, string>>()
  expectTypeOf(totals).toEqualTypeOf<Table.Table<"totals", string, number>>()
  expectTypeOf(local).toEqualTypeOf<Table.PerPartition<"local", string, number>>()

  // What a processor infers: the handler's errors and the codec's; its requirements without what it supplies itself.
  expectTypeOf(plain).toEqualTypeOf<Processor.Processor<DecodeError, never>>()
  expectTypeOf(billing).toEqualTypeOf<Processor.Processor<Declined | Unpaid | DecodeError, Payments>>()
  // What stages something may stage too much.
  expectTypeOf(counting).toEqualTypeOf<Processor.Processor<DecodeError | UnitTooLarge, never>>()
  Processor.make("values", { topic: orders }, (value, event) => {
    expectTypeOf(value).toEqualTypeOf<Order>()
    expectTypeOf(event).toEqualTypeOf<Event.Event<Order>>()
    return Effect.void
  })
  Processor.make("merged", { topic: [orders, refunds] }, (value) => {
    expectTypeOf(value).toEqualTypeOf<Order | { readonly id: number }>()
    return Effect.void
  })
  Processor.batch("batch", { topic: orders, size: 10, within: "1 second" }, (values, events) => {
    expectTypeOf(values).toEqualTypeOf<readonly [Order, ...ReadonlyArray<Order>]>()
    expectTypeOf(events).toEqualTypeOf<readonly [Event.Event<Order>, ...ReadonlyArray<Event.Event<Order>>]>()
    return Effect.void
  })
  const scoped = Processor.make("scoped", { topic: orders }, () => Effect.addFinalizer(() => Effect.void))
  expectTypeOf(scoped).toEqualTypeOf<Processor.Processor<DecodeError, never>>()

  // The engine's own failures never reach a policy, whoever raises them in the handler.
  const publishing = Processor.make("publishing", { topic: orders }, () => Topic.publish(refunds, { id: 1 }))
  type Publishing = EncodeError | TopicFull | DurabilityNotReached | DecodeError
  expectTypeOf(publishing).toEqualTypeOf<Processor.Processor<Publishing, Topic.Client>>()
  const looking = Processor.make("looking", { topic: orders }, (order) => Table.lookup(totals, order.customer))
  expectTypeOf(looking).toEqualTypeOf<Processor.Processor<DecodeError, Table.Client>>()
  const emitting = Processor.make("emitting", { topic: orders }, () => Topic.emit(refunds, { id: 1 }))
  expectTypeOf(emitting).toEqualTypeOf<Processor.Processor<EncodeError | DecodeError | UnitTooLarge, never>>()
  expectTypeOf(Processor.repartition("copy", { topic: orders, to: Topic.variant(orders, "copies") })).toEqualTypeOf<
    Processor.Processor<DecodeError | EncodeError, never>
  >()
  const joined = Join.streams(orders, paid, { within: "1 hour" })
  expectTypeOf(joined).toEqualTypeOf<Topic.Source<Join.Pair<Order, Payment>, string>>()
  expectTypeOf(lefts).toEqualTypeOf<Topic.Source<Join.Pair<Order, Option.Option<Payment>>, string>>()
  const outer = Join.streams(orders, paid, { within: "1 hour", kind: "outer" })
  type Outer = Join.Pair<Option.Option<Order>, Option.Option<Payment>>
  expectTypeOf(outer).toEqualTypeOf<Topic.Source<Outer, string>>()
  const matched = Processor.make("matched", { topic: joined }, ({ left, right }, event) => {
    expectTypeOf(left).toEqualTypeOf<Order>()
    expectTypeOf(event).toEqualTypeOf<Event.Event<Join.Pair<Order, Payment>>>()
    return right.amount === left.amount ? Effect.void : Effect.fail(new Declined({ id: left.id }))
  })
  expectTypeOf(matched).toEqualTypeOf<Processor.Processor<Declined | DecodeError, never>>()
  Processor.batch("pairs", { topic: outer, size: 5, within: "1 second" }, (pairs) => {
    expectTypeOf(pairs).toEqualTypeOf<readonly [Outer, ...ReadonlyArray<Outer>]>()
    return Effect.void
  })
  const known = Join.table(orders, totals)
  expectTypeOf(known).toEqualTypeOf<Topic.Source<Join.Pair<Order, number>, string>>()
  const perhaps = Join.table(joined, totals, { kind: "left" })
  type Perhaps = Join.Pair<Join.Pair<Order, Payment>, Option.Option<number>>
  expectTypeOf(perhaps).toEqualTypeOf<Topic.Source<Perhaps, string>>()
  expectTypeOf(Join.tables(totals, totals)).toEqualTypeOf<
    Table.Table<"totals+totals", string, readonly [number, number]>
  >()
  Processor.make("beside", { topic: [known, orders] }, (value) => {
    expectTypeOf(value).toEqualTypeOf<Order | Join.Pair<Order, number>>()
    return Effect.void
  })
  const piped = Processor.stream("piped", { topic: orders, tables: [totals] }, (events) =>
    events.pipe(
      Event.filter((order) => order.paid),
      Event.mapEffect((order, event) => {
        expectTypeOf(event).toEqualTypeOf<Event.Event<Order>>()
        return Effect.andThen(
          count(order),
          Payments.use((payments) => payments.charge(order.id))
        )
      }),
      Stream.groupedWithin(10, "1 second")
    )
  )
  expectTypeOf(piped).toEqualTypeOf<Processor.Processor<Unpaid | DecodeError | UnitTooLarge, Payments>>()

  // Policies take errors out, and bring requirements in.
  expectTypeOf(Processor.catchTag(billing, "Declined", Policy.ignore)).toEqualTypeOf<
    Processor.Processor<Unpaid | DecodeError, Payments>
  >()
  expectTypeOf(billing.pipe(Processor.catchTag(["Declined", "DecodeError"], Policy.ignore))).toEqualTypeOf<
    Processor.Processor<Unpaid, Payments>
  >()
  expectTypeOf(billing.pipe(Processor.catch(Policy.ignore))).toEqualTypeOf<Processor.Processor<never, Payments>>()
  expectTypeOf(Processor.catchDefect(billing, Policy.ignore)).toEqualTypeOf<typeof billing>()
  // Trying again takes nothing out: it can run out.
  const retried = billing.pipe(
    Processor.retry({
      schedule: Schedule.exponential("100 millis"),
      times: 5,
      while: (error) => {
        expectTypeOf(error).toEqualTypeOf<Declined | Unpaid | DecodeError>()
        return error._tag === "Unpaid"
      }
    })
  )
  expectTypeOf(retried).toEqualTypeOf<typeof billing>()
  expectTypeOf(Processor.retry(billing, { times: 3 })).toEqualTypeOf<typeof billing>()
  const paced = Schedule.recurs(3).pipe(Schedule.addDelay(() => Effect.as(Clerk, "1 second" as const)))
  expectTypeOf(billing.pipe(Processor.retry({ schedule: paced }))).toEqualTypeOf<
    Processor.Processor<Declined | Unpaid | DecodeError, Payments | Clerk>
  >()
  const safe = retried.pipe(
    Processor.catchTag("Declined", Policy.deadLetter()),
    Processor.catchTag("DecodeError", Policy.quarantine)
  )
  expectTypeOf(safe).toEqualTypeOf<Processor.Processor<Unpaid, Payments>>()
  expectTypeOf(safe.pipe(Processor.catch(Policy.deadLetter({ topic: "errors" })))).toEqualTypeOf<
    Processor.Processor<never, Payments>
  >()
  expectTypeOf(counting.pipe(Processor.catchTag("UnitTooLarge", Policy.ignore))).toEqualTypeOf<
    Processor.Processor<DecodeError, never>
  >()
  billing.pipe(
    Processor.catchTag(
      "Unpaid",
      Policy.choose((error, event) => {
        expectTypeOf(error).toEqualTypeOf<Unpaid>()
        expectTypeOf(event).toEqualTypeOf<Event.Event<unknown>>()
        return Policy.ignore
      })
    )
  )
  const guarded = Processor.around(plain, (handle) => Effect.andThen(Clerk, handle))
  expectTypeOf(guarded).toEqualTypeOf<Processor.Processor<DecodeError, Clerk>>()
  const failing = plain.pipe(Processor.middleware(Stream.tap(() => new Declined({ id: 1 }))))
  expectTypeOf(failing).toEqualTypeOf<Processor.Processor<DecodeError | Declined, never>>()

  // Order or not: reading is always allowed, writing by key too.
  const lanes = Processor.make("lanes", { topic: orders, tables: [totals], concurrency: { perKey: 8 } }, count)
  const unordered = Processor.make(
    "unordered",
    { topic: orders, tables: [totals], concurrency: { unordered: 8 } },
    (order) => Table.get(totals, order.customer)
  )
  runnable(Worker.run([counting, lanes, unordered]))

  // The worker: what can halt it, what it needs.
  expectTypeOf(Worker.run([billing, counting], { limit: 5 })).toEqualTypeOf<
    Effect.Effect<
      Worker.Summary,
      ProcessorHalted<Declined | Unpaid | DecodeError | UnitTooLarge> | EngineError | MemberReplaced | Misconfigured,
      Payments | Engine.Services
    >
  >()
  expectTypeOf(Worker.run([])).toEqualTypeOf<
    Effect.Effect<
      Worker.Summary,
      ProcessorHalted<never> | EngineError | MemberReplaced | Misconfigured,
      Engine.Services
    >
  >()
  expectTypeOf(Worker.layer([billing])).toEqualTypeOf<
    Layer.Layer<Worker.Worker<Declined | Unpaid | DecodeError>, EngineError | Misconfigured, Payments | Engine.Services>
  >()
  const web = Layer.succeed(Clerk, { name: "web" })
  expectTypeOf(Worker.launch(Layer.mergeAll(web, Worker.layer([counting])))).toEqualTypeOf<
    Effect.Effect<
      Worker.Summary,
      ProcessorHalted<DecodeError | UnitTooLarge> | EngineError | MemberReplaced | Misconfigured,
      Engine.Services
    >
  >()
  const payments = Layer.effect(Payments, Effect.as(Clerk, { charge: () => Effect.void }))
  const provided: Part.Part<Declined | Unpaid | DecodeError, Clerk> = billing.pipe(Part.provide(payments))
  runnable(Worker.run([provided.pipe(Part.provide(web))]))

  // Windows: what closes them joins the processor's errors and needs.
  const perHour = Table.windowed("perHour", {
    key: Schema.String,
    value: Schema.Int,
    initial: () => 0,
    window: Window.tumbling("1 hour")
  })
  expectTypeOf(perHour).toEqualTypeOf<Table.Windowed<"perHour", string, number>>()
  const visits = Table.windowed("visits", {
    key: Schema.String,
    value: Schema.Int,
    initial: () => 0,
    window: Window.session("5 minutes"),
    merge: (a, b) => a + b
  })
  const closing = Table.onClose(
    perHour,
    Effect.fnUntraced(function* ({ end, key, start, value }) {
      expectTypeOf([key, value]).toEqualTypeOf<Array<string | number>>()
      expectTypeOf([start, end]).toEqualTypeOf<Array<DateTime.Utc>>()
      yield* Clerk
      if (value < 0) return yield* new Declined({ id: 1 })
      yield* Table.update(visits, key, (n) => n + value)
    })
  )
  const windowed = Processor.make("windowed", { topic: orders, tables: [closing, visits] }, (order) =>
    Effect.andThen(
      Table.update(perHour, order.customer, (n) => n + 1),
      Table.delta(perHour, order.customer, "1 hour")
    )
  )
  expectTypeOf(windowed).toEqualTypeOf<Processor.Processor<Declined | DecodeError | UnitTooLarge, Clerk>>()
  expectTypeOf(windowed.pipe(Processor.catchTag("Declined", Policy.ignore))).toEqualTypeOf<
    Processor.Processor<DecodeError | UnitTooLarge, Clerk>
  >()
  expectTypeOf(Table.lookup(perHour, "a", { at: DateTime.makeUnsafe(0) })).toEqualTypeOf<
    Effect.Effect<number, Table.LookupError, Table.Client>
  >()

  // A function around `make` may be generic in what its handler needs.
  const logged = <E, R>(name: string, handler: (order: Order) => Effect.Effect<unknown, E, R>) =>
    Processor.make(name, { topic: orders, tables: [totals] }, (order) =>
      Effect.andThen(Effect.log(name), handler(order))
    )
  runnable(Worker.run([logged("generic", count)]))

  expectTypeOf(Topic.publish(orders, order)).toEqualTypeOf<
    Effect.Effect<Topic.Position, Topic.PublishError, Topic.Client>
  >()
  expectTypeOf(Topic.publishAll(orders, [order])).toEqualTypeOf<
    Effect.Effect<ReadonlyArray<Topic.Position>, Topic.PublishError | OffsetConflict, Topic.Client>
  >()
  expectTypeOf(
    Topic.publishAll(orders, Stream.fromEffect(Effect.andThen(Clerk, new Declined({ id: 1 }))))
  ).toEqualTypeOf<Effect.Effect<number, Topic.PublishError | Declined, Topic.Client | Clerk>>()
  expectTypeOf(Topic.stream(orders)).toEqualTypeOf<
    Stream.Stream<Event.Event<Order>, DecodeError | EventsLost | EngineError, Topic.Client>
  >()
  expectTypeOf(Table.entries(totals)).toEqualTypeOf<
    Stream.Stream<readonly [key: string, value: number], Table.LookupError, Table.Client>
  >()
  Table.lookup(local, "a", { partition: 3 })
  expectTypeOf(Table.lookupMany(totals, new Set(["a"]))).toEqualTypeOf<
    Effect.Effect<ReadonlyArray<number>, Table.LookupError, Table.Client>
  >()
  Table.lookupMany(local, ["a"], { partition: 3 })
  expectTypeOf(Table.get(totals, "a")).toEqualTypeOf<
    Effect.Effect<number, DecodeError, Event.UnitOfWork | Table.Reads<"totals">>
  >()
  expectTypeOf(Table.changes(loggedTotals)).toEqualTypeOf<
    Topic.Topic<Table.Change<string, number>, Topic.Key | undefined>
  >()
  Table.changes(Table.sets("sets", { key: Schema.Int, member: Order, changes: { retention: Retention.forever } }))
  expectTypeOf(Table.lookup(tags, 5)).toEqualTypeOf<
    Effect.Effect<HashSet.HashSet<string>, Table.LookupError, Table.Client>
  >()
  expectTypeOf(Table.add(tags, 5, "a")).toEqualTypeOf<
    Effect.Effect<HashSet.HashSet<string>, DecodeError, Event.UnitOfWork | Table.Writes<"tags">>
  >()
  const late: DateTime.Utc = order.placedAt
  Topic.publish(orders, order, { producer: "till-7", sequence: 1n, timestamp: late, headers: { a: "b" } })
}

// ----------------------------------------------------------------------------------------------------------- refused

export const refusedWindows = () => {
  const counts = { key: Schema.String, value: Schema.Int, initial: () => 0 }
  // @ts-expect-error: Property 'merge' is missing
  Table.windowed("w", { ...counts, window: Window.session("1 minute") })
  // @ts-expect-error: is not assignable to type 'undefined'
  Table.windowed("w", { ...counts, window: Window.tumbling("1 minute"), merge: (a: number, b: number) => a + b })
  // @ts-expect-error: '"field"' is not assignable
  Window.tumbling("1 minute", { time: "field" })
  // @ts-expect-error: Property 'window' is missing
  Table.now(totals, "a")
  const perMinute = Table.windowed("w", { ...counts, window: Window.tumbling("1 minute") })
  // @ts-expect-error: is not assignable to parameter of type
  Worker.run([Processor.make("p", { topic: orders, tables: [] }, () => Table.get(perMinute, "a"))])
}

export const refusedTopics = () => {
  // @ts-expect-error: missing the following properties from type 'Order'
  Topic.publish(orders, { id: 1 })
  // @ts-expect-error: 'string' is not assignable to parameter of type 'number'
  Topic.publish(numbers, "1")
  // @ts-expect-error: No overload matches
  Topic.publishAll(numbers, [1, "2"])
  // @ts-expect-error: 'string' is not assignable to type 'number'
  Topic.publishAll(numbers, Stream.make("1"))
  // @ts-expect-error: 'offsets' does not exist
  Topic.publishAll(numbers, Stream.make(1), { offsets: ["1-0"] })
  // @ts-expect-error: 'string' is not assignable to type 'number'
  Stream.make("1").pipe(Stream.run(Topic.sink(numbers)))
  // @ts-expect-error: 'sequence'
  Topic.publish(numbers, 1, { producer: "till-7" })
  // @ts-expect-error: 'producer'
  Topic.publish(numbers, 1, { sequence: 1n })
  // @ts-expect-error: 'number' is not assignable to type 'bigint'
  Topic.publish(numbers, 1, { producer: "till-7", sequence: 1 })
  // @ts-expect-error: 'true' is not assignable to type 'Key | undefined'
  Topic.publish(numbers, 1, { key: true })
  // @ts-expect-error: '"disk"' is not assignable
  Topic.publish(numbers, 1, { durability: "disk" })
  // @ts-expect-error: UnitOfWork
  runnable(Topic.emit(numbers, 1))
  // @ts-expect-error: 'string' is not assignable to parameter of type 'number'
  Processor.make("wrong", { topic: orders }, () => Topic.emit(numbers, "1"))
  // @ts-expect-error: 'Event<Order>' is not assignable to parameter of type 'Event<number>'
  Processor.make("wrong", { topic: orders }, (_, event) => Topic.forward(numbers, event))
  // @ts-expect-error: No overload matches
  Topic.make("wrong", { schema: Order, partitionBy: "nobody" })
  // @ts-expect-error: No overload matches
  Topic.make("wrong", { schema: Order, partitionBy: "paid" })
  // @ts-expect-error: No overload matches
  Topic.make("wrong", { schema: Order, partitionBy: "placedAt" })
  const flat = { schema: Schema.Struct({ a: Schema.Int, b: Schema.Boolean }), encoding: "flat" } as const
  // @ts-expect-error: No overload matches
  Topic.make("wrong", { ...flat, partitionBy: "b" })
  // @ts-expect-error: 'boolean' is not assignable to type 'Key | undefined'
  Topic.make("wrong", { schema: Order, partitionBy: (order) => order.paid })
  // @ts-expect-error: 'number' is not assignable to type 'Date | Utc'
  Topic.make("wrong", { schema: Order, timestamp: (order) => order.amount })
  // @ts-expect-error: '"avro"' is not assignable to type '"flat"'
  Topic.make("wrong", { schema: Order, encoding: "avro" })
  // @ts-expect-error: 'string' is not assignable to type 'Retention
  Topic.make("wrong", { schema: Order, retention: "forever" })
  // @ts-expect-error: 'string' is not assignable to type 'number'
  Topic.make("wrong", { schema: Order, partitions: "16" })
  // @ts-expect-error: 'schema' does not exist
  Topic.variant(orders, "wrong", { schema: Schema.String })
  // @ts-expect-error: '"yesterday"' is not assignable
  Topic.stream(orders, { from: "yesterday" })
  // @ts-expect-error: 'number' is not assignable to type 'Utc'
  Topic.stream(orders, { from: { time: 5 } })
  // @ts-expect-error: '[]' is not assignable
  Topic.stream(orders, { partitions: [] })
  // @ts-expect-error: '{ keep: number; }' is not assignable to parameter of type 'number'
  Retention.maxLength({ keep: 5 })
  // @ts-expect-error: '"lzma"' is not assignable
  Serializer.compressed(Serializer.json, { with: "lzma" })
  // @ts-expect-error: 'string' is not assignable to type 'Redacted<Uint8Array
  Serializer.encrypted(Serializer.json, [{ id: "1", key: "secret" }])
}

export const refusedTables = () => {
  // @ts-expect-error: 'boolean' is not assignable to type 'Key'
  Table.make("wrong", { key: Schema.Boolean, value: Schema.Finite, initial: () => 0 })
  // @ts-expect-error: 'string' is not assignable to type 'number'
  Table.make("wrong", { key: Schema.String, value: Schema.Finite, initial: () => "0" })
  // @ts-expect-error: '"shard"' is not assignable
  Table.make("wrong", { key: Schema.String, value: Schema.Finite, initial: () => 0, scope: "shard" })
  // @ts-expect-error: 'boolean' is not assignable to type 'Key'
  Table.make("wrong", { key: Schema.String, value: Schema.Finite, initial: () => 0, partitionBy: () => true })
  // @ts-expect-error: 'number' is not assignable to parameter of type 'string'
  Table.get(totals, 5)
  // @ts-expect-error: 'string' is not assignable to parameter of type 'number'
  Table.set(totals, "a", "b")
  // @ts-expect-error: 'string' is not assignable to type 'number'
  Table.update(totals, "a", (total) => `${total}`)
  // @ts-expect-error: 'string' is not assignable to parameter of type 'number'
  Table.remove(byId, "7")
  // @ts-expect-error: 'number' is not assignable to parameter of type 'string'
  Table.lookup(totals, 7)
  // @ts-expect-error: Type '"partition"' is not assignable to type '"key"'
  Table.lookup(local, "a")
  // @ts-expect-error: Type '"key"' is not assignable to type '"partition"'
  Table.lookup(totals, "a", { partition: 1 })
  // @ts-expect-error: Type '"partition"' is not assignable to type '"key"'
  Table.lookupMany(local, ["a"])
  // @ts-expect-error: Property '"~millrace/Logged"' is missing
  Table.changes(totals)
  // @ts-expect-error: Property '"~millrace/Logged"' is missing
  Table.changes(Table.make("plain", { key: Schema.String, value: Schema.Int, initial: () => 0, changes: false }))
  // @ts-expect-error: 'number' is not assignable to parameter of type 'string'
  Table.add(tags, 5, 7)
  // @ts-expect-error: Argument of type '"remove"' is not assignable
  Table.change(tags, 5, "remove", ["a"])
  // @ts-expect-error: Property 'member' is missing
  Table.add(totals, "a", 5)
  // @ts-expect-error: Writes<"totals">
  runnable(Table.update(totals, "a", (total) => total + 1))
  // @ts-expect-error: 'number' is not assignable
  Processor.make("wrong", { topic: orders, tables: [5] }, count)

  const undeclared = Processor.make("undeclared", { topic: orders }, count)
  // @ts-expect-error: Writes<"totals">
  Worker.run([undeclared])
  // @ts-expect-error: Writes<"totals">
  Worker.layer([counting, undeclared])
  const others = Processor.make("others", { topic: orders, tables: [byId] }, count)
  // @ts-expect-error: Writes<"totals">
  Worker.run([others])
  const reading = Processor.make("reading", { topic: orders }, (order) => Table.get(totals, order.customer))
  // @ts-expect-error: Reads<"totals">
  Worker.run([reading])
  const racing = Processor.make("racing", { topic: orders, tables: [totals], concurrency: { unordered: 4 } }, count)
  // @ts-expect-error: "declare in `tables`, and keep an order"
  Worker.run([racing])
  const batching = Processor.batch("batching", { topic: orders, size: 5, within: "1 second" }, ([order]) =>
    count(order)
  )
  // @ts-expect-error: Writes<"totals">
  Worker.run([batching])
  const streaming = Processor.stream("streaming", { topic: orders }, Event.mapEffect(count))
  // @ts-expect-error: Writes<"totals">
  Worker.run([streaming])
  const outside = Processor.stream("outside", { topic: orders, tables: [totals] }, (events) =>
    Stream.tap(events, (event) => count(event.value))
  )
  // @ts-expect-error: UnitOfWork
  runnable(Worker.run([outside]))
}

export const refusedProcessors = () => {
  // @ts-expect-error: 'nobody' does not exist on type 'Order'
  Processor.make("wrong", { topic: orders }, (order) => Effect.log(order.nobody))
  // @ts-expect-error: 'void' is not assignable to type 'Effect<unknown
  Processor.make("wrong", { topic: orders }, () => {})
  // @ts-expect-error: '[]' is not assignable
  Processor.make("wrong", { topic: [] }, () => Effect.void)
  // @ts-expect-error: 'topic' is missing
  Processor.make("wrong", {}, () => Effect.void)
  // @ts-expect-error: 'string' is not assignable
  Processor.make("wrong", { topic: "orders" }, () => Effect.void)
  // @ts-expect-error: 'number' is not assignable to type 'Concurrency | undefined'
  Processor.make("wrong", { topic: orders, concurrency: 4 }, () => Effect.void)
  // @ts-expect-error: '"never"' is not assignable
  Processor.make("wrong", { topic: orders, acknowledge: "never" }, () => Effect.void)
  // @ts-expect-error: '"now"' is not assignable
  Processor.make("wrong", { topic: orders, startFrom: "now" }, () => Effect.void)
  // @ts-expect-error: '"ignore"' is not assignable
  Processor.make("wrong", { topic: orders, onLost: "ignore" }, () => Effect.void)
  // @ts-expect-error: 'Declined' is not assignable to type 'never'
  Processor.make("wrong", { topic: orders, onClaim: () => new Declined({ id: 1 }) }, () => Effect.void)
  // @ts-expect-error: 'within' is missing
  Processor.batch("wrong", { topic: orders, size: 5 }, () => Effect.void)
  const size = { size: 5, within: "1 second" } as const
  // @ts-expect-error: 'concurrency' does not exist
  Processor.batch("wrong", { topic: orders, ...size, concurrency: { perKey: 2 } }, () => Effect.void)
  // @ts-expect-error: 'Order' is not assignable to type 'Event<unknown> | readonly Event<unknown>[]'
  Processor.stream("wrong", { topic: orders }, (events) => Stream.map(events, (event) => event.value))
  // @ts-expect-error: 'Order' is not assignable to type 'number'
  Processor.stream("wrong", { topic: orders }, (events) => Event.filter((n: number) => n > 1)(events))
  const grouped = (events: Stream.Stream<Event.Event<Order>>) => Stream.grouped(events, 5)
  // @ts-expect-error: 'number' is not assignable to type 'readonly unknown[]'
  Processor.stream("wrong", { topic: orders }, (events) => Event.mapBatch(() => Effect.succeed(1))(grouped(events)))
  // @ts-expect-error: 'Topic<number, undefined>' is not assignable
  Processor.repartition("wrong", { topic: orders, to: numbers })
  // @ts-expect-error: 'number' is not assignable to type 'string'
  Join.streams(orders, refunds, { within: "1 hour" })
  // @ts-expect-error: 'undefined' is not assignable to type 'Key'
  Join.streams(numbers, numbers, { within: "1 hour" })
  // @ts-expect-error: Property 'within' is missing
  Join.streams(orders, paid, { kind: "left" })
  // @ts-expect-error: '"full"' is not assignable
  Join.streams(orders, paid, { within: "1 hour", kind: "full" })
  // @ts-expect-error: '"outer"' is not assignable
  Join.table(orders, totals, { kind: "outer" })
  // @ts-expect-error: 'number' is not assignable to type 'string'
  Join.table(refunds, totals)
  // @ts-expect-error: 'PerPartition
  Join.table(orders, local)
  // @ts-expect-error: Property 'amount' does not exist on type 'Option<
  Processor.make("wrong", { topic: lefts }, ({ right }) => Effect.succeed(right.amount))
  // @ts-expect-error: Event<unknown>
  plain.pipe(Processor.middleware(Stream.map((event) => event.value)))
  // @ts-expect-error: '"halves"' is not assignable
  Processor.batch("wrong", { topic: orders, ...size, onFailure: "halves" }, () => Effect.void)
  // @ts-expect-error: 'string' is not assignable to type 'number'
  billing.pipe(Processor.retry({ times: "5" }))
  // @ts-expect-error: This comparison appears to be unintentional
  billing.pipe(Processor.retry({ times: 5, while: (error) => error._tag === "Nothing" }))
  // @ts-expect-error: 'number' is not assignable to type 'Schedule
  billing.pipe(Processor.retry({ schedule: 5 }))
  // @ts-expect-error: "Declined"
  billing.pipe(Processor.catchTag("Declined", Policy.deadLetter()), Processor.catchTag("Declined", Policy.quarantine))
  // @ts-expect-error: "UnitTooLarge"
  plain.pipe(Processor.catchTag("UnitTooLarge", Policy.ignore))
  // @ts-expect-error: 'number' is not assignable to type 'string'
  Policy.deadLetter({ topic: 5 })
  // @ts-expect-error: 'string' is not assignable to type
  Topic.redrive(orders, { offsets: ["1-0.0"] })
  // @ts-expect-error: 'number' is not assignable to type 'Effect<void
  plain.pipe(Processor.around(() => 5))

  // @ts-expect-error: '"Nothing"' is not assignable to parameter of type
  Processor.catchTag(billing, "Nothing", Policy.ignore)
  // @ts-expect-error: "Nothing"
  billing.pipe(Processor.catchTag("Nothing", Policy.ignore))
  // @ts-expect-error: "Nothing"
  billing.pipe(Processor.catchTag(["Declined", "Nothing"], Policy.ignore))
  // @ts-expect-error: "Declined"
  billing.pipe(Processor.catchTag("Declined", Policy.ignore), Processor.catchTag("Declined", Policy.ignore))
  // @ts-expect-error: "EngineError"
  looking.pipe(Processor.catchTag("EngineError", Policy.ignore))
  const unpaid = Policy.choose((error: Unpaid) => (error.amount > 5 ? Policy.ignore : Policy.ignore))
  // @ts-expect-error: 'Policy<Unpaid
  billing.pipe(Processor.catchTag("Declined", unpaid))
  // @ts-expect-error: 'Policy<Unpaid
  billing.pipe(Processor.catch(unpaid))
  // @ts-expect-error: 'Policy<Unpaid
  Processor.catchDefect(billing, unpaid)
  // @ts-expect-error: '() => number' is not assignable
  billing.pipe(Processor.catchTag("Declined", () => 5))
}

const looking = Processor.make("looking", { topic: orders }, (order) => Table.lookup(totals, order.customer))

export const refusedWorkers = () => {
  // @ts-expect-error: Payments
  runnable(Worker.run([billing]))
  // @ts-expect-error: Payments
  runnable(Worker.run([plain, Processor.catch(billing, Policy.ignore)]))
  const payments = Layer.effect(Payments, Effect.as(Clerk, { charge: () => Effect.void }))
  // @ts-expect-error: Clerk
  runnable(Worker.run([Part.provide(billing, payments)]))
  // @ts-expect-error: 'Declined' is not assignable to type 'never'
  billing.pipe(Part.provide(Layer.effect(Payments, new Declined({ id: 1 }))))
  // @ts-expect-error: is not assignable to
  Worker.run([orders])
  // @ts-expect-error: 'string' is not assignable to type 'number'
  Worker.run([plain], { limit: "5" })
  // @ts-expect-error: no worker in this layer
  Worker.launch(Layer.succeed(Clerk, { name: "web" }))
  // @ts-expect-error: Worker<unknown>
  runnable(Worker.stop)
  // @ts-expect-error: "Declined"
  Worker.run([billing]).pipe(Effect.catchTag("Declined", () => Effect.void))
  // @ts-expect-error: Broker
  Effect.runPromise(Worker.run([plain]))
}

// ---------------------------------------------------------------------------------------------------------- agents

const price = Agent.make("price", { request: Order, reply: Schema.Finite, error: Declined, partitionBy: (o) => o.id })
const audit = Agent.make("audit", { request: Schema.Finite })
const echo = Agent.make("echo", { request: Schema.String, reply: Schema.String })
const pricing = Agent.handler(
  price,
  Effect.fnUntraced(function* (order) {
    yield* (yield* Payments).charge(order.id)
    if (order.amount < 0) return yield* new Declined({ id: order.id })
    return order.amount
  })
)

export const inferredAgents = () => {
  expectTypeOf(price).toEqualTypeOf<Agent.Agent<Order, number, Declined>>()
  expectTypeOf(audit).toEqualTypeOf<Agent.Agent<number, never, never>>()
  expectTypeOf(pricing).toEqualTypeOf<Agent.Handler<number, Unpaid | Declined | DecodeError, Payments>>()
  type Sent = EncodeError | TopicFull | EngineError
  type Asked = Sent | AgentTimeout | AgentDefect | AskCycle | DecodeError
  expectTypeOf(Agent.ask(price, order)).toEqualTypeOf<Effect.Effect<number, Declined | Asked, Topic.Client>>()
  expectTypeOf(Agent.cast(audit, 1)).toEqualTypeOf<Effect.Effect<void, Sent, Topic.Client>>()
  expectTypeOf(Agent.join(echo, ["a"])).toEqualTypeOf<Effect.Effect<ReadonlyArray<string>, Asked, Topic.Client>>()
  const replies = Agent.map(price, Stream.fail(new Unpaid({ amount: 1 })))
  expectTypeOf(replies).toEqualTypeOf<Stream.Stream<number, Declined | Unpaid | Asked, Topic.Client>>()
  // Sinks know the reply, and what they fail with and need joins the handler's.
  const sunk = pricing.pipe(
    Agent.sink((reply) => {
      expectTypeOf(reply).toEqualTypeOf<number>()
    }),
    Agent.sink((reply: number) => Effect.flatMap(Clerk, () => new Declined({ id: reply }))),
    Agent.sink(audit)
  )
  expectTypeOf(sunk).toEqualTypeOf<
    Agent.Handler<number, Unpaid | Declined | DecodeError | EncodeError, Payments | Clerk>
  >()
  // A handler is a processor: policies take its errors, and a worker runs it.
  const settled = pricing.pipe(Processor.catchTag(["Unpaid", "Declined"], Policy.ignore))
  expectTypeOf(settled).toEqualTypeOf<Processor.Processor<DecodeError, Payments>>()
  // What writes its own table may write too much.
  const counted = Agent.handler(
    echo,
    (name) =>
      Effect.as(
        Table.update(totals, name, (n) => n + 1),
        name
      ),
    {
      tables: [totals]
    }
  )
  expectTypeOf(counted).toEqualTypeOf<Agent.Handler<string, DecodeError | UnitTooLarge, never>>()
  const streamed = Agent.stream(echo, (requests) => requests.pipe(Event.map((name) => `${name}!`)))
  expectTypeOf(streamed).toEqualTypeOf<Agent.Handler<string, DecodeError, never>>()
  // Agents may name each other, and themselves.
  const looping: Agent.Handler<never, Sent | DecodeError, Topic.Client> = Agent.handler(audit, (n) =>
    Agent.cast(audit, n - 1)
  ) as never
  return looping
}

export const refusedAgents = () => {
  // @ts-expect-error: "this agent has no reply"
  Agent.ask(audit, 1)
  // @ts-expect-error: "this agent has no reply"
  Agent.map(audit, [1])
  // @ts-expect-error: is not assignable to parameter of type 'Order'
  Agent.ask(price, 5)
  // @ts-expect-error: is not assignable to parameter of type 'number'
  Agent.cast(audit, "1")
  // @ts-expect-error: 'string' is not assignable to type 'number'
  Agent.handler(price, () => Effect.succeed("much"))
  // @ts-expect-error: 'Handler<string,
  pricing.pipe(Agent.sink(echo))
  // @ts-expect-error: 'Handler<Order,
  pricing.pipe(Agent.sink(orders))
  // @ts-expect-error: 'Handler<string,
  pricing.pipe(Agent.sink((reply: string) => Effect.log(reply)))
  const answerless = Agent.handler(audit, () => Effect.void)
  // @ts-expect-error: 'Handler<never,
  answerless.pipe(Agent.sink(audit))
  // @ts-expect-error: "this agent has no reply"
  answerless.pipe(Agent.sink(() => Effect.void))
  // @ts-expect-error: 'Processor<Declined
  pricing.pipe(Processor.retry({ times: 1 }), Agent.sink(audit))
  // @ts-expect-error: Property 'replyTo' is missing
  Agent.send(price, order, {})
  // @ts-expect-error: to type 'Stored<number>'
  Agent.send(price, order, { replyTo: echo })
  // @ts-expect-error: "this agent has no reply"
  Agent.send(audit, 1, { replyTo: audit })
  // @ts-expect-error: "Unpaid"
  Agent.ask(price, order).pipe(Effect.catchTag("Unpaid", () => Effect.void))
  const unordered = Agent.handler(echo, (name) => Effect.as(Table.set(totals, name, 1), name), {
    tables: [totals],
    concurrency: { unordered: 4 }
  })
  // @ts-expect-error: declare in `tables`, and keep an order
  Worker.run([unordered])
}

// ------------------------------------------------------------------------------------------------------- schedules

export const schedules = () => {
  const charging = Effect.gen(function* () {
    const tick = yield* Scheduler.Tick
    expectTypeOf(tick.id).toEqualTypeOf<string>()
    expectTypeOf(tick.due).toEqualTypeOf<DateTime.Utc>()
    yield* Effect.addFinalizer(() => Effect.void)
    const payments = yield* Payments
    yield* payments.charge(tick.tick)
  })
  const timer = Scheduler.timer("charge", { every: "1 minute", onLeader: true }, charging)
  expectTypeOf(timer).toEqualTypeOf<Scheduler.Scheduled<Unpaid, Payments>>()
  expectTypeOf(timer.effect).toEqualTypeOf<Effect.Effect<unknown, Unpaid, Payments | Scheduler.Tick | Scope.Scope>>()
  // A run that fails halts nothing: the worker's own failures are left.
  const worker = Worker.run([timer, Scheduler.task("hello", Effect.void)])
  type Failure = typeof worker extends Effect.Effect<unknown, infer E, unknown> ? E : never
  expectTypeOf<Failure>().toEqualTypeOf<Worker.Failure<never>>()
  expectTypeOf(worker).toEqualTypeOf<Effect.Effect<Worker.Summary, Worker.Failure<never>, Payments | Engine.Services>>()
  const provided = Part.provide(timer, Layer.succeed(Payments, { charge: () => Effect.void }))
  expectTypeOf<Part.Services<typeof provided>>().toEqualTypeOf<never>()
  expectTypeOf(Scheduler.isLeader).toEqualTypeOf<Effect.Effect<boolean, never, Scheduler.Scheduler>>()

  // @ts-expect-error: Property 'every' is missing
  Scheduler.timer("charge", {}, charging)
  // @ts-expect-error: Property 'expression' is missing
  Scheduler.cron("charge", { timezone: "UTC" }, charging)
  // @ts-expect-error: 'catchUp' does not exist
  Scheduler.timer("charge", { every: "1 minute", catchUp: true }, charging)
  // @ts-expect-error: 'overlap' does not exist
  Scheduler.task("charge", charging, { overlap: "skip" })
  // @ts-expect-error: Type '"queue"' is not assignable
  Scheduler.timer("charge", { every: "1 minute", overlap: "queue" }, charging)
  // @ts-expect-error: is not assignable to parameter of type 'Effect<
  Scheduler.task("charge", () => charging)
  // A schedule has no policies, and no unit of work to write in.
  // @ts-expect-error: "~millrace/Processor"
  timer.pipe(Processor.retry({ times: 1 }))
  const writing = Scheduler.task("write", Table.set(totals, "a", 1))
  // @ts-expect-error: declare in `tables`, and keep an order
  Worker.run([writing])
}

// --------------------------------------------------------------------------------------------------------------- jobs

export const jobs = () => {
  const resize = Job.make("resize", {
    payload: Schema.Struct({ image: Schema.String }),
    success: Schema.Int,
    error: Declined,
    progress: Schema.Finite,
    key: ({ image }) => image,
    group: { by: ({ image }) => image },
    retryable: ({ id }) => id > 0
  })
  const clean = Job.make("clean", { payload: Schema.Void })
  expectTypeOf(resize).toEqualTypeOf<Job.Job<{ readonly image: string }, number, Declined, number>>()
  expectTypeOf(clean).toEqualTypeOf<Job.Job<void, void, never, never>>()
  type Sent = EncodeError | EngineError
  const image = { image: "a.png" }
  expectTypeOf(Job.enqueue(resize, image)).toEqualTypeOf<Effect.Effect<Job.Handle, Sent, Job.Client>>()
  expectTypeOf(Job.enqueueAll(resize, [image])).toEqualTypeOf<
    Effect.Effect<ReadonlyArray<Job.Handle>, Sent, Job.Client>
  >()
  expectTypeOf(Job.enqueueAll(resize, Stream.fail(new Unpaid({ amount: 1 })))).toEqualTypeOf<
    Effect.Effect<number, Sent | Unpaid, Job.Client>
  >()
  expectTypeOf(Job.execute(resize, image)).toEqualTypeOf<
    Effect.Effect<number, Declined | JobFailed | DecodeError | Sent, Job.Client>
  >()
  expectTypeOf(Job.enqueue(resize, image, { durability: "fsync" })).toEqualTypeOf<
    Effect.Effect<Job.Handle, Sent | DurabilityNotReached, Job.Client>
  >()
  expectTypeOf(Job.every(resize, "hourly", { every: "1 hour", payload: image })).toEqualTypeOf<
    Effect.Effect<void, Sent, Job.Client>
  >()
  // What the handler needs is left, what a job gives it is not.
  const part = Job.handler(resize, () =>
    Effect.gen(function* () {
      yield* Job.progress(resize, 0.5)
      yield* Clerk
      yield* Effect.addFinalizer(() => Effect.void)
      if (Math.PI > 4) return yield* new Declined({ id: 1 })
      if (Math.PI > 5) yield* Job.retryAfter("1 second")
      return 1
    })
  )
  expectTypeOf(part).toEqualTypeOf<Part.Part<never, Clerk>>()
  const worker = Worker.run([part])
  expectTypeOf<Effect.Services<typeof worker>>().toEqualTypeOf<Clerk | Engine.Services>()

  const timed = Part.around(part, (handle) => Effect.andThen(Payments, handle))
  expectTypeOf(timed).toEqualTypeOf<Part.Part<never, Clerk | Payments>>()

  // @ts-expect-error: UnitOfWork
  runnable(Worker.run([Job.handler(clean, () => Effect.orDie(Topic.emit(numbers, 1)))]))
  // @ts-expect-error: 'number' is not assignable to type 'string'
  Job.cron(resize, "nightly", { expression: "0 2 * * *", payload: { image: 1 } })
  // @ts-expect-error: 'number' is not assignable to type 'string'
  Job.enqueue(resize, { image: 1 })
  // @ts-expect-error: 'Unpaid' is not assignable to type
  Job.handler(resize, () => Effect.fail(new Unpaid({ amount: 1 })))
  // @ts-expect-error: 'string' is not assignable to type 'number'
  Job.handler(resize, () => Effect.succeed("done"))
  // @ts-expect-error: not assignable to parameter of type 'number'
  Job.progress(resize, "half")
  // @ts-expect-error: "urgent"
  Job.enqueue(resize, image, { priority: "urgent" })
  // @ts-expect-error: No overload matches this call
  Job.enqueueAll(resize, [image], { id: "one" })
}

// ----------------------------------------------------------------------------------------------------- the compiler

interface Diagnostic {
  readonly file: string
  readonly line: number
  readonly text: string
}

const project = fileURLToPath(new URL("..", import.meta.url))
const self = join(project, "test", "types.test.ts")
const source = readFileSync(self, "utf8").split("\n")
const marker = /^\s*\/\/ @ts-expect-error(?:: (.+))?$/

describe("the types", () => {
  const scratch = mkdtempSync(join(tmpdir(), "millrace-types-"))
  let diagnostics: ReadonlyArray<Diagnostic> = []

  beforeAll(async () => {
    // The copy finds the same packages and the same sources.
    mkdirSync(join(scratch, "test"))
    for (const name of ["node_modules", "src", "package.json"]) symlinkSync(join(project, name), join(scratch, name))
    const copy = join(scratch, "test", "refused.ts")
    writeFileSync(copy, source.map((line) => (marker.test(line) ? "" : line)).join("\n"))
    const settings = {
      extends: join(project, "test", "tsconfig.json"),
      compilerOptions: { rootDir: "/", typeRoots: [join(project, "node_modules", "@types")] },
      include: [],
      files: [self, copy]
    }
    writeFileSync(join(scratch, "tsconfig.json"), JSON.stringify(settings))
    const tsc = join(project, "node_modules", "typescript", "bin", "tsc")
    const child = spawn(process.execPath, [tsc, "-p", scratch, "--pretty", "false", "--noErrorTruncation"], {
      cwd: scratch,
      stdio: ["ignore", "pipe", "inherit"]
    })
    let output = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text))
    await new Promise((resolve) => child.once("close", resolve))
    diagnostics = parse(output)
  }, 120_000)
  afterAll(() => rmSync(scratch, { recursive: true, force: true }))

  const parse = (output: string): ReadonlyArray<Diagnostic> => {
    const found: Array<{ file: string; line: number; text: string }> = []
    for (const line of output.split("\n")) {
      const [, file, number, text] = /^(\S.*?)\((\d+),\d+\): (error .*)$/.exec(line) ?? []
      const last = found.at(-1)
      // Lines that are indented explain the one before; several of one line are one.
      if (text === undefined && last !== undefined) last.text += ` ${line.trim()}`
      else if (last !== undefined && last.file === file && last.line === Number(number)) last.text += ` ${text}`
      else if (line !== "") found.push({ file: file ?? "", line: Number(number), text: text ?? line })
    }
    return found
  }

  it("accept and infer what they must, and refuse what is marked", () => {
    const own = diagnostics.filter(({ file }) => !file.endsWith("refused.ts"))
    assert.deepStrictEqual(own, [])
  })

  it("refuse each for its reason", () => {
    const refused = diagnostics.filter(({ file }) => file.endsWith("refused.ts"))
    const marked = source.flatMap((line, i) => {
      const match = marker.exec(line)
      return match === null ? [] : [{ line: i + 2, reason: match[1] }]
    })
    assert.isAbove(marked.length, 80)
    assert.deepStrictEqual(
      refused.map(({ line }) => line),
      marked.map(({ line }) => line)
    )
    marked.forEach(({ line, reason }, i) => {
      assert.isDefined(reason, `line ${line} needs a reason`)
      assert.include(refused[i]!.text, reason!, `line ${line}: ${source[line - 1]?.trim()}`)
    })
  })
})
