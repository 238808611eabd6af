/**
 * Jobs in simulated trouble: retries, groups, follow-ups, unique ids, dead letters and recurring ones, while workers crash, hang
 * and lose answers. `SEEDS` as in `simulation.test.ts`; `SEED` runs one of them again.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Option, Schedule, Schema, Stream } from "effect"
import { Job, Queue } from "../src/index.ts"
import { JobSimulation } from "../src/testing/index.ts"
import { numbers } from "./support/engines.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", { n: Schema.Int }) {}

const step = Job.make("step", {
  payload: Schema.Struct({ order: Schema.String, n: Schema.Int }),
  success: Schema.Int,
  error: Refused,
  retries: 2,
  backoff: () => "300 millis",
  retryable: ({ n }) => n % 5 !== 4,
  group: { by: ({ order }) => order }
})
const mail = Job.make("mail", { payload: Schema.Int, success: Schema.Int, priority: "high" })
const audit = Job.make("audit", { payload: Schema.Int, queue: "elsewhere" })

const parts = [
  Job.handler(step, ({ n }, run) =>
    Effect.gen(function* () {
      // Every fifth is refused for good, every third fails at first.
      if (n % 5 === 4) return yield* new Refused({ n })
      if (n % 3 === 1 && run.attempt === 1) return yield* Effect.die(new Error("once"))
      yield* Effect.orDie(
        Effect.all([Job.enqueue(mail, n, { id: `mail-${n}` }), Job.enqueue(audit, n, { delay: "1 second" })])
      )
      return n
    })
  ),
  Job.handler(mail, (n) => Effect.as(Effect.sleep(20), -n)),
  Job.handler(audit, () => Effect.void, { concurrency: 2 })
]

const total = 18
const ids = numbers(total).map((n) => `step-${n}`)
const enqueue = numbers(total).map((n) =>
  // A server that is full takes nothing for a while.
  Effect.retry(Job.enqueue(step, { order: "abc"[n % 3]!, n }, { id: ids[n] }), Schedule.spaced("200 millis"))
)
/** Some are asked for twice, by the same id. */
const all = enqueue.flatMap((one, n) => (n % 4 === 0 ? [one, one] : [one]))

const lost = (queue: string) =>
  Effect.map(Stream.runCollect(Queue.peek(queue, "dead")), (items) =>
    items.filter(({ reason }) => Option.contains(reason, "Lost")).map(({ id }) => id)
  )

const check = Effect.gen(function* () {
  const wrong: Array<string> = []
  const gone = yield* lost("default")
  let followed = 0
  for (const [n, id] of ids.entries()) {
    if (gone.includes(id)) continue
    const info = Option.getOrThrow(yield* Job.info(step, id))
    const expected = n % 5 === 4 ? "dead" : "done"
    if (info.state !== expected) wrong.push(`${id} is ${info.state}`)
    if (expected === "dead") continue
    followed++
    const mailed = yield* Job.info(mail, `mail-${n}`)
    if (Option.isNone(mailed)) wrong.push(`${id} has sent no mail`)
    else if (mailed.value.state !== "done" && !gone.includes(mailed.value.id))
      wrong.push(`mail ${n} is ${mailed.value.state}`)
  }
  const counts = yield* Queue.counts("elsewhere")
  if (counts.done + counts.dead !== followed) wrong.push(`${counts.done + counts.dead} audits of ${followed} jobs`)
  return wrong
})

const only = process.env["SEED"] === undefined ? undefined : Number(process.env["SEED"])
const count = Math.max(1, Math.round(Number(process.env["SEEDS"] ?? 2_000) / 33))
const told = ({ seed, steps, violations }: JobSimulation.Report): string =>
  [
    `SEED=${seed} npx vitest run test/simulation.jobs.test.ts`,
    ...steps,
    ...violations.map((text) => `!! ${text}`)
  ].join("\n")

it.live(
  "whatever goes wrong, every job ends once and as it should, in the order of its group, with what it enqueues",
  () =>
    Effect.gen(function* () {
      let runs = 0
      for (const seed of only === undefined ? numbers(count) : [only]) {
        const report = yield* JobSimulation.run(seed, { parts, enqueue: all, check })
        assert.isEmpty(report.violations, told(report))
        assert.isAtLeast(report.jobs, total)
        runs += report.runs - report.jobs
        if (only !== undefined) yield* Effect.log(told(report))
      }
      // There was trouble: some ran more often than they would have.
      if (only === undefined) assert.isAbove(runs, count)
    }),
  10_000 + count * 2_000
)

it.live("a handler that is acknowledged before it runs is found out: some are done that never ran", () =>
  Effect.gen(function* () {
    const found: Array<string> = []
    const careless = [Job.handler(mail, (n) => Effect.succeed(n), { acknowledge: "before" })]
    for (let seed = 0; seed < 40 && found.length === 0; seed++) {
      const report = yield* JobSimulation.run(seed, {
        parts: careless,
        enqueue: numbers(40).map((n) => Job.enqueue(mail, n))
      })
      found.push(...report.violations)
    }
    assert.match(found.join(), /is done, and never ran/)
  })
)
