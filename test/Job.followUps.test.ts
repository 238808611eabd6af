/** What a job enqueues: with what settles it, or not at all, wherever its worker dies. */
import { assert } from "@effect/vitest"
import { Effect, Fiber, Option, Schema, Stream } from "effect"
import { Job, Queue } from "../src/index.ts"
import { Faults } from "../src/testing/index.ts"
import { behaviour, drain, numbers, start, until } from "./support/engines.ts"

const first = Job.make("first", { payload: Schema.Int, retries: 2, backoff: () => 0 })
const second = Job.make("second", { payload: Schema.Int, success: Schema.Int })
const elsewhere = Job.make("elsewhere", { payload: Schema.Int, queue: "other" })

const followers = [
  Job.handler(second, (n) => Effect.as(Job.enqueue(elsewhere, n), n).pipe(Effect.orDie)),
  Job.handler(elsewhere, () => Effect.void)
]

const payloads = (queue: string, name: string) =>
  Effect.map(Stream.runCollect(Queue.peek(queue, "done", { job: name })), (items) => items.length)

behaviour("it is there when the job is done, and not while it fails", (engine) =>
  Effect.gen(function* () {
    const repeated: Array<boolean | undefined> = []
    const part = Job.handler(first, (n, run) =>
      Effect.gen(function* () {
        const handle = yield* Job.enqueue(second, n)
        repeated.push(handle.repeated)
        yield* Job.enqueueAll(elsewhere, [n, n])
        if (run.attempt < 3) return yield* Effect.die(new Error("not yet"))
      }).pipe(Effect.orDie)
    )
    const { id } = yield* Job.enqueue(first, 1)
    const worker = yield* start([part])
    yield* until(engine, "it is done", () =>
      Effect.map(Job.info(first, id), (info) => Option.getOrThrow(info).state === "done")
    )
    yield* worker.close
    assert.deepStrictEqual(repeated, [undefined, undefined, undefined])
    assert.deepInclude(yield* Queue.counts("default"), { ready: 1, done: 1 })
    yield* until(engine, "those of the other queue too", () =>
      Effect.map(Queue.counts("other"), ({ ready }) => ready === 2)
    )
  })
)

behaviour("one that is buried, given back or cancelled enqueues nothing", (engine) =>
  Effect.gen(function* () {
    const ends = [Job.bury("no"), Job.retryAfter("1 hour"), Effect.never]
    const part = Job.handler(first, (n) => Effect.andThen(Effect.orDie(Job.enqueue(second, n)), ends[n]!))
    const handles = yield* Job.enqueueAll(first, [0, 1, 2])
    const worker = yield* start([part])
    yield* until(engine, "they have come so far", () =>
      Effect.map(Queue.counts("default"), ({ active, dead, delayed }) => active === 1 && dead === 1 && delayed === 1)
    )
    assert.isTrue(yield* Job.cancel(first, handles[2]!.id))
    yield* until(engine, "it is cancelled", () =>
      Effect.map(Job.info(first, handles[2]!.id), (info) => Option.getOrThrow(info).state === "cancelled")
    )
    yield* worker.close
    assert.deepStrictEqual(yield* Stream.runCollect(Queue.peek("default", "ready")), [])
  })
)

behaviour("what outlives the handler, and what asks for the end, acts at once", (engine) =>
  Effect.gen(function* () {
    const seen: Array<unknown> = []
    let later: Fiber.Fiber<Job.Handle, unknown> | undefined
    const part = Job.handler(first, (n) =>
      Effect.gen(function* () {
        if (n === 1) seen.push(yield* Job.execute(second, 7))
        // Nothing settles it any more.
        later = yield* Effect.forkDetach(Effect.delay(Job.enqueue(second, 8), 50))
      }).pipe(Effect.orDie)
    )
    yield* Job.enqueue(first, 1)
    yield* start([part, ...followers])
    yield* until(engine, "it was asked", () => seen.length === 1 && later !== undefined)
    assert.deepStrictEqual(seen, [7])
    yield* engine.elapse(60)
    const handle = yield* Fiber.join(later!)
    assert.isFalse(handle.repeated)
    assert.strictEqual(yield* Job.await(second, handle.id), 8)
  })
)

behaviour("one that is acknowledged before it runs enqueues at once", () =>
  Effect.gen(function* () {
    const repeated: Array<boolean | undefined> = []
    const part = Job.handler(
      first,
      (n) => Effect.orDie(Effect.map(Job.enqueue(second, n), (handle) => repeated.push(handle.repeated))),
      { acknowledge: "before" }
    )
    yield* Job.enqueue(first, 1)
    yield* drain([part])
    assert.deepStrictEqual(repeated, [false])
    assert.strictEqual((yield* Queue.counts("default")).ready, 1)
  })
)

behaviour("more than one settlement carries is refused where it is enqueued", () =>
  Effect.gen(function* () {
    const refused: Array<unknown> = []
    const part = Job.handler(first, (n) =>
      Effect.catch(Effect.asVoid(Job.enqueueAll(second, numbers(n))), (error) => Effect.sync(() => refused.push(error)))
    )
    yield* Job.enqueueAll(first, [1_000, 1_001])
    yield* drain([part])
    assert.lengthOf(refused, 1)
    assert.deepInclude(refused[0], { _tag: "EncodeError", reason: "TooLarge" })
    // What was staged before the refusal was caught stays staged.
    assert.strictEqual((yield* Queue.counts("default")).ready, 2_000)
  })
)

const deaths = ["before", "after"] as const

for (const death of deaths) {
  behaviour(
    `a worker that dies at any of its calls, ${death} it is applied, leaves all of a chain of jobs or none`,
    (engine) =>
      Effect.gen(function* () {
        const runs = new Map<number, number>()
        const part = Job.handler(first, (n) =>
          Effect.suspend(() => {
            runs.set(n, (runs.get(n) ?? 0) + 1)
            return Effect.orDie(Effect.all([Job.enqueue(second, n), Job.enqueue(elsewhere, n)], { discard: true }))
          })
        )
        const steps = 6
        for (let step = 1; step <= steps; step++) {
          yield* Job.enqueue(first, step)
          let calls = 0
          const plan: Faults.Plan = (port, method) => {
            if (port !== "JobStore" || method === "signals") return undefined
            if (method === "exchange") calls++
            if (calls < step) return undefined
            return calls === step && method === "exchange" && death === "after"
              ? { _tag: "LoseReply" }
              : { _tag: "Fail" }
          }
          const dying = yield* start([part, ...followers], { lease: "200 millis", grace: 0 }).pipe(
            Effect.provide(Faults.layer(plan))
          )
          // A real wait: it comes as far as it can, and its lease ends.
          yield* engine.elapse(250)
          const closing = yield* Effect.forkChild(dying.close, { startImmediately: true })
          const live = yield* start([part, ...followers], { lease: "200 millis" })
          yield* until(engine, `all of step ${step} is done`, () =>
            Effect.gen(function* () {
              const [own, other] = [yield* Queue.counts("default"), yield* Queue.counts("other")]
              return own.done === 2 * step && other.done === 2 * step && own.ready + own.active + other.ready === 0
            })
          )
          yield* Fiber.join(closing)
          yield* live.close
        }
        assert.deepStrictEqual(Array.from(runs.keys()), numbers(steps, 1))
        assert.strictEqual(yield* payloads("default", "second"), steps)
        assert.strictEqual(yield* payloads("other", "elsewhere"), 2 * steps)
      }),
    { on: ["file", "Redis"], timeout: 40_000 }
  )
}
