/**
 * Agents in simulated trouble: handlers ask an agent on other workers while these crash, hang and lose answers. Whatever
 * happens, what is asked for gets the answer to its own question, and counts once. `SEEDS` as in `simulation.test.ts`.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Schedule, Schema, Stream } from "effect"
import * as Agent from "../src/Agent.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Topic from "../src/Topic.ts"
import { Simulation, TestProcessor } from "../src/testing/index.ts"
import { numbers } from "./support/engines.ts"

const Question = Schema.Struct({ key: Schema.String, n: Schema.Int })
class Unlucky extends Schema.TaggedError<Unlucky>()("Unlucky", { n: Schema.Int }) {}

const retention = Retention.forever
const questions = Topic.make("questions", { schema: Question, partitionBy: "key", partitions: 3, retention })
const answers = Topic.make("answers", {
  schema: Schema.Struct({ n: Schema.Int, answer: Schema.String }),
  partitionBy: ({ n }) => n,
  partitions: 3,
  retention
})
const oracle = Agent.make("oracle", {
  request: Question,
  reply: Schema.String,
  error: Unlucky,
  partitionBy: ({ n }) => n,
  partitions: 3
})

/** Every seventh is refused, every eleventh kills the handler: both are answers. */
const answering = Agent.handler(oracle, ({ n }) =>
  n % 7 === 3
    ? Effect.fail(new Unlucky({ n }))
    : n % 11 === 5
      ? Effect.die(new Error(`no ${n}`))
      : Effect.succeed(`it is ${n}`)
).pipe(Processor.catch(Policy.ignore))

const asking = Processor.make("asking", { topic: questions }, ({ key, n }) =>
  Agent.ask(oracle, { key, n }, { timeout: "20 seconds" }).pipe(
    Effect.catchTags({
      Unlucky: (error) => Effect.succeed(`unlucky ${error.n}`),
      AgentDefect: ({ cause }) => Effect.succeed(`defect: ${(cause as Error).message}`)
    }),
    Effect.flatMap((answer) => Topic.emit(answers, { n, answer }))
  )
).pipe(
  // The request, or its reply, may be lost with a process: then it is asked again.
  Processor.retry({ schedule: Schedule.spaced("100 millis"), while: ({ _tag }) => _tag === "AgentTimeout" }),
  Processor.catch(Policy.deadLetter())
)

const expected = (n: number): string => (n % 7 === 3 ? `unlucky ${n}` : n % 11 === 5 ? `defect: no ${n}` : `it is ${n}`)

const seeds = Number(process.env["SEEDS"] ?? 2_000) / 100

it("asks get their own answers, and count once, whatever goes wrong", async () => {
  const all = numbers(24)
  const check = Effect.map(Stream.runCollect(Topic.stream(answers, { until: "now" })), (events) => {
    const found = events.map(({ value }) => `${value.n}: ${value.answer}`).toSorted()
    const wanted = all.map((n) => `${n}: ${expected(n)}`).toSorted()
    return found.join() === wanted.join() ? [] : [`the answers are ${found.join()}`]
  })
  for (let seed = 0; seed < seeds; seed++) {
    const events = all.map((n) => TestProcessor.event(questions, { key: "abc"[n % 3]!, n }))
    const report = await Effect.runPromise(Simulation.run(seed, { parts: [asking, answering], events, check }))
    // The simulation knows its own publisher only: requests are sent by handlers, and again when they are tried again.
    const violations = report.violations.filter((text) => !/^oracle\/.* no publisher was told of it/.test(text))
    assert.isEmpty(violations, `seed ${seed}\n${report.violations.join("\n")}\n${report.steps.join("\n")}`)
  }
}, 1_000_000)
