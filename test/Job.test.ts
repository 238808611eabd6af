/** Jobs from the outside, on every engine: what is enqueued runs, ends, is told and looked at. */
import { assert } from "@effect/vitest"
import { Context, DateTime, Effect, Exit, Fiber, Layer, Option, Schema, Stream } from "effect"
import { Errors, Job, JobStore, Part, Queue, Worker } from "../src/index.ts"
import { behaviour, counts, drain, numbers, start, until } from "./support/engines.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", { at: Schema.Int }) {}

const square = Job.make("square", { payload: Schema.Int, success: Schema.Int, error: Refused })
const squaring = Job.handler(square, (n) => (n < 0 ? Effect.fail(new Refused({ at: n })) : Effect.succeed(n * n)))

behaviour("what is enqueued runs once, and its result is there for who asks", () =>
  Effect.gen(function* () {
    const handle = yield* Job.enqueue(square, 7)
    assert.isFalse(handle.repeated)
    assert.deepStrictEqual(yield* Job.result(square, handle.id), Option.none())
    const summary = yield* drain([squaring])
    assert.deepStrictEqual(summary.parts["square"], counts({ processed: 1 }))
    assert.deepStrictEqual(yield* Job.result(square, handle.id), Option.some(49))
    assert.deepStrictEqual(yield* Job.result(square, "none"), Option.none())
    const info = Option.getOrThrow(yield* Job.info(square, handle.id))
    assert.deepInclude(info, { state: "done", failures: 0, attempts: [], priority: "medium" })
    assert.deepStrictEqual(info.end, Option.some(Exit.succeed(49)))
  })
)

behaviour("a thousand, as an array and as a stream; the handles are in order", () =>
  Effect.gen(function* () {
    const seen: Array<number> = []
    const part = Job.handler(square, (n) => Effect.sync(() => seen.push(n)))
    const handles = yield* Job.enqueueAll(square, numbers(1_200))
    assert.strictEqual(new Set(handles.map(({ id }) => id)).size, 1_200)
    const stored = yield* Job.enqueueAll(square, Stream.fromIterable(numbers(700, 1_200)))
    assert.strictEqual(stored, 700)
    const summary = yield* drain([part])
    assert.strictEqual(summary.parts["square"]!.processed, 1_900)
    assert.deepStrictEqual(
      seen.toSorted((a, b) => a - b),
      numbers(1_900)
    )
    assert.deepStrictEqual(yield* Job.result(square, handles[1_100]!.id), Option.some(1_101))
  })
)

behaviour("execute gives the success, or fails with the typed error", () =>
  Effect.gen(function* () {
    yield* start([squaring])
    const all = yield* Effect.forEach(numbers(20), (n) => Job.execute(square, n), { concurrency: "unbounded" })
    assert.deepStrictEqual(
      all,
      numbers(20).map((n) => n * n)
    )
    const failure = yield* Effect.flip(Job.execute(square, -3))
    assert.deepStrictEqual(failure, new Refused({ at: -3 }))
  })
)

behaviour("by default one that fails is dead, with its error; redriven it runs as if new", () =>
  Effect.gen(function* () {
    let broken = true
    const runs: Array<number> = []
    const part = Job.handler(square, (n, run) =>
      Effect.suspend(() => {
        runs.push(run.attempt)
        return broken ? Effect.fail(new Refused({ at: n })) : Effect.succeed(n)
      })
    )
    const { id } = yield* Job.enqueue(square, 5)
    const summary = yield* drain([part])
    assert.deepStrictEqual(summary.parts["square"], counts({ failed: 1, deadLettered: 1 }))
    assert.deepStrictEqual(yield* Effect.flip(Job.result(square, id)), new Refused({ at: 5 }))
    const [dead] = yield* Stream.runCollect(Queue.peek("default", "dead"))
    assert.deepInclude(dead, { id, job: "square", reason: Option.some("Failed"), failures: 0 })
    assert.include(Option.getOrThrow(dead!.error), "Refused")
    assert.deepStrictEqual(yield* Stream.runCollect(Queue.peek("default", "ready")), [])
    const { attempts } = Option.getOrThrow(yield* Job.info(square, id))
    assert.deepStrictEqual(
      attempts.map(({ attempt, exit }) => [attempt, exit]),
      [[1, Exit.fail(new Refused({ at: 5 }))]]
    )
    broken = false
    assert.strictEqual(yield* Queue.redrive("default"), 1)
    yield* drain([part])
    assert.deepStrictEqual(runs, [1, 1])
    assert.deepStrictEqual(yield* Job.result(square, id), Option.some(5))
    assert.strictEqual((yield* Queue.counts("default")).dead, 0)
  })
)

behaviour("with retries it runs again, and the limit counts runs", () =>
  Effect.gen(function* () {
    const again = Job.make("again", { payload: Schema.Int, retries: 2, backoff: () => 0 })
    const attempts: Array<number> = []
    const part = Job.handler(again, (_, run) =>
      Effect.suspend(() => {
        attempts.push(run.attempt)
        return run.attempt === 1 ? Effect.die(new Error("once")) : Effect.void
      })
    )
    const { id } = yield* Job.enqueue(again, 1)
    const summary = yield* Worker.run([part], { limit: 2 })
    assert.deepStrictEqual(attempts, [1, 2])
    assert.deepStrictEqual(summary.parts["again"], counts({ processed: 1, failed: 1, retried: 1 }))
    const info = Option.getOrThrow(yield* Job.info(again, id))
    assert.deepInclude(info, { state: "done", failures: 1 })
    assert.strictEqual(info.attempts.length, 1)
  })
)

behaviour("an error that is not worth it is not tried again", () =>
  Effect.gen(function* () {
    const picky = Job.make("picky", {
      payload: Schema.Int,
      error: Refused,
      retries: 5,
      backoff: () => 0,
      retryable: ({ at }) => at < 10
    })
    const runs = new Map<number, number>()
    const part = Job.handler(picky, (n) =>
      Effect.suspend(() => {
        runs.set(n, (runs.get(n) ?? 0) + 1)
        return Effect.fail(new Refused({ at: n }))
      })
    )
    yield* Job.enqueueAll(picky, [1, 99])
    const worker = yield* start([part])
    yield* Effect.ignore(worker.idle)
    yield* Effect.repeat(
      Effect.sync(() => runs.get(1)),
      { until: (n) => n === 6, times: 0 }
    )
    yield* worker.stop
    assert.strictEqual(runs.get(99), 1)
  })
)

behaviour("a handler that takes too long is interrupted, and the next one runs", (engine) =>
  Effect.gen(function* () {
    const slow = Job.make("slow", { payload: Schema.Int, timeout: "300 millis" })
    let finalized = 0
    const done: Array<number> = []
    const part = Job.handler(
      slow,
      (n) =>
        n === 1
          ? Effect.never.pipe(Effect.onInterrupt(() => Effect.sync(() => finalized++)))
          : Effect.sync(() => done.push(n)),
      { concurrency: 1 }
    )
    const [first] = yield* Job.enqueueAll(slow, [1, 2])
    yield* start([part])
    yield* until(engine, "the second one ran", () => done.length === 1)
    assert.strictEqual(finalized, 1)
    const failure = yield* Effect.flip(Job.await(slow, first!.id))
    assert.deepInclude(failure, { _tag: "JobFailed", reason: "Timeout" })
  })
)

behaviour("a delayed job waits for its time, and an old one expires", (engine) =>
  Effect.gen(function* () {
    const stale = Job.make("stale", { payload: Schema.Int, ttl: "200 millis" })
    const ran: Array<number> = []
    const { id } = yield* Job.enqueue(stale, 0)
    yield* Job.enqueue(square, 1, { delay: "300 millis" })
    yield* engine.elapse(210)
    const parts = [
      Job.handler(stale, (n) => Effect.sync(() => ran.push(n))),
      Job.handler(square, (n) => Effect.sync(() => ran.push(n)))
    ]
    yield* start(parts)
    assert.deepInclude(yield* Effect.flip(Job.await(stale, id)), { reason: "Expired" })
    yield* until(engine, "the delayed one ran", () => ran.length === 1)
    assert.deepStrictEqual(ran, [1])
  })
)

behaviour("the same id is one job", () =>
  Effect.gen(function* () {
    const first = yield* Job.enqueue(square, 1, { id: "one" })
    const second = yield* Job.enqueue(square, 2, { id: "one" })
    assert.deepStrictEqual(
      [first, second],
      [
        { id: "one", repeated: false },
        { id: "one", repeated: true }
      ]
    )
    assert.strictEqual((yield* drain([squaring])).parts["square"]!.processed, 1)
    assert.deepStrictEqual(yield* Job.enqueue(square, 3, { id: "one" }), { id: "one", repeated: true })
    assert.deepStrictEqual(yield* Job.result(square, "one"), Option.some(1))
    const refused = yield* Effect.flip(Job.enqueue(square, 3, { id: "a\tb" }))
    assert.deepInclude(refused, { _tag: "EncodeError", reason: "Key" })
  })
)

behaviour("cancel removes what waits, and interrupts what runs", (engine) =>
  Effect.gen(function* () {
    const long = Job.make("long", { payload: Schema.Int })
    let [running, interrupted] = [0, 0]
    const part = Job.handler(long, () =>
      Effect.andThen(
        Effect.sync(() => running++),
        Effect.never
      ).pipe(Effect.onInterrupt(() => Effect.sync(() => interrupted++)))
    )
    const [first, second] = yield* Job.enqueueAll(long, [1, 2])
    assert.isTrue(yield* Job.cancel(long, second!.id))
    yield* start([part])
    yield* until(engine, "it runs", () => running === 1)
    const waiting = yield* Effect.forkScoped(Effect.flip(Job.await(long, first!.id)))
    assert.isTrue(yield* Job.cancel(long, first!.id))
    yield* until(engine, "it was interrupted", () => interrupted === 1)
    yield* until(engine, "the end is known", () => waiting.pollUnsafe() !== undefined)
    assert.deepInclude(yield* Fiber.join(waiting), { reason: "Cancelled" })
    assert.deepInclude(yield* Effect.flip(Job.await(long, second!.id)), { reason: "Cancelled" })
    assert.isFalse(yield* Job.cancel(long, first!.id))
    assert.strictEqual(running, 1)
  })
)

behaviour("a handler answers early: later, not at all, or let another have it", (engine) =>
  Effect.gen(function* () {
    const early = Job.make("early", { payload: Schema.Literals(["later", "counted", "bury", "back"]), retries: 1 })
    const ran: Array<string> = []
    const part = Job.handler(early, (what, run) =>
      Effect.gen(function* () {
        ran.push(`${what} ${run.attempt}`)
        if (ran.filter((one) => one.startsWith(what)).length > 1) return
        if (what === "later") yield* Job.retryAfter("100 millis")
        if (what === "counted") yield* Job.retryAfter("100 millis", { counted: true })
        if (what === "bury") yield* Job.bury("no such order")
        if (what === "back") yield* Job.giveBack
        ran.push("not reached")
      })
    )
    const handles = yield* Job.enqueueAll(early, ["later", "counted", "bury", "back"])
    yield* start([part])
    yield* until(engine, "all ran", () => ran.length === 7)
    assert.deepStrictEqual(ran.toSorted(), [
      "back 1",
      "back 1",
      "bury 1",
      "counted 1",
      "counted 2",
      "later 1",
      "later 1"
    ])
    const failure = yield* Effect.flip(Job.await(early, handles[2]!.id))
    assert.deepInclude(failure, { reason: "Buried", detail: "no such order" })
    const { attempts } = Option.getOrThrow(yield* Job.info(early, handles[0]!.id))
    assert.deepStrictEqual(
      attempts.map(({ again }) => again),
      [true]
    )
  })
)

behaviour("progress is typed data, seen from outside", (engine) =>
  Effect.gen(function* () {
    const Step = Schema.Struct({ done: Schema.Int, since: Schema.DateTimeUtc })
    const climb = Job.make("climb", { payload: Schema.Void, progress: Step })
    const since = DateTime.makeUnsafe(0)
    let go = (): void => undefined
    const part = Job.handler(climb, () =>
      Effect.gen(function* () {
        yield* Job.progress(climb, { done: 1, since })
        yield* Effect.callback<void>((resume) => {
          go = () => resume(Effect.void)
        })
        yield* Job.progress(climb, { done: 2, since })
      })
    )
    const { id } = yield* Job.enqueue(climb, undefined)
    const seen: Array<number> = []
    const states: Array<string> = []
    const watching = yield* Effect.forkScoped(
      Stream.runForEach(Job.changes(climb, id), ({ progress, state }) =>
        Effect.sync(() => {
          if (Option.isSome(progress)) seen.push(progress.value.done)
          states.push(state)
        })
      )
    )
    yield* start([part])
    yield* until(engine, "the first step is seen", () => seen.includes(1))
    go()
    yield* until(engine, "it is over", () => watching.pollUnsafe() !== undefined)
    assert.strictEqual(states.at(-1), "done")
  })
)

behaviour("a worker runs no more at a time than it may, and with one at a time all the same all of them", (engine) =>
  Effect.gen(function* () {
    let [now, most, total] = [0, 0, 0]
    const part = Job.handler(
      square,
      (n) =>
        Effect.gen(function* () {
          most = Math.max(most, ++now)
          yield* Effect.sleep(2)
          now--
          total++
          return n
        }),
      { concurrency: 4 }
    )
    yield* Job.enqueueAll(square, numbers(60))
    const first = yield* start([part])
    yield* until(engine, "all ran", () => total === 60)
    yield* first.stop
    assert.strictEqual(most, 4)
    ;[most, total] = [0, 0]
    yield* Job.enqueueAll(square, numbers(20))
    const second = yield* start([part], { jobs: { concurrency: 1 } })
    yield* until(engine, "all ran again", () => total === 20)
    yield* second.stop
    assert.strictEqual(most, 1)
  })
)

behaviour("where there is plenty two claims are on their way, and no bound is exceeded by that", (engine) =>
  Effect.gen(function* () {
    const slow = Job.make("slow", { payload: Schema.Int })
    const ran: Array<number> = []
    let [flying, mostFlying, mostInHand, running, mostRunning] = [0, 0, 0, 0, 0]
    const parts = [
      Job.handler(square, (n) =>
        Effect.sync(() => {
          ran.push(n)
          return n
        })
      ),
      Job.handler(
        slow,
        (n) =>
          Effect.gen(function* () {
            mostRunning = Math.max(mostRunning, ++running)
            yield* Effect.sleep(1)
            running--
            ran.push(n)
          }),
        { concurrency: 3 }
      )
    ]
    yield* Job.enqueueAll(square, numbers(1_000))
    yield* Job.enqueueAll(slow, numbers(100, 1_000))
    let inHand = 0
    const late = Layer.effect(
      JobStore.JobStore,
      Effect.map(JobStore.JobStore, (store) => ({
        ...store,
        exchange: (request, durability) =>
          Effect.gen(function* () {
            if (request.count > 0) mostFlying = Math.max(mostFlying, ++flying)
            const answer = yield* store.exchange(request, durability)
            inHand += (answer._tag === "Exchanged" ? answer.claimed.length : 0) - request.settle.length
            mostInHand = Math.max(mostInHand, inHand)
            yield* Effect.sleep(2)
            if (request.count > 0) flying--
            return answer
          })
      }))
    )
    const limited = yield* Effect.forkChild(
      Worker.run(parts, { limit: 777, jobs: { concurrency: 10 } }).pipe(Effect.provide(late))
    )
    yield* until(engine, "the limit is reached", () => limited.pollUnsafe() !== undefined)
    const { square: squares, slow: slows } = (yield* Fiber.join(limited)).parts
    assert.strictEqual(squares!.processed + slows!.processed, 777)
    // Ten of them run, three times as many may wait for that, and as many to be settled.
    assert.isAtMost(mostInHand, 80)
    const rest = yield* Effect.forkChild(drain(parts).pipe(Effect.provide(late)))
    yield* until(engine, "the rest is done", () => rest.pollUnsafe() !== undefined)
    assert.deepStrictEqual([mostFlying, mostRunning], [2, 3])
    assert.deepStrictEqual(
      ran.toSorted((a, b) => a - b),
      numbers(1_100)
    )
  })
)

behaviour("what a worker does not know waits for one that does; two handlers of one job are refused", () =>
  Effect.gen(function* () {
    const other = Job.make("other", { payload: Schema.Int })
    yield* Job.enqueueAll(other, [1, 2])
    yield* Job.enqueue(square, 3)
    yield* drain([squaring])
    assert.strictEqual((yield* Stream.runCollect(Queue.peek("default", "ready", { job: "other" }))).length, 2)
    const failure = yield* Effect.flip(Worker.run([squaring, squaring]))
    assert.deepInclude(failure, { _tag: "Misconfigured", reason: "DuplicateName" })
  })
)

behaviour("a worker that leaves hands back what runs past its grace, and no retry is used", (engine) =>
  Effect.gen(function* () {
    const ran: Array<string> = []
    let stuck = true
    const part = Job.handler(square, (n, run) =>
      Effect.suspend(() => {
        ran.push(`${n} ${run.attempt}`)
        return stuck ? Effect.never : Effect.succeed(n)
      })
    )
    yield* Job.enqueueAll(square, [1, 2])
    const first = yield* start([part], { grace: "100 millis" })
    yield* until(engine, "both run", () => ran.length === 2)
    stuck = false
    const closing = yield* Effect.forkScoped(first.close)
    yield* until(engine, "it has left", () => closing.pollUnsafe() !== undefined)
    yield* drain([part])
    assert.deepStrictEqual(ran.toSorted(), ["1 1", "1 1", "2 1", "2 1"])
  })
)

behaviour("paused queues start nothing", (engine) =>
  Effect.gen(function* () {
    let ran = 0
    const part = Job.handler(square, () => Effect.sync(() => ran++))
    yield* start([part])
    yield* Queue.pause("default")
    yield* Job.enqueueAll(square, numbers(5))
    yield* engine.elapse(150)
    assert.strictEqual(ran, 0)
    assert.isTrue(yield* Queue.isPaused("default"))
    yield* Queue.resume("default")
    yield* until(engine, "all ran", () => ran === 5)
  })
)

behaviour("a handler's services come by its layer, and tests give others", () =>
  Effect.gen(function* () {
    class Mail extends Context.Service<Mail, { send(to: string): Effect.Effect<string> }>()("test/Mail") {}
    const greet = Job.make("greet", { payload: Schema.String, success: Schema.String })
    const greeting = Job.handler(greet, (to) => Effect.flatMap(Mail, (mail) => mail.send(to)))
    const fake = Layer.succeed(Mail, { send: (to) => Effect.succeed(`fake ${to}`) })
    const { id } = yield* Job.enqueue(greet, "ada")
    yield* drain([Part.provide(greeting, fake)])
    assert.deepStrictEqual(yield* Job.result(greet, id), Option.some("fake ada"))
  })
)

behaviour("the engine's absence in a handler is no failure of the job", (engine) =>
  Effect.gen(function* () {
    let runs = 0
    const part = Job.handler(square, (n, run) =>
      Effect.suspend(() =>
        ++runs === 1
          ? Effect.fail(new Errors.EngineError({ operation: "publish", reason: "Unreachable", detail: "away" }))
          : Effect.succeed(n + run.attempt)
      )
    )
    const { id } = yield* Job.enqueue(square, 1)
    yield* start([part])
    yield* until(engine, "it ran again", () => runs === 2)
    assert.strictEqual(yield* Job.await(square, id), 2)
  })
)

behaviour("a job that comes after others gets their results", () =>
  Effect.gen(function* () {
    const sum = Job.make("sum", { payload: Schema.Void, success: Schema.Int })
    const summing = Job.handler(sum, (_, run) =>
      Effect.gen(function* () {
        let total = 0
        for (const id of run.after) total += Option.getOrThrow(yield* Effect.orDie(Job.result(square, id)))
        return total
      })
    )
    const children = yield* Job.enqueueAll(square, [1, 2, 3])
    const { id } = yield* Job.enqueue(sum, undefined, { after: children })
    yield* start([squaring, summing])
    assert.strictEqual(yield* Job.await(sum, id), 14)
    const broken = yield* Job.enqueue(square, -1)
    const failure = yield* Effect.flip(Job.execute(sum, undefined, { after: [broken] }))
    assert.deepInclude(failure, { reason: "Child" })
  })
)

behaviour("at most once on request: settled before it runs", () =>
  Effect.gen(function* () {
    let runs = 0
    const part = Job.handler(square, () => Effect.sync(() => ++runs).pipe(Effect.andThen(Effect.die("boom"))), {
      acknowledge: "before"
    })
    yield* Job.enqueue(square, 1)
    yield* drain([part])
    yield* drain([part])
    assert.strictEqual(runs, 1)
    assert.strictEqual((yield* Queue.counts("default")).dead, 0)
  })
)
