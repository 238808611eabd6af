/**
 * The yardstick: what a good engineer writes by hand on ioredis, at least once, without Millrace. Payloads are the same,
 * keys are hashed the same way, handlers do the same. One field per entry, since more fields cost the client dearly.
 */
import type { Redis } from "ioredis"
import { makeOrder, type Order, partitionOf, sumOf } from "./events.ts"
import type { Measure, Meter } from "./measure.ts"
import { quantile } from "./measure.ts"

type Reply = Array<[key: string, entries: Array<[id: string, fields: Array<string>]>]> | null

/** Pipelines of so many XADDs, so many of them in flight. */
export const pipelines = async (
  redis: Redis,
  meter: Meter,
  streams: ReadonlyArray<string>,
  orders: ReadonlyArray<Order>,
  options: { readonly size: number; readonly inFlight: number }
): Promise<Measure> => {
  await meter.ready()
  meter.start()
  await addAll(redis, streams, orders, options)
  meter.stop()
  return meter.result(orders.length)
}

export const addAll = async (
  redis: Redis,
  streams: ReadonlyArray<string>,
  orders: ReadonlyArray<Order>,
  { inFlight, size }: { readonly size: number; readonly inFlight: number }
): Promise<void> => {
  let next = 0
  const send = async (): Promise<void> => {
    while (next < orders.length) {
      const pipeline = redis.pipeline()
      const end = Math.min(next + size, orders.length)
      for (; next < end; next++) {
        const order = orders[next]!
        pipeline.xadd(streams[partitionOf(order)]!, "*", "v", JSON.stringify(order))
      }
      for (const [error] of (await pipeline.exec())!) if (error !== null) throw error
    }
  }
  await Promise.all(Array.from({ length: inFlight }, send))
}

/** So many callers, each awaiting its own XADD. */
export const callers = async (
  redis: Redis,
  meter: Meter,
  streams: ReadonlyArray<string>,
  orders: ReadonlyArray<Order>,
  count: number
): Promise<Measure> => {
  let next = 0
  const caller = async (): Promise<void> => {
    while (next < orders.length) {
      const order = orders[next++]!
      await redis.xadd(streams[partitionOf(order)]!, "*", "v", JSON.stringify(order))
    }
  }
  await meter.ready()
  meter.start()
  await Promise.all(Array.from({ length: count }, caller))
  meter.stop()
  return meter.result(orders.length)
}

const makeGroups = (redis: Redis, streams: ReadonlyArray<string>, group: string): Promise<unknown> =>
  Promise.all(streams.map((stream) => redis.xgroup("CREATE", stream, group, "0", "MKSTREAM")))

const dropGroups = (redis: Redis, streams: ReadonlyArray<string>, group: string): Promise<unknown> =>
  Promise.all(streams.map((stream) => redis.xgroup("DESTROY", stream, group)))

const checked = (sum: number, events: number): void => {
  if (Math.abs(sum - sumOf(events)) > 1e-3) throw new Error(`the handlers saw ${sum}, not ${sumOf(events)}`)
}

/**
 * At least once: one XREADGROUP over all streams, one read ahead, JSON.parse, one bulk XACK per partition and read sent
 * behind. `blocking` is a second connection, for a log that is still being written.
 */
export const groupLoop = async (
  redis: Redis,
  meter: Meter,
  streams: ReadonlyArray<string>,
  events: number,
  group: string,
  blocking?: { readonly reader: Redis; readonly produce: () => Promise<void> }
): Promise<Measure> => {
  await makeGroups(redis, streams, group)
  const ids = streams.map(() => ">")
  const read = (): Promise<Reply> =>
    (blocking === undefined
      ? redis.xreadgroup("GROUP", group, "one", "COUNT", 100, "STREAMS", ...streams, ...ids)
      : blocking.reader.xreadgroup(
          "GROUP",
          group,
          "one",
          "COUNT",
          100,
          "BLOCK",
          1_000,
          "STREAMS",
          ...streams,
          ...ids
        )) as Promise<Reply>
  let handled = 0
  let sum = 0
  const acknowledged: Array<Promise<unknown>> = []
  await meter.ready()
  meter.start()
  const produced = blocking?.produce()
  let next = read()
  while (handled < events) {
    const reply = await next
    let count = 0
    if (reply !== null) for (const [, entries] of reply) count += entries.length
    if (handled + count < events) next = read()
    if (reply === null) continue
    for (const [stream, entries] of reply) {
      const done: Array<string> = []
      for (const [id, fields] of entries) {
        const order: Order = JSON.parse(fields[1]!)
        sum += order.amount
        handled++
        done.push(id)
      }
      acknowledged.push(redis.xack(stream, group, ...done))
    }
  }
  await produced
  await Promise.all(acknowledged)
  meter.stop()
  checked(sum, events)
  await dropGroups(redis, streams, group)
  return meter.result(events)
}

/** As Runnel does it: a loop per partition, COUNT 8, and one awaited XACK per event. */
export const naiveLoop = async (
  redis: Redis,
  meter: Meter,
  streams: ReadonlyArray<string>,
  events: number,
  group: string
): Promise<Measure> => {
  await makeGroups(redis, streams, group)
  let handled = 0
  let sum = 0
  const loop = async (stream: string): Promise<void> => {
    while (true) {
      const reply = (await redis.xreadgroup("GROUP", group, "one", "COUNT", 8, "STREAMS", stream, ">")) as Reply
      if (reply === null) return
      for (const [id, fields] of reply[0]![1]) {
        const order: Order = JSON.parse(fields[1]!)
        sum += order.amount
        handled++
        await redis.xack(stream, group, id)
      }
    }
  }
  await meter.ready()
  meter.start()
  await Promise.all(streams.map(loop))
  meter.stop()
  if (handled !== events) throw new Error(`the loops handled ${handled} of ${events} events`)
  checked(sum, events)
  await dropGroups(redis, streams, group)
  return meter.result(events)
}

/** Calls `publish` so many times a second, for so long; a timer has 1 ms, so some turns send two. */
export const paced = (rate: number, seconds: number, publish: (number: number) => void): Promise<number> =>
  new Promise((resolve) => {
    const total = Math.round(rate * seconds)
    const startedAt = performance.now()
    let sent = 0
    const turn = (): void => {
      const due = Math.min(total, Math.floor(((performance.now() - startedAt) / 1_000) * rate))
      while (sent < due) publish(sent++)
      if (sent < total) setTimeout(turn, 1)
      else resolve(total)
    }
    turn()
  })

/**
 * Plain XADD to a blocking read over all streams: XREAD, where nothing is acknowledged at all, or with a group XREADGROUP,
 * with a bulk XACK per stream sent behind, as at least once needs it.
 */
export const latency = async (
  redis: Redis,
  reader: Redis,
  meter: Meter,
  streams: ReadonlyArray<string>,
  options: { readonly rate: number; readonly seconds: number; readonly group?: string }
): Promise<Measure> => {
  const { group } = options
  const waits: Array<number> = []
  const total = Math.round(options.rate * options.seconds)
  const after: Array<string> = streams.map(() => "0-0")
  const fresh = streams.map(() => ">")
  if (group !== undefined) await makeGroups(redis, streams, group)
  const acknowledged: Array<Promise<unknown>> = []
  const next = (): Promise<unknown> =>
    group === undefined
      ? reader.xread("COUNT", 100, "BLOCK", 1_000, "STREAMS", ...streams, ...after)
      : reader.xreadgroup("GROUP", group, "one", "COUNT", 100, "BLOCK", 1_000, "STREAMS", ...streams, ...fresh)
  const read = async (): Promise<void> => {
    while (waits.length < total) {
      for (const [stream, entries] of ((await next()) as Reply) ?? []) {
        for (const [id, fields] of entries) {
          const order: Order = JSON.parse(fields[1]!)
          waits.push(performance.now() - order.placedAt)
          if (group === undefined) after[streams.indexOf(stream)] = id
        }
        if (group !== undefined) acknowledged.push(redis.xack(stream, group, ...entries.map(([id]) => id)))
      }
    }
  }
  await meter.ready()
  meter.start()
  const reading = read()
  const sent: Array<Promise<unknown>> = []
  await paced(options.rate, options.seconds, (number) => {
    const order = makeOrder(number, performance.now())
    sent.push(redis.xadd(streams[partitionOf(order)]!, "*", "v", JSON.stringify(order)))
  })
  await Promise.all(sent)
  await reading
  await Promise.all(acknowledged)
  meter.stop()
  return meter.result(total, { p50: quantile(waits, 0.5), p99: quantile(waits, 0.99) })
}
