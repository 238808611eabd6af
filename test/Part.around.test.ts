/** One middleware around handlers of every kind, and that of the app outside of it. */
import { assert } from "@effect/vitest"
import { Context, Effect, Layer, Option, Schema } from "effect"
import { Agent, App, Job, Part, Processor, Scheduler, Topic } from "../src/index.ts"
import { behaviour, drain, start, until } from "./support/engines.ts"

class Notes extends Context.Service<Notes, { readonly add: (line: string) => void }>()("test/Notes") {}

const noting = (name: string) =>
  Part.around(<A, E>(handle: Effect.Effect<A, E>, work: Part.Work) =>
    Effect.flatMap(Notes, ({ add }) => {
      const what = work._tag === "Job" ? work.run.id : work._tag === "Events" ? work.events.length : work.part
      add(`${name} > ${work._tag} ${what}`)
      return Effect.onExit(handle, (exit) => Effect.sync(() => add(`${name} < ${work._tag} ${exit._tag}`)))
    })
  )

const letters = Topic.make("letters", { schema: Schema.Int, partitions: 1 })
const echo = Agent.make("echo", { request: Schema.Int, reply: Schema.Int, partitions: 1 })
const sort = Job.make("sort", { payload: Schema.Int, success: Schema.Int })

behaviour("around sees handlers of processors, agents, jobs and schedules; the app's is the outermost", (engine) =>
  Effect.gen(function* () {
    const lines: Array<string> = []
    const app = App.make({
      name: "post",
      parts: [
        Processor.make("reader", { topic: letters }, () => Effect.void).pipe(noting("inner")),
        Processor.batch("binder", { topic: letters, size: 2, within: "1 hour" }, () => Effect.void),
        Agent.handler(echo, (n) => Effect.succeed(n)),
        Job.handler(sort, (n) => (n === 0 ? Effect.die(new Error("nothing")) : Effect.succeed(n))).pipe(
          noting("inner")
        ),
        Scheduler.task("once", Effect.void)
      ],
      middleware: (part) => Part.provide(noting("app")(part), Layer.succeed(Notes, { add: (line) => lines.push(line) }))
    })
    yield* Topic.publishAll(letters, [1, 2])
    yield* Job.enqueue(sort, 1, { id: "good" })
    yield* Job.enqueue(sort, 0, { id: "bad" })
    yield* start(app.parts as never)
    assert.strictEqual(yield* Agent.ask(echo, 7), 7)
    yield* until(engine, "all is done", () => lines.filter((line) => line.startsWith("app <")).length >= 7)
    const of = (tag: string) => lines.filter((line) => line.includes(` ${tag} `))
    assert.deepStrictEqual(of("Tick"), ["app > Tick once", "app < Tick Success"])
    const good = lines.indexOf("app > Job good")
    assert.deepStrictEqual(lines.slice(good, good + 4), [
      "app > Job good",
      "inner > Job good",
      "inner < Job Success",
      "app < Job Success"
    ])
    assert.includeMembers(of("Job"), ["inner < Job Failure", "app < Job Failure"])
    assert.includeMembers(of("Events"), ["inner > Events 1", "app > Events 1", "app > Events 2"])
    assert.deepStrictEqual(yield* Job.result(sort, "good"), Option.some(1))
  })
)

behaviour("one that dies does so in the handler's place, and what it enqueues goes with the job", () =>
  Effect.gen(function* () {
    const follow = Job.make("follow", { payload: Schema.Void })
    const part = Job.handler(sort, (n) => Effect.succeed(n)).pipe(
      Part.around(<A, E>(handle: Effect.Effect<A, E>, work: Part.Work) =>
        Effect.gen(function* () {
          yield* Effect.orDie(Job.enqueue(follow, undefined))
          const value = yield* handle
          if (work._tag === "Job" && work.payload === 0) return yield* Effect.die(new Error("refused"))
          return value
        })
      )
    )
    yield* Job.enqueue(sort, 0, { id: "refused" })
    yield* Job.enqueue(sort, 1, { id: "taken" })
    const { parts } = yield* drain([part])
    assert.deepInclude(parts["sort"], { processed: 1, deadLettered: 1 })
    const failure = yield* Effect.flip(Job.result(sort, "refused"))
    assert.deepInclude(failure, { _tag: "JobFailed", reason: "Defect" })
    const worker = yield* drain([Job.handler(follow, () => Effect.void)])
    assert.strictEqual(worker.parts["follow"]!.processed, 1)
  })
)
