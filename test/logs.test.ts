/** Log lines of a worker say where they come from, in the format that was asked for; none comes with every event. */
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Console, Effect, Layer, References, Schema } from "effect"
import { TestConsole } from "effect/testing"
import * as Job from "../src/Job.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Settings from "../src/Settings.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, drain, numbers, start } from "./support/engines.ts"

const configured = (variables: Record<string, string>) =>
  Settings.layerLogger.pipe(
    Layer.provide(Settings.layerConfig),
    Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env: variables })))
  )

interface Line {
  readonly level: string
  readonly message: unknown
  readonly annotations: Readonly<Record<string, unknown>>
}

/** What is logged as JSON, taken apart. */
const said = <E, R>(effect: Effect.Effect<unknown, E, R>, variables: Record<string, string> = {}) =>
  Effect.gen(function* () {
    yield* Effect.exit(effect).pipe(Effect.provide(configured({ MILLRACE_LOG_FORMAT: "json", ...variables })))
    return (yield* TestConsole.logLines).map((line): Line => JSON.parse(String(line)))
  }).pipe(Effect.provideServiceEffect(Console.Console, TestConsole.make))

const find = (lines: ReadonlyArray<Line>, text: string): Line => {
  const found = lines.find(({ message }) => JSON.stringify(message).includes(text))
  if (found === undefined) throw new Error(`no line with ${text} in ${JSON.stringify(lines, null, 1)}`)
  return found
}

const place = (name: string, member: string) => ({ member, processor: name, topic: `${name}-in`, partition: 0 })

describe("a line", () => {
  const policies: ReadonlyArray<readonly [string, Policy.Policy, string]> = [
    ["dead", Policy.deadLetter(), "goes to"],
    ["aside", Policy.quarantine, "puts its partition aside"]
  ]
  for (const [kind, policy, text] of policies) {
    behaviour(`of a failure has member, processor, topic, partition and offset: ${kind}`, (engine) =>
      Effect.gen(function* () {
        const name = `${kind}-${engine.name}`
        const topic = Topic.make(`${name}-in`, { schema: Schema.Int, partitions: 1 })
        const { offset } = yield* Topic.publish(topic, 1)
        const part = Processor.make(name, { topic }, () => Effect.fail("no" as const)).pipe(Processor.catch(policy))
        const lines = yield* said(drain([part], { member: "worker-7" }))
        const { annotations, level } = find(lines, text)
        assert.include(annotations, { ...place(name, "worker-7"), offset })
        assert.strictEqual(level, kind === "dead" ? "WARN" : "ERROR")
      })
    )
  }

  behaviour("of a halt has them, and the handler's own lines have all but the offset", (engine) =>
    Effect.gen(function* () {
      const name = `halts-${engine.name}`
      const topic = Topic.make(`${name}-in`, { schema: Schema.Int, partitions: 1 })
      const { offset } = yield* Topic.publish(topic, 1)
      const part = Processor.make(name, { topic }, () => Effect.andThen(Effect.log("mine"), Effect.die("no")))
      const lines = yield* said(
        Effect.scoped(Effect.flatMap(start([part as never], { member: "worker-8" }), ({ join }) => join))
      )
      assert.include(find(lines, "halts its worker").annotations, { ...place(name, "worker-8"), offset })
      assert.include(find(lines, "mine").annotations, place(name, "worker-8"))
    })
  )

  behaviour("of a job has member, queue, job and id", (engine) =>
    Effect.gen(function* () {
      const job = Job.make(`logged-${engine.name}`, { payload: Schema.Int, queue: `logs-${engine.name}` })
      const { id } = yield* Job.enqueue(job, 1)
      const part = Job.handler(job, () => Effect.andThen(Effect.log("mine"), Job.bury("no")))
      const lines = yield* said(drain([part], { member: "worker-9" }))
      const its = { member: "worker-9", job: job.name, queue: job.queue }
      assert.include(find(lines, "is dead").annotations, { ...its, id })
      assert.include(find(lines, "mine").annotations, its)
    })
  )

  behaviour(
    "does not come with every event, unless at debug level",
    (engine) =>
      Effect.gen(function* () {
        const topic = Topic.make(`quiet-${engine.name}`, {
          schema: Schema.Int,
          partitions: 1,
          retention: Retention.forever
        })
        yield* Topic.publishAll(topic, numbers(50))
        const part = (name: string) =>
          Processor.make(name, { topic }, (n) => (n % 2 === 0 ? Effect.void : Effect.fail("odd" as const))).pipe(
            Processor.catch(Policy.ignore)
          )
        assert.deepStrictEqual(yield* said(drain([part("quiet")])), [])
        const lines = yield* said(drain([part("talking")]), { MILLRACE_LOG_LEVEL: "debug" })
        assert.strictEqual(lines.filter(({ level }) => level === "DEBUG").length, 25)
      }),
    { on: ["memory"] }
  )
})

describe("the environment", () => {
  const printed = (variables: Record<string, string>) =>
    Effect.gen(function* () {
      yield* Effect.andThen(Effect.logInfo("one"), Effect.logDebug("two")).pipe(
        Effect.annotateLogs({ member: "m" }),
        Effect.provide(configured(variables))
      )
      return (yield* TestConsole.logLines).map(String)
    }).pipe(Effect.provideServiceEffect(Console.Console, TestConsole.make))

  it.effect("chooses the level: info, unless told otherwise", () =>
    Effect.gen(function* () {
      assert.lengthOf(yield* printed({ MILLRACE_LOG_FORMAT: "logfmt" }), 1)
      assert.lengthOf(yield* printed({ MILLRACE_LOG_FORMAT: "logfmt", MILLRACE_LOG_LEVEL: "debug" }), 2)
      assert.lengthOf(yield* printed({ MILLRACE_LOG_FORMAT: "logfmt", MILLRACE_LOG_LEVEL: "ERROR" }), 0)
    })
  )

  it.effect("chooses the format", () =>
    Effect.gen(function* () {
      const [json] = yield* printed({ MILLRACE_LOG_FORMAT: "json" })
      assert.deepInclude(JSON.parse(json!), { message: "one", level: "INFO", annotations: { member: "m" } })
      assert.match((yield* printed({ MILLRACE_LOG_FORMAT: "logfmt" }))[0]!, /level=INFO .*message=one member=m/)
      assert.match((yield* printed({ MILLRACE_LOG_FORMAT: "pretty" }))[0]!, /INFO.*one/)
      assert.isEmpty((yield* Effect.provide(References.MinimumLogLevel, configured({}))) === "Info" ? [] : ["changed"])
    })
  )
})
