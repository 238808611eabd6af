/**
 * Every row of the bench: what runs, on what, and which row of its section it is compared with. A variant runs in a
 * child process of its own that lives through all rounds, so that nothing one of them does to V8 slows another.
 */
import { Effect } from "effect"
import type { Redis } from "ioredis"
import { Retention } from "../../src/index.ts"
import * as Asking from "./asking.ts"
import { makeOrder, makeOrders, streamsOf } from "./events.ts"
import * as Hand from "./handwritten.ts"
import { jobSections } from "./jobs.ts"
import { Meter } from "./measure.ts"
import * as Ours from "./ours.ts"
import { drop, few, fresh, hand, ours, type Section, type Variant, type World } from "./section.ts"
import { plain, watched } from "./telemetry.ts"

const produce: Section = {
  id: "produce",
  title: "Produce: many events",
  setup: [],
  variants: [
    hand("pipelines", "by hand: pipelines of 1,000 XADDs, 2 in flight", async (redis, meter, { events }, round) => {
      const name = fresh("pipelines", round)
      const measure = await Hand.pipelines(redis, meter, streamsOf(name), makeOrders(events), {
        size: 1_000,
        inFlight: 2
      })
      await drop(redis, name)
      return measure
    }),
    hand(
      "pipeline",
      "by hand: pipelines of 1,000 XADDs, one after the other",
      async (redis, meter, { events }, round) => {
        const name = fresh("pipeline", round)
        const measure = await Hand.pipelines(redis, meter, streamsOf(name), makeOrders(events), {
          size: 1_000,
          inFlight: 1
        })
        await drop(redis, name)
        return measure
      },
      "pipelines"
    ),
    ours("publishAll", "Topic.publishAll", "pipelines", (meter, { events, connect }, round) => {
      const name = fresh("publishAll", round)
      return Effect.tap(Ours.publishAll(meter, name, makeOrders(events)), () => dropped(connect, name))
    })
  ]
}

/** Keys of a round are removed over a connection that is opened for it: it is outside of what is measured. */
const dropped = (connect: World["connect"], name: string): Effect.Effect<void> =>
  Effect.promise(async () => {
    const redis = connect()
    await drop(redis, name)
    await redis.quit()
  })

const publish = (count: number): ReadonlyArray<Variant> => {
  const share = (events: number): number => (count === 1 ? few(events) : Math.ceil(events / 2))
  return [
    hand(
      `callers-${count}`,
      `by hand: ${count} callers, each awaiting its XADD`,
      async (redis, meter, { events }, round) => {
        const name = fresh(`callers-${count}`, round)
        const measure = await Hand.callers(redis, meter, streamsOf(name), makeOrders(share(events)), count)
        await drop(redis, name)
        return measure
      }
    ),
    ours(
      `publish-${count}`,
      `Topic.publish from ${count} fibers`,
      `callers-${count}`,
      (meter, { connect, events }, round) => {
        const name = fresh(`publish-${count}`, round)
        return Effect.tap(Ours.publishers(meter, name, makeOrders(share(events)), count), () => dropped(connect, name))
      }
    )
  ]
}

const publishing: Section = {
  id: "publish",
  title: "Produce: one event at a time",
  setup: [],
  variants: [...publish(1), ...publish(100), ...publish(400)]
}

const fillSingle = (name: string): Variant =>
  hand(`fill-${name}`, "fill", async (redis, meter, { events }) => {
    await Hand.addAll(redis, streamsOf(name), makeOrders(events), { size: 1_000, inFlight: 2 })
    meter.start()
    meter.stop()
    return meter.result(events)
  })
const fillBatched = (name: string): Variant =>
  ours(`fill-${name}`, "fill", undefined, (meter, { events }) => Ours.fill(meter, name, events))

const groupLoop = (label = "by hand: XREADGROUP COUNT 100, one read ahead, bulk XACK behind"): Variant =>
  hand("group", label, (redis, meter, { events }, round) =>
    Hand.groupLoop(redis, meter, streamsOf("single"), events, `group-${round}`)
  )

const consuming = (id: string, label: string, kind: Ours.Handler, log: string, against = "group"): Variant =>
  ours(id, label, against, (meter, { events }, round) => Ours.consume(meter, kind, log, `${id}-${round}`, events))

const consume: Section = {
  id: "consume",
  title: "Consume: at least once by hand, exactly once in state with Millrace",
  setup: [fillSingle("single"), fillBatched("batched")],
  variants: [
    groupLoop(),
    hand(
      "naive",
      "by hand: COUNT 8 per partition, one awaited XACK per event",
      (redis, meter, { events }, round) => Hand.naiveLoop(redis, meter, streamsOf("single"), events, `naive-${round}`),
      "group"
    ),
    consuming("single-generator", "single entries, handler Effect.fnUntraced", "generator", "single"),
    consuming("single-sync", "single entries, handler Effect.sync", "sync", "single"),
    consuming("single-table", "single entries, a table write by every event", "table", "single"),
    consuming("single-batch", "single entries, Processor.batch of 100", "batch", "single"),
    consuming("single-stream", "single entries, Processor.stream", "stream", "single"),
    consuming("batched-generator", "log of publishAll, handler Effect.fnUntraced", "generator", "batched"),
    consuming("batched-sync", "log of publishAll, handler Effect.sync", "sync", "batched"),
    consuming("batched-table", "log of publishAll, a table write by every event", "table", "batched"),
    consuming("batched-batch", "log of publishAll, Processor.batch of 100", "batch", "batched"),
    consuming("batched-stream", "log of publishAll, Processor.stream", "stream", "batched")
  ]
}

const both: Section = {
  id: "both",
  title: "Produce and consume at once, in one process",
  setup: [],
  variants: [
    (() => {
      let reader: Redis | undefined
      return hand(
        "both-hand",
        "by hand: pipelines of 500, 2 in flight, and the group loop",
        async (redis, meter, { connect, events }, round) => {
          reader ??= connect()
          const name = fresh("both-hand", round)
          const orders = makeOrders(events)
          const produceAll = (): Promise<void> =>
            Hand.addAll(redis, streamsOf(name), orders, { size: 500, inFlight: 2 })
          const measure = await Hand.groupLoop(redis, meter, streamsOf(name), events, "both", {
            reader,
            produce: produceAll
          })
          await drop(redis, name)
          return measure
        }
      )
    })(),
    ours(
      "both-ours",
      "Topic.publishAll of a stream, and a processor; trims what is consumed",
      "both-hand",
      (meter, { connect, events }, round) => {
        const name = fresh("both-ours", round)
        const work = Ours.both(meter, name, name, events, Retention.consumed())
        return Effect.tap(work, () => dropped(connect, name))
      }
    )
  ]
}

const latencyByHand = (id: string, label: string, group?: string): Variant => {
  let reader: Redis | undefined
  return hand(id, label, async (redis, meter, { connect, rate, seconds }, round) => {
    reader ??= connect()
    const name = fresh(id, round)
    const options = group === undefined ? { rate, seconds } : { rate, seconds, group }
    const measure = await Hand.latency(redis, reader, meter, streamsOf(name), options)
    await drop(redis, name)
    return measure
  })
}

const latency: Section = {
  id: "latency",
  title: "Latency from publish to handler, one process",
  setup: [],
  variants: [
    latencyByHand("latency-hand", "by hand: XADD, XREAD BLOCK, no acknowledgement"),
    latencyByHand("latency-group", "by hand: XADD, XREADGROUP BLOCK, bulk XACK behind", "group"),
    ours("latency-ours", "Topic.publish, processor", "latency-hand", (meter, { connect, rate, seconds }, round) => {
      const name = fresh("latency-ours", round)
      return Effect.tap(Ours.latency(meter, name, name, { rate, seconds }), () => dropped(connect, name))
    })
  ]
}

const embedded = (engine: "memory" | "file"): ReadonlyArray<Variant> => {
  // Memory has no other process: it fills its own log in the warm-up.
  const consuming = (id: string, label: string, kind: Ours.Handler): Variant =>
    ours(
      `${engine}-${id}`,
      `${engine}: ${label}`,
      "group",
      (meter, { events }, round) => {
        const work = Ours.consume(meter, kind, "batched", `${id}-${round}`, events)
        const own = new Meter(undefined)
        return round === 0 ? Effect.andThen(Ours.fill(own, "batched", events), work) : work
      },
      engine
    )
  return [
    ours(
      `${engine}-publishAll`,
      `${engine}: Topic.publishAll`,
      "pipelines",
      (meter, { events }, round) => Ours.publishAll(meter, fresh("publishAll", round), makeOrders(events)),
      engine
    ),
    ours(
      `${engine}-publish`,
      `${engine}: Topic.publish from 400 fibers`,
      "callers-400",
      (meter, { events }, round) =>
        Ours.publishers(meter, fresh("publish", round), makeOrders(Math.ceil(events / 2)), 400),
      engine
    ),
    consuming("generator", "log of publishAll, handler Effect.fnUntraced", "generator"),
    consuming("table", "log of publishAll, a table write by every event", "table")
  ]
}

const embeddedEngine: Section = {
  id: "embedded",
  title: "The embedded engine, beside the loops on Redis",
  setup: [fillSingle("single")],
  variants: [
    produce.variants[0]!,
    publishing.variants.find((variant) => variant.id === "callers-400")!,
    groupLoop("by hand, on Redis: the group loop"),
    ...embedded("memory"),
    ...embedded("file")
  ]
}

const memory: Section = {
  id: "memory",
  title: "A handler of 5 ms before a long queue: peak memory of the process",
  setup: [],
  once: true,
  variants: [
    ours("queue-redis", "publishAll of a stream, to Redis", undefined, (meter, { queued }) =>
      Ours.fill(meter, "queue", queued)
    ),
    ours("slow-redis", "slow handler, Redis", undefined, (meter, { seconds }) =>
      Ours.slow(meter, "queue", "slow", seconds)
    ),
    ours(
      "queue-file",
      "publishAll of a stream, to a file",
      undefined,
      (meter, { queued }) => Ours.fill(meter, "queue", queued),
      "file"
    ),
    ours(
      "slow-file",
      "slow handler, file",
      undefined,
      (meter, { seconds }) => Ours.slow(meter, "queue", "slow", seconds),
      "file"
    )
  ]
}

const takeOver: Section = {
  id: "takeover",
  title: "Take-over of a partition, from its claim to its first event, which changes a row",
  setup: [],
  variants: ([undefined, "file"] as const).flatMap((engine) =>
    ([1_000, 1_000_000] as const).map((keys) => {
      const id = `takeover-${engine ?? "redis"}`
      const label = `${engine ?? "Redis"}: a table of ${keys.toLocaleString("en-US")} keys`
      const against = keys === 1_000 ? undefined : `${id}-1000`
      return ours(`${id}-${keys}`, label, against, (meter) => Ours.takeOver(meter, `${id}-${keys}`, keys, 20), engine)
    })
  )
}

const parking = (id: string, label: string, engine: "memory" | undefined, poisoned: boolean, against?: string) =>
  ours(
    id,
    label,
    against,
    (meter, { events }, round) =>
      Effect.gen(function* () {
        const log = `${id}-log`
        if (round === 0) yield* Ours.fill(new Meter(undefined), log, events)
        return yield* Ours.parking(meter, log, `${id}-${round}`, events, poisoned ? makeOrder(7).customer : undefined)
      }),
    engine
  )

/** The last row of an engine is the first again: what two rounds that do the same differ by. */
const park: Section = {
  id: "park",
  title: "One poisoned key among 1,000 under Policy.park: the other keys",
  setup: [],
  together: true,
  variants: [
    parking("park-none", "Redis, no event fails", undefined, false),
    parking("park-one", "Redis, all events of one key fail", undefined, true, "park-none"),
    parking("park-same", "Redis, no event fails, once more", undefined, false, "park-none"),
    parking("park-memory-none", "memory, no event fails", "memory", false),
    parking("park-memory-one", "memory, all events of one key fail", "memory", true, "park-memory-none"),
    parking("park-memory-same", "memory, no event fails, once more", "memory", false, "park-memory-none")
  ]
}

/** Long enough to be scraped several times. */
const long = (events: number): number => events * 5

const consumingWatched = (id: string, label: string, sample: number | undefined, against?: string): Variant =>
  ours(id, label, against, (meter, { events }, round) => {
    const work = Ours.consume(meter, "generator", "watched", `${id}-${round}`, long(events))
    return sample === undefined ? plain(work) : watched(work, sample)
  })

const telemetry: Section = {
  id: "telemetry",
  title:
    "Consume with metrics scraped each second, JSON logs and tracing: log of publishAll, handler Effect.fnUntraced",
  setup: [ours("fill-watched", "", undefined, (meter, { events }) => Ours.fill(meter, "watched", long(events)))],
  together: true,
  variants: [
    consumingWatched("watched-none", "plain", undefined),
    consumingWatched("watched-off", "metrics and logs, tracing off", 0, "watched-none"),
    consumingWatched("watched-same", "plain, once more", undefined, "watched-none"),
    consumingWatched("watched-sampled", "metrics and logs, one event of 100 in a span", 0.01, "watched-none")
  ]
}

const asks = (events: number): number => Math.ceil(events / 20)

const asking: Section = {
  id: "ask",
  title: "Questions and answers, from question to answer",
  setup: [],
  variants: [
    hand("ask-hand", "by hand: two XADDs, two blocking reads", (redis, meter, { connect, events }, round) =>
      Asking.handwritten(redis, meter, fresh("ask", round), asks(events), connect)
    ),
    ours("ask-ours", "Agent.ask, one after the other", "ask-hand", (meter, { events }, round) =>
      Asking.ours(meter, fresh("ask", round), asks(events), 1)
    ),
    ours("ask-200", "Agent.ask, 200 at once", "ask-hand", (meter, { events }, round) =>
      Asking.ours(meter, fresh("asks", round), asks(events), 200)
    )
  ]
}

export const sections: ReadonlyArray<Section> = [
  produce,
  publishing,
  consume,
  both,
  latency,
  asking,
  embeddedEngine,
  takeOver,
  park,
  telemetry,
  ...jobSections,
  memory
]
