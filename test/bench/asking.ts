/**
 * Questions and answers: a round trip over two streams by hand (two XADDs, two blocking reads), and `Agent.ask`, whose reply
 * comes with a fenced commit. Asker and answerer are in one process in both.
 */
import { Effect, Fiber, Schema } from "effect"
import type { Redis } from "ioredis"
import type * as Engine from "../../src/Engine.ts"
import { Agent, Worker } from "../../src/index.ts"
import { type Measure, type Meter, quantile } from "./measure.ts"

type Read = Array<[key: string, entries: Array<[id: string, fields: Array<string>]>]> | null

const latencies = (times: ReadonlyArray<number>) => ({ p50: quantile(times, 0.5), p99: quantile(times, 0.99) })

/** One question after the other. */
export const handwritten = async (
  redis: Redis,
  meter: Meter,
  name: string,
  questions: number,
  connect: () => Redis
): Promise<Measure> => {
  const [answerer, asker] = [connect(), connect()]
  const [requests, replies] = [`bench:${name}:requests`, `bench:${name}:replies`]
  const answer = async (): Promise<void> => {
    let last = "0-0"
    for (let answered = 0; answered < questions; ) {
      const read = (await answerer.xread("BLOCK", 5_000, "STREAMS", requests, last)) as Read
      for (const [id, fields] of read?.[0]?.[1] ?? []) {
        last = id
        answered++
        await redis.xadd(replies, "*", "v", JSON.stringify({ n: JSON.parse(fields[1]!).n + 1 }))
      }
    }
  }
  const answering = answer()
  const times: Array<number> = []
  await meter.ready()
  meter.start()
  let last = "0-0"
  for (let n = 0; n < questions; n++) {
    const before = performance.now()
    const waiting = asker.xread("BLOCK", 5_000, "STREAMS", replies, last) as Promise<Read>
    await redis.xadd(requests, "*", "v", JSON.stringify({ n }))
    const [id, fields] = (await waiting)![0]![1][0]!
    last = id
    if (JSON.parse(fields[1]!).n !== n + 1) throw new Error(`${fields[1]} is no answer to ${n}`)
    times.push(performance.now() - before)
  }
  meter.stop()
  await answering
  answerer.disconnect()
  asker.disconnect()
  await redis.unlink(requests, replies)
  return meter.result(questions, latencies(times))
}

/** So many fibers, each asking one question after the other. */
export const ours = (
  meter: Meter,
  name: string,
  questions: number,
  fibers: number
): Effect.Effect<Measure, unknown, Engine.Services> =>
  Effect.gen(function* () {
    const Numbered = Schema.Struct({ n: Schema.Int })
    const agent = Agent.make(name, { request: Numbered, reply: Numbered })
    const handler = Agent.handler(agent, ({ n }) => Effect.succeed({ n: n + 1 }))
    const worker = yield* Effect.forkChild(Worker.run([handler as never]))
    // It has joined when it answers.
    yield* Agent.ask(agent, { n: 0 })
    const times: Array<number> = []
    let next = 0
    const asking = Effect.gen(function* () {
      while (next < questions) {
        const n = next++
        const before = performance.now()
        const reply = yield* Agent.ask(agent, { n })
        times.push(performance.now() - before)
        if (reply.n !== n + 1) throw new Error(`${reply.n} is no answer to ${n}`)
      }
    })
    yield* Effect.promise(() => meter.ready())
    meter.start()
    yield* Effect.forEach(Array.from({ length: fibers }), () => asking, { concurrency: "unbounded", discard: true })
    meter.stop()
    yield* Fiber.interrupt(worker)
    return yield* Effect.promise(() => meter.result(questions, latencies(times)))
  })
