/** The testing kit of jobs: step by step, to the end, by queue; what each run and each job came to. */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Option, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Job, Processor, Queue, Topic } from "../src/index.ts"
import { TestJob } from "../src/testing/index.ts"

class Odd extends Schema.TaggedError<Odd>()("Odd", { n: Schema.Int }) {}
class Factor extends Context.Service<Factor, number>()("test/Factor") {}

const halve = Job.make("halve", { payload: Schema.Int, success: Schema.Int, error: Odd, retries: 1 })
const log = Job.make("log", { payload: Schema.String, queue: "logs" })

const halving = Job.handler(halve, (n) =>
  Effect.gen(function* () {
    const factor = yield* Factor
    if (n % 2 === 1) return yield* new Odd({ n })
    yield* Effect.orDie(Job.enqueue(log, `halved ${n}`))
    return (n / 2) * factor
  })
)
const logging = Job.handler(log, () => Effect.void)

it.effect("one by one: each tells how it ended, and the rest waits untouched", () =>
  TestJob.run([halving, logging], (jobs) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* jobs.step(), Option.none())
      const handles = yield* Job.enqueueAll(halve, [4, 5, 6])
      const ran = Option.getOrThrow(yield* jobs.step())
      assert.deepStrictEqual(ran, {
        id: handles[0]!.id,
        job: "halve",
        queue: "default",
        attempt: 1,
        state: "done",
        exit: Exit.succeed(20),
        end: Option.some(Exit.succeed(20))
      })
      assert.deepInclude(yield* Queue.counts("default"), { ready: 2, active: 0, done: 1 })
      const failed = Option.getOrThrow(yield* jobs.step({ queue: "default" }))
      assert.deepInclude(failed, { id: handles[1]!.id, state: "delayed", end: Option.none() })
      assert.deepStrictEqual(failed.exit, Exit.fail(new Odd({ n: 5 })))
      // Its own queue was left alone.
      assert.deepInclude(yield* Queue.counts("logs"), { ready: 1 })
      assert.deepStrictEqual((yield* jobs.run()).map(({ job, state }) => [job, state]).toSorted(), [
        ["halve", "done"],
        ["log", "done"],
        ["log", "done"]
      ])
      yield* TestClock.adjust("10 seconds")
      const [again] = yield* jobs.run()
      assert.deepInclude(again, { attempt: 2, state: "dead", end: Option.some(Exit.fail(new Odd({ n: 5 }))) })
      assert.deepStrictEqual(yield* Effect.flip(Job.result(halve, handles[1]!.id)), new Odd({ n: 5 }))
    })
  ).pipe(Effect.provide(Layer.succeed(Factor, 10)))
)

it.effect("engines of two runs never meet, and what is no handler of jobs is refused", () =>
  Effect.gen(function* () {
    const count = TestJob.run([logging], (jobs) => Effect.andThen(Job.enqueue(log, "a"), jobs.run()))
    assert.lengthOf(yield* count, 1)
    assert.lengthOf(yield* count, 1)
    const topic = Topic.make("t", { schema: Schema.Int, partitions: 1 })
    const processor = Processor.make("p", { topic }, () => Effect.void)
    const exit = yield* Effect.exit(TestJob.run([processor as never], () => Effect.void))
    assert.isTrue(Exit.hasDies(exit))
  })
)
