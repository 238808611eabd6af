/**
 * The same work with Millrace. Time runs from the first partition's claim to the worker's end, which comes after the last
 * commit and the orderly leave; what was handled is checked by sum and by the group's lag.
 */
import { Deferred, Effect, Exit, Fiber, Logger, Schedule, Schema, Stream } from "effect"
import type * as Engine from "../../src/Engine.ts"
import { Broker, Event, Policy, Processor, Retention, Table, TableStore, Topic, Worker } from "../../src/index.ts"
import { makeOrder, makeOrders, type Order, partitions, sumOf, topic } from "./events.ts"
import { paced } from "./handwritten.ts"
import { type Measure, type Meter, quantile } from "./measure.ts"

type Bench = Effect.Effect<Measure, unknown, Engine.Services>
type OrderTopic = ReturnType<typeof topic>

const metered = (meter: Meter, events: number, work: Effect.Effect<unknown, unknown, Engine.Services>): Bench =>
  Effect.gen(function* () {
    yield* Effect.promise(() => meter.ready())
    meter.start()
    yield* work
    meter.stop()
    return yield* Effect.promise(() => meter.result(events))
  })

/** Store the topic's layout before the clock runs, as a program does once at its start. */
const declared = (orders: OrderTopic) => Broker.Broker.use((broker) => broker.declare([orders]))

export const publishAll = (meter: Meter, name: string, orders: ReadonlyArray<Order>): Bench =>
  Effect.andThen(
    declared(topic(name)),
    Effect.suspend(() => metered(meter, orders.length, Topic.publishAll(topic(name), orders)))
  )

/** So many fibers, each publishing one event after the other. */
export const publishers = (meter: Meter, name: string, orders: ReadonlyArray<Order>, count: number): Bench =>
  Effect.suspend(() => {
    const target = topic(name)
    let next = 0
    const fiber = Effect.gen(function* () {
      while (next < orders.length) yield* Topic.publish(target, orders[next++]!)
    })
    const fibers = Effect.forEach(Array.from({ length: count }), () => fiber, {
      concurrency: "unbounded",
      discard: true
    })
    return Effect.andThen(declared(target), metered(meter, orders.length, fibers))
  })

/** A log for others to read, in bounded memory. `single`: one event per entry, with its key. */
export const fill = (meter: Meter, name: string, events: number, single = false): Bench => {
  const numbers = Stream.range(0, events - 1).pipe(Stream.map((number) => makeOrder(number)))
  const target = topic(name)
  return Effect.andThen(
    declared(target),
    metered(
      meter,
      events,
      single
        ? Stream.runForEachArray(Stream.rechunk(numbers, 1), ([order]) => Topic.publish(target, order!))
        : Topic.publishAll(target, numbers)
    )
  )
}

export type Handler = "sync" | "generator" | "table" | "batch" | "stream"

const makeProcessor = (
  kind: Handler,
  name: string,
  orders: OrderTopic,
  onClaim: () => Effect.Effect<void>,
  see: (order: Order) => void
) => {
  const options = { topic: orders, onClaim }
  switch (kind) {
    case "sync":
      return Processor.make(name, options, (order) => Effect.sync(() => see(order)))
    case "generator":
      return Processor.make(
        name,
        options,
        Effect.fnUntraced(function* (order) {
          yield* Effect.sync(() => see(order))
        })
      )
    case "table": {
      const totals = Table.make(`${name}-totals`, { key: Schema.String, value: Schema.Finite, initial: () => 0 })
      return Processor.make(
        name,
        { ...options, tables: [totals] },
        Effect.fnUntraced(function* (order) {
          see(order)
          yield* Table.update(totals, order.customer, (amount) => amount + order.amount)
        })
      )
    }
    case "batch":
      return Processor.batch(name, { ...options, size: 100, within: "1 second" }, (batch) =>
        Effect.sync(() => batch.forEach(see))
      )
    case "stream":
      return Processor.stream(name, options, (events) =>
        events.pipe(
          Event.map((order) => {
            see(order)
            return order
          })
        )
      )
  }
}

/** Read a log from its beginning to its end as a new processor. */
export const consume = (
  meter: Meter,
  kind: Handler,
  name: string,
  processor: string,
  events: number,
  retention?: Retention.Retention
): Bench =>
  Effect.gen(function* () {
    let sum = 0
    const part = makeProcessor(
      kind,
      processor,
      topic(name, retention),
      () => Effect.sync(() => meter.start()),
      (order) => {
        sum += order.amount
      }
    )
    yield* Effect.promise(() => meter.ready())
    yield* Worker.run([part as Processor.Processor<never, never>], { limit: events })
    meter.stop()
    yield* verify(processor, sum, events)
    return yield* Effect.promise(() => meter.result(events))
  })

const verify = (processor: string, sum: number, events: number) =>
  Effect.gen(function* () {
    if (Math.abs(sum - sumOf(events)) > 1e-3) throw new Error(`the handlers saw ${sum}, not ${sumOf(events)}`)
    const lags = yield* Processor.lag(processor)
    const behind = lags.reduce((total, lag) => total + lag.events, 0)
    if (behind !== 0) throw new Error(`${behind} events are not committed`)
    yield* Processor.remove(processor)
  })

/** A worker in the background, ready when it owns everything. */
const working = (part: Processor.Processor<never, never>, claims: () => number, options: Worker.Options) =>
  Effect.gen(function* () {
    const worker = yield* Effect.forkChild(Worker.run([part], options))
    // A real wait: it polls until the worker has joined, before any clock runs.
    while (claims() < partitions) yield* Effect.sleep("5 millis")
    return worker
  })

/** Publish and consume at once, on a topic that trims what is consumed. */
export const both = (
  meter: Meter,
  name: string,
  processor: string,
  events: number,
  retention: Retention.Retention
): Bench =>
  Effect.gen(function* () {
    let sum = 0
    let claims = 0
    const orders = topic(name, retention)
    const onClaim = () =>
      Effect.sync(() => {
        claims++
      })
    const part = makeProcessor("generator", processor, orders, onClaim, (order) => {
      sum += order.amount
    }) as Processor.Processor<never, never>
    const values = makeOrders(events)
    const worker = yield* working(part, () => claims, { limit: events })
    yield* Effect.promise(() => meter.ready())
    meter.start()
    yield* Topic.publishAll(orders, Stream.fromArray(values).pipe(Stream.rechunk(500)))
    yield* Fiber.join(worker)
    meter.stop()
    yield* verify(processor, sum, events)
    return yield* Effect.promise(() => meter.result(events))
  })

/** `publish` to handler. */
export const latency = (
  meter: Meter,
  name: string,
  processor: string,
  options: { readonly rate: number; readonly seconds: number }
): Bench =>
  Effect.gen(function* () {
    const orders = topic(name)
    const events = Math.round(options.rate * options.seconds)
    const waits: Array<number> = []
    const failed = yield* Deferred.make<never, unknown>()
    let claims = 0
    const onClaim = () =>
      Effect.sync(() => {
        claims++
      })
    const part = makeProcessor("generator", processor, orders, onClaim, (order) => {
      waits.push(performance.now() - order.placedAt)
    }) as Processor.Processor<never, never>
    const worker = yield* working(part, () => claims, { limit: events })
    const fork = Effect.runForkWith(yield* Effect.context<Engine.Services>())
    yield* Effect.promise(() => meter.ready())
    meter.start()
    yield* Effect.promise(() =>
      paced(options.rate, options.seconds, (number) => {
        fork(Topic.publish(orders, makeOrder(number, performance.now()))).addObserver((exit) => {
          if (Exit.isFailure(exit)) Deferred.doneUnsafe(failed, Exit.failCause(exit.cause))
        })
      })
    )
    yield* Effect.raceFirst(Fiber.join(worker), Deferred.await(failed))
    meter.stop()
    yield* Processor.remove(processor)
    return yield* Effect.promise(() => meter.result(events, { p50: quantile(waits, 0.5), p99: quantile(waits, 0.99) }))
  })

/** Rows of one commit. */
const rowsPerCommit = 5_000

/** Rows 0 to `keys` - 1 of the one partition, as commits leave them; once. */
const filled = (part: string, numbers: Topic.Topic<number, undefined>, table: string, keys: number) =>
  Effect.gen(function* () {
    const broker = yield* Broker.Broker
    const store = yield* TableStore.TableStore
    const [last] = yield* store.readMany(part, table, 0, [String(keys - 1)])
    if (last !== undefined) return
    yield* broker.declare([numbers])
    yield* broker.register(part, [numbers], "earliest")
    const fence = { epoch: 1n, incarnation: "fill" }
    yield* broker.claim(part, 0, [numbers], fence)
    for (let from = 0, number = 1; from < keys; from += rowsPerCommit, number++) {
      const size = Math.min(rowsPerCommit, keys - from)
      const rows = Array.from({ length: size }, (_, i) => ({ table, key: String(from + i), value: "1" }))
      yield* broker.commit(
        [{ ...fence, processor: part, partition: 0, number, offsets: [], rows, emits: [] }],
        "memory"
      )
    }
  })

/** From the claim of a partition with so many rows to the end of the first handler, which changes one of them. */
export const takeOver = (meter: Meter, name: string, keys: number, times: number): Bench =>
  Effect.gen(function* () {
    const numbers = Topic.make(name, { schema: Schema.Int, partitions: 1, retention: Retention.forever })
    const table = Table.make(`${name}-rows`, {
      key: Schema.Int,
      value: Schema.Finite,
      initial: () => 0,
      scope: "partition"
    })
    yield* filled(name, numbers, table.name, keys)
    const waits: Array<number> = []
    let claimedAt: number | undefined
    const watched = Effect.map(Broker.Broker, (broker) =>
      Broker.Broker.of({
        ...broker,
        claim: (...claim) => {
          claimedAt ??= performance.now()
          return broker.claim(...claim)
        }
      })
    )
    const part = Processor.make(name, { topic: numbers, tables: [table] }, (number) =>
      Effect.map(
        Table.update(table, number, (count) => count + 1),
        (count) => {
          if (count < 2) throw new Error(`row ${number} was not there`)
          waits.push(performance.now() - claimedAt!)
        }
      )
    ) as Processor.Processor<never, never>
    yield* Effect.promise(() => meter.ready())
    meter.start()
    for (let time = 0; time < times; time++) {
      yield* Topic.publish(numbers, (time * 7_919) % keys)
      claimedAt = undefined
      yield* Worker.run([part], { limit: 1 }).pipe(Effect.provideServiceEffect(Broker.Broker, watched))
    }
    meter.stop()
    return yield* Effect.promise(() => meter.result(times, { p50: quantile(waits, 0.5), p99: quantile(waits, 0.99) }))
  })
/**
 * Read a log from its beginning until every event is handled but those of one customer, if there is a poisoned one: its
 * events fail, wait aside, and are tried again each second. The clock runs once a tenth is handled.
 */
export const parking = (
  meter: Meter,
  name: string,
  processor: string,
  events: number,
  poisoned: string | undefined
): Bench =>
  Effect.gen(function* () {
    let handled = 0
    let others = 0
    for (const { customer } of makeOrders(events)) if (customer !== poisoned) others++
    const first = Math.ceil(others / 10)
    const done = yield* Deferred.make<void>()
    const part = Processor.make(
      processor,
      { topic: topic(name) },
      ({ customer }): Effect.Effect<void, "poisoned"> =>
        customer === poisoned
          ? Effect.fail("poisoned")
          : Effect.sync(() => {
              if (++handled === first) meter.start()
              if (handled === others) Deferred.doneUnsafe(done, Effect.void)
            })
    ).pipe(Processor.catch(Policy.park({ schedule: Schedule.spaced("1 second") })))
    yield* Effect.promise(() => meter.ready())
    const worker = yield* Effect.forkChild(Worker.run([part as Processor.Processor<never, never>]))
    yield* Effect.raceFirst(Deferred.await(done), Fiber.join(worker))
    meter.stop()
    yield* Fiber.interrupt(worker)
    const waiting = (yield* Processor.parked(processor)).reduce((sum, { count }) => sum + count, 0)
    if (handled !== others) throw new Error(`${handled} events were handled, not ${others}`)
    if (waiting > 0 !== (poisoned !== undefined)) throw new Error(`${waiting} events wait aside`)
    yield* Processor.remove(processor)
    return yield* Effect.promise(() => meter.result(others - first))
  }).pipe(Effect.provide(Logger.layer([])))

/** A handler of 5 ms before a long queue, for some seconds: what it holds in memory. */
export const slow = (meter: Meter, name: string, processor: string, seconds: number): Bench =>
  Effect.gen(function* () {
    let handled = 0
    const part = Processor.make(
      processor,
      { topic: topic(name), onClaim: () => Effect.sync(() => meter.start()) },
      () =>
        Effect.andThen(
          Effect.sleep("5 millis"),
          Effect.sync(() => {
            handled++
          })
        )
    ) as Processor.Processor<never, never>
    yield* Effect.promise(() => meter.ready())
    yield* Effect.timeoutOption(Worker.run([part]), seconds * 1_000)
    meter.stop()
    yield* Processor.remove(processor)
    return yield* Effect.promise(() => meter.result(handled))
  })
