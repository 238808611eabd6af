/**
 * Jobs: Millrace beside BullMQ, groupmq and Effect's PersistedQueue, each at the settings that were best for it, on the same
 * Redis and with the same payload. Jobs are enqueued before the clock runs; it stops when the last one is settled.
 */
import * as NodeRedis from "@effect/platform-node/NodeRedis"
import * as BullMQ from "bullmq"
import { Deferred, Effect, Exit, Fiber, Layer } from "effect"
import { PersistedQueue } from "effect/persistence"
import * as GroupMQ from "groupmq"
import { type Engine, Job, JobStore, Queue, Worker } from "../../src/index.ts"
import { makeOrder, makeOrders, Order } from "./events.ts"
import { paced } from "./handwritten.ts"
import { type Measure, type Meter, quantile } from "./measure.ts"
import { fresh, hand, ours, type Section, type Settings, type Variant, type World } from "./section.ts"

/** Jobs at a time: more did not make any of them faster. */
const atOnce = 100
/** Jobs a second and seconds, of the rows about latency. */
const pace = { rate: 500, seconds: 5 }

/** Slower ones get fewer jobs, so that a round does not take a minute. */
const fewer = (events: number): number => Math.ceil(events / 5)

const pause = (millis: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, millis))

// ---------------------------------------------------------------------------------------------------------- millrace

/** What is done is not kept, as with the others. */
const jobOf = (name: string, group?: (order: Order) => string) =>
  Job.make(name, {
    payload: Order,
    queue: name,
    resultTtl: 0,
    ...(group === undefined ? {} : { group: { by: group } })
  })

const enqueued = (meter: Meter, name: string, jobs: number) =>
  Effect.gen(function* () {
    const orders = makeOrders(jobs)
    yield* Effect.promise(() => meter.ready())
    meter.start()
    yield* Job.enqueueAll(jobOf(name), orders)
    meter.stop()
    yield* Queue.remove(name)
    return yield* Effect.promise(() => meter.result(jobs))
  })

const processed = (
  meter: Meter,
  name: string,
  jobs: number,
  handle: (order: Order) => Effect.Effect<void>,
  group?: (order: Order) => string
) =>
  Effect.gen(function* () {
    const job = jobOf(name, group)
    yield* Job.enqueueAll(job, makeOrders(jobs))
    yield* Effect.promise(() => meter.ready())
    const part = Job.handler(job, (order) => {
      meter.start()
      return handle(order)
    })
    yield* Worker.run([part], { limit: jobs, jobs: { concurrency: atOnce } })
    meter.stop()
    const { active, dead, ready } = yield* Queue.counts(name)
    if (active + dead + ready > 0) return yield* Effect.die(new Error(`${name}: not all jobs are done`))
    yield* Queue.remove(name)
    return yield* Effect.promise(() => meter.result(jobs))
  })

const oursLatency = (meter: Meter, name: string) =>
  Effect.gen(function* () {
    const job = jobOf(name)
    const total = pace.rate * pace.seconds
    const waits: Array<number> = []
    const failed = yield* Deferred.make<never, unknown>()
    const part = Job.handler(job, (order) => Effect.sync(() => void waits.push(performance.now() - order.placedAt)))
    const worker = yield* Effect.forkChild(Worker.run([part], { limit: total }))
    // A real wait: the worker joins.
    yield* Effect.sleep("500 millis")
    const fork = Effect.runForkWith(yield* Effect.context<Engine.Services>())
    yield* Effect.promise(() => meter.ready())
    meter.start()
    yield* Effect.promise(() =>
      paced(pace.rate, pace.seconds, (number) => {
        fork(Job.enqueue(job, makeOrder(number, performance.now()))).addObserver((exit) => {
          if (Exit.isFailure(exit)) Deferred.doneUnsafe(failed, Exit.failCause(exit.cause))
        })
      })
    )
    yield* Effect.raceFirst(Fiber.join(worker), Deferred.await(failed))
    meter.stop()
    yield* Queue.remove(name)
    return yield* Effect.promise(() => meter.result(total, { p50: quantile(waits, 0.5), p99: quantile(waits, 0.99) }))
  })

/** Jobs of one exchange, and exchanges in a row, of the rows about what waits. */
const claims = { size: 100, count: 10 }

/** Settling what was claimed and claiming as many again, while about so many jobs wait. */
const claimed = (meter: Meter, name: string, waiting: number, times: number) =>
  Effect.gen(function* () {
    const job = jobOf(name)
    const store = yield* JobStore.JobStore
    const room = [{ name, count: 1_000 }]
    const more = Effect.suspend(() => Job.enqueueAll(job, makeOrders(claims.size * claims.count)))
    const { ready } = yield* store.counts(name)
    for (let left = waiting - ready; left > 0; left -= 50_000) {
      yield* Job.enqueueAll(job, makeOrders(Math.min(left, 50_000)))
    }
    const session = yield* store.open(name, name, 60_000)
    const waits: Array<number> = []
    let settle: JobStore.Exchange["settle"] = []
    let number = 0
    yield* Effect.promise(() => meter.ready())
    meter.start()
    for (let i = 0; i < times * claims.count; i++) {
      if (i % claims.count === 0) yield* more
      const began = performance.now()
      const answer = yield* store.exchange({
        session,
        number: ++number,
        lease: 60_000,
        settle,
        rooms: room,
        count: claims.size,
        shares: [72, 21, 7],
        alone: false
      })
      waits.push(performance.now() - began)
      if (answer._tag !== "Exchanged" || answer.claimed.length !== claims.size) {
        return yield* Effect.die(new Error(`${name}: a claim brought something else`))
      }
      settle = answer.claimed.map((job) => ({ job, outcome: { _tag: "Done", format: undefined, result: "", ttl: 0 } }))
    }
    meter.stop()
    const jobs = waits.length * claims.size
    return yield* Effect.promise(() => meter.result(jobs, { p50: quantile(waits, 0.5), p99: quantile(waits, 0.99) }))
  })

// ------------------------------------------------------------------------------------------------------------ bullmq

const connectionOf = ({ url }: Settings) => {
  const { hostname, port } = new URL(url)
  return { host: hostname, port: Number(port), maxRetriesPerRequest: null }
}

/** What is done is not kept, which is its fastest. */
const kept = { removeOnComplete: true } as const

const addBulk = async (queue: BullMQ.Queue, jobs: number): Promise<void> => {
  const orders = makeOrders(jobs)
  const size = 1_000
  const send = async (from: number): Promise<void> => {
    for (let at = from; at < jobs; at += 2 * size) {
      await queue.addBulk(orders.slice(at, at + size).map((data) => ({ name: "order", data, opts: kept })))
    }
  }
  // Two in flight, as one alone leaves Redis idle.
  await Promise.all([send(0), send(size)])
}

const bullAdded = async (meter: Meter, settings: Settings, name: string, jobs: number): Promise<Measure> => {
  const queue = new BullMQ.Queue(name, { connection: connectionOf(settings) })
  await queue.waitUntilReady()
  await meter.ready()
  meter.start()
  await addBulk(queue, jobs)
  meter.stop()
  await queue.obliterate({ force: true })
  await queue.close()
  return meter.result(jobs)
}

const bullProcessed = async (
  meter: Meter,
  settings: Settings,
  name: string,
  jobs: number,
  handle: () => Promise<void> | undefined
): Promise<Measure> => {
  const connection = connectionOf(settings)
  const queue = new BullMQ.Queue(name, { connection })
  await addBulk(queue, jobs)
  await meter.ready()
  let done = 0
  const worker = await new Promise<BullMQ.Worker>((resolve) => {
    const worker: BullMQ.Worker = new BullMQ.Worker(
      name,
      async () => {
        meter.start()
        await handle()
      },
      { connection, concurrency: atOnce }
    )
    worker.on("completed", () => {
      if (++done === jobs) resolve(worker)
    })
  })
  meter.stop()
  await worker.close()
  await queue.obliterate({ force: true })
  await queue.close()
  return meter.result(jobs)
}

const bullLatency = async (meter: Meter, settings: Settings, name: string): Promise<Measure> => {
  const connection = connectionOf(settings)
  const queue = new BullMQ.Queue(name, { connection })
  const total = pace.rate * pace.seconds
  const waits: Array<number> = []
  let done = 0
  let finish = (): void => undefined
  const finished = new Promise<void>((resolve) => {
    finish = resolve
  })
  const worker = new BullMQ.Worker(
    name,
    async ({ data }) => {
      waits.push(performance.now() - (data as Order).placedAt)
    },
    { connection, concurrency: atOnce }
  )
  worker.on("completed", () => {
    if (++done === total) finish()
  })
  await worker.waitUntilReady()
  await meter.ready()
  meter.start()
  await paced(pace.rate, pace.seconds, (number) => {
    void queue.add("order", makeOrder(number, performance.now()), kept)
  })
  await finished
  meter.stop()
  await worker.close()
  await queue.obliterate({ force: true })
  await queue.close()
  return meter.result(total, { p50: quantile(waits, 0.5), p99: quantile(waits, 0.99) })
}

// ----------------------------------------------------------------------------------------------------------- groupmq

const groupProcessed = async (meter: Meter, { connect }: World, name: string, jobs: number): Promise<Measure> => {
  const redis = connect()
  const queue = new GroupMQ.Queue<Order>({ redis, namespace: name, keepCompleted: 0 })
  const orders = makeOrders(jobs)
  for (let at = 0; at < jobs; at += 500) {
    await Promise.all(orders.slice(at, at + 500).map((data) => queue.add({ groupId: data.customer, data })))
  }
  await meter.ready()
  let done = 0
  const worker = await new Promise<GroupMQ.Worker<Order>>((resolve) => {
    const worker: GroupMQ.Worker<Order> = new GroupMQ.Worker<Order>({
      queue,
      concurrency: atOnce,
      handler: async () => {
        meter.start()
      }
    })
    worker.on("completed", () => {
      if (++done === jobs) resolve(worker)
    })
    void worker.run()
  })
  meter.stop()
  await worker.close()
  await queue.close()
  redis.disconnect()
  return meter.result(jobs)
}

// ---------------------------------------------------------------------------------------------------- PersistedQueue

const persisted = (meter: Meter, settings: Settings, name: string, jobs: number): Promise<Measure> => {
  const work = Effect.gen(function* () {
    const queue = yield* PersistedQueue.make({ name, schema: Order })
    yield* Effect.forEach(makeOrders(jobs), (order) => queue.offer(order), { concurrency: atOnce, discard: true })
    yield* Effect.promise(() => meter.ready())
    let left = jobs
    const take = Effect.gen(function* () {
      while (left-- > 0) yield* queue.take(() => Effect.sync(() => meter.start()))
    })
    yield* Effect.forEach(Array.from({ length: atOnce }), () => take, { concurrency: "unbounded", discard: true })
    meter.stop()
    return yield* Effect.promise(() => meter.result(jobs))
  })
  const store = PersistedQueue.layerStoreRedis({ prefix: `${name}:` }).pipe(
    Layer.provide(NodeRedis.layer({ url: settings.url }))
  )
  return Effect.runPromise(
    Effect.scoped(Effect.provide(work, PersistedQueue.layer.pipe(Layer.provide(store)))) as Effect.Effect<
      Measure,
      unknown
    >
  )
}

// ---------------------------------------------------------------------------------------------------------- sections

const enqueueing: Section = {
  id: "enqueue",
  title: "Jobs: enqueue many",
  setup: [],
  variants: [
    hand("bull-add", "BullMQ: addBulk of 1,000, 2 in flight", (_, meter, world, round) =>
      bullAdded(meter, world, fresh("bull-add", round), fewer(world.events))
    ),
    ours("ours-add", "Job.enqueueAll", "bull-add", (meter, { events }, round) =>
      enqueued(meter, fresh("ours-add", round), events)
    )
  ]
}

const handlers: ReadonlyArray<readonly [id: string, title: string, millis: number]> = [
  ["jobs", "a handler that does nothing", 0],
  ["busy", "a handler of 1 ms", 1]
]

const processing = handlers.map(([id, what, millis]): Section => {
  const waited = Effect.promise(() => pause(millis))
  const others: ReadonlyArray<Variant> =
    millis > 0
      ? []
      : [
          hand(
            "persisted",
            `PersistedQueue, ${atOnce} fibers`,
            (_, meter, world, round) => persisted(meter, world, fresh("persisted", round), fewer(world.events)),
            "bull"
          )
        ]
  return {
    id,
    title: `Jobs: process, ${what}`,
    setup: [],
    variants: [
      hand("bull", `BullMQ, concurrency ${atOnce}`, (_, meter, world, round) =>
        bullProcessed(meter, world, fresh(`bull-${id}`, round), fewer(world.events), () =>
          millis > 0 ? pause(millis) : undefined
        )
      ),
      ...others,
      ours("ours", `Job.handler, concurrency ${atOnce}`, "bull", (meter, { events }, round) =>
        processed(meter, fresh(`ours-${id}`, round), events, () => (millis > 0 ? waited : Effect.void))
      )
    ]
  }
})

const ordered: Section = {
  id: "ordered",
  title: "Jobs: process in order per key, 1,000 keys",
  setup: [],
  variants: [
    hand("groupmq", `groupmq, concurrency ${atOnce}`, (_, meter, world, round) =>
      groupProcessed(meter, world, fresh("groupmq", round), fewer(world.events))
    ),
    ours("ours-ordered", "Job.handler, one at a time per group", "groupmq", (meter, { events }, round) =>
      processed(
        meter,
        fresh("ours-ordered", round),
        events,
        () => Effect.void,
        (order) => order.customer
      )
    )
  ]
}

const latency: Section = {
  id: "joblatency",
  title: `Jobs: latency from enqueue to handler, ${pace.rate} a second`,
  setup: [],
  variants: [
    hand("bull-latency", "BullMQ", (_, meter, world, round) => bullLatency(meter, world, fresh("bull-latency", round))),
    ours("ours-latency", "Job.enqueue, Job.handler", "bull-latency", (meter, _, round) =>
      oursLatency(meter, fresh("ours-latency", round))
    )
  ]
}

const waiting: Section = {
  id: "waiting",
  title: `Jobs: an exchange of ${claims.size} of a queue in which many wait`,
  setup: [],
  together: true,
  variants: (["few", "many"] as const).map((id) =>
    ours(
      `waiting-${id}`,
      id === "few" ? "1,000 wait" : "1,000,000 wait",
      id === "few" ? undefined : "waiting-few",
      (meter, { queued }) => claimed(meter, `waiting-${id}`, id === "few" ? 1_000 : queued, 20)
    )
  )
}

export const jobSections: ReadonlyArray<Section> = [enqueueing, ...processing, ordered, latency, waiting]
